"""How much audio a batch may hold: less for a time after the memory did not suffice."""

import logging
import math
import time
from typing import Any

from predictor.server.lane import Shared

RECOVERY_SECONDS = 600.0
"""After so long without running out of memory, batches may be twice as large again: whatever else took the
memory may have gone."""

STARVED_CLIPS = 8
"""So many clips on end are not each too large by themselves."""

logger = logging.getLogger("kserve.predictor")


class BatchLimit:
    """Lowers and raises the ``max_batch_seconds`` of a queue; its value at first is the most.

    Args:
        shared: the queue, with its condition.

    Attributes:
        starved_seconds: from the first clip that did not fit alone to the last one, nothing having fit in
            between; 0 while they are fewer than ``STARVED_CLIPS``.
    """

    def __init__(self, shared: Shared[Any, Any]) -> None:
        self.starved_seconds = 0.0
        self._shared = shared
        self._most_seconds = shared.queue.max_batch_seconds
        self._grows_at = math.inf
        self._starved_since = math.inf
        self._n_starved = 0

    @property
    def seconds(self) -> float:
        """Most audio in a batch now, padding counted."""
        return self._shared.queue.max_batch_seconds

    def kept(self) -> None:
        """A batch has fit."""
        self.starved_seconds, self._starved_since, self._n_starved = 0.0, math.inf, 0

    def exceeded(self, n_clips: int, padded_seconds: float) -> None:
        """A batch has not fit: no batch that is as large is made again. A clip alone cannot be less."""
        now = time.monotonic()
        if n_clips == 1:
            self._starved_since = min(self._starved_since, now)
            self._n_starved += 1
            if self._n_starved >= STARVED_CLIPS:
                self.starved_seconds = now - self._starved_since
            return
        queue = self._shared.queue
        with self._shared.changed:
            queue.max_batch_seconds = min(queue.max_batch_seconds, padded_seconds / 2)
            self._grows_at = now + RECOVERY_SECONDS
        logger.warning(
            "out of memory in a batch of %d clips, %.0f s with padding: tried again in halves. Batches "
            "hold at most %.0f s for now; lower max_batch_seconds or network_passes, or give more memory",
            n_clips,
            padded_seconds,
            queue.max_batch_seconds,
        )

    def grow(self) -> None:
        """Let batches be larger again after a time. The queue's condition is held."""
        now = time.monotonic()
        if now < self._grows_at:
            return
        queue = self._shared.queue
        queue.max_batch_seconds = min(2 * queue.max_batch_seconds, self._most_seconds)
        is_whole = queue.max_batch_seconds == self._most_seconds
        self._grows_at = math.inf if is_whole else now + RECOVERY_SECONDS
