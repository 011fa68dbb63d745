"""Goldens are what the sources render to, and everything can be rendered."""

import re

import pytest

from manifests import render
from manifests.render import (
    COMPONENTS,
    OVERLAYS,
    README,
    RENDERED,
    SCENARIOS,
    folders,
    golden,
    kinds_table,
    with_table,
)

NEEDS = {"mlflow-trial": ("mlflow",)}
"""Components that change another one."""


def test_goldens_are_current(rendered):
    overlays = folders(OVERLAYS)
    assert {file.stem for file in RENDERED.glob("*")} == {folder.name for folder in overlays}
    for folder in overlays:
        kept = (RENDERED / f"{folder.name}.yaml").read_text()
        assert kept == golden(folder, rendered(folder)), f"{folder.name}: run `make manifests`"


def test_the_readme_has_the_kinds_of_each_overlay(overlays):
    readme = README.read_text()
    assert readme == with_table(readme, kinds_table(overlays)), "run `make manifests`"


def test_rendering_again_changes_nothing(monkeypatch, tmp_path):
    made, built, readme = tmp_path / "rendered", tmp_path / "built", tmp_path / "README.md"
    made.mkdir()
    (made / "gone.yaml").write_text("of an overlay that is no more")
    readme.write_text(README.read_text())
    monkeypatch.setattr(render, "RENDERED", made)
    monkeypatch.setattr(render, "BUILT", built)
    monkeypatch.setattr(render, "README", readme)
    assert render.main() == 0
    kept = {file.name: file.read_text() for file in RENDERED.glob("*.yaml")}
    assert {file.name: file.read_text() for file in made.iterdir()} == kept
    assert readme.read_text() == README.read_text()
    assert {file.stem for file in built.iterdir()} == {each.name for each in folders(SCENARIOS)}


def test_a_kind_of_kubernetes_and_one_of_a_group():
    rendered = {
        "one": [{"apiVersion": "v1", "kind": "Namespace"}],
        "two": [
            {"apiVersion": "batch/v1", "kind": "Job"},
            {"apiVersion": "batch/v1", "kind": "Job"},
        ],
    }
    assert kinds_table(rendered).splitlines() == [
        "| Kind | one | two |",
        "| --- | --: | --: |",
        "| Job (batch) |  | 2 |",
        "| Namespace | 1 |  |",
    ]


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="kinds:begin"):
        with_table("# Manifests", "")


@pytest.mark.parametrize("folder", folders(COMPONENTS), ids=lambda folder: folder.name)
def test_every_component_goes_with_the_base(folder, compose):
    alone = {each["kind"] for each in compose(*NEEDS.get(folder.name, ()), folder.name)}
    assert {"InferenceService", "ServingRuntime"} <= alone


@pytest.mark.parametrize("folder", folders(COMPONENTS), ids=lambda folder: folder.name)
def test_every_component_says_what_it_is(folder):
    heading, _, text = (folder / "README.md").read_text().partition("\n")
    assert heading == f"# {folder.name}"
    assert len(text.split()) > 30
    assert f"[{folder.name}](components/{folder.name})" in README.read_text()


def test_every_component_is_a_part_of_something_that_is_checked():
    used = set()
    for folder in (*folders(OVERLAYS), *folders(SCENARIOS)):
        text = (folder / "kustomization.yaml").read_text()
        used |= set(re.findall(rf"\.\./\.\./{COMPONENTS.name}/([\w-]+)", text))
    assert used == {folder.name for folder in folders(COMPONENTS)}
