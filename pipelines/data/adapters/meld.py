"""MELD (Poria et al. 2019, arXiv:1810.02508): English of a television series, the test split."""

from pathlib import Path

from pipelines.data.adapter import Adapter, read_table, require_matches, translate
from pipelines.data.manifest import Utterance

EMOTIONS = {
    "anger": "ANGRY",
    "disgust": "DISGUSTED",
    "fear": "FEARFUL",
    "joy": "HAPPY",
    "neutral": "NEUTRAL",
    "sadness": "SAD",
    "surprise": "SURPRISED",
}

TABLE = "test_sent_emo.csv"
WINDOWS = {code: bytes([code]).decode("cp1252", errors="ignore") for code in range(0x80, 0xA0)}
"""Some copies of the table hold the quotation marks and dashes of Windows-1252 as control characters."""

CLIPS = "output_repeated_splits_test"
"""The folder that test.tar.gz unpacks to."""


def _read(root: Path) -> list[Utterance]:
    columns = ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")
    rows = list(read_table(root / TABLE, columns))
    clips = require_matches(root, f"**/{CLIPS}")[0]
    return [_utterance(row, clips, root / TABLE) for row in rows]


def _utterance(row: dict[str, str], clips: Path, table: Path) -> Utterance:
    name = f"dia{row['Dialogue_ID']}_utt{row['Utterance_ID']}"
    wav = clips / f"{name}.wav"
    return Utterance(
        id=name,
        audio=str(wav if wav.is_file() else clips / f"{name}.mp4"),
        text=row["Utterance"].translate(WINDOWS),
        language="en",
        emotion=translate(EMOTIONS, row["Emotion"], table),
    )


ADAPTER = Adapter(
    name="meld",
    title="MELD",
    source="https://affective-meld.github.io/ (MELD.Raw.tar.gz; then unpack its test.tar.gz)",
    terms="GPL 3.0 for the labels; the clips of the series are for research only",
    languages=("en",),
    labels=("text", "language", "emotion"),
    layout=f"{TABLE} and {CLIPS}/dia0_utt0.mp4 (or .wav), that folder at any depth",
    read=_read,
)
