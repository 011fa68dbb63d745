"""How time passes for a rollout, and how long it tries again."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from pipelines.rollout.plan import Plan
from pipelines.rollout.target import Conflict, Unavailable

T = TypeVar("T")

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.5, 10.0
"""Pauses while the service's keeper is out of reach, doubling."""

MAX_CONFLICTS = 30
"""Times that a service may have changed between a look and the write that was decided on it."""


@dataclass(frozen=True, slots=True)
class Clock:
    """
    Attributes:
        now: seconds since 1970, as other machines count them too; somebody may set it.
        steady: seconds since whenever; nobody sets it, so that it measures how long something takes.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    steady: Callable[[], float] = time.monotonic


def patiently(plan: Plan, clock: Clock, call: Callable[[], T], seconds: float | None = None) -> T:
    """The call's result, tried again while the keeper is out of reach.

    Args:
        seconds: longest time; the plan's by default.

    Raises:
        Unavailable: still, after that time.
    """
    deadline = clock.steady() + (plan.unavailable_timeout_seconds if seconds is None else seconds)
    pause = FIRST_RETRY_SECONDS
    while True:
        try:
            return call()
        except Unavailable:
            if clock.steady() + pause > deadline:
                raise
            clock.sleep(pause)
            pause = min(2 * pause, LAST_RETRY_SECONDS)


def undisturbed(clock: Clock, pause: float, decide: Callable[[], T]) -> T:
    """The decision's result, decided again where the service changed before it was written.

    Args:
        pause: seconds.

    Raises:
        Unavailable: it changes all the time.
    """
    for _ in range(MAX_CONFLICTS):
        try:
            return decide()
        except Conflict as error:
            last = error
            clock.sleep(pause)
    raise Unavailable(f"changes all the time: {last}") from last
