"""How long the phases of a start take: what a pod that scales from zero makes its users wait."""

import os
import time
from pathlib import Path

_IMPORTED = time.monotonic()


def process_seconds() -> float:
    """Age of this process in seconds; outside Linux, since this module was imported."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="utf-8")
    except OSError:
        return time.monotonic() - _IMPORTED
    # proc(5): field 22, counted from behind the name, which may hold anything.
    ticks = int(stat.rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


class Startup:
    """Measures phases that follow each other. Made when the imports are done.

    Attributes:
        seconds: phase → seconds, so far: ``import`` (the interpreter and all imports, from the process's
            creation on), and then what :meth:`ended` was told.
    """

    def __init__(self) -> None:
        self.seconds = {"import": process_seconds()}
        self._since = time.monotonic()

    def ended(self, phase: str) -> None:
        """A phase ends, and the next begins."""
        now = time.monotonic()
        self.seconds[phase] = now - self._since
        self._since = now
