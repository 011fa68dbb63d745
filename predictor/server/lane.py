"""One request's place in the queue: what it puts in, how much it may hold, and how it leaves."""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, Self, TypeVar

from predictor.server.clip_queue import ClipQueue
from predictor.server.errors import NotReady


class Timed(Protocol):
    """Something that lasts."""

    @property
    def duration(self) -> float:
        """Seconds."""


C = TypeVar("C", bound=Timed)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    """A clip's result.

    Attributes:
        queue_seconds: what the clip waited before its batch began.
        batch_seconds: what its batch took, neighbours and padding included.
    """

    result: R
    queue_seconds: float
    batch_seconds: float


@dataclass(slots=True, eq=False)
class Ticket(Generic[C, R]):
    """A clip in the queue."""

    clip: C
    lane: "Lane[C, R]"
    future: "asyncio.Future[Done[R]]"
    since: float

    @property
    def duration(self) -> float:
        return self.clip.duration


@dataclass(slots=True)
class Shared(Generic[C, R]):
    """What all lanes share with the thread that empties them; guarded by ``changed``.

    Attributes:
        queue: clips that wait.
        max_lane_seconds: most audio of one lane in flight.
        expected_seconds: audio that requests in the middle of decoding are thought to add.
        n_lanes: lanes that have not ended.
        closed: no clip is taken any more.
    """

    queue: ClipQueue[Ticket[C, R]]
    max_lane_seconds: float
    expected_seconds: float = 0.0
    n_lanes: int = 0
    closed: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def expects_more(self) -> bool:
        """Whether clips are on their way. Sums of floats rarely come back to zero."""
        return self.n_lanes > 0 and self.expected_seconds > 1e-6

    def check_open(self) -> None:
        """Raises:
        NotReady: the server is stopping.
        """
        if self.closed:
            raise stopping()


class Withdrawn(Exception):
    """The clip's request has ended; nobody waits for it."""


class Lane(Generic[C, R]):
    """Made by ``Batcher.lane``, in an event loop. A context manager: at its end whatever of the request
    still waits leaves the queue.

    Args:
        shared: the queue. Its condition is held while a lane is made.
        expected_seconds: a guess at the request's audio.
        owner: whose it is.
    """

    def __init__(self, shared: Shared[C, R], expected_seconds: float, owner: object = None) -> None:
        self.owner = owner
        self._shared = shared
        self._freed = asyncio.Event()
        self._ended = False
        self._held_seconds = 0.0
        self._expected_seconds = min(expected_seconds, shared.max_lane_seconds)
        shared.expected_seconds += self._expected_seconds
        shared.n_lanes += 1
        self.loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._shared.changed:
            self._ended = True
            self._shared.n_lanes -= 1
            self._shared.queue.take(self._shared.queue.of_lane(self))
        self.arrived(self._expected_seconds)

    @property
    def has_room(self) -> bool:
        """Whether less audio than the limit is between queue and result."""
        return self._held_seconds < self._shared.max_lane_seconds

    def check_open(self) -> None:
        """Raises:
        NotReady: the server is stopping.
        """
        self._shared.check_open()

    async def room(self) -> None:
        """Until the lane has room."""
        while not self.has_room:
            self._freed.clear()
            await self._freed.wait()

    def put(self, clip: C) -> "asyncio.Future[Done[R]]":
        """Queue a clip, from any thread. A request that was let in is never refused here.

        Returns:
            Its future, which does not hold the clip and belongs to the lane's event loop.

        Raises:
            Withdrawn: the request has ended.
            NotReady: the server is stopping.
        """
        ticket = Ticket(clip, self, self.loop.create_future(), time.monotonic())
        with self._shared.changed:
            self._shared.check_open()
            if self._ended:
                raise Withdrawn
            self._held_seconds += clip.duration
            self._shared.queue.put(ticket)
            self._shared.changed.notify()
        return ticket.future

    def arrived(self, seconds: float) -> None:
        """So much of what was expected has been put, or never will be."""
        with self._shared.changed:
            seconds = min(seconds, self._expected_seconds)
            self._expected_seconds -= seconds
            self._shared.expected_seconds -= seconds
            # A batch may have been waiting for it.
            self._shared.changed.notify()

    def withdraw(self, futures: "Sequence[asyncio.Future[Done[R]]]") -> None:
        """Take back what of this still waits, and drop the results of the rest."""
        unwanted = set(futures)
        with self._shared.changed:
            waiting = [t for t in self._shared.queue.of_lane(self) if t.future in unwanted]
            self._shared.queue.take(waiting)
            self._held_seconds -= sum(ticket.duration for ticket in waiting)
        self._freed.set()
        for future in futures:
            # asyncio logs an exception that nobody asks for.
            if not future.cancel() and not future.cancelled():
                future.exception()

    def resolve(self, ticket: Ticket[C, R], outcome: Done[R] | Exception) -> None:
        """In the event loop: a ticket that was taken out of the queue has its outcome."""
        with self._shared.changed:
            self._held_seconds -= ticket.duration
        self._freed.set()
        if ticket.future.done():
            return
        if isinstance(outcome, Done):
            ticket.future.set_result(outcome)
        else:
            ticket.future.set_exception(outcome)


def stopping() -> NotReady:
    """What is answered from the moment the server stops."""
    return NotReady("the server is stopping")
