"""Whether the server's threads do their work: what probes are answered by.

Nothing here runs by itself. A thread says until when it should be done, and whoever asks looks at the
clock: the event loop sees a stuck thread because it does not wait for it.
"""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

logger = logging.getLogger("kserve.predictor")

END_SECONDS = 90.0
"""A server that has not been live for so long ends itself. Its probes have it stopped before, after a
minute; but then it would go on waiting, for as long as it may, for requests that are never answered."""

T = TypeVar("T")


class Activity:
    """What threads are at, and until when each should be done with it."""

    def __init__(self) -> None:
        self._due: dict[int, float] = {}

    @contextmanager
    def due_in(self, seconds: float) -> Iterator[None]:
        """The calling thread should be through with the block in so many seconds."""
        thread = threading.get_ident()
        self._due[thread] = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._due[thread]

    def overdue(self) -> list[int]:
        """Threads that should be done, and are not."""
        now = time.monotonic()
        return [thread for thread, due in self._due.copy().items() if due < now]


class WatchedPool(ThreadPoolExecutor):
    """A pool whose threads may all be stuck.

    Args:
        n_threads: threads.
        name: what their names begin with.
        stuck_seconds: longest time that a task may take.
    """

    def __init__(self, n_threads: int, name: str, stuck_seconds: float) -> None:
        super().__init__(n_threads, name)
        self._n_threads = n_threads
        self._name = name
        self._stuck_seconds = stuck_seconds
        self._activity = Activity()

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        return super().submit(self._watched, function, *args, **kwargs)

    def _watched(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        with self._activity.due_in(self._stuck_seconds):
            return function(*args, **kwargs)

    def trouble(self) -> str:
        """Why nothing gets done here any more: a sentence; empty while something does."""
        overdue = self._activity.overdue()
        if len(overdue) < self._n_threads:
            return ""
        return (
            f"all {self._n_threads} threads {self._name} have been at one task for more than "
            f"{self._stuck_seconds:g} s{stacks(overdue)}"
        )


class Health:
    """Asks every part of the server that can come to a halt. Tells the log when one has.

    Args:
        checks: each says what is wrong with its part, empty if nothing is.
        end: ends the process, if it is not live again after ``end_seconds``.
    """

    def __init__(
        self,
        *checks: Callable[[], str],
        end: Callable[[], object],
        end_seconds: float = END_SECONDS,
    ) -> None:
        self._checks = checks
        self._end = end
        self._end_seconds = end_seconds
        self._was_good = True

    @property
    def is_good(self) -> bool:
        """Whether requests are worth taking. What is slow for a while becomes good again; what has ended or
        is lost does not."""
        trouble = next(filter(None, (check() for check in self._checks)), "")
        if bool(trouble) == self._was_good:
            self._was_good = not trouble
            if trouble:
                logger.error("not live: %s", trouble)
                timer = threading.Timer(self._end_seconds, self._end_unless_good)
                timer.daemon = True
                timer.start()
            else:
                logger.warning("live again: what was stuck goes on")
        return not trouble

    def _end_unless_good(self) -> None:
        if not self.is_good:
            logger.error("not live for %g s: the process ends itself", self._end_seconds)
            self._end()


def stacks(threads: list[int]) -> str:
    """Where threads are, a paragraph each; source lines only, never what they work on."""
    frames = sys._current_frames()
    return "".join(
        "\n" + "".join(traceback.format_stack(frames[thread])).rstrip()
        for thread in threads
        if thread in frames
    )
