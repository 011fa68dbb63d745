"""Phases of a start add up to the age of the process."""

import subprocess
import sys
import time

from predictor.server.startup import Startup, process_seconds

CHILD = """
import time
started = time.monotonic()
from predictor.server.startup import process_seconds
print(process_seconds() - (time.monotonic() - started))
"""

CLOCK_TICK = 0.02
"""Seconds: what Linux rounds the creation of a process to, and a little."""


def test_the_age_counts_from_the_process_s_creation() -> None:
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True, text=True)
    elapsed = time.monotonic() - before
    # The interpreter's own start, before its first line.
    assert 0 < float(done.stdout) <= elapsed + CLOCK_TICK


def test_phases_follow_each_other() -> None:
    startup = Startup()
    startup.ended("load")
    startup.ended("warm_up")
    assert list(startup.seconds) == ["import", "load", "warm_up"]
    assert sum(startup.seconds.values()) <= process_seconds() + CLOCK_TICK
