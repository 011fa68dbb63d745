"""Users' requests by revision, as the proxy saw them."""

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipelines.rollout.target import Traffic

WINDOW_SECONDS = 3600.0
MAX_REQUESTS = 100_000
"""What is kept of a revision: older requests, and all but the last so many, are forgotten."""


@dataclass(frozen=True, slots=True)
class _Request:
    ended: float
    seconds: float
    is_error: bool


class Meter:
    """For one event loop.

    Args:
        now: seconds, rising.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._requests: dict[str, deque[_Request]] = defaultdict(lambda: deque(maxlen=MAX_REQUESTS))

    def add(self, revision: str, seconds: float, *, is_error: bool) -> None:
        """One request that has ended.

        Args:
            seconds: until the whole answer was there, or until there would be none.
            is_error: an answer with status 5xx, or none.
        """
        requests = self._requests[revision]
        requests.append(_Request(self._now(), seconds, is_error))
        while requests[0].ended < self._now() - WINDOW_SECONDS:
            requests.popleft()

    def measure(self, revision: str, seconds: float) -> Traffic:
        """What a revision answered in the last ``seconds``; nothing where it is unknown."""
        since = self._now() - seconds
        found = [one for one in self._requests.get(revision, ()) if one.ended >= since]
        latencies = sorted(one.seconds for one in found)
        return Traffic(
            requests=len(found),
            errors=sum(one.is_error for one in found),
            p95_s=_percentile(latencies, 95),
            p99_s=_percentile(latencies, 99),
        )

    def forget(self, revision: str) -> None:
        """Of a revision that has ended."""
        self._requests.pop(revision, None)


def _percentile(ordered: Sequence[float], percent: int) -> float | None:
    """The smallest value that so many percent of all do not exceed; None of nothing."""
    return ordered[math.ceil(len(ordered) * percent / 100) - 1] if ordered else None
