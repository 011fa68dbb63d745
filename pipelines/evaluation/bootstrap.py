"""How far a measured value would move with other utterances: percentile bootstrap intervals.

Utterances are drawn with replacement, and a corpus-level value is computed of each draw (Bisani & Ney,
"Bootstrap estimates for confidence intervals in ASR performance evaluation", ICASSP 2004). For the
difference of two models, an utterance brings both models' errors along: the bootstrap is paired.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipelines.evaluation.results import Interval

CONFIDENCE = 0.95
RESAMPLES = 2_000
SEED = 20_040_517
"""Equal data have equal intervals."""

BATCH_VALUES = 4_000_000
"""Drawn values held at a time: 32 MB an array, however large the set."""

Values: TypeAlias = NDArray[np.float64]
Statistic: TypeAlias = Callable[..., Any]


def interval(statistic: Statistic, *samples: Sequence[float]) -> Interval:
    """A statistic of paired samples with its 95 % interval.

    One utterance has no interval: its bounds are None. Where all utterances agree (no errors at all, two
    equal models) so do all draws, and the bounds equal the value.

    Args:
        statistic: ``statistic(*arrays, axis)`` reduces arrays of equal shape along an axis.
        samples: one value an utterance each, all of one length, at least 1.

    Raises:
        ValueError: samples are empty or of different lengths.
    """
    if not samples or not len(samples[0]) or len({len(sample) for sample in samples}) != 1:
        raise ValueError(f"samples of one length above 0 are needed, got {[*map(len, samples)]}")
    arrays = tuple(np.asarray(sample, dtype=np.float64) for sample in samples)
    value = float(statistic(*arrays, axis=-1))
    size = len(arrays[0])
    if size < 2:
        return Interval(value=value, low=None, high=None)
    bounds = stats.bootstrap(
        arrays,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, BATCH_VALUES // size),
        vectorized=True,
        paired=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(value=value, low=float(bounds.low), high=float(bounds.high))


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Sum of numerators over sum of denominators: errors over units, hits over utterances.

    Args:
        numerators: one an utterance; differences of two models' errors make a paired difference.
        denominators: one an utterance, each above 0.
    """
    return interval(_ratio, numerators, denominators)


def mean_recall(references: Sequence[int], hits: Sequence[bool]) -> Interval:
    """Mean over the reference classes of the share that was hit. A draw without any utterance of a class
    is averaged over the others.

    Args:
        references: class of each utterance, from 0.
        hits: whether it was recognised.
    """
    classes = range(max(references, default=0) + 1)

    def statistic(drawn: Values, hit: Values, axis: int) -> Any:
        recalls, present = 0.0, 0.0
        for label in classes:
            members = drawn == label
            count = members.sum(axis=axis)
            recalls = recalls + (members * hit).sum(axis=axis) / np.maximum(count, 1)
            present = present + (count > 0)
        return recalls / present

    return interval(statistic, references, hits)


def _ratio(numerators: Values, denominators: Values, axis: int) -> Any:
    return numerators.sum(axis=axis) / denominators.sum(axis=axis)
