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
        needed = metadata.requires(name) or []
        if name not in found:
            waiting += [(Requirement(text), "") for text in needed]
        waiting += [(Requirement(t), e) for e in requirement.extras for t in needed if "extra" in t]
        found.add(name)
    return found


def test_serving_installs_only_what_serving_needs() -> None:
    assert not closure(PROJECT["dependencies"]) & PLATFORM_ONLY


def test_every_dependency_is_pinned() -> None:
    pins = re.findall(
        r"^([A-Za-z0-9._-]+)==\S+$", (REPOSITORY / "constraints.txt").read_text(), re.M
    )
    pinned = {name.lower().replace("_", "-") for name in pins}
    wanted = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert closure(wanted) <= pinned | {"setuptools", "pip"}


@pytest.mark.parametrize("package", ["engine", "server"])
def test_every_module_is_in_the_picture(package: str) -> None:
    text = (REPOSITORY / "ARCHITECTURE.md").read_text()
    for module in (REPOSITORY / "predictor" / package).glob("[a-z]*.py"):
        assert f"`{module.name}`" in text, f"{module.name} is missing from ARCHITECTURE.md"


def test_serving_imports_no_reference_implementation() -> None:
    code = "import sys, predictor.server.app; print(*sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY
    ).stdout.split()
    assert not {name.split(".")[0] for name in loaded} & PLATFORM_ONLY
