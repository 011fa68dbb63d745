"""Server processes: start, wait until ready, CPU time of the whole tree, stop."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.benchmarks.models import REPOSITORY
from tests.benchmarks.worker import environment

START_SECONDS = 180.0
POLL_SECONDS = 0.02
BOUNDARY = "sensevoice-benchmark"


@dataclass(frozen=True, slots=True)
class Api:
    """How a server is asked.

    Attributes:
        ready: path that answers 200 once the model serves.
        path: where a transcription is posted.
        headers: of the post.
        multipart: fields beside the file; None: the body is the file as it is.
    """

    ready: str
    path: str
    headers: dict[str, str]
    multipart: dict[str, str] | None = None

    def body(self, wav: bytes) -> bytes:
        """The whole body of a request for one WAV file."""
        if self.multipart is None:
            return wav
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.multipart.items()
        ]
        file = (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n'
            "Content-Type: audio/wav\r\n\r\n"
        )
        return "".join([*parts, file]).encode() + wav + f"\r\n--{BOUNDARY}--\r\n".encode()


CLIP_THREADS = 1
"""Threads of one of our server's passes of the network: it runs as many passes as it has threads."""

OURS_API = Api(
    "/v2/models/sensevoice/ready",
    "/v2/models/sensevoice/infer",
    {"Inference-Header-Content-Length": "0", "Content-Type": "application/octet-stream"},
)
"""The file itself as a v2 request with the binary tensor extension."""

FUNASR_API = Api(
    "/health",
    "/v1/audio/transcriptions",
    {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"},
    {"model": "custom", "response_format": "json"},
)
"""OpenAI's transcription call; ``custom`` is FunASR's name for a local directory."""


class Server:
    """A server process of its own session; leave the context to stop it.

    Attributes:
        url: ``http://host:port``.
        started: ``time.perf_counter()`` just before the process was started.
    """

    def __init__(
        self, command: Sequence[str], api: Api, port: int, threads: int, log: Path
    ) -> None:
        self.api = api
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._log = log
        self._stack = ExitStack()
        output = self._stack.enter_context(log.open("w"))
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=environment(threads),
            start_new_session=True,
        )

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._stack.close()

    def wait(self) -> None:
        """Until the model serves.

        Raises:
            RuntimeError: the process ended, or was not ready in START_SECONDS.
        """
        while time.perf_counter() - self.started < START_SECONDS:
            if self._process.poll() is not None:
                break
            if self._answers(self.api.ready):
                return
            time.sleep(POLL_SECONDS)
        raise RuntimeError(f"the server did not start:\n{self._log.read_text()[-4000:]}")

    def _answers(self, path: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()

    def post(self, wav: bytes) -> bytes:
        """The answer to one WAV file.

        Raises:
            RuntimeError: any status but 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request("POST", self.api.path, self.api.body(wav), self.api.headers)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self.api.path}: {answer.status} {content[:500]!r}")
        return content

    def cpu_seconds(self) -> float:
        """CPU time so far of the process and all its descendants, in seconds."""
        times = [process.cpu_times() for process in self._tree()]
        return float(sum(time.user + time.system for time in times))

    def resident_mb(self) -> float:
        """Resident memory of the tree now, in MiB."""
        return float(sum(process.memory_info().rss for process in self._tree())) / 2**20

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self._process.pid)
        return [root, *root.children(recursive=True)]


def ours(model: Path, precision: str, threads: int, log: Path) -> Server:
    """The predictor on a prepared model directory, on the CPU."""
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "predictor", "serve", f"--model_dir={model}", "--device=cpu"]
    command += [f"--precision={precision}", f"--network_passes={threads}"]
    command += [f"--network_threads={CLIP_THREADS}", "--log_level=warning"]
    command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    return Server(command, OURS_API, http_port, threads, log)


def funasr(model: Path, threads: int, log: Path) -> Server:
    """FunASR's own OpenAI-style server on a hub-like directory whose config names the threads."""
    port = free_port()
    command = [sys.executable, "-m", "funasr.bin.server", "--host=127.0.0.1", f"--port={port}"]
    command += ["--device=cpu", f"--model-path={model}"]
    return Server(command, FUNASR_API, port, threads, log)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
