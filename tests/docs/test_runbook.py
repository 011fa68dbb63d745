"""Commands of the runbook and of the manifests' READMEs name what is there, and render."""

import re
import shlex
import subprocess
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import yaml

from manifests.render import COMPONENTS, MANIFESTS, OVERLAYS, SCENARIOS, folders, render
from manifests.tools import HELM, KUBECTL, REPOSITORY

RUNBOOK = REPOSITORY / "docs" / "runbook.md"
DOCUMENTS = [
    *sorted((REPOSITORY / "docs").glob("*.md")),
    MANIFESTS / "README.md",
    *sorted(COMPONENTS.glob("*/README.md")),
]

BLOCK = re.compile(r"^( *)```bash\n(.*?)^\1```", re.S | re.M)
"""A command block, which may stand in a list."""

NAMED = re.compile(
    r"\b(job|cronjob|inferenceservice|service|clusterissuer)[/ ]([a-z][a-z0-9-]+)", re.ASCII
)
MADE_BY_HAND = {"job/release-now"}


def commands() -> list[Any]:
    found = []
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for block in BLOCK.finditer(text):
            for line in block[2].replace("\\\n", " ").splitlines():
                if line.strip():
                    name = document.relative_to(REPOSITORY)
                    found.append(pytest.param(line.strip(), id=f"{name}: {line.strip()[:60]}"))
    return found


@cache
def rendered() -> set[str]:
    """``kind/name`` of everything that some overlay or scenario makes."""
    if not KUBECTL.is_file():
        pytest.skip("there is no kubectl: run `make tools`")
    texts = [render(folder) for parent in (OVERLAYS, SCENARIOS) for folder in folders(parent)]
    objects = [each for text in texts for each in yaml.safe_load_all(text) if each]
    return {f"{each['kind'].lower()}/{each['metadata']['name']}" for each in objects}


@pytest.mark.parametrize("command", commands())
def test_a_command_names_what_is_there(command: str) -> None:
    for kind, name in NAMED.findall(command):
        if f"{kind}/{name}" not in MADE_BY_HAND and "create" not in command.split():
            assert f"{kind}/{name}" in rendered()
    words = shlex.split(command.partition(" &")[0])
    for before, after in pairwise(words):
        if before == "-k":
            assert (REPOSITORY / after / "kustomization.yaml").is_file()
    if words[0] == "make":
        subprocess.run(["make", "-n", *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)
    if words[0] == "helm":
        _run_helm(words)
    if words[0] == "kubectl" and "create" in words and "secret" in words:
        if not KUBECTL.is_file():
            pytest.skip("there is no kubectl: run `make tools`")
        done = subprocess.run(
            [
                "bash",
                "-c",
                f"{command.replace('kubectl', str(KUBECTL), 1)} --dry-run=client -o yaml",
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert yaml.safe_load(done.stdout)["kind"] == "Secret"


def _run_helm(words: list[str]) -> None:
    if not HELM.is_file():
        pytest.skip("there is no helm: run `make tools`")
    if words[1] == "upgrade":
        words = ["helm", "template", *(word for word in words[2:] if word != "--install")]
    subprocess.run([HELM, *words[1:]], cwd=REPOSITORY, check=True, capture_output=True)


def test_every_alert_has_its_section() -> None:
    rules = yaml.safe_load((COMPONENTS / "monitoring" / "rules.yaml").read_text())
    alerts = {
        rule["alert"]
        for group in rules["spec"]["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }
    sections = set(re.findall(r"^### (SenseVoice\w+)$", RUNBOOK.read_text(), re.M))
    assert sections == alerts


def test_links_lead_somewhere() -> None:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document}: {target}"
