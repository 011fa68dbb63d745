"""``python -m manifests.validate``: everything that was rendered, against schemas and security checks.

Custom resources are checked against the schemas in the folder that ``CRD_SCHEMAS`` names, where it is set;
kinds of Kubernetes itself by kubernetes-validate, strictly, and by checkov.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from manifests.predictor_pod import predictor_pod
from manifests.render import BUILT, RENDERED, Object, objects
from manifests.schemas import Schemas, is_built_in, title
from manifests.tools import ENV, REPOSITORY

KUBERNETES = "1.34"
CHECKOV_CONFIG = REPOSITORY / "manifests" / ".checkov.yaml"

PLACEHOLDER = "0" * 64
"""Stands for a digest that only the operator knows: of an image, or of a model."""


def read() -> dict[str, list[Object]]:
    """Name of an overlay or scenario → its objects, as ``python -m manifests.render`` left them.

    Raises:
        FileNotFoundError: nothing was rendered.
    """
    files = sorted((*RENDERED.glob("*.yaml"), *BUILT.glob("*.yaml")))
    if not files:
        raise FileNotFoundError("nothing is rendered: run `make manifests`")
    return {file.stem: objects(file.read_text()) for file in files}


def distinct(rendered: Mapping[str, Sequence[Object]]) -> Iterator[tuple[str, Object]]:
    """Each object once, with the first place that has it; the predictors' pods among them."""
    seen = set()
    for name, each in rendered.items():
        for one in (*each, predictor_pod(each)):
            text = yaml.safe_dump(one)
            if text not in seen:
                seen.add(text)
                yield name, one


def custom_problems(found: Iterable[tuple[str, Object]], schemas: Schemas) -> list[str]:
    """Of objects that Kubernetes itself does not know."""
    return [
        f"{name}: {problem}"
        for name, each in found
        if not is_built_in(each)
        for problem in schemas.problems(each)
    ]


def built_in_problems(found: Iterable[tuple[str, Object]]) -> list[str]:
    """What kubernetes-validate and checkov say of objects that Kubernetes itself knows.

    Raises:
        FileNotFoundError: they are not there: run ``make tools``.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = _write(((name, each) for name, each in found if is_built_in(each)), Path(folder))
        strict = ["--strict", "--quiet", "--kubernetes-version", KUBERNETES]
        problems = _complaints("kubernetes-validate", *strict, *files)
        quiet = ["--quiet", "--compact", "--skip-download", "--framework", "kubernetes"]
        problems += _complaints(
            "checkov", *quiet, "--config-file", str(CHECKOV_CONFIG), "--directory", folder
        )
    return problems


def _write(found: Iterable[tuple[str, Object]], folder: Path) -> list[str]:
    """A file for each object, so that complaints name it."""
    files = []
    for number, (name, each) in enumerate(found):
        file = folder / f"{number:04}-{name}-{title(each).replace(' ', '-').replace('/', '.')}.yaml"
        file.write_text(yaml.safe_dump(each))
        files.append(str(file))
    return files


def _complaints(program: str, *arguments: str) -> list[str]:
    """Lines that a checker of the tools' environment prints; none where it found nothing."""
    if not (ENV / program).is_file():
        raise FileNotFoundError(f"{program} is missing: run `make tools`")
    done = subprocess.run(  # noqa: S603
        [str(ENV / program), *arguments], capture_output=True, text=True, check=False
    )
    printed = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode == 0 and not any(line.startswith("WARN") for line in printed):
        return []
    return [f"{program}: {line}" for line in printed] or [f"{program}: exit {done.returncode}"]


def placeholders(rendered: Mapping[str, Sequence[Object]]) -> list[str]:
    """Digests that the operator has still to set, a line each; nothing is wrong with them here."""
    notes = []
    for name, each in rendered.items():
        texts = sorted({text for one in each for text in _strings(one) if PLACEHOLDER in text})
        notes += [f"{name}: {text} is a placeholder, to be set in its overlay" for text in texts]
    return notes


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _strings(part)
    elif isinstance(value, str):
        yield value


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    rendered = read()
    found = list(distinct(rendered))
    problems = built_in_problems(found)
    folder = os.environ.get("CRD_SCHEMAS")
    if folder:
        problems += custom_problems(found, Schemas(Path(folder)))
    for problem in problems:
        print(problem, file=sys.stderr)
    overlays = {file.stem for file in RENDERED.glob("*.yaml")}
    for note in placeholders({name: rendered[name] for name in sorted(overlays)}):
        print(note)
    custom = "custom resources too" if folder else "CRD_SCHEMAS is not set: custom resources not"
    print(f"{len(found)} objects of {len(rendered)} overlays and scenarios checked, {custom}")
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
