"""``python -m pipelines.local release|evaluate|rollback [--set NAME=VALUE]``: a pipeline on this machine.

The pipeline is the one that runs on Kubeflow; MLflow and a service with real predictor processes run beside
it for as long. What a run leaves is in the folder: registry, model cache, the service's state, report.
"""

import argparse
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from kfp import local

from pipelines.compile import COMPILED, PIPELINES
from pipelines.data.manifest import read_audio, read_manifest
from pipelines.local.mlflow_server import PORT, ServerFailed, mlflow_server
from pipelines.local.progress import Progress
from pipelines.local.users import Users
from pipelines.rollout.local.daemon import local_service
from pipelines.rollout.plan import Plan
from pipelines.steps.dataset import EMBEDDED, dataset
from pipelines.steps.rollout import LOCAL
from pipelines.submit import InvalidParameter, Package

FOLDER = Path("build/local")

DEFAULTS: dict[str, Any] = {
    "source": EMBEDDED,
    "plan": {
        "steps": [0, 25, 50, 100],
        "bake_seconds": 8,
        "interval_seconds": 2,
        "min_requests": 8,
        # Two processes on the cores of one laptop, and a handful of requests to judge by.
        "max_p95_ratio": 3,
        "max_p99_ratio": 4,
        "ready_timeout_seconds": 180,
        "request_timeout_seconds": 10,
        "lease_seconds": 20,
        "poll_seconds": 0.5,
    },
}
"""Parameters that differ from a cluster's."""

SHOWN = {
    "gate/page": "report.html",
    "gate/summary": "report.md",
    "roll-out/log": "rollout.md",
    "roll-back/log": "rollout.md",
    "conclude/summary": "conclusion.md",
}
"""Artifacts that people look at, by task, and what they are called in the folder."""


def run(name: str, settings: Sequence[str], folder: Path) -> int:
    """Run a pipeline and say where to look; 1 where it did not end well.

    Raises:
        InvalidParameter: see :class:`~pipelines.submit.Package`.
        ServerFailed: something beside it did not start.
    """
    package = Package(COMPILED / f"{name}.yaml")
    own = {key: value for key, value in DEFAULTS.items() if key in package.parameters}
    arguments = own | package.arguments(settings)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "run.log"
    with ExitStack() as stack:
        arguments["tracking_uri"] = stack.enter_context(mlflow_server(folder / "mlflow"))
        arguments["cache"] = str(folder.resolve() / "cache")
        users = None
        if "service" in package.parameters:
            service = folder.resolve() / "service"
            url = stack.enter_context(local_service(service))
            arguments["service"] = f"{LOCAL}{service}"
            users = stack.enter_context(Users(url, Plan().model_name, _clips(folder)))
        arguments = {key: value for key, value in arguments.items() if key in package.parameters}
        print(f"running {package.name}; the steps' output goes to {log}", flush=True)
        progress = Progress(stack.enter_context(log.open("w", encoding="utf-8")), sys.stdout)
        succeeded = _execute(name, arguments, folder / "runs", progress)
    if users:
        print(f"users meanwhile: {users.summary}")
    _show(folder)
    if not succeeded:
        print(f"{package.name} did not succeed: {progress.error or f'see {log}'}")
    return int(not succeeded)


def _execute(name: str, arguments: dict[str, Any], root: Path, progress: Progress) -> bool:
    shutil.rmtree(root, ignore_errors=True)
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root.resolve()),
        raise_on_error=True,
    )
    with redirect_stdout(progress), warnings.catch_warnings():
        # That the image and what pods have are of no use here is known.
        warnings.filterwarnings("ignore", module=r"kfp\.local")
        try:
            PIPELINES[name](**arguments)
        except RuntimeError:
            return False
    return True


def _clips(folder: Path) -> list[bytes]:
    data = folder / "data"
    dataset(EMBEDDED, None, data)
    return [read_audio(data, one) for one in read_manifest(data)]


def _show(folder: Path) -> None:
    """Copy what people look at out of the run's folder, and say where it is."""
    for shown in SHOWN.values():
        (folder / shown).unlink(missing_ok=True)
    for artifact, shown in SHOWN.items():
        for found in (folder / "runs").glob(f"*/{artifact}"):
            shutil.copyfile(found, folder / shown)
            print(f"{shown:<14} {folder / shown}")
    print(f"{'registry':<14} make mlflow, then http://127.0.0.1:{PORT}/#/models/sensevoice-small")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pipelines.local", description=__doc__)
    parser.add_argument("pipeline", choices=PIPELINES)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: %(default)s")
    arguments = parser.parse_args(words)
    try:
        return run(arguments.pipeline, arguments.set, arguments.folder)
    except (InvalidParameter, ServerFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
