"""Copies of a model to damage, and what must come of it."""

import json
import shutil
import threading
from pathlib import Path

from predictor.engine.checkpoint import (
    COMPILED_ENCODER,
    COMPILED_HEAD,
    INT8_WEIGHTS,
    MANIFEST,
    Checkpoint,
    read_manifest,
    write_manifest,
)
from predictor.engine.errors import InvalidModel


def copies(model: Path, folder: Path) -> dict[str, Path]:
    """With graphs for this CPU, which are read in place of the int8 weights, and without."""
    compiled = shutil.copytree(model, folder / "compiled")
    plain = shutil.copytree(model, folder / "plain")
    for file in (COMPILED_ENCODER, COMPILED_HEAD):
        (plain / file).unlink(missing_ok=True)
    redigest(plain)
    return {"compiled": compiled, "plain": plain}


def each_file(forms: dict[str, Path]) -> list[tuple[Path, str]]:
    """Every file that is read, with a directory that has it read."""
    plain, compiled = forms["plain"], forms["compiled"]
    graphs = [file for file in (COMPILED_ENCODER, COMPILED_HEAD) if (compiled / file).exists()]
    named = [MANIFEST, *read_manifest(plain).files]
    return [(plain, file) for file in named] + [(compiled, file) for file in graphs]


def load(directory: Path) -> None:
    """Read every file of a model that any server reads."""
    checkpoint = Checkpoint(directory)
    checkpoint.network("cpu", "fp32", 1)
    if INT8_WEIGHTS in checkpoint.manifest.files:
        checkpoint.network("cpu", "int8", 1)


def redigest(directory: Path) -> None:
    """As if the damage had been there when the digests were taken: only the readers' own care is left."""
    manifest = json.loads((directory / MANIFEST).read_text())
    write_manifest(directory, manifest["tokenizer"], "changed")


def refused(directory: Path, file: str) -> None:
    """Loading says no, at once, and names the file."""
    problems: list[BaseException | None] = []

    def attempt() -> None:
        try:
            load(directory)
            problems.append(None)
        except BaseException as error:
            problems.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(60)
    assert problems, f"loading hangs at {file}"
    assert isinstance(problems[0], InvalidModel), (file, problems[0])
    assert file in problems[0].message, problems[0].message
