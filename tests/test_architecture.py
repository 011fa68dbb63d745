"""The promises of ARCHITECTURE.md and pyproject.toml that no single module can keep."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from importlinter import cli
from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
NETWORK_LIBRARIES = {"torch", "openvino"}
NEVER_INSTALLED = {"openvino-telemetry"}
"""Asked for by metadata, in no lock, so that no metadata of its own is there."""
PLATFORM_ONLY = {"funasr", "kfp", "mlflow", "modelscope", "gradio", "torchaudio", "librosa"}


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    assert cli.lint_imports() == 0


def closure(requirements: list[str]) -> set[str]:
    """Distribution names that installing ``requirements`` brings, from installed metadata."""
    found: set[str] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = requirement.name.lower().replace("_", "-")
        if name in NEVER_INSTALLED:
            continue
        needed = metadata.requires(name) or []
        if name not in found:
            waiting += [(Requirement(text), "") for text in needed]
        waiting += [(Requirement(t), e) for e in requirement.extras for t in needed if "extra" in t]
        found.add(name)
    return found


def test_serving_installs_only_what_serving_needs() -> None:
    assert not closure(PROJECT["dependencies"]) & PLATFORM_ONLY


EXTRAS = PROJECT["optional-dependencies"]
EVERYTHING = [*PROJECT["dependencies"], *chain(*EXTRAS.values())]
PIPELINES = [
    *PROJECT["dependencies"],
    *chain(*(EXTRAS[extra] for extra in ("pipelines", "reference", "mlflow-server"))),
]
LOCKS = {
    "predictor/requirements.lock": PROJECT["dependencies"],
    "predictor/ui/requirements.lock": EXTRAS["ui"],
    "pipelines/requirements.lock": PIPELINES,
    "tests/requirements.lock": EVERYTHING,
}
LOCKED_ELSEWHERE = {"torch", "setuptools", "pip"}


def pins(path: str) -> dict[str, str]:
    """Names → versions of what a file pins for this platform."""
    found = {}
    for line in (REPOSITORY / path).read_text().splitlines():
        if "==" in line and not line.startswith("#"):
            requirement = Requirement(line.removesuffix("\\"))
            if requirement.marker is None or requirement.marker.evaluate():
                [version] = requirement.specifier
                found[requirement.name.lower().replace("_", "-")] = version.version
    return found


def test_every_dependency_is_pinned() -> None:
    assert closure(EVERYTHING) <= pins("constraints.txt").keys() | {"setuptools", "pip"}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_its_environment_needs(lock: str) -> None:
    locked = pins(lock)
    assert locked.keys() == closure(LOCKS[lock]) - LOCKED_ELSEWHERE, "run `make lock`"
    pinned = pins("constraints.txt")
    assert locked.items() <= pinned.items(), "run `make lock`"


def test_torch_and_what_builds_are_locked() -> None:
    version = pins("constraints.txt")["torch"]
    assert pins("predictor/torch.lock")["torch"] == version
    assert pins("predictor/torch-cpu.lock") == {"torch": f"{version}+cpu"}
    [building] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["build-system"][
        "requires"
    ]
    assert building == f"setuptools=={pins('build.lock')['setuptools']}"


def test_compiled_graphs_belong_to_one_openvino() -> None:
    """A model directory's compiled graphs are of no use to any other version."""
    pinned = (REPOSITORY / "constraints.txt").read_text().splitlines()
    (wanted,) = (text for text in PROJECT["dependencies"] if text.startswith("openvino"))
    assert re.fullmatch(r"openvino==\S+", wanted)
    assert wanted in pinned


@pytest.mark.parametrize("package", ["engine", "server"])
def test_every_module_is_in_the_picture(package: str) -> None:
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    for module in (REPOSITORY / "predictor" / package).glob("[a-z]*.py"):
        assert f"`{module.name}`" in text, f"{module.name} is missing from ARCHITECTURE.md"


def loaded_by(code: str, *arguments: object) -> set[str]:
    """Top-level packages in memory after a process of its own has run ``code``."""
    printing = "\nimport sys; print(*{name.split('.')[0] for name in sys.modules})"
    command = [sys.executable, "-c", code + printing, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    return set(done.stdout.split())


def test_serving_imports_no_reference_implementation() -> None:
    loaded = loaded_by("import predictor.server.app")
    assert "kserve" in loaded
    assert not loaded & PLATFORM_ONLY


@pytest.mark.parametrize("module", ["server.app", "server.settings", "cli", "engine.transcribe"])
def test_starting_imports_no_library_that_runs_networks(module: str) -> None:
    """Each takes seconds and hundreds of megabytes, and one network needs one of them."""
    assert not loaded_by(f"import predictor.{module}") & NETWORK_LIBRARIES


@pytest.mark.parametrize("step", ["fetch", "locate", "register"])
def test_a_step_that_runs_no_network_imports_no_torch(step: str) -> None:
    """Each step is a process of its own, and this one may find all that it needs in the cache."""
    loaded = loaded_by(f"import pipelines.steps.{step}")
    assert "pydantic" in loaded
    assert "torch" not in loaded


def test_what_decodes_apart_imports_neither_the_platform_nor_networks() -> None:
    """Its pages are the memory that isolation costs, its imports the time."""
    loaded = loaded_by("import predictor.server.decoder_process")
    assert "av" in loaded
    assert not loaded & {*NETWORK_LIBRARIES, *PLATFORM_ONLY, "kserve", "fastapi", "httpx", "grpc"}


TRANSCRIBE = """
import sys
from pathlib import Path
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions
model, precision = Path(sys.argv[1]), sys.argv[2]
engine = Engine(model, precision=precision, threads=1)
engine.warm_up()
clip = next((model / "evaluation").glob("en-001.*")).read_bytes()
words = TranscribeOptions.parse({"timestamps": "word", "language": "en,zh"})
assert engine.transcribe(clip, words).text
"""


@pytest.mark.parametrize(
    ("precision", "needed", "spared"),
    [("int8", "openvino", "torch"), ("fp32", "torch", "openvino")],
)
def test_a_network_imports_only_the_library_that_runs_it(
    demo_model_dir: Path, precision: str, needed: str, spared: str
) -> None:
    loaded = loaded_by(TRANSCRIBE, demo_model_dir, precision)
    assert needed in loaded
    assert spared not in loaded
