"""A revision's predictor process: started, probed, started again when it crashes, drained and ended."""

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from pipelines.rollout.local.document import Generation
from pipelines.rollout.local.leash import leashed

logger = logging.getLogger(__name__)

LOGS = "logs"

START_PROBE_SECONDS, PROBE_SECONDS, PROBE_TIMEOUT_SECONDS = 0.1, 5.0, 5.0
"""Between two probes until the process is ready, and afterwards; and how long an answer may take."""

MAX_MISSES = 3
"""Probes in a row that a ready process may miss before it is not ready."""

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 1.0, 60.0
"""Before a crashed process is started again, doubling; from the first again after so long a life."""

DRAIN_SECONDS = 300.0
"""Longest time that running requests keep a revision that has no traffic any more."""

STOP_SECONDS = 40.0
"""From SIGTERM to SIGKILL; the predictor gives its own requests 30."""

LOG_LINES, LOG_BYTES = 5, 1000
"""How much of a failed process's log is told, at most."""


class RevisionProcess:
    """One revision of the service.

    Args:
        generation: its name and model.
        directory: the service's; logs go to a folder in it.
        model_name: the model's name in URLs.
        progress_seconds: longest time for a process to become ready.
        changed: called when ``ready``, ``pending`` or ``failure`` changes.

    Attributes:
        name: the revision's, the header ``x-revision`` of its answers.
        url: reaches it alone, across restarts.
        ready: it answers that its model is ready.
        pending: its first process has neither become ready nor ended.
        failure: why it never became ready and will not; empty while it may.
    """

    def __init__(
        self,
        generation: Generation,
        directory: Path,
        *,
        model_name: str,
        progress_seconds: float,
        changed: Callable[[], None],
    ) -> None:
        self.name = generation.name
        self.ready = False
        self.pending = True
        self.failure = ""
        self._was_ready = generation.was_ready
        self._directory = directory
        self._progress_seconds = progress_seconds
        self._changed = changed
        self._log = directory / LOGS / f"{self.name}.log"
        self._ports = [_held_port(), _held_port()]
        http_port, grpc_port = (held.getsockname()[1] for held in self._ports)
        self.url = f"http://127.0.0.1:{http_port}"
        self._ready_url = f"{self.url}/v2/models/{model_name}/ready"
        model = generation.model
        self._command = [model.image or sys.executable, "-m", "predictor", "serve"]
        self._command += [f"--model_dir={model.storage_uri}", f"--model_name={model_name}"]
        self._command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
        self._n_running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._kept = asyncio.create_task(self._keep())

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Around a request, which :meth:`end` waits for."""
        self._n_running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._n_running -= 1
            if not self._n_running:
                self._idle.set()

    async def end(self) -> None:
        """Once no request is routed here any more: finish those that run, then end the process."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._idle.wait()
        self._kept.cancel()
        await asyncio.gather(self._kept, return_exceptions=True)
        for held in self._ports:
            held.close()

    async def _keep(self) -> None:
        """Start the process, and again whenever it ends. One that never was ready is given up."""
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_SECONDS
        while True:
            started = clock()
            try:
                reason = await self._live()
            except OSError as error:
                reason = f"no process can be started: {error}"
            self.ready = self.pending = False
            if not self._was_ready:
                self.failure = reason
            self._changed()
            logger.warning("%s: %s", self.name, reason)
            if self.failure:
                return
            if clock() - started > LAST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_PAUSE_SECONDS)

    async def _live(self) -> str:
        """One process from its start to its end; returns why it ended."""
        process = await self._start()
        became_ready = asyncio.Event()
        probes = asyncio.create_task(self._probe(became_ready))
        ended = asyncio.create_task(process.wait())
        first = asyncio.create_task(became_ready.wait())
        try:
            await asyncio.wait(
                (ended, first),
                timeout=self._progress_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not ended.done() and not first.done():
                return f"not ready after {self._progress_seconds:g} s; {self._log_end()}"
            status = await ended
            how = f"status {status}" if status >= 0 else f"signal {signal.Signals(-status).name}"
            return f"the process ended with {how}; {self._log_end()}"
        finally:
            for task in (ended, first, probes):
                task.cancel()
            await asyncio.gather(ended, first, probes, return_exceptions=True)
            await _stop(process)

    async def _start(self) -> Process:
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *leashed(*self._command),
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
                # The interpreter finds the predictor that was installed for it, not one that lies here.
                cwd=self._directory,
                env={**os.environ, "K_REVISION": self.name},
                # A terminal's Ctrl-C is for the daemon, which ends its processes in order.
                start_new_session=True,
            )

    async def _probe(self, became_ready: asyncio.Event) -> None:
        """Keep ``ready`` true to what the process answers, for as long as it lives."""
        misses = 0
        async with httpx.AsyncClient(timeout=PROBE_TIMEOUT_SECONDS, trust_env=False) as client:
            while True:
                try:
                    answered = (await client.get(self._ready_url)).is_success
                except httpx.HTTPError:
                    answered = False
                misses = 0 if answered else misses + 1
                if answered != self.ready and (answered or misses >= MAX_MISSES):
                    self.ready = answered
                    if answered:
                        self._was_ready, self.pending = True, False
                        became_ready.set()
                    self._changed()
                await asyncio.sleep(PROBE_SECONDS if self.ready else START_PROBE_SECONDS)

    def _log_end(self) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - LOG_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        end = " / ".join([line.strip() for line in lines if line.strip()][-LOG_LINES:])
        return f"its log {self._log} ends: {end}"


def _held_port() -> socket.socket:
    """A free port of the loopback, bound but not listened on: nobody who asks for any free port is given
    it, and the process that is told its number may listen on it all the same."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


async def _stop(process: Process) -> None:
    """Ask the process, and those it started, to end; then make them."""
    for sign, seconds in ((signal.SIGTERM, STOP_SECONDS), (signal.SIGKILL, None)):
        if process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
