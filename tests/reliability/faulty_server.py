"""A predictor whose parts fail on command: ``python -m tests.reliability.faulty_server serve ...``.

What a clip does to the network follows from its length, so that whoever sends it decides; nothing else
differs from ``python -m predictor``.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Sequence

from predictor.__main__ import main
from predictor.engine.errors import DeviceLost
from predictor.engine.recording import Clip
from predictor.engine.transcribe import Engine

POISON_SECONDS, HANG_SECONDS, END_SECONDS, LOST_SECONDS = 1.11, 1.22, 1.33, 1.44
"""Length of a clip that makes its batch fail, never end, end its thread, or lose the GPU."""

LEAK_SECONDS = 1.55
"""Length of a clip after which the network has no memory any more, for whatever comes."""

MEMORY = "FAULTY_MEMORY"
"""Variable: seconds of padded audio in a batch from which on the memory does not suffice."""

POOL_SECONDS = 31.5
"""Length of an audio whose transcript is never put together, in a thread of the pool."""

CLOCK = "FAULTY_CLOCK"
"""Variable that makes the wall clock jump by up to so many seconds, to and fro, at each look."""


def break_network() -> None:
    recognize, never, leaked = Engine._recognize, threading.Event(), threading.Event()
    memory_seconds = float(os.environ.get(MEMORY, "inf"))

    def faulty(self: Engine, clips: Sequence[Clip]):
        lengths = {round(clip.duration, 2) for clip in clips}
        if HANG_SECONDS in lengths:
            never.wait()
        if END_SECONDS in lengths:
            raise SystemExit
        if LOST_SECONDS in lengths:
            raise DeviceLost("the GPU answers no more; the server must be started anew")
        if POISON_SECONDS in lengths:
            raise RuntimeError("poison")
        if LEAK_SECONDS in lengths:
            leaked.set()
        if leaked.is_set() or len(clips) * max(lengths) > memory_seconds:
            raise MemoryError
        return recognize(self, clips)

    Engine._recognize = faulty


def break_pool() -> None:
    assemble, never = Engine.assemble, threading.Event()

    def faulty(self: Engine, recording, hypotheses):
        if recording.duration == POOL_SECONDS:
            never.wait()
        return assemble(self, recording, hypotheses)

    Engine.assemble = faulty


def break_clock(seconds: float) -> None:
    real, chance = time.time, random.Random(0)
    time.time = lambda: real() + chance.uniform(-seconds, seconds)


if __name__ == "__main__":
    break_network()
    break_pool()
    if seconds := os.environ.get(CLOCK):
        break_clock(float(seconds))
    sys.exit(main(sys.argv[1:]))
