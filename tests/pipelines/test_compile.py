"""The committed pipelines: what the sources say, and what Kubeflow needs them to be."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kfp import components

from pipelines.compile import COMPILED, PIPELINES
from pipelines.pod import CACHE, CACHE_CLAIM, IMAGE

CACHED = {"recognise", "recognise-2", "evaluate-accuracy", "evaluate-tags", "compare", "parity"}
"""Tasks whose outputs follow from digests among their inputs."""

AT_PATHS_OF_THE_CACHE = {
    *("fetch", "prepare", "locate", "dataset", "recognise", "recognise-2"),
    *("parity", "evaluate-speed", "register", "roll-out"),
}


def documents(name: str) -> list[dict]:
    return list(yaml.safe_load_all((COMPILED / f"{name}.yaml").read_text(encoding="utf-8")))


def tasks(specification: dict) -> dict[str, dict]:
    """Name → task, those inside of an exit handler too."""
    found = {}
    dags = [specification["root"]["dag"]]
    dags += [one["dag"] for one in specification["components"].values() if "dag" in one]
    for dag in dags:
        found |= dag["tasks"]
    return {name: task for name, task in found.items() if not name.startswith("exit-handler")}


def test_they_regenerate_identically(tmp_path: Path) -> None:
    # A process of its own: nothing that this one has set or imported may show.
    command = [sys.executable, "-m", "pipelines.compile", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    for name in PIPELINES:
        fresh = (tmp_path / f"{name}.yaml").read_text(encoding="utf-8")
        assert fresh == (COMPILED / f"{name}.yaml").read_text(encoding="utf-8"), (
            f"{name}: run python -m pipelines.compile"
        )
    assert {path.stem for path in COMPILED.iterdir()} == set(PIPELINES)


@pytest.mark.parametrize("name", PIPELINES)
def test_the_sdk_reads_them(name: str) -> None:
    component = components.load_component_from_file(str(COMPILED / f"{name}.yaml"))
    assert component.name == f"sensevoice-{name}"


@pytest.mark.parametrize("name", PIPELINES)
def test_parameters_have_defaults_and_are_explained(name: str) -> None:
    parameters = documents(name)[0]["root"]["inputDefinitions"]["parameters"]
    for parameter, definition in parameters.items():
        assert "defaultValue" in definition, parameter
        assert definition["description"], parameter


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_run_in_one_image_and_install_nothing(name: str) -> None:
    for executor in documents(name)[0]["deploymentSpec"]["executors"].values():
        assert executor["container"]["image"] == IMAGE
        assert "pip install" not in str(executor["container"])


@pytest.mark.parametrize("name", PIPELINES)
def test_only_what_follows_from_digests_is_taken_from_earlier_runs(name: str) -> None:
    cached = {
        task
        for task, definition in tasks(documents(name)[0]).items()
        if definition.get("cachingOptions", {}).get("enableCache")
    }
    assert cached == CACHED & set(tasks(documents(name)[0]))


def executors(name: str) -> dict[str, dict]:
    """Name of the task → what Kubernetes gives its pod."""
    platform = documents(name)[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {executor.removeprefix("exec-"): given for executor, given in platform.items()}


@pytest.mark.parametrize("name", ["release", "evaluate"])
def test_steps_that_read_the_cache_mount_it(name: str) -> None:
    given = executors(name)
    for task in tasks(documents(name)[0]):
        mounts = given.get(task, {}).get("pvcMount", [])
        assert [one["mountPath"] for one in mounts] == [CACHE] * (
            task.removesuffix("-2") in AT_PATHS_OF_THE_CACHE
        ), task
        assert all(one["constant"] == CACHE_CLAIM for one in mounts)


def test_secrets_reach_the_steps_that_use_them_and_may_be_missing() -> None:
    secrets = {
        task: {secret["secretName"] for secret in given.get("secretAsEnv", [])}
        for task, given in executors("release").items()
    }
    assert secrets["fetch"] == {"model-hub-credentials"}
    assert secrets["register"] == secrets["locate"] == {"mlflow-credentials"}
    assert secrets["roll-out"] == {"mlflow-credentials", "prometheus-credentials"}
    assert secrets["conclude"] == secrets["roll-out"]
    for given in executors("release").values():
        assert all(secret["optional"] for secret in given.get("secretAsEnv", []))


def test_gpus_are_asked_for_where_models_run() -> None:
    specification = documents("release")[0]
    asking = {
        name.removeprefix("exec-")
        for name, executor in specification["deploymentSpec"]["executors"].items()
        if "accelerator" in executor["container"].get("resources", {})
    }
    assert asking == {"recognise", "recognise-2", "evaluate-speed"}
    for task in asking:
        (toleration,) = executors("release")[task]["tolerations"]
        assert toleration["key"] == "nvidia.com/gpu"


def test_what_talks_to_others_is_tried_again() -> None:
    release = tasks(documents("release")[0])
    retried = {name for name, task in release.items() if "retryPolicy" in task}
    assert retried == {"fetch", "locate", "register", "roll-out", "conclude"}


def test_the_exit_handler_runs_whatever_became_of_the_rest() -> None:
    concluded = documents("release")[0]["root"]["dag"]["tasks"]["conclude"]
    assert concluded["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
