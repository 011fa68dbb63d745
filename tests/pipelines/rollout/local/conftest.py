"""Stand-ins for the predictor that start in a tenth of a second, and servers within the test's own loop."""

import asyncio
import contextlib
import json
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.types import ASGIApp

from pipelines.rollout.local.document import Model
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.service import Service

DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""

STAND_IN = '''#!{python} -IS
"""Acts as ``python -m predictor serve``. Its model directory's ``behaviour.json`` says how."""
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

flags = dict(flag[2:].split("=", 1) for flag in sys.argv[4:])
model = Path(flags["model_dir"])
behaviour = json.loads((model / "behaviour.json").read_text())
(model / "starts").open("a").write(str(os.getpid()) + "\\n")
starts = (model / "starts").read_text().splitlines()
if len(starts) > behaviour.get("lives", 1000):
    print("first line\\n\\nout of lives", flush=True)
    sys.exit(3)
print(*sys.argv[1:], flush=True)
if behaviour.get("ignores_sigterm"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *arguments): pass
    def do_GET(self):
        if self.path == "/v2/models/" + flags["model_name"] + "/ready":
            ready = not (model / "unready").exists() and not behaviour.get("never_ready")
            return self.answer(200 if ready else 503, b"")
        if self.path == "/die":
            os._exit(9)
        if self.path == "/hold":
            (model / "holding").touch()
            while not (model / "release").exists():
                time.sleep(0.01)
        self.answer(200, json.dumps({{"pid": os.getpid(), "path": self.path}}).encode())
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.do_GET()
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("x-revision", os.environ["K_REVISION"])
        self.send_header("x-model-digest", model.name)
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("0.0.0.0", int(flags["http_port"])), Handler).serve_forever()
'''


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An executable that takes the place of the Python interpreter: another image."""
    path = tmp_path_factory.mktemp("image") / "python"
    path.write_text(STAND_IN.format(python=sys.executable))
    path.chmod(0o755)
    return path


@pytest.fixture
def make_model(tmp_path: Path, stand_in: Path) -> Callable[..., Model]:
    """The function that makes a model of a name; the rest is its behaviour.

    ``lives``: processes that start; the next ones end at once. ``never_ready``: is never.
    ``ignores_sigterm``: does.
    """

    def make(name: str, **behaviour: object) -> Model:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "behaviour.json").write_text(json.dumps(behaviour))
        return Model(storage_uri=str(folder), digest=name, image=str(stand_in))

    return make


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A service's."""
    path = tmp_path / "service"
    path.mkdir()
    return path


Starts = Callable[..., contextlib.AbstractAsyncContextManager[Service]]


@pytest.fixture
def start_service(directory: Path) -> Starts:
    """The context manager that runs a service in the test's loop."""

    @contextlib.asynccontextmanager
    async def start(progress_seconds: float = DEADLINE_SECONDS) -> AsyncIterator[Service]:
        service = Service(
            directory, Meter(), model_name="sensevoice", progress_seconds=progress_seconds
        )
        running = asyncio.create_task(service.run())
        try:
            yield service
        finally:
            running.cancel()
            await service.close()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    return start


@pytest.fixture
async def service(start_service: Starts) -> AsyncIterator[Service]:
    async with start_service() as service:
        yield service


@pytest.fixture(scope="session")
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """The function that waits for a condition."""

    async def wait(condition: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():  # noqa: ASYNC110  # of other processes, which set no event
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def alive() -> Callable[..., bool]:
    """The function that tells whether one of the processes runs."""

    def any_runs(*pids: int) -> bool:
        def runs(pid: int) -> bool:
            try:
                return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except (FileNotFoundError, ProcessLookupError):
                return False

        return any(map(runs, pids))

    return any_runs


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """A user, patient and without a proxy."""
    async with httpx.AsyncClient(timeout=DEADLINE_SECONDS, trust_env=False) as client:
        yield client


class QuietServer(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@pytest.fixture
async def listen() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """The function that serves an ASGI application on a port of its own and returns its URL."""
    servers: list[tuple[QuietServer, asyncio.Task[None]]] = []

    async def start(app: ASGIApp) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        server = QuietServer(uvicorn.Config(app, lifespan="off", log_config=None))
        servers.append((server, asyncio.create_task(server.serve([listener]))))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for server, task in servers:
        server.should_exit = server.force_exit = True
        await task
