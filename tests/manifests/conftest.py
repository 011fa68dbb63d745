"""What tests of manifests share: overlays, scenarios and any choice of components, rendered once."""

import functools
import itertools
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.predictor_pod import predictor_pod
from manifests.render import BUILT, COMPONENTS, MANIFESTS, OVERLAYS, SCENARIOS, folders, render
from manifests.render import objects as objects_of
from manifests.schemas import title
from manifests.tools import HELM, KUBECTL

Objects = list[dict[str, Any]]


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    """kubectl and helm."""
    for program in (KUBECTL, HELM):
        if not program.is_file():
            pytest.skip(f"{program.name} is not there: run `make tools`")


@pytest.fixture(scope="session")
def rendered(tools) -> Callable[[Path], str]:
    """The function that renders a folder; each folder once."""
    return functools.cache(render)


@pytest.fixture(scope="session")
def overlays(rendered) -> Mapping[str, Objects]:
    """Name of an overlay → its objects."""
    return {folder.name: objects_of(rendered(folder)) for folder in folders(OVERLAYS)}


@pytest.fixture(scope="session")
def scenarios(rendered) -> Mapping[str, Objects]:
    """Name of a scenario → its objects."""
    return {folder.name: objects_of(rendered(folder)) for folder in folders(SCENARIOS)}


@pytest.fixture(scope="session")
def everything(overlays, scenarios) -> Mapping[str, Objects]:
    """Overlays and scenarios together."""
    assert not overlays.keys() & scenarios.keys()
    return {**overlays, **scenarios}


@pytest.fixture(scope="session")
def compose(tools) -> Iterator[Callable[..., Objects]]:
    """The function from names of components to the objects of the base with these, in that order."""
    BUILT.mkdir(parents=True, exist_ok=True)
    numbers = itertools.count()
    made: list[Path] = []

    @functools.cache
    def of(*components: str) -> Objects:
        folder = BUILT / f"compose-{os.getpid()}-{next(numbers)}"
        folder.mkdir()
        made.append(folder)
        relative = os.path.relpath(MANIFESTS, folder)
        kustomization = {
            "resources": [f"{relative}/base"],
            "components": [f"{relative}/{COMPONENTS.name}/{name}" for name in components],
        }
        (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        return objects_of(render(folder))

    yield of
    for folder in made:
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def pick() -> Callable[..., dict[str, Any]]:
    """The function that finds the one object of a kind, and of a name where that is given."""

    def one(objects: Objects, kind: str, name: str | None = None) -> dict[str, Any]:
        found = [
            each
            for each in objects
            if each["kind"] == kind and name in (None, each["metadata"]["name"])
        ]
        assert len(found) == 1, f"{len(found)} objects of kind {kind} and name {name}"
        return found[0]

    return one


TEMPLATES = {
    "CronJob": ("jobTemplate", "spec", "template", "spec"),
    "Pod": (),
}
"""Where a kind keeps its pods' specification under ``spec``; others at ``template.spec``."""

WORKLOADS = ("CronJob", "DaemonSet", "Deployment", "Job", "Pod", "StatefulSet")


@pytest.fixture(scope="session")
def pods() -> Callable[[Objects], dict[str, dict[str, Any]]]:
    """The function from objects to their pods' specifications by title, the predictor's included."""

    def of(objects: Objects) -> dict[str, dict[str, Any]]:
        found = {}
        for each in (*objects, predictor_pod(objects)):
            if each["kind"] in WORKLOADS:
                path = TEMPLATES.get(each["kind"], ("template", "spec"))
                found[title(each)] = functools.reduce(
                    lambda spec, key: spec[key], path, each["spec"]
                )
        return found

    return of


@pytest.fixture(scope="session")
def containers(pods) -> Callable[[Objects], dict[str, tuple[dict[str, Any], dict[str, Any]]]]:
    """The function from objects to all containers: title of the pod and name → pod, container."""

    def of(objects: Objects) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        return {
            f"{name} {container['name']}": (pod, container)
            for name, pod in pods(objects).items()
            for container in (*pod.get("initContainers", ()), *pod["containers"])
        }

    return of
