"""``python -m manifests.render``: overlays into ``manifests/rendered``, scenarios into ``build/manifests``.

The README's table of kinds is written from what was rendered.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from manifests.tools import KUBECTL, REPOSITORY, run

MANIFESTS = REPOSITORY / "manifests"
OVERLAYS = MANIFESTS / "overlays"
SCENARIOS = MANIFESTS / "scenarios"
COMPONENTS = MANIFESTS / "components"
RENDERED = MANIFESTS / "rendered"
BUILT = REPOSITORY / "build" / "manifests"
README = MANIFESTS / "README.md"

Object = dict[str, Any]
"""One Kubernetes object, as its YAML says it."""

HEADER = "# Rendered by `make manifests` from {folder}: change that, not this.\n"


def folders(parent: Path) -> list[Path]:
    """The kustomizations right under a folder, by name."""
    return sorted(path.parent for path in parent.glob("*/kustomization.yaml"))


def render(folder: Path) -> str:
    """The YAML documents that ``kubectl apply -k`` would send.

    Raises:
        FileNotFoundError: there is no kubectl: run ``make tools``.
        subprocess.CalledProcessError: kustomize refuses the folder; its reason is on the error output.
    """
    return run(KUBECTL, "kustomize", folder)


def objects(text: str) -> list[Object]:
    """The objects of a stream of YAML documents."""
    return [document for document in yaml.safe_load_all(text) if document]


def golden(folder: Path, text: str) -> str:
    """What ``manifests/rendered`` keeps of an overlay."""
    return HEADER.format(folder=folder.relative_to(REPOSITORY)) + text


def kinds_table(rendered: Mapping[str, Sequence[Object]]) -> str:
    """Markdown: a row for each kind of object, a column for each overlay, how many of it are there.

    Args:
        rendered: name of an overlay → its objects.
    """
    counts = {name: Counter(map(_kind, each)) for name, each in rendered.items()}
    kinds = sorted(set().union(*counts.values()))
    head = ["Kind", *counts]
    rows = [[kind, *(str(count[kind] or "") for count in counts.values())] for kind in kinds]
    lines = [head, ["---", *("--:" for _ in counts)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _kind(each: Object) -> str:
    group, _, _ = each["apiVersion"].rpartition("/")
    return f"{each['kind']} ({group})" if group else str(each["kind"])


def with_table(readme: str, table: str) -> str:
    """The README with the table between its markers.

    Raises:
        ValueError: there are no markers.
    """
    begin, end = "<!-- kinds:begin -->", "<!-- kinds:end -->"
    text, found = re.subn(
        f"{begin}.*{end}", lambda _: f"{begin}\n{table}\n{end}", readme, flags=re.DOTALL
    )
    if found != 1:
        raise ValueError(f"the README needs one pair of {begin} and {end}")
    return text


def render_overlays() -> dict[str, str]:
    """Name of an overlay → its YAML."""
    return {folder.name: render(folder) for folder in folders(OVERLAYS)}


def main() -> int:
    """Write everything; scenarios go to a folder that is not committed."""
    rendered = render_overlays()
    RENDERED.mkdir(exist_ok=True)
    for stale in set(RENDERED.glob("*.yaml")) - {RENDERED / f"{name}.yaml" for name in rendered}:
        stale.unlink()
    for name, text in rendered.items():
        (RENDERED / f"{name}.yaml").write_text(golden(OVERLAYS / name, text))
    BUILT.mkdir(parents=True, exist_ok=True)
    for stale in BUILT.glob("*.yaml"):
        stale.unlink()
    for folder in folders(SCENARIOS):
        (BUILT / f"{folder.name}.yaml").write_text(render(folder))
    table = kinds_table({name: objects(text) for name, text in rendered.items()})
    README.write_text(with_table(README.read_text(), table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
