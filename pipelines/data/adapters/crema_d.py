"""CREMA-D (Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244): acted English, twelve sentences.

``1001_DFA_ANG_XX.wav``: actor, sentence, emotion, intensity. The emotion is the one that the actor was
asked for.
"""

from pathlib import Path

from pipelines.data.adapter import Adapter, InvalidDataset, require_matches, translate
from pipelines.data.manifest import Utterance

EMOTIONS = {
    "ANG": "ANGRY",
    "DIS": "DISGUSTED",
    "FEA": "FEARFUL",
    "HAP": "HAPPY",
    "NEU": "NEUTRAL",
    "SAD": "SAD",
}

SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}

BROKEN = {"1076_MTI_SAD_XX", "1064_IEO_DIS_MD"}
"""One holds no sound; the other, a minute long, every emotion of its sentence."""


def _read(root: Path) -> list[Utterance]:
    files = require_matches(root, "AudioWAV/*.wav")
    with files[0].open("rb") as first:
        if first.read(20).startswith(b"version https://git"):
            raise InvalidDataset(f"{files[0]} is a Git LFS pointer: run git lfs pull")
    return [_utterance(file) for file in files if file.stem not in BROKEN]


def _utterance(file: Path) -> Utterance:
    parts = file.stem.split("_")
    if len(parts) != 4:
        raise InvalidDataset(f"{file}: not named ACTOR_SENTENCE_EMOTION_INTENSITY")
    return Utterance(
        id=file.stem,
        audio=str(file),
        text=translate(SENTENCES, parts[1], file),
        language="en",
        emotion=translate(EMOTIONS, parts[2], file),
    )


ADAPTER = Adapter(
    name="crema-d",
    title="CREMA-D",
    source="https://github.com/CheyneyComputerScience/CREMA-D (clone with Git LFS)",
    terms="Open Database License 1.0",
    languages=("en",),
    labels=("text", "language", "emotion"),
    layout="AudioWAV/1001_DFA_ANG_XX.wav",
    read=_read,
)
