"""How a rollout ends without an outcome: a signal as an exception, and what is told of what was left."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.rollout.state import RolloutState


@contextmanager
def terminable() -> Iterator[None]:
    """Within, SIGTERM, by which Kubernetes ends a pod, raises ``SystemExit``, so that there is time for a
    last word. Its status is the one that shells give to a process that the signal ended. Only the main
    thread is told of signals; in another one this does nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # The last word is said once.
        sys.exit(128 + number)

    former = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def told(error: BaseException) -> str:
    """An exception in words."""
    if isinstance(error, SystemExit | KeyboardInterrupt):
        return "the rollout's process was told to end"
    return str(error) if type(error).__module__.startswith("pipelines.") else repr(error)


def ending(
    name: str, state: RolloutState, failure: str = "", unsure: RolloutState | None = None
) -> str:
    """Who serves the users now, and how a person finishes it.

    Args:
        name: of the service.
        state: as last written.
        failure: why the last word could not be written; empty: it was.
        unsure: what stands there instead, where a write that got no answer was made.
    """
    version = state.candidate.version
    again = f"roll version {version} out again, which goes on from there"
    end = "end it with `python -m pipelines.abandon`"
    if failure:
        left = " or ".join(dict.fromkeys(_as_left(each) for each in (state, unsure) if each))
        return (
            f"{name} was left {left}, and nothing more could be written there ({failure}); once that is "
            f"cured, and {state.lease:.0f} s after its last word, {again}, or {end}"
        )
    if state.phase == "promoting":
        left = f"version {version} was given all users of {name}; what follows is not done"
    elif state.phase == "rolling_back":
        back = f"given back to {state.stable}" if state.stable else f"left to version {version}"
        left = f"all users of {name} were {back}; what follows is not done"
    elif state.finished:
        left = f"version {version} was {state.phase} on {name}"
    elif state.stable:
        left = f"all users of {name} were given back to {state.stable}"
    else:
        left = f"version {version} has all users of {name}, which served nothing before"
    return f"{left}; {again}, or {end}"


def _as_left(state: RolloutState) -> str:
    share = "all users" if state.percent is None else f"{state.percent} % of the users"
    return f"{state.phase}, with {share} on version {state.candidate.version}"
