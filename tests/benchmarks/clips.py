"""Real speech of exact lengths, strung together from the embedded evaluation set."""

import json
import wave
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np

from predictor.engine.audio import decode
from predictor.engine.types import SAMPLE_RATE, Samples

EVALUATION = Path(__file__).resolve().parents[2] / "predictor" / "demo_model" / "evaluation"


def speech(folder: Path = EVALUATION) -> Iterator[Samples]:
    """The folder's clips with speech, over and over, float32 [n_samples], 16 kHz."""
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").open(encoding="utf-8")]
    names = sorted(row["audio"] for row in rows if row["language"] != "nospeech")
    # Every seventh file: neighbours in the sorted list share a language.
    order = [names[index % len(names)] for index in range(0, 7 * len(names), 7)]
    for name in cycle(order):
        yield np.concatenate(list(decode((folder / name).read_bytes(), 60.0)), axis=1)[0]


def write_clips(folder: Path, seconds: float, count: int) -> list[Path]:
    """``count`` different WAV files (16 bit, mono, 16 kHz) of exactly ``seconds`` each."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = round(seconds * SAMPLE_RATE)
    source = speech()
    paths = []
    for index in range(count):
        pieces: list[Samples] = []
        while sum(map(len, pieces)) < wanted:
            pieces.append(next(source))
        path = folder / f"{seconds:g}s-{index}.wav"
        write_wav(path, np.concatenate(pieces)[:wanted])
        paths.append(path)
    return paths


def write_wav(path: Path, samples: Samples) -> None:
    """Samples float32 [n_samples] in [-1, 1] as 16-bit PCM, 16 kHz."""
    pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(pcm.tobytes())
