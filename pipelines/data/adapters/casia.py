"""CASIA: acted Mandarin, four speakers, the same sentences in six emotions."""

from pathlib import Path

from pipelines.data.adapter import Adapter, require_matches, translate
from pipelines.data.manifest import Utterance

EMOTIONS = {
    "angry": "ANGRY",
    "fear": "FEARFUL",
    "happy": "HAPPY",
    "neutral": "NEUTRAL",
    "sad": "SAD",
    "surprise": "SURPRISED",
}
"""Folder → label."""


def _read(root: Path) -> list[Utterance]:
    return [
        Utterance(
            id="/".join(file.relative_to(root).with_suffix("").parts),
            audio=str(file),
            language="zh",
            emotion=translate(EMOTIONS, file.parent.name.lower(), file),
        )
        for file in require_matches(root, "*/*/*.wav")
    ]


ADAPTER = Adapter(
    name="casia",
    title="CASIA emotional corpus",
    source="Institute of Automation, Chinese Academy of Sciences, through http://www.chineseldc.org/",
    terms="research, by agreement with the institute",
    languages=("zh",),
    labels=("language", "emotion"),
    layout=f"SPEAKER/EMOTION/201.wav, where EMOTION is one of {', '.join(EMOTIONS)}",
    read=_read,
)
