"""Transcribe a data set with a model."""

from pathlib import Path

from pipelines.evaluation import hypothesis
from predictor.engine.transcribe import Engine


def recognise(model: Path, manifest: Path, table: Path, device: str = "cpu") -> None:
    """Write one hypothesis an utterance.

    Args:
        model: prepared model directory.
        manifest: the set's JSONL file, or a directory with ``manifest.jsonl``.
        table: JSONL file to write; what is there is replaced.
        device: torch's name of it, such as ``cpu`` or ``cuda``.

    Raises:
        InvalidModel: the model cannot be loaded.
        InvalidManifest: the set cannot be read.
    """
    hypothesis.write_hypotheses(table, hypothesis.recognise(Engine(model, device), manifest))
