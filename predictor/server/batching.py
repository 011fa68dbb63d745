"""The queue in front of the network: who is let in, what runs next, and with whom.

Clips of all requests wait in one queue, each request in a lane of its own. One thread takes what waits,
without waiting for more: the oldest lane's first clip, then from every lane in turn whatever has a
similar length. Nothing here knows what a clip is, only how long it lasts.
"""

import asyncio
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from predictor.engine.errors import Overloaded

SHORTEST_SHARE = 0.5
"""A clip joins a batch only if it lasts at least this share of the longest one: its padding never
costs more than itself."""


STOPPING = "the server is stopping"


class Timed(Protocol):
    """Something that lasts."""

    @property
    def duration(self) -> float:
        """Seconds."""


C = TypeVar("C", bound=Timed)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A clip's result, and the seconds the clip waited before its batch began."""

    result: R
    queue_seconds: float


@dataclass(slots=True)
class _Entry(Generic[C, R]):
    clip: C
    future: "Future[Done[R]]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class Lane(Generic[C, R]):
    """One request's place in the queue, with at most ``window`` clips between queue and result.

    The first clip is refused when the queue is full; a request that has been let in is never refused
    later, it waits for room in its own lane.
    """

    def __init__(self, batcher: "Batcher[C, R]", window: int) -> None:
        self._batcher = batcher
        self._room = asyncio.Semaphore(window)
        self._admitted = False
        self.waiting: deque[_Entry[C, R]] = deque()

    async def submit(self, clip: C) -> "asyncio.Future[Done[R]]":
        """Queue a clip, once the lane has room. Cancelling the future takes the clip out again.

        Raises:
            Overloaded: the queue is full, and this is the lane's first clip.
        """
        await self._room.acquire()
        try:
            entry = self._batcher._put(self, clip, admitted=self._admitted)
        except BaseException:
            self._room.release()
            raise
        self._admitted = True
        future = asyncio.wrap_future(entry.future)
        future.add_done_callback(lambda _: self._room.release())
        return future


class Batcher(Generic[C, R]):
    """Runs ``recognize`` on batches of clips, in a thread of its own.

    Args:
        recognize: clips → their results, in order. Called in one thread at a time.
        max_batch_clips: most clips in a batch.
        max_batch_seconds: most audio in a batch, padding counted. A longer clip runs alone.
        max_queue_seconds: audio that may wait before new lanes are refused.
        on_start: called once in the thread, before anything runs.
    """

    def __init__(
        self,
        recognize: Callable[[list[C]], Sequence[R]],
        *,
        max_batch_clips: int,
        max_batch_seconds: float,
        max_queue_seconds: float,
        on_start: Callable[[], object] = lambda: None,
    ) -> None:
        self._recognize = recognize
        self._max_batch_clips = max_batch_clips
        self._max_batch_seconds = max_batch_seconds
        self._max_queue_seconds = max_queue_seconds
        self._on_start = on_start
        self._changed = threading.Condition()
        # Lanes with waiting clips, in the order of their turns. Guarded, as they are, by the condition.
        self._lanes: OrderedDict[Lane[C, R], None] = OrderedDict()
        self._closed = False
        # Audio seconds per wall second, smoothed, for the advice when to come back.
        self._speed = 10.0
        self._thread = threading.Thread(target=self._run, name="recognize", daemon=True)
        self._thread.start()

    def lane(self) -> Lane[C, R]:
        """A place for a new request."""
        return Lane(self, self._max_batch_clips)

    def check_room(self) -> None:
        """Raises:
        Overloaded: a new lane would be refused now.
        """
        with self._changed:
            self._check_room()

    def close(self) -> None:
        """Finish the running batch, refuse what waits, and end the thread."""
        with self._changed:
            self._closed = True
            for entry in self._entries():
                if entry.future.set_running_or_notify_cancel():
                    entry.future.set_exception(Overloaded(STOPPING))
            self._lanes.clear()
            self._changed.notify()
        self._thread.join()

    def _check_room(self) -> None:
        if self._closed:
            raise Overloaded(STOPPING)
        waiting = self._waiting_seconds()
        if waiting >= self._max_queue_seconds:
            raise Overloaded(
                f"{waiting:.0f} seconds of audio are waiting, the limit is "
                f"{self._max_queue_seconds:g}; come back later",
                retry_after_seconds=max(1, math.ceil(waiting / self._speed)),
            )

    def _put(self, lane: Lane[C, R], clip: C, *, admitted: bool) -> _Entry[C, R]:
        entry: _Entry[C, R] = _Entry(clip)
        with self._changed:
            if self._closed or not admitted:
                self._check_room()
            lane.waiting.append(entry)
            self._lanes.setdefault(lane)
            self._changed.notify()
        return entry

    def _entries(self) -> Iterator[_Entry[C, R]]:
        """Waiting entries in the order of their turns: each lane's first, each lane's second, ..."""
        queues = [list(lane.waiting) for lane in self._lanes]
        for turn in range(max(map(len, queues), default=0)):
            for queue in queues:
                if turn < len(queue):
                    yield queue[turn]

    def _waiting_seconds(self) -> float:
        return sum(e.clip.duration for e in self._entries() if not e.future.cancelled())

    def _run(self) -> None:
        self._on_start()
        while batch := self._next_batch():
            started = time.monotonic()
            self._resolve(batch, started)
            seconds = sum(entry.clip.duration for entry in batch)
            speed = seconds / max(time.monotonic() - started, 1e-3)
            self._speed += 0.2 * (speed - self._speed)

    def _next_batch(self) -> list[_Entry[C, R]]:
        """Waits for a batch and takes it out of the queue. Empty once the batcher is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._lanes or self._closed)
                if self._closed:
                    return []
                chosen = self._choose()
                self._remove(chosen)
                # From here on an entry cannot be cancelled any more; who was quicker is left out.
                if running := [e for e in chosen if e.future.set_running_or_notify_cancel()]:
                    return sorted(running, key=lambda entry: entry.clip.duration)

    def _choose(self) -> list[_Entry[C, R]]:
        chosen: list[_Entry[C, R]] = []
        shortest = longest = 0.0
        for entry in self._entries():
            if entry.future.cancelled():
                continue
            duration = entry.clip.duration
            low, high = min(shortest or duration, duration), max(longest, duration)
            full = (len(chosen) + 1) * high > self._max_batch_seconds
            if chosen and (full or low < SHORTEST_SHARE * high):
                continue
            chosen.append(entry)
            shortest, longest = low, high
            if len(chosen) == self._max_batch_clips:
                break
        return chosen

    def _remove(self, chosen: list[_Entry[C, R]]) -> None:
        """Take the chosen and the cancelled out; lanes that had their turn go behind the others."""
        taken = set(map(id, chosen))
        for lane in list(self._lanes):
            before = len(lane.waiting)
            lane.waiting = deque(
                e for e in lane.waiting if id(e) not in taken and not e.future.cancelled()
            )
            if not lane.waiting:
                del self._lanes[lane]
            elif len(lane.waiting) < before:
                self._lanes.move_to_end(lane)

    def _resolve(self, batch: list[_Entry[C, R]], started: float) -> None:
        try:
            results = self._recognize([entry.clip for entry in batch])
            if len(results) != len(batch):
                raise RuntimeError(f"{len(results)} results for {len(batch)} clips")
        except Exception as error:
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                # One clip may have spoilt it for all: give each its own chance to fail.
                for entry in batch:
                    self._resolve([entry], started)
            return
        for entry, result in zip(batch, results, strict=True):
            entry.future.set_result(Done(result, max(0.0, started - entry.since)))
