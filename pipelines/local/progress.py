"""What a person sees of a local run: a line a task; all the rest goes to a file."""

import io
import re
import time
from typing import IO

_ANSI = re.compile(r"\x1b\[\d+m")
_FINISHED = re.compile(
    r"^[\d:.]+ - \w+ - Task '?(?P<task>[^']+?)'? finished with status (?P<status>\w+)"
)
_EXCEPTION = re.compile(r"^ *[A-Za-z_][\w.]*: \S.*$")


class Progress(io.TextIOBase):
    """Standard output of kfp's local runner, to be redirected here.

    Args:
        log: gets everything.
        screen: gets a line a finished task, with its seconds since the one before.

    Attributes:
        error: the last exception that a step's process ended with; empty where none did.
    """

    def __init__(self, log: IO[str], screen: IO[str]) -> None:
        self.error = ""
        self._log = log
        self._screen = screen
        self._begun = time.monotonic()
        self._line = ""
        self._in_traceback = False

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._log.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._read(_ANSI.sub("", line))
        return len(text)

    def flush(self) -> None:
        self._log.flush()

    def _read(self, line: str) -> None:
        if line.lstrip().startswith("Traceback (most recent call last)"):
            self._in_traceback = True
        elif self._in_traceback and _EXCEPTION.match(line):
            self.error = line.strip()
            self._in_traceback = False
        if finished := _FINISHED.match(line):
            now = time.monotonic()
            mark = "✓" if finished["status"] == "SUCCESS" else "✗"
            print(f"{mark} {finished['task']:<20} {now - self._begun:5.0f} s", file=self._screen)
            self._screen.flush()
            self._begun = now
