"""When to ask again, and when to give up. Pure, but for the clock."""

import logging
import random
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from predictor.client.errors import ServiceError, Unavailable
from predictor.client.wire import RETRIED, error_text

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
"""Pauses double from one to the other; what the service asks for in ``Retry-After`` is longer or not,
but never cut short."""

JITTER = 0.25
"""Share by which a pause is lengthened at random, so that clients refused together come back apart."""

logger = logging.getLogger("predictor.client")


@dataclass(frozen=True, slots=True)
class Wait:
    """A pause before another attempt.

    Attributes:
        error: what the last attempt came to.
        seconds: of the pause.
        waited: seconds since the first attempt began.
        attempt: number of the last attempt, from 1.
    """

    error: ServiceError
    seconds: float
    waited: float
    attempt: int


def log_first(wait: Wait) -> None:
    """One warning for each request that has to wait."""
    if wait.attempt == 1:
        logger.warning("%s; trying again", wait.error)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on asking a service that is overloaded, starting or not reachable.

    Attributes:
        seconds: from the first attempt to the beginning of the last; 0: ask once.
        on_wait: is told of each pause.
    """

    seconds: float = 120.0
    on_wait: Callable[[Wait], None] = log_first


class Attempts:
    """The attempts at one request."""

    def __init__(self, patience: Patience, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience = patience
        self._clock = clock
        self._began = clock()
        self._count = 0

    def next_step(self, came: httpx.Response | httpx.TransportError) -> httpx.Response | float:
        """The answer, where ``came`` is one; else the seconds to pause before the next attempt.

        Raises:
            Unavailable: there is no answer, and none to be expected in the time left.
        """
        self._count += 1
        if isinstance(came, httpx.Response) and came.status_code not in RETRIED:
            return came
        error = _error(came)
        if isinstance(came, httpx.TransportError) and not _passes(came):
            raise error from came
        seconds = self._pause(came)
        waited = self._clock() - self._began
        if waited + seconds > self._patience.seconds:
            raise self._given_up(error, waited) from (
                came if isinstance(came, httpx.TransportError) else None
            )
        self._patience.on_wait(Wait(error, seconds, waited, self._count))
        return seconds

    def _pause(self, came: httpx.Response | httpx.TransportError) -> float:
        wanted = _retry_after(came) if isinstance(came, httpx.Response) else None
        if wanted is None:
            wanted = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._count - 1, 10))
        return wanted * (1 + JITTER * random.random())

    def _given_up(self, error: ServiceError, waited: float) -> Unavailable:
        tries = (
            f"; gave up after {self._count} attempts in {waited:.0f} s" if self._count > 1 else ""
        )
        return Unavailable(error.message + tries, error.status)


def _error(came: httpx.Response | httpx.TransportError) -> Unavailable:
    if isinstance(came, httpx.Response):
        return Unavailable(error_text(came), came.status_code)
    url = came.request.url.copy_with(path="/", query=None)
    if isinstance(came, httpx.ReadTimeout):
        return Unavailable(f"{url}: no answer in time")
    return Unavailable(f"{url}: {str(came) or type(came).__name__}")


def _passes(error: httpx.TransportError) -> bool:
    """Whether it may pass by itself. A request that ran out of its time would do so again, and a name
    that nobody knows is a slip of the pen."""
    if isinstance(error, httpx.ReadTimeout | httpx.UnsupportedProtocol):
        return False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return False
        cause = cause.__cause__ or cause.__context__
    return True


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds of the header ``Retry-After`` (RFC 9110: a number, or a date); None without a valid one."""
    given = response.headers.get("retry-after", "").strip()
    if given.isdecimal():
        return float(given)
    try:
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
