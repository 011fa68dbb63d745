"""What a model made of each utterance, beside what it was told: the table that every measure reads."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from tqdm import tqdm

from pipelines.data.manifest import Utterance, read_audio, read_manifest
from predictor.engine.errors import SpeechError
from predictor.engine.transcribe import Engine
from predictor.engine.types import Tag, TranscribeOptions

OPTIONS = TranscribeOptions.parse(
    {"language": "auto", "use_itn": False, "distributions": True, "timestamps": "none"}
)
"""How clips are transcribed: the language is not given away, numbers stay as spoken, and every tag comes
with the probability of every label."""


class Choice(BaseModel):
    """A tag as recognised.

    Attributes:
        label: the most probable label.
        confidence: its probability, in [0, 1].
        distribution: probability of every label of its kind; sums to 1.
    """

    model_config = ConfigDict(frozen=True)

    label: str
    confidence: float
    distribution: dict[str, float]


class Hypothesis(BaseModel):
    """One row of the table.

    Attributes:
        utterance: the labels.
        error: why there is no transcript; empty where there is one.
        text: as recognised, without inverse text normalisation.
        language, emotion, event: None where there is an error.
        duration: seconds of audio.
        seconds: wall seconds that the engine took.
    """

    model_config = ConfigDict(frozen=True)

    utterance: Utterance
    error: str = ""
    text: str = ""
    language: Choice | None = None
    emotion: Choice | None = None
    event: Choice | None = None
    duration: float = 0.0
    seconds: float = 0.0


def recognise(engine: Engine, manifest: Path) -> Iterator[Hypothesis]:
    """One hypothesis an utterance, in the manifest's order. Audio that cannot be read or decoded yields a
    row with its error, so that one bad file costs no evaluation.

    Raises:
        InvalidManifest: see :func:`~pipelines.data.manifest.read_manifest`.
    """
    for utterance in tqdm(read_manifest(manifest), desc="recognise", unit="clip"):
        try:
            audio = read_audio(manifest, utterance)
            started = time.perf_counter()
            transcript = engine.transcribe(audio, OPTIONS)
        except (OSError, SpeechError) as error:
            yield Hypothesis(utterance=utterance, error=f"{type(error).__name__}: {error}")
            continue
        yield Hypothesis(
            utterance=utterance,
            text=transcript.text,
            language=_choice(transcript.language),
            emotion=_choice(transcript.emotion),
            event=_choice(transcript.event),
            duration=transcript.duration,
            seconds=time.perf_counter() - started,
        )


def _choice(tag: Tag) -> Choice:
    return Choice(
        label=tag.label, confidence=tag.confidence, distribution=dict(tag.distribution or {})
    )


def write_hypotheses(path: Path, hypotheses: Iterator[Hypothesis] | list[Hypothesis]) -> None:
    """JSON lines."""
    with path.open("w", encoding="utf-8") as file:
        for one in hypotheses:
            row: dict[str, Any] = one.model_dump(exclude_none=True)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_hypotheses(path: Path) -> list[Hypothesis]:
    with path.open(encoding="utf-8") as file:
        return [Hypothesis.model_validate_json(line) for line in file]
