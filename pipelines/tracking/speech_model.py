"""The model as MLflow loads it ("models from code"): audio in, text and tags out.

A copy of this file and of ``predictor.engine`` lies with every version, so that it loads without this
project: beside MLflow it needs the libraries that the version lists. It imports nothing of ``pipelines``.
"""

from pathlib import Path
from threading import Lock
from typing import Any

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from predictor.engine.errors import InvalidAudio, SpeechError
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions

COLUMNS = [
    "text",
    "language",
    "language_confidence",
    "emotion",
    "emotion_confidence",
    "event",
    "event_confidence",
    "duration",
]


class SpeechModel(PythonModel):
    """Predictions may be asked for by several threads; the network takes one after the other."""

    def load_context(self, context: PythonModelContext) -> None:
        """
        Raises:
            InvalidModel: the prepared directory among the artifacts is damaged.
        """
        self._engine = Engine(Path(context.artifacts["model"]))
        self._network = Lock()

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """
        Args:
            model_input: [n_audios] with a column ``audio``: the bytes of encoded files.
            params: ``language``, ``use_itn``, ``ban_emo_unk``: see
                :class:`~predictor.engine.types.TranscribeOptions`.

        Returns:
            [n_audios] with ``COLUMNS``: labels and their probabilities in [0, 1], and seconds of audio.

        Raises:
            MlflowException: an option or an audio is wrong; names the option, or the row, counted from 0.
        """
        try:
            options = TranscribeOptions.parse({"timestamps": "none", **(params or {})})
        except SpeechError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error
        rows = [
            self._row(number, audio, options) for number, audio in enumerate(model_input["audio"])
        ]
        return pd.DataFrame(rows, columns=COLUMNS)

    def _row(self, number: int, audio: object, options: TranscribeOptions) -> dict[str, Any]:
        try:
            if not isinstance(audio, bytes):
                raise InvalidAudio(f"audio must be bytes, not {type(audio).__name__}")
            with self._network:
                found = self._engine.transcribe(audio, options)
        except SpeechError as error:
            raise MlflowException.invalid_parameter_value(f"row {number}: {error}") from error
        return {
            "text": found.text,
            "language": found.language.label,
            "language_confidence": found.language.confidence,
            "emotion": found.emotion.label,
            "emotion_confidence": found.emotion.confidence,
            "event": found.event.label,
            "event_confidence": found.event.confidence,
            "duration": found.duration,
        }


set_model(SpeechModel())
