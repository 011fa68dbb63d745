"""A server whose network recognises so many seconds of audio a second, to know what its capacity is:
``python -m tests.reliability.slow_network SPEED FLAGS``."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from predictor.engine.transcribe import Engine
from predictor.server.app import serve
from predictor.server.settings import Settings

speed = float(sys.argv[1])
recognize = Engine.recognize


def slowly(self: Engine, clips: Sequence[Any]) -> Any:
    until = time.monotonic() + sum(clip.duration for clip in clips) / speed
    results = recognize(self, clips)
    time.sleep(max(0.0, until - time.monotonic()))
    return results


Engine.recognize = slowly  # type: ignore[method-assign]
serve(Settings.from_command_line(sys.argv[2:]))
