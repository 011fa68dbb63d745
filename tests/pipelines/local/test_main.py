"""Whole pipelines on this machine, as ``make release`` runs them: kfp, MLflow, predictors, users."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.demo_model.variant import write_variant
from pipelines.local.__main__ import DEFAULTS
from pipelines.tracking.registry import ModelRegistry
from predictor.engine.checkpoint import read_manifest

UNTIMED = {
    name: {"metric": f"speed/ratio/{metric}", "max": 100}
    for name, metric in {
        "real-time-factor": "real_time_factor",
        "latency": "p95_s",
        "cold-start": "cold_start_s",
    }.items()
}
"""Rules that a machine which does other things meanwhile does not break."""

QUICK = ["--set=limit=40", "--set=parity_clips=1", "--set=speed_rounds=1"]
QUICK.append(f"--set=rules={json.dumps(UNTIMED)}")

BRIEF = DEFAULTS["plan"] | {"bake_seconds": 3, "interval_seconds": 1}
BRIEFLY = f"--set=plan={json.dumps(BRIEF)}"
"""The plan of ``make release`` with shorter steps, for pipelines that move users."""


class Machine:
    """Runs pipelines one after the other, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, pipeline: str, *settings: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "pipelines.local", pipeline, f"--folder={self.folder}"]
        return subprocess.run([*command, *settings], capture_output=True, text=True, timeout=590)

    def log(self) -> str:
        return (self.folder / "run.log").read_text(encoding="utf-8")

    @property
    def registry(self) -> ModelRegistry:
        """What the runs have left, read from MLflow's database without its server."""
        return ModelRegistry(f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}")

    def aliases(self) -> dict[str, str]:
        """Alias → version."""
        found = {
            alias: self.registry.find(f"@{alias}")
            for alias in ("challenger", "champion", "previous")
        }
        return {alias: version.version for alias, version in found.items() if version}

    def digest(self, version: str) -> str:
        found = self.registry.find(version)
        assert found
        return found.digest


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    return Machine(tmp_path_factory.mktemp("local"))


@pytest.fixture(scope="module")
def first(machine):
    """A first release, of the embedded model."""
    done = machine.run("release", BRIEFLY, *QUICK)
    assert done.returncode == 0, done.stdout + machine.log()[-5000:]
    return done


@pytest.fixture(scope="module")
def second(first, machine, demo_model_dir, tmp_path_factory):
    """Another version, as good, while there are users."""
    variant = write_variant(demo_model_dir, tmp_path_factory.mktemp("variants") / "good", 0.02)
    done = machine.run("release", f"--set=source={variant}", BRIEFLY, *QUICK)
    assert done.returncode == 0, done.stdout + machine.log()[-5000:]
    return done


def test_a_first_release_ends_as_the_champion_with_report_and_log(first, machine):
    report = (machine.folder / "report.html").read_text(encoding="utf-8")
    assert "✓ Passed the gate" in report
    assert report.count("<svg") + report.count("data:image") >= 5
    assert "promoted" in (machine.folder / "rollout.md").read_text(encoding="utf-8")
    assert "# Release succeeded" in (machine.folder / "conclusion.md").read_text(encoding="utf-8")
    for name in ("report.html", "rollout.md", "make mlflow"):
        assert name in first.stdout


def test_a_canary_moves_users_without_failing_one(second, machine, demo_model_dir):
    assert machine.aliases() == {"champion": "2", "previous": "1"}
    assert machine.digest("1") == read_manifest(demo_model_dir).digest
    assert " 0 failed " in second.stdout
    rollout = (machine.folder / "rollout.md").read_text(encoding="utf-8")
    assert "replay: 40 clips" in rollout
    for percent in (25, 50):
        assert f"{percent} % to the candidate" in rollout
    assert "Against the champion" in (machine.folder / "report.html").read_text(encoding="utf-8")


def test_a_damaged_model_is_refused_and_never_registered(second, machine, demo_model_dir, tmp_path):
    damaged = write_variant(demo_model_dir, tmp_path / "damaged", 0.7)
    done = machine.run("release", f"--set=source={damaged}", *QUICK)
    assert done.returncode == 1
    assert "the gate refuses the model: words-zh: accuracy/zh/cer is" in done.stdout
    assert "✗ Refused by the gate" in (machine.folder / "report.html").read_text(encoding="utf-8")
    conclusion = (machine.folder / "conclusion.md").read_text(encoding="utf-8")
    assert "# Release failed" in conclusion
    assert "No version was registered." in conclusion
    assert machine.aliases() == {"champion": "2", "previous": "1"}


def test_a_rollback_swaps_champion_and_previous(second, machine):
    done = machine.run("rollback", BRIEFLY)
    assert done.returncode == 0, done.stdout + machine.log()[-5000:]
    assert machine.aliases() == {"champion": "1", "previous": "2"}
    assert " 0 failed " in done.stdout


def test_a_registered_version_can_be_evaluated(second, machine):
    done = machine.run("evaluate", "--set=model=models:/sensevoice-small/2", *QUICK)
    assert done.returncode == 0, done.stdout + machine.log()[-5000:]
    assert machine.digest("2") in (machine.folder / "report.html").read_text(encoding="utf-8")


def test_a_wrong_setting_is_named_before_anything_starts(machine):
    done = machine.run("rollback", "--set=bake=3")
    assert done.returncode == 1
    assert "sensevoice-rollback has no parameter 'bake'" in done.stderr
