"""Between requests and the network: who is let in, and when which batch starts.

Clips of all requests wait in one :mod:`queue <predictor.server.clip_queue>`, each request in a
:mod:`lane <predictor.server.lane>` of its own. A few threads run batches of what waits, each its next as
soon as its last is done: while they run, the next gathers. Nothing here knows what a clip is, only how
long it lasts.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from predictor.engine.errors import Overloaded
from predictor.server.clip_queue import ClipQueue
from predictor.server.lane import Done, Lane, Shared, Ticket, Timed, stopping

LANE_BATCHES = 2
"""Most audio of one request in flight, in full batches: one that runs and one that waits behind it."""

C = TypeVar("C", bound=Timed)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch:
    """What an observer is told of a batch that has run.

    Attributes:
        n_clips: clips in it.
        audio_seconds: their audio.
        padded_seconds: the same, each as long as the longest.
    """

    n_clips: int
    audio_seconds: float
    padded_seconds: float


class Batcher(Generic[C, R]):
    """Runs ``recognize`` on batches of clips, in threads of its own.

    Args:
        recognize: clips → their results, in order.
        n_threads: threads that call it, each with a batch of its own.
        max_batch_clips: most clips in a batch.
        max_batch_seconds: most audio in a batch, padding counted. A longer clip runs alone.
        max_queue_seconds: audio that may wait or be expected before new requests are refused.
        batch_wait_seconds: longest time that a batch with room waits for audio that is expected;
            while none is, nothing waits.
        on_batch: called after each batch, in its thread.
    """

    def __init__(
        self,
        recognize: Callable[[list[C]], Sequence[R]],
        *,
        n_threads: int = 1,
        max_batch_clips: int,
        max_batch_seconds: float,
        max_queue_seconds: float,
        batch_wait_seconds: float = 0.0,
        on_batch: Callable[[Batch], object] = lambda batch: None,
    ) -> None:
        self._recognize = recognize
        self._max_queue_seconds = max_queue_seconds
        self._batch_wait_seconds = batch_wait_seconds
        self._on_batch = on_batch
        queue: ClipQueue[Ticket[C, R]] = ClipQueue(max_batch_clips, max_batch_seconds)
        self._shared: Shared[C, R] = Shared(queue, LANE_BATCHES * max_batch_seconds)
        # Audio seconds per wall second of one thread, smoothed, for the advice when to come back.
        self._speed = 10.0
        self._threads = [
            threading.Thread(target=self._run, name=f"recognize-{index}", daemon=True)
            for index in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue_seconds(self) -> float:
        """Audio that waits for the network, and what requests being decoded are expected to add."""
        return self._shared.queue.seconds + self._shared.expected_seconds

    @property
    def n_requests(self) -> int:
        """Requests that have a lane."""
        return self._shared.n_lanes

    def lane(self, expected_seconds: float = 0.0) -> Lane[C, R]:
        """A place for a new request.

        Args:
            expected_seconds: a guess at its audio. Counts as waiting, as far as a lane can hold so
                much, until :meth:`Lane.arrived` takes it back.

        Raises:
            Overloaded: too much waits already.
            NotReady: the server is stopping.
        """
        with self._shared.changed:
            self._shared.check_open()
            waiting = self.queue_seconds
            if waiting >= self._max_queue_seconds:
                raise Overloaded(
                    f"{waiting:.0f} seconds of audio are waiting, the limit is "
                    f"{self._max_queue_seconds:g}; come back later",
                    retry_after_seconds=max(
                        1, math.ceil(waiting / self._speed / len(self._threads))
                    ),
                )
            return Lane(self._shared, expected_seconds)

    def close(self) -> None:
        """Finish the running batches, refuse what waits, and end the threads."""
        with self._shared.changed:
            self._shared.closed = True
            waiting = list(self._shared.queue.in_turns())
            self._shared.queue.take(waiting)
            self._shared.changed.notify_all()
        _deliver([(ticket, stopping()) for ticket in waiting])
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            outcomes = self._outcomes(batch, started)
            audio_seconds = sum(ticket.duration for ticket in batch)
            speed = audio_seconds / max(time.monotonic() - started, 1e-3)
            self._speed += 0.2 * (speed - self._speed)
            self._on_batch(Batch(len(batch), audio_seconds, len(batch) * batch[-1].duration))
            _deliver(outcomes)

    def _next_batch(self) -> list[Ticket[C, R]]:
        """Waits for a batch and takes it out of the queue. Empty once the batcher is closed."""
        shared = self._shared
        with shared.changed:
            while True:
                shared.changed.wait_for(lambda: shared.queue or shared.closed)
                if shared.closed:
                    return []
                batch, has_room = shared.queue.next_batch()
                if has_room and shared.expects_more:
                    oldest = min(ticket.since for ticket in batch)
                    wait_seconds = oldest + self._batch_wait_seconds - time.monotonic()
                    if wait_seconds > 0:
                        shared.changed.wait(wait_seconds)
                        continue
                shared.queue.take(batch)
                return sorted(batch, key=lambda ticket: ticket.duration)

    def _outcomes(
        self, batch: list[Ticket[C, R]], started: float
    ) -> list[tuple[Ticket[C, R], Done[R] | Exception]]:
        try:
            results = self._recognize([ticket.clip for ticket in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} clips")
        except Exception as error:
            if len(batch) == 1:
                return [(batch[0], error)]
            # One clip may have spoilt it for all: give each its own chance to fail.
            return [outcome for each in batch for outcome in self._outcomes([each], started)]
        seconds = time.monotonic() - started
        return [
            (ticket, Done(result, max(0.0, started - ticket.since), seconds))
            for ticket, result in zip(batch, results, strict=True)
        ]


def _deliver(outcomes: list[tuple[Ticket[C, R], Done[R] | Exception]]) -> None:
    """One wake-up of the event loop for a whole batch."""
    for loop in {ticket.lane.loop for ticket, _ in outcomes}:
        of_loop = [pair for pair in outcomes if pair[0].lane.loop is loop]
        # The loop may have ended, and with it whoever waited.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, of_loop)


def _resolve(outcomes: list[tuple[Ticket[C, R], Done[R] | Exception]]) -> None:
    for ticket, outcome in outcomes:
        ticket.lane.resolve(ticket, outcome)
