"""Clips that ship with the embedded model, to try the page with."""

import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import predictor
from predictor.engine.audio import decode
from predictor.engine.types import SAMPLE_RATE, Samples

EVALUATION = Path(predictor.__file__).parent / "demo_model" / "evaluation"

PAUSE_SECONDS = 0.7
"""Between the clips of the conversation, so that voice activity detection parts them."""

CONVERSATION = (
    *("en-008", "zh-010", "laughter-001", "ja-003", "yue-021", "en-016", "applause-001", "ko-004"),
    *("zh-013", "en-020", "cough-001", "ja-010", "ko-010"),
)
"""Longer than one span of the network, so that the answer has segments."""


@dataclass(frozen=True, slots=True)
class Example:
    """``name``: a language's code, or what is heard; ``clips``: files of the evaluation set."""

    name: str
    clips: Sequence[str]

    @property
    def path(self) -> Path:
        """Of the file; only where it is one clip."""
        (clip,) = self.clips
        return EVALUATION / f"{clip}.opus"


EXAMPLES = (
    Example("conversation", CONVERSATION),
    *(Example(code, [f"{code}-002"]) for code in ("zh", "en", "yue", "ja", "ko")),
    *(
        Example(event, [f"{event}-001"])
        for event in ("laughter", "applause", "bgm", "cough", "cry")
    ),
)


def write(example: Example, folder: Path) -> Path:
    """The example as one file.

    Args:
        folder: where several clips are joined as ``<name>.wav``, once.
    """
    if len(example.clips) == 1:
        return example.path
    joined = folder / f"{example.name}.wav"
    if not joined.is_file():
        pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
        pieces = [piece for clip in example.clips for piece in (_samples(clip), pause)]
        samples = np.concatenate(pieces[:-1])
        with wave.open(str(joined), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLE_RATE)
            file.writeframes((samples.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return joined


def _samples(clip: str) -> Samples:
    return np.concatenate(
        [block[0] for block in decode((EVALUATION / f"{clip}.opus").read_bytes(), 60)]
    )
