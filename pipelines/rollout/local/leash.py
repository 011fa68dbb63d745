"""``python leash.py PARENT COMMAND...``: becomes a command that dies when its parent does.

Linux alone: the kernel sends SIGKILL once the parent is gone, however it went, and remembers that across
``exec``. A program of its own rather than a ``preexec_fn``, which may deadlock where there are threads.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def leashed(*command: str) -> list[str]:
    """The command that dies with this process; more exactly, with the thread that starts it."""
    return [sys.executable, "-IS", __file__, str(os.getpid()), *command]


def main(parent: str, *command: str) -> None:
    """
    Args:
        parent: the process id that started this one.

    Raises:
        SystemExit: the parent is gone already, or the command cannot be run.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise SystemExit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != int(parent):
        raise SystemExit(f"process {parent} has ended")
    try:
        os.execv(command[0], command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        raise SystemExit(f"cannot run {command[0]}: {error.strerror}") from None


if __name__ == "__main__":
    main(*sys.argv[1:])
