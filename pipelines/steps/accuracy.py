"""Evaluate the words of a table of hypotheses."""

from pathlib import Path

from pipelines.evaluation.accuracy import measure
from pipelines.evaluation.hypothesis import read_hypotheses
from pipelines.evaluation.results import Accuracy


def accuracy(table: Path) -> Accuracy:
    """Error rates by language and slice.

    Args:
        table: what :func:`pipelines.steps.recognise.recognise` wrote.

    Raises:
        ValueError: a row is no hypothesis, or its text is in a language without an error rate.
    """
    return measure(read_hypotheses(table))
