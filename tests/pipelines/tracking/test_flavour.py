"""What MLflow makes of a version on other machines: processes of its own, without this checkout."""

import ast
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import yaml
from mlflow.models import Model
from packaging.requirements import Requirement

import predictor.engine
from pipelines.tracking import flavour
from pipelines.tracking.registry import ModelRegistry
from pipelines.tracking.version import FAMILY
from predictor.engine.transcribe import Engine

CHAMPION = f"models:/{FAMILY}@champion"

MLFLOW = [sys.executable, "-m", "mlflow", "models"]

ELSEWHERE = """
import json, sys
from pathlib import Path
import mlflow.pyfunc
import pandas as pd
sys.path.remove({checkout!r}) if {checkout!r} in sys.path else None
model = mlflow.pyfunc.load_model({uri!r})
clips = pd.DataFrame({{"audio": [Path({clip!r}).read_bytes()]}})
found = model.predict(clips, params={{"language": "zh,en", "use_itn": False}})
import predictor
print(json.dumps({{
    "rows": found.to_dict("records"),
    "code": predictor.__file__,
    "checkout": sorted(name for name in sys.modules if name.split(".")[0] == "pipelines"),
}}))
"""


@pytest.fixture(scope="module")
def clip(demo_model_dir: Path) -> Path:
    return demo_model_dir / "evaluation" / "zh-001.opus"


@pytest.fixture(scope="module")
def expected(demo_model_dir: Path, clip: Path):
    return Engine(demo_model_dir).transcribe(clip.read_bytes())


@pytest.fixture(scope="module")
def champion(mlflow_server, make_release, prepared_model: Path) -> dict[str, str]:
    """The environment of a process that finds a champion in its registry."""
    registry = ModelRegistry(mlflow_server.uri)
    registry.promoted(registry.register(make_release(prepared_model)).version)
    return {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        # As in an activated environment: it is there that MLflow looks for uvicorn.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": mlflow_server.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }


def request(clip: Path) -> dict[str, object]:
    audio = base64.b64encode(clip.read_bytes()).decode()
    return {
        "dataframe_split": {"columns": ["audio"], "data": [[audio]]},
        "params": {"language": "zh"},
    }


def check(rows: list[dict[str, object]], expected) -> None:
    (row,) = rows
    assert list(row) == [column.name for column in flavour.SIGNATURE.outputs]
    assert row["text"] == expected.text
    for kind in ("language", "emotion", "event"):
        tag = getattr(expected, kind)
        assert row[kind] == tag.label
        assert row[f"{kind}_confidence"] == pytest.approx(tag.confidence, abs=0.02)
    assert row["duration"] == pytest.approx(expected.duration)


def test_mlflow_models_predict(champion, clip, expected, tmp_path):
    (tmp_path / "in.json").write_text(json.dumps(request(clip)))
    command = [*MLFLOW, "predict", "-m", CHAMPION, "--env-manager", "local"]
    command += ["-i", "in.json", "-o", "out.json"]
    subprocess.run(command, cwd=tmp_path, env=champion, check=True)
    check(json.loads((tmp_path / "out.json").read_text())["predictions"], expected)


def test_mlflow_models_serve(champion, clip, expected, new_port, wait_for, small_model, tmp_path):
    port = new_port()
    command = [*MLFLOW, "serve", "-m", CHAMPION, "--env-manager", "local", "--port", str(port)]
    with serving(command, tmp_path, champion, wait_for, f"http://127.0.0.1:{port}/health"):
        url = f"http://127.0.0.1:{port}/invocations"
        answer = httpx.post(url, json=request(clip), timeout=60)
        assert answer.is_success, answer.text
        check(answer.json()["predictions"], expected)
        noise = base64.b64encode(b"no audio").decode()
        wrong = {"dataframe_records": [{"audio": noise}], "params": {"use_itn": False}}
        refused = httpx.post(url, json=wrong, timeout=60)
        assert refused.status_code == 400
        assert "row 0: " in refused.json()["message"]
        flavour.write(Model(artifact_path="anywhere"), tmp_path / "flavour", small_model)
        example = json.loads((tmp_path / "flavour" / "serving_input_example.json").read_text())
        (row,) = httpx.post(url, json=example, timeout=60).json()["predictions"]
        assert (row["text"], row["duration"]) == ("", 0.5)


@contextmanager
def serving(
    command: list[str],
    folder: Path,
    environment: dict[str, str],
    wait_for: Callable[..., None],
    url: str,
) -> Iterator[None]:
    log = folder / "log"
    with (
        log.open("w") as output,
        # The server is a child's child, and is not told when its parent ends.
        subprocess.Popen(
            command, stdout=output, stderr=output, cwd=folder, env=environment, process_group=0
        ) as process,
    ):
        try:
            wait_for(url, process, log)
            yield
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def test_a_version_loads_without_the_checkout(champion, clip, expected, tmp_path):
    checkout = str(Path(predictor.engine.__file__).parents[2])
    code = ELSEWHERE.format(uri=CHAMPION, clip=str(clip), checkout=checkout)
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=champion, check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    (row,) = found["rows"]
    assert row["language"] == expected.language.label
    assert not Path(found["code"]).is_relative_to(checkout)
    assert found["checkout"] == []


def test_the_flavour_is_written_without_network_processes_weights_or_pickles(
    small_model, tmp_path, monkeypatch
):
    def refuse(*arguments: object, **named: object) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    folder = tmp_path / "flavour"
    flavour.write(Model(artifact_path="anywhere"), folder, small_model)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "requirements.txt", "speech_model.py"} <= files
    assert "code/predictor/engine/transcribe.py" in files
    assert not {file for file in files if file.endswith((".pkl", ".safetensors", ".pyc"))}
    description = yaml.safe_load((folder / "MLmodel").read_text())
    weights = sum(path.stat().st_size for path in small_model.iterdir())
    assert weights < description["model_size_bytes"] < weights + 1_000_000
    place = description["flavors"]["python_function"]["artifacts"]["model"]["path"]
    assert place == flavour.WEIGHTS


def imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_requirements_are_what_the_code_imports_as_the_project_pins_it():
    engine = Path(predictor.engine.__file__).parent
    needed = imported(flavour.CODE).union(*map(imported, engine.glob("*.py")))
    needed -= {"predictor", *sys.stdlib_module_names}
    distributions = metadata.packages_distributions()
    provided = {
        package: {name.lower() for name in distributions[package]} & set(flavour.LIBRARIES)
        for package in needed
    }
    assert all(provided.values()), provided
    assert set().union(*provided.values()) == set(flavour.LIBRARIES)
    pins = {one.name: one.specifier for one in map(Requirement, flavour.requirements())}
    assert all(str(pin).startswith("==") and "+" not in str(pin) for pin in pins.values())
    for one in map(Requirement, metadata.requires("sensevoice-kserve")):
        if one.name in pins:
            assert one.specifier.contains(str(pins[one.name]).removeprefix("=="))
