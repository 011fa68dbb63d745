"""Every notebook runs from top to bottom, as a reader runs it, and is the same as its script."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "notebooks"

TOLD = {
    "01_transcribe": ["I want 8 blue phones.", "Laughter", "yue"],
    "02_evaluate": ["✓ Passed the gate", "zh  CER", "### Against the champion"],
    "03_release_and_roll_out": [
        "# Version 1: promoted",
        "# Version 2: promoted",
        "50 % to the candidate",
        " requests, 0 failed",
        "the gate refuses the model: words-zh: accuracy/zh/cer is",
        "champion  version 1",
        "previous  version 2",
    ],
    "04_call_the_service": [
        "青の本を5冊ください。  ja",
        "Turn off the heater in the living room tomorrow.",
        "audio: not in a known audio format, or damaged at its start (status 400)",
        "en-001.opus  I want 8 blue phones.",
        "打开办公室的窗户。  zh",
        "Laughter",
    ],
}
"""Notebook → what its outputs hold."""

DRAWN = {
    "01_transcribe": 2,
    "02_evaluate": 14,
    "03_release_and_roll_out": 1,
    "04_call_the_service": 1,
}
"""Notebook → plots, at least."""

LONGEST_SECONDS = 300
"""A cell that takes longer hangs."""


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def outputs(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def text(output: nbformat.NotebookNode) -> str:
    """What a reader reads of an output."""
    if output.output_type == "stream":
        return output.text
    return output.data.get("text/html") or output.data.get("text/markdown") or ""


def plots(output: nbformat.NotebookNode) -> int:
    pictures = "image/png" in output.get("data", {})
    return pictures + text(output).count("data:image/svg+xml;base64,")


def test_all_of_them_are_tested() -> None:
    for ending in ("ipynb", "py"):
        assert {path.stem for path in FOLDER.glob(f"*.{ending}")} == TOLD.keys() == DRAWN.keys()


@pytest.mark.parametrize("name", TOLD)
def test_it_is_the_same_as_its_script(name: str) -> None:
    notebook, script = read(name), jupytext.read(FOLDER / f"{name}.py")
    for one in (notebook, script):
        assert one.metadata.kernelspec.name == "python3"
    cells = [[(cell.cell_type, cell.source) for cell in one.cells] for one in (notebook, script)]
    assert cells[0] == cells[1], "run `make notebooks`"


@pytest.mark.parametrize("name", TOLD)
def test_it_is_kept_without_outputs(name: str) -> None:
    notebook = read(name)
    assert not outputs(notebook), "run `make notebooks`"
    assert not any(cell.get("execution_count") for cell in notebook.cells), "run `make notebooks`"


@pytest.mark.parametrize("name", TOLD)
def test_it_runs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    notebook = read(name)
    place = {"metadata": {"path": str(FOLDER)}}
    NotebookClient(notebook, timeout=LONGEST_SECONDS, resources=place).execute()
    told = "".join(map(text, outputs(notebook)))
    for expected in TOLD[name]:
        assert expected in told
    assert sum(map(plots, outputs(notebook))) >= DRAWN[name]
