"""ESC-50 (Piczak 2015, doi:10.1145/2733373.2806390): five-second recordings of sounds.

Only the classes that SenseVoice knows are taken: 240 of 2,000 clips.
"""

from pathlib import Path

from pipelines.data.adapter import Adapter, read_table
from pipelines.data.manifest import Utterance

EVENTS = {
    "laughing": "Laughter",
    "clapping": "Applause",
    "crying_baby": "Cry",
    "sneezing": "Sneeze",
    "breathing": "Breath",
    "coughing": "Cough",
}
"""The set's class → label."""

TABLE = "meta/esc50.csv"


def _read(root: Path) -> list[Utterance]:
    return [
        Utterance(
            id=row["filename"],
            audio=str(root / "audio" / row["filename"]),
            text="",
            language="nospeech",
            event=EVENTS[row["category"]],
        )
        for row in read_table(root / TABLE, ("filename", "category"))
        if row["category"] in EVENTS
    ]


ADAPTER = Adapter(
    name="esc-50",
    title="ESC-50",
    source="https://github.com/karolpiczak/ESC-50 (master.zip unpacks to ESC-50-master)",
    terms="CC BY-NC 3.0",
    languages=("nospeech",),
    labels=("text", "language", "event"),
    layout=f"{TABLE} and audio/1-100032-A-0.wav",
    read=_read,
)
