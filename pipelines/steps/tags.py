"""Evaluate the tags of a table of hypotheses."""

from pathlib import Path

from pipelines.evaluation.hypothesis import read_hypotheses
from pipelines.evaluation.results import Tags
from pipelines.evaluation.tags import measure


def tags(table: Path) -> Tags:
    """Language, emotion and event: confusions, accuracies, F1 and calibration.

    Args:
        table: what :func:`pipelines.steps.recognise.recognise` wrote.

    Raises:
        ValueError: a row is no hypothesis.
    """
    return measure(read_hypotheses(table))
