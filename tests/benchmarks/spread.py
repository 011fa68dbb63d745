"""Medians with their spread, paired ratios and percentiles."""

from collections.abc import Sequence
from statistics import median
from typing import TypedDict


class Spread(TypedDict):
    """Of repeated measurements, in their unit."""

    median: float
    min: float
    max: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Raises: statistics.StatisticsError: no values."""
    return Spread(median=median(values), min=min(values), max=max(values), n=len(values))


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Ours / theirs round by round: both of a round ran within seconds, so that drift cancels."""
    return spread([one / other for one, other in zip(ours, theirs, strict=True)])


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]
