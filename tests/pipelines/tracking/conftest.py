"""MLflow servers of one's own, releases to register, and processes that die at a chosen write."""

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from mlflow import MlflowClient

from pipelines.evaluation.report import Report
from pipelines.evaluation.summary import metrics
from pipelines.steps.fetch import fetch
from pipelines.steps.prepare import prepare
from pipelines.tracking.registry import ModelRegistry
from pipelines.tracking.version import Release
from predictor.engine.checkpoint import read_manifest

START_SECONDS = 120


@dataclass(frozen=True)
class MlflowServer:
    """``folder`` holds its database ``mlflow.db`` and the files of models and runs, ``artifacts``."""

    uri: str
    folder: Path


def run_mlflow(
    folder: Path, port: int, *flags: str, variables: dict[str, str] | None = None
) -> Iterator[MlflowServer]:
    """An ``mlflow server`` that answers, on SQLite, through which files go; ended and reaped afterwards."""
    command = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    command += ["--workers=1", "--backend-store-uri=sqlite:///mlflow.db"]
    command += ["--artifacts-destination=./artifacts", *flags]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        **(variables or {}),
    }
    server = MlflowServer(f"http://127.0.0.1:{port}", folder)
    log = folder / "log"
    with (
        log.open("w") as output,
        subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=environment
        ) as process,
    ):
        try:
            await_answer(f"{server.uri}/health", process, log)
            yield server
        finally:
            process.terminate()
            process.wait(60)


def await_answer(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)


@pytest.fixture(scope="session")
def start_mlflow() -> Callable[..., Iterator[MlflowServer]]:
    """The generator of an MLflow server of one's own."""
    return run_mlflow


@pytest.fixture(scope="session")
def wait_for() -> Callable[..., None]:
    """The function that waits until a process answers."""
    return await_answer


@pytest.fixture(scope="session")
def mlflow_server(
    tmp_path_factory: pytest.TempPathFactory, new_port: Callable[[], int]
) -> Iterator[MlflowServer]:
    """One for all tests; each has registered models of its own name."""
    yield from run_mlflow(tmp_path_factory.mktemp("mlflow"), new_port())


@pytest.fixture
def registry(mlflow_server: MlflowServer, request: pytest.FixtureRequest) -> ModelRegistry:
    """Of a name that no other test uses."""
    return ModelRegistry(mlflow_server.uri, request.node.nodeid.rpartition("::")[2])


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    """MLflow's own, to see what is there."""
    return MlflowClient(mlflow_server.uri, mlflow_server.uri)


@pytest.fixture
def aliases(client: MlflowClient) -> Callable[[ModelRegistry], dict[str, str]]:
    """The function that tells a registry's aliases and their versions."""
    return lambda registry: dict(client.get_registered_model(registry.name).aliases)


@pytest.fixture(scope="session")
def prepared_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model as a pipeline prepares it, with its evaluation set."""
    cache = tmp_path_factory.mktemp("cache")
    return prepare(fetch("embedded", cache), cache).directory


@pytest.fixture(scope="session")
def small_model(demo_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model without its evaluation set: six files."""
    folder = tmp_path_factory.mktemp("small") / "model"
    return shutil.copytree(demo_model_dir, folder, ignore=shutil.ignore_patterns("evaluation"))


@pytest.fixture(scope="session")
def report_dir(evaluation, gated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    report = Report(evaluation, gated, "embedded", {})
    (folder / "report.html").write_text(report.html, encoding="utf-8")
    (folder / "summary.md").write_text(report.markdown, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def make_release(evaluation, report_dir: Path) -> Callable[..., Release]:
    """The function that makes a release of a prepared directory."""

    def make(directory: Path, pipeline_run: str = "run-1", **changes) -> Release:
        digest = read_manifest(directory).digest
        values = {
            "digest": digest,
            "storage_uri": f"pvc://model-cache/sensevoice-small/{digest}",
            "image": "registry.example/sensevoice@sha256:" + "1" * 64,
            "source": "embedded",
            "revision": "",
            "data_name": "embedded",
            "data_digest": evaluation.data,
            "metrics": metrics(evaluation),
            "report": report_dir,
        }
        return Release(directory=directory, pipeline_run=pipeline_run, **{**values, **changes})

    return make


@pytest.fixture
def versions(client: MlflowClient) -> Callable[[ModelRegistry, int], None]:
    """The function that makes versions 1, 2, … without files, as quickly as MLflow does."""

    def make(registry: ModelRegistry, number: int) -> None:
        client.create_registered_model(registry.name)
        for one in range(1, number + 1):
            tags = {"digest": f"{one:064x}", "storage_uri": f"pvc://model-cache/{one:064x}"}
            client.create_model_version(
                registry.name, tags["storage_uri"], tags=tags, await_creation_for=0
            )

    return make


class Killed(BaseException):
    """As a signal that leaves no time for anything."""


WRITES = (
    "create_experiment",
    "create_run",
    "create_logged_model",
    "log_outputs",
    "log_model_artifacts",
    "finalize_logged_model",
    "log_batch",
    "log_artifacts",
    "set_terminated",
    "create_registered_model",
    "create_model_version",
    "set_registered_model_alias",
    "delete_registered_model_alias",
    "set_model_version_tag",
    "delete_model_version_tag",
)
"""Methods of MLflow's client that change anything."""


@contextmanager
def killed_before(write: int) -> Iterator[None]:
    """Die before a write, counted from 0, which is after the one before it."""
    counter = itertools.count()

    def mortal(method):
        def call(*arguments, **named):
            if next(counter) == write:
                raise Killed
            return method(*arguments, **named)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in WRITES:
            patch.setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
        yield


@pytest.fixture(scope="session")
def survives_kills() -> Callable[..., int]:
    """The function that does something and is killed before each of its writes in turn.

    ``arrange(write)`` makes a fresh state, ``act(state)`` is what dies, ``check(state)`` follows each
    death. It returns how many writes there are.
    """

    def trial(arrange, act, check) -> int:
        for write in itertools.count():
            state = arrange(write)
            try:
                with killed_before(write):
                    act(state)
            except Killed:
                check(state)
            else:
                return write
        raise AssertionError

    return trial
