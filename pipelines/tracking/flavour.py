"""The files that make a prepared directory an MLflow model: signature, code, requirements, an example."""

import io
import shutil
import tempfile
import wave
from importlib import metadata
from pathlib import Path

import mlflow.pyfunc
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

import predictor.engine
from predictor.engine.types import AUTO, SAMPLE_RATE, TranscribeOptions

CODE = Path(__file__).parent / "speech_model.py"

ARTIFACT = "model"
"""Name of the prepared directory among the model's artifacts."""

WEIGHTS = f"artifacts/{ARTIFACT}"
"""Folder of the prepared directory among the model's files."""

LIBRARIES = (
    "av",
    "mlflow",
    "numpy",
    "openvino",
    "pandas",
    "pydantic",
    "pyyaml",
    "safetensors",
    "sentencepiece",
    "silero-vad",
    "torch",
)
"""Distributions that ``predictor.engine`` and ``speech_model.py`` import."""

_OPTIONS = TranscribeOptions()

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.binary, "audio")]),
    outputs=Schema(
        [
            ColSpec(DataType.string, "text"),
            ColSpec(DataType.string, "language"),
            ColSpec(DataType.double, "language_confidence"),
            ColSpec(DataType.string, "emotion"),
            ColSpec(DataType.double, "emotion_confidence"),
            ColSpec(DataType.string, "event"),
            ColSpec(DataType.double, "event_confidence"),
            ColSpec(DataType.double, "duration"),
        ]
    ),
    params=ParamSchema(
        [
            ParamSpec("language", DataType.string, AUTO),
            ParamSpec("use_itn", DataType.boolean, _OPTIONS.use_itn),
            ParamSpec("ban_emo_unk", DataType.boolean, _OPTIONS.ban_emo_unk),
        ]
    ),
)


def requirements() -> list[str]:
    """``LIBRARIES`` in the versions that run here, without builds' own marks such as ``+cpu``."""
    return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in LIBRARIES]


def write(model: Model, folder: Path, directory: Path) -> None:
    """Write everything but the weights, which are large and stay where they are.

    Args:
        model: what MLflow knows of it so far.
        folder: to be made; ``directory``'s files belong to its ``WEIGHTS``.
        directory: prepared model directory.
    """
    with tempfile.TemporaryDirectory() as scratch:
        empty = Path(scratch) / ARTIFACT
        empty.mkdir()
        mlflow.pyfunc.save_model(
            folder,
            mlflow_model=model,
            python_model=CODE,
            code_paths=[str(_engine(Path(scratch)))],
            artifacts={ARTIFACT: str(empty)},
            signature=SIGNATURE,
            input_example=(pd.DataFrame({"audio": [_silence()]}), {"language": AUTO}),
            # Without them MLflow would load the model in another process and ask PyPI.
            pip_requirements=requirements(),
        )
    weights = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    model.model_size_bytes = (model.model_size_bytes or 0) + weights
    model.save(folder / "MLmodel")


def _engine(folder: Path) -> Path:
    """The package ``predictor`` with nothing but the engine in it."""
    engine = Path(predictor.engine.__file__).parent
    package = folder / "predictor"
    shutil.copytree(engine, package / "engine", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(engine.parent / "__init__.py", package / "__init__.py")
    return package


def _silence() -> bytes:
    """A file with half a second of silence."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(bytes(SAMPLE_RATE))
    return buffer.getvalue()
