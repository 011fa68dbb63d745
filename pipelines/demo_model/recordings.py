"""Held-out sets made from recordings of people and things, which training never hears.

The recordings come from Debian packages, unpacked below one folder (``dpkg -x PACKAGE FOLDER``):

- ``gcin-voice``: Mandarin syllables, speaker 5 (CC-BY-3.0), joined to sentences;
- ``asterisk-core-sounds-en-wav``: spoken English digits at 8 kHz (CC-BY-SA-3.0), joined to numbers;
- ``asterisk-moh-opsound-wav``: music (CC-BY-SA-3.0), and ``hedgewars-data``: laughs and coughs (GFDL).

None of it is copied into the repository.
"""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile
from pypinyin import Style, lazy_pinyin

from pipelines.demo_model import augment
from pipelines.demo_model.grammar import grammar
from pipelines.demo_model.scoring import Heard
from pipelines.demo_model.voices import resampled

_SYLLABLES = "usr/share/gcin-voice/ogg"
_DIGITS = "usr/share/asterisk/sounds/en_US_f_Allison/digits"
_MUSIC = "usr/share/asterisk/moh"
_VOICES = "usr/share/games/hedgewars/Data/Sounds/voices"
_ENGLISH_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TONE_MARKS = {"ˊ": "2", "ˇ": "3", "ˋ": "4"}

Example = tuple[Heard, augment.Samples]


def build(packages: Path, directory: Path, seed: int, speech_clips: int = 40) -> None:
    """Write ``human-zh``, ``human-en`` and ``recorded-events`` below ``directory``."""
    rng = random.Random(f"{seed}-recordings")
    sets = {
        "human-zh": mandarin(packages, rng, speech_clips),
        "human-en": english_digits(packages, rng, speech_clips),
        "recorded-events": things(packages, rng),
    }
    for name, examples in sets.items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "manifest.jsonl").open("w", encoding="utf-8") as manifest:
            for i, (label, samples) in enumerate(examples):
                file = f"{name}-{i:03d}.flac"
                noise = np.random.default_rng(i)
                soundfile.write(folder / file, augment.floor(samples, noise), augment.RATE)
                row = {
                    "audio": file,
                    "text": label.text,
                    "language": label.language,
                    "emotion": label.emotion,
                    "event": label.event,
                }
                manifest.write(json.dumps(row, ensure_ascii=False) + "\n")


def mandarin(packages: Path, rng: random.Random, count: int) -> Iterator[Example]:
    """Sentences of the grammar from single recorded syllables, those with a missing one left out."""
    while count:
        sentence = grammar("zh").sample(rng, "test")
        files = [
            _syllable(packages / _SYLLABLES, sound)
            for sound in lazy_pinyin(sentence.text, style=Style.BOPOMOFO)
        ]
        found = [file for file in files if file]
        if len(found) == len(files):
            count -= 1
            yield Heard(sentence.text, "zh", "NEUTRAL", "Speech"), _joined(found, gap=0.02)


def _syllable(folder: Path, bopomofo: str) -> Path | None:
    """Speaker 5's recording: a folder for each syllable, its tone as a digit (none for the first)."""
    tone = _TONE_MARKS.get(bopomofo[-1])
    bare = bopomofo.strip("ˊˇˋ˙")
    name = bare + ("1" if "˙" in bopomofo else tone or "")
    for candidate in (name, bare):
        file = folder / candidate / "5.ogg"
        if file.is_file():
            return file
    return None


def english_digits(packages: Path, rng: random.Random, count: int) -> Iterator[Example]:
    for _ in range(count):
        digits = [rng.randrange(10) for _ in range(rng.randint(3, 6))]
        text = " ".join(_ENGLISH_DIGITS[digit] for digit in digits)
        files = [packages / _DIGITS / f"{digit}.wav" for digit in digits]
        yield Heard(text, "en", "NEUTRAL", "Speech"), _joined(files, gap=0.05)


def things(packages: Path, rng: random.Random) -> Iterator[Example]:
    """Cuts of four seconds of music, and laughs and coughs as they are."""
    for file in sorted((packages / _MUSIC).glob("*.wav")):
        samples = _read(file)
        for _ in range(4):
            start = rng.randrange(len(samples) - 4 * augment.RATE)
            yield _event("BGM"), _levelled(samples[start : start + 4 * augment.RATE])
    for event, name in (("Laughter", "Laugh.ogg"), ("Cough", "PoisonCough.ogg")):
        for file in sorted((packages / _VOICES).glob(f"*/{name}")):
            yield _event(event), _levelled(_read(file)[: 8 * augment.RATE])


def _event(event: str) -> Heard:
    return Heard("", "nospeech", "EMO_UNKNOWN", event)


def _joined(files: Sequence[Path], gap: float) -> augment.Samples:
    pieces = [_trimmed(_read(file)) for file in files]
    silence = np.zeros(int(gap * augment.RATE), np.float32)
    joined = np.concatenate([part for piece in pieces for part in (piece, silence)])
    return augment.padded(_levelled(joined), 0.2, 0.2)


def _trimmed(samples: augment.Samples) -> augment.Samples:
    loud = np.flatnonzero(np.abs(samples) > 0.03 * np.abs(samples).max())
    return samples[max(0, loud[0] - 160) : loud[-1] + 160]


def _levelled(samples: augment.Samples) -> augment.Samples:
    return samples * np.float32(0.7 / (np.abs(samples).max() + 1e-9))


def _read(path: Path) -> augment.Samples:
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    return resampled(samples.mean(axis=1), rate)
