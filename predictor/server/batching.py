"""Between requests and the network: who is let in, and when which batch starts.

Clips of all requests wait in one :mod:`queue <predictor.server.clip_queue>`, each request in a
:mod:`lane <predictor.server.lane>` of its own. A few threads run batches of what waits, each its next as
soon as its last is done: while they run, the next gathers. A batch that fails is tried again in halves, so
that a bad clip fails alone, and what is too much for the memory at once is not. Nothing here knows what a
clip is, only how long it lasts.
"""

import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

from predictor.engine.errors import DeviceLost, OutOfMemory, Overloaded
from predictor.server.batch_limit import BatchLimit
from predictor.server.clip_queue import ClipQueue
from predictor.server.health import Activity, stacks
from predictor.server.lane import Done, Lane, Shared, Ticket, Timed, stopping

LANE_BATCHES = 2
"""Most audio of one request in flight, in full batches: one that runs and one that waits behind it."""

LONG_SHARE = 0.75
"""Of the queue, for requests of more audio than a lane holds: as long as they last they keep it as full as
they may, and short ones are to find room. On a CPU eight fit, as many as our client sends at once."""

C = TypeVar("C", bound=Timed)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Batch:
    """What an observer is told of a batch that has run.

    Attributes:
        n_clips: clips in it.
        audio_seconds: their audio.
        padded_seconds: the same, each as long as the longest.
        started, ended: as ``time.monotonic`` has it.
        waits: each clip's owner, as :meth:`Batcher.lane` was told, and since when it waited.
    """

    n_clips: int
    audio_seconds: float
    padded_seconds: float
    started: float
    ended: float
    waits: Sequence[tuple[object, float]]


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
        stuck_seconds: longest time that a batch may take beyond the length of its audio, and that no clip
            of those that come may fit in the memory.
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
        stuck_seconds: float = 60.0,
    ) -> None:
        self._recognize = recognize
        self._max_queue_seconds = max_queue_seconds
        self._stuck_seconds = stuck_seconds
        self._activity = Activity()
        self._lost = ""
        self._batch_wait_seconds = batch_wait_seconds
        self._on_batch = on_batch
        queue: ClipQueue[Ticket[C, R]] = ClipQueue(max_batch_clips, max_batch_seconds)
        self._long_queue_seconds = LONG_SHARE * max_queue_seconds
        lane_seconds = min(LANE_BATCHES * max_batch_seconds, self._long_queue_seconds)
        self._shared: Shared[C, R] = Shared(queue, lane_seconds)
        self._limit = BatchLimit(self._shared)
        # Audio seconds per wall second of one thread, smoothed, for the advice when to come back.
        self._speed = 10.0
        self._threads = [
            threading.Thread(target=self._work, name=f"recognize-{index}", daemon=True)
            for index in range(n_threads)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def queue_seconds(self) -> float:
        """Audio that waits for the network, and what requests being decoded are expected to add."""
        # To the microsecond: what is added and taken away in another order leaves an error, and an idle
        # queue would count as busy.
        return max(0.0, round(self._shared.queue.seconds + self._shared.expected_seconds, 6))

    @property
    def batch_seconds(self) -> float:
        """Most audio in a batch now: ``max_batch_seconds``, or less after running out of memory."""
        return self._limit.seconds

    @property
    def n_requests(self) -> int:
        """Requests that have a lane."""
        return self._shared.n_lanes

    def lane(self, expected_seconds: float = 0.0, owner: object = None) -> Lane[C, R]:
        """A place for a new request.

        Args:
            expected_seconds: a guess at its audio. Counts as waiting, as far as a lane can hold so
                much, until :meth:`Lane.arrived` takes it back.
            owner: told with each batch that its clips ran in.

        Raises:
            Overloaded: too much waits already.
            NotReady: the server is stopping.
        """
        with self._shared.changed:
            self.check_room(expected_seconds)
            return Lane(self._shared, expected_seconds, owner)

    def check_room(self, expected_seconds: float = 0.0) -> None:
        """Whether a new request would be let in.

        Args:
            expected_seconds: a guess at its audio.

        Raises:
            Overloaded: too much waits already.
            NotReady: the server is stopping.
        """
        self._shared.check_open()
        waiting = self.queue_seconds
        is_long = expected_seconds > self._shared.max_lane_seconds
        limit = self._long_queue_seconds if is_long else self._max_queue_seconds
        if waiting >= limit:
            long = " for a request as long as this" if is_long else ""
            raise Overloaded(
                f"{waiting:.0f} seconds of audio are waiting, the limit is {limit:g}{long}; "
                "come back later",
                retry_after_seconds=max(1, math.ceil(waiting / self._speed / len(self._threads))),
            )

    def refuse(self) -> None:
        """The running batches are the last: what waits, and what comes, is answered with ``NotReady``."""
        with self._shared.changed:
            self._shared.closed = True
            waiting = list(self._shared.queue.in_turns())
            self._shared.queue.take(waiting)
            self._shared.changed.notify_all()
        _deliver([(ticket, stopping()) for ticket in waiting])

    def trouble(self) -> str:
        """Why clips are not recognised any more, or not by all threads: a sentence; empty if they are."""
        if self._lost:
            return self._lost
        if overdue := self._activity.overdue():
            beyond = f"{self._stuck_seconds:g} s beyond the length of its audio"
            return f"a batch has taken {beyond}{stacks(overdue)}"
        if self._limit.starved_seconds > self._stuck_seconds:
            return f"for {self._limit.starved_seconds:.0f} s no clip has fit in the memory"
        return ""

    def close(self, timeout_seconds: float | None = None) -> None:
        """Finish the running batches, refuse what waits, and end the threads.

        Args:
            timeout_seconds: longest time for a batch to finish; a thread that needs longer is left behind.
        """
        self.refuse()
        for thread in self._threads:
            thread.join(timeout_seconds)

    def _work(self) -> None:
        try:
            self._run_batches()
        except BaseException:
            self._lost = "a thread that runs batches has ended"
            raise

    def _run_batches(self) -> None:
        while batch := self._next_batch():
            started = time.monotonic()
            outcomes = self._outcomes(batch, started)
            audio_seconds = sum(ticket.duration for ticket in batch)
            ended = time.monotonic()
            speed = audio_seconds / max(ended - started, 1e-3)
            self._speed += 0.2 * (speed - self._speed)
            self._on_batch(
                Batch(
                    len(batch),
                    audio_seconds,
                    padded_seconds=_padded_seconds(batch),
                    started=started,
                    ended=ended,
                    waits=[(ticket.lane.owner, ticket.since) for ticket in batch],
                )
            )
            _deliver(outcomes)

    def _next_batch(self) -> list[Ticket[C, R]]:
        """Waits for a batch and takes it out of the queue. Empty once the batcher is closed."""
        shared = self._shared
        with shared.changed:
            while True:
                shared.changed.wait_for(lambda: shared.queue or shared.closed)
                if shared.closed:
                    return []
                self._limit.grow()
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
        failure: Exception | None = None
        padded_seconds = _padded_seconds(batch)
        try:
            with self._activity.due_in(self._stuck_seconds + padded_seconds):
                results = self._recognize([ticket.clip for ticket in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} clips")
        except Exception as error:
            failure = error
        if failure is None:
            self._limit.kept()
            seconds = time.monotonic() - started
            return [
                (ticket, Done(result, max(0.0, started - ticket.since), seconds))
                for ticket, result in zip(batch, results, strict=True)
            ]
        if isinstance(failure, DeviceLost):
            self._lost = failure.message
        if isinstance(failure, OutOfMemory):
            self._limit.exceeded(len(batch), padded_seconds)
        if len(batch) == 1 or self._lost:
            return [(ticket, failure) for ticket in batch]
        half = len(batch) // 2
        return self._outcomes(batch[:half], started) + self._outcomes(batch[half:], started)


def _padded_seconds(batch: list[Ticket[C, R]]) -> float:
    """Audio of a batch, shortest first, each clip as long as the longest."""
    return len(batch) * batch[-1].duration


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
