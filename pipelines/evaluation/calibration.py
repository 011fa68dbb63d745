"""Does a tag with probability 0.9 hold nine times out of ten? Guo et al., "On calibration of modern neural
networks", ICML 2017."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pipelines.evaluation.results import Bin

BINS = 15
"""Of equal width over [0, 1], as in the paper's tables."""


def reliability(confidences: Sequence[float], correct: Sequence[bool]) -> list[Bin]:
    """The bins that hold anything, by rising confidence. A bin holds its lower edge, the last one 1 too.

    Args:
        confidences: probability of each chosen label, in [0, 1].
        correct: whether that label is the right one.
    """
    if not len(confidences):
        return []
    # A mean of softmax outputs can exceed 1 by rounding, and would then be in no bin.
    certain = np.clip(np.asarray(confidences, dtype=np.float64), 0.0, 1.0)
    values = np.stack([certain, np.asarray(correct, dtype=np.float64), np.ones_like(certain)])
    sums = stats.binned_statistic(certain, values, "sum", bins=BINS, range=(0.0, 1.0)).statistic
    return [
        Bin(confidence=confidence / count, accuracy=right / count, count=int(count))
        for confidence, right, count in sums.T.tolist()
        if count
    ]


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: mean |accuracy - confidence| of the bins, weighted by their number.
    1, the worst there is, where nothing has a confidence."""
    total = sum(one.count for one in bins)
    if not total:
        return 1.0
    return sum(one.count * abs(one.accuracy - one.confidence) for one in bins) / total
