"""The process that workers are forked from, as the server sees it: started, asked, and started again."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence

from predictor.server.decoder_process import REPLY, REQUEST
from predictor.server.decoder_worker import Worker

PROGRAM = ("-m", "predictor.server.decoder_process")
"""What the interpreter runs; the descriptor of a socket follows."""

REPLY_SECONDS = 30.0
"""For a reply: a moment, but for the first, before which everything is imported."""

ENVIRONMENT = ("PATH", "LD_", "PYTHON", "LANG", "LC_")
"""Beginnings of the variables that decoding sees: there may be secrets in the others."""


class ForkServer:
    """Starts the process when it is first needed, and again where it has died. For any thread.

    Args:
        program: arguments of the interpreter.
    """

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        self._program = program
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._alive: set[Worker] = set()

    def start(self) -> None:
        """Start the process, unless it runs. It is ready some tenths of a second later."""
        with self._lock:
            self._running()

    def fork(self) -> Worker:
        """A new worker.

        Raises:
            OSError, EOFError: no process can be made.
        """
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            try:
                process = self._ask(0, theirs)
            except (OSError, EOFError):
                # It has died, or hangs.
                self._stop()
                process = self._ask(0, theirs)
            if process < 0:
                ours.close()
                raise OSError(-process, os.strerror(-process))
            worker = Worker(process, ours)
            self._alive.add(worker)
        return worker

    def end(self, worker: Worker) -> int | None:
        """Kill a worker, unless it has ended by itself.

        Returns:
            Its wait status; None where it was ended before, or has died with the fork server.
        """
        worker.close()
        with self._lock:
            if worker not in self._alive:
                return None
            # Once only: the process's id may be another's afterwards.
            self._alive.remove(worker)
            try:
                status = self._ask(worker.process)
            except (OSError, EOFError):
                # A late reply would be taken for the next request's.
                self._stop()
                return None
        return status if status >= 0 else None

    def close(self) -> None:
        """End the process and all workers."""
        with self._lock:
            self._stop()

    def _running(self) -> "tuple[subprocess.Popen[bytes], socket.socket]":
        if self._process is not None and self._control is not None:
            return self._process, self._control
        ours, theirs = socket.socketpair()
        ours.settimeout(REPLY_SECONDS)
        environment = {
            name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)
        }
        # A second thread would be one too many to fork.
        environment["OPENBLAS_NUM_THREADS"] = "1"
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, *self._program, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                # Out of the way of signals to the server's group, such as Ctrl-C.
                start_new_session=True,
            )
        self._control = ours
        return self._process, ours

    def _ask(self, request: int, descriptor: socket.socket | None = None) -> int:
        """Raises:
        OSError, EOFError: the process has died, or gives no reply.
        """
        _, control = self._running()
        descriptors = [] if descriptor is None else [descriptor.fileno()]
        socket.send_fds(control, [REQUEST.pack(request)], descriptors)
        reply = control.recv(REPLY.size, socket.MSG_WAITALL)
        if len(reply) < REPLY.size:
            raise EOFError("the fork server has ended")
        return int(REPLY.unpack(reply)[0])

    def _stop(self) -> None:
        if self._process is not None and self._control is not None:
            self._control.close()
            self._process.kill()
            self._process.wait()
        self._process = self._control = None
        self._alive.clear()
