"""What tests of every folder share: model directories and server processes."""

import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipelines.random_model import write_random_model
from predictor.engine.checkpoint import MANIFEST
from predictor.engine.prepare import prepare

REPOSITORY = Path(__file__).resolve().parent.parent
DEMO_MODEL = REPOSITORY / "predictor" / "demo_model"


@pytest.fixture(autouse=True)
def heard_loggers() -> None:
    """Loggers as if no test had run before: libraries set up logging for the whole process."""
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger) and name.startswith(("kserve", "pipelines")):
            logger.disabled, logger.propagate = False, True


@pytest.fixture(scope="session")
def demo_model_dir() -> Path:
    """The embedded model."""
    assert (DEMO_MODEL / MANIFEST).is_file()
    return DEMO_MODEL


@pytest.fixture(scope="session")
def reference_files() -> Path:
    """config.yaml, am.mvn and the tokenizer of the published SenseVoiceSmall."""
    folder = os.environ.get("SENSEVOICE_REFERENCE_FILES")
    if not folder:
        pytest.skip("SENSEVOICE_REFERENCE_FILES names no folder with SenseVoiceSmall's config")
    return Path(folder)


@pytest.fixture(scope="session")
def random_source_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as the model hub gives it (model.pt), tiny, with random weights."""
    sizes = {"output_size": 32, "linear_units": 64, "num_blocks": 2, "tp_blocks": 1}
    return write_random_model(
        DEMO_MODEL, tmp_path_factory.mktemp("hub") / "source", sizes, pickled=True
    )


@pytest.fixture(scope="session")
def random_model_dir(random_source_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared for serving."""
    destination = tmp_path_factory.mktemp("models") / "random"
    prepare(random_source_dir, destination, name="random")
    return destination


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Served:
    """Where the server listens, what it wrote, and how to stop it."""

    process: "subprocess.Popen[str]"
    http: str
    grpc: str
    ready_lines: list[str]
    log: Path
    folder: Path


def run_server(
    model_dir: Path, log: Path, *flags: str, module: Sequence[str] = ("predictor", "serve")
) -> Iterator[Served]:
    """A server process that listens; terminated and reaped afterwards, which idle clients do not delay by
    more than a second."""
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", *module, f"--model_dir={model_dir}"]
    command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    command += ["--grace_period_seconds=5", *flags]
    folder = REPOSITORY
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=folder
        ) as process,
    ):
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines += [line.strip()] if lines or "ready:" in line else []
            if lines and (len(lines) == 2 or not (model_dir / "evaluation").is_dir()):
                break
        assert lines, f"the server ended: {log.read_text()}"
        # The pipe must not fill up with access logs.
        drain = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL)
        try:
            yield Served(
                process,
                f"http://127.0.0.1:{http_port}",
                f"127.0.0.1:{grpc_port}",
                lines,
                log,
                folder,
            )
        finally:
            process.terminate()
            assert process.wait(60) == 0
            drain.wait(60)


@pytest.fixture(scope="session")
def start_server() -> Callable[..., Iterator[Served]]:
    """The generator of a server of one's own."""
    return run_server


@pytest.fixture(scope="session")
def new_port() -> Callable[[], int]:
    """The function that finds a free port."""
    return free_port


@pytest.fixture(scope="session")
def demo_served(demo_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on the embedded model, as a newcomer starts it."""
    yield from run_server(demo_model_dir, tmp_path_factory.mktemp("demo_server") / "log")
