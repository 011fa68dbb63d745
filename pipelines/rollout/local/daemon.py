"""The daemon, in order: be the only one, read the document, listen, say where, serve, finish."""

import asyncio
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from filelock import FileLock, Timeout
from starlette.types import ASGIApp

from pipelines.rollout.local.address import Address, remove_address, write_address
from pipelines.rollout.local.control import control
from pipelines.rollout.local.document import InvalidDocument
from pipelines.rollout.local.errors import LocalError
from pipelines.rollout.local.leash import leashed
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.proxy import Proxy
from pipelines.rollout.local.service import Service

LOCK = "daemon.lock"
LOG = "daemon.log"

LISTENING = "listening: "
"""Starts the line that is printed once the service can be reached; then its URL."""

KEEP_ALIVE_SECONDS = 75
"""Clients close connections sooner that they do not use, and so never send a request on a closed one."""

FINISH_SECONDS = 300
"""Longest time for running requests to finish after SIGTERM."""


def keep(directory: Path, *, port: int, model_name: str, progress_seconds: float) -> None:
    """Keep the service of a directory until SIGTERM or SIGINT; then finish what runs, and end it all.

    Args:
        directory: made where it is not there.
        port: for users, on the loopback; 0: any free one.
        model_name: the model's name in URLs.
        progress_seconds: longest time for a predictor to become ready.

    Raises:
        SystemExit: another daemon keeps the directory, its document cannot be read, or the port cannot be
            had; says which.
    """
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        with lock.acquire(timeout=0), _listener(port) as listener:
            asyncio.run(_keep(directory.resolve(), listener, model_name, progress_seconds))
    except Timeout:
        raise SystemExit(f"{directory}: another daemon keeps it; end that one first") from None
    except InvalidDocument as error:
        raise SystemExit(str(error)) from None


@contextmanager
def local_service(directory: Path, *, port: int = 0) -> Iterator[str]:
    """A daemon process beside this one, which does not outlive it; gives the users' URL.

    Its log is ``daemon.log`` in the directory.

    Args:
        directory, port: see :func:`keep`.

    Raises:
        LocalError: it ended instead of listening; tells why.
    """
    directory.mkdir(parents=True, exist_ok=True)
    command = leashed(sys.executable, "-m", __package__, str(directory), f"--port={port}")
    with (directory / LOG).open("a+", encoding="utf-8") as log:
        began = log.tell()
        with subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as daemon:
            assert daemon.stdout is not None  # noqa: S101  # for mypy
            line = daemon.stdout.readline()
            if not line.startswith(LISTENING):
                log.seek(began)
                raise LocalError(f"{directory} is not kept: {log.read().strip()}")
            try:
                yield line.removeprefix(LISTENING).strip()
            finally:
                daemon.terminate()


async def _keep(
    directory: Path, listener: socket.socket, model_name: str, progress_seconds: float
) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    meter = Meter()
    service = Service(directory, meter, model_name=model_name, progress_seconds=progress_seconds)
    proxy = Proxy(service.choose, meter)
    token = secrets.token_urlsafe()
    with _listener(0) as control_listener:
        users = _Server(proxy)
        controllers = _Server(control(service, meter, directory, token))
        async with asyncio.TaskGroup() as tasks:
            reconciling = tasks.create_task(service.run())
            serving = tasks.create_task(users.serve([listener]))
            controlling = tasks.create_task(controllers.serve([control_listener]))
            # Both listen already; what comes before they serve waits for them.
            address = Address(_url(listener), _url(control_listener), token)
            write_address(directory, address)
            print(f"{LISTENING}{address.traffic}", flush=True)  # noqa: T201
            await stop.wait()
            users.should_exit = True
            await serving
            reconciling.cancel()
            await service.close()
            await proxy.close()
            remove_address(directory)
            controllers.should_exit = True
            await controlling


class _Server(uvicorn.Server):
    """One of two in a process, which itself hears the signals."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                proxy_headers=False,
                # Those of the revision's answer are passed on.
                server_header=False,
                date_header=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=FINISH_SECONDS,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listener(port: int) -> socket.socket:
    try:
        listener = socket.create_server(("127.0.0.1", port))
    except OverflowError:
        raise SystemExit(f"port {port}: must be 0 to 65535") from None
    except OSError as error:
        raise SystemExit(f"port {port}: {os.strerror(error.errno or 0)}") from None
    # Connections inherit it. asyncio sets it only where the socket names its protocol, which this one does
    # not; without it an answer's second packet waits 40 ms for the first one's acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()
    return f"http://{host}:{port}"
