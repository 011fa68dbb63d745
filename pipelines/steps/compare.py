"""Compare the candidate's hypotheses with the champion's."""

from pathlib import Path

from pipelines.evaluation import comparison
from pipelines.evaluation.hypothesis import read_hypotheses
from pipelines.evaluation.results import Comparison


def compare(candidate: Path, champion: Path) -> Comparison:
    """Differences of error rates and tag accuracies, and what changed.

    Args:
        candidate, champion: tables that :func:`pipelines.steps.recognise.recognise` wrote, of the same
            set.

    Raises:
        ValueError: a row is no hypothesis, or the tables are not of the same utterances.
    """
    return comparison.compare(read_hypotheses(candidate), read_hypotheses(champion))
