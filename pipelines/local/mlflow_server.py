"""An MLflow server of one's own: SQLite and a folder of artifacts, which it proxies.

``python -m pipelines.local.mlflow_server`` keeps one up, to look at what local runs have registered.
"""

import argparse
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

FOLDER = Path("build/local/mlflow")

PORT = 5000

START_SECONDS = 120.0
"""Longest time until it answers; the first start makes the database."""


VARIABLES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Processes for jobs that nobody here starts.
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}


class ServerFailed(RuntimeError):
    """MLflow did not start; says what it wrote last."""


def command(folder: Path, port: int) -> list[str]:
    """Of a server that keeps everything in ``folder`` and listens on the loopback interface."""
    return [
        *(sys.executable, "-m", "mlflow", "server", "--workers=1"),
        *("--host=127.0.0.1", f"--port={port}"),
        f"--backend-store-uri=sqlite:///{folder.resolve() / 'mlflow.db'}",
        f"--artifacts-destination={folder.resolve() / 'artifacts'}",
    ]


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """A server while ``with`` holds; yields its URI.

    Raises:
        ServerFailed: it ended, or did not answer in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    log = folder / "server.log"
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: S603
            command(folder, port),
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | VARIABLES,
        ) as process,
    ):
        try:
            _await(uri, process, log)
            yield uri
        finally:
            process.terminate()


def _await(uri: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"{uri}/health", trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise ServerFailed(f"MLflow does not answer at {uri}; {log} ends: {_tail(log)}")
        time.sleep(0.2)


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-1000:].strip()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local.mlflow_server")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    program, *words = command(arguments.folder, arguments.port)
    os.execve(program, [program, *words], os.environ | VARIABLES)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
