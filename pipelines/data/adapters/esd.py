"""ESD (Zhou et al. 2021, arXiv:2010.14794): acted Mandarin and English, parallel sentences, five emotions.

Some copies keep the files of an emotion in ``train``, ``evaluation`` and ``test``, some have no such
folders; all files are taken either way.
"""

import codecs
import re
from pathlib import Path

from pipelines.data.adapter import Adapter, InvalidDataset, require_matches
from pipelines.data.manifest import Utterance

EMOTIONS = {
    "Angry": "ANGRY",
    "Happy": "HAPPY",
    "Neutral": "NEUTRAL",
    "Sad": "SAD",
    "Surprise": "SURPRISED",
}
"""Folder → label."""

LAST_CHINESE_SPEAKER = 10
"""0001 to 0010 speak Mandarin, 0011 to 0020 English (the set's ReadMe)."""

_LINE = re.compile(rf"(\d{{4}}_\d{{6}})\s+(.+?)(?:\s*\t\s*\S+|\s+(?:{'|'.join(EMOTIONS)}))?")
"""``0001_000001 <tab> text <tab> emotion``; a few lines have blanks for tabs, or no emotion."""


def _read(root: Path) -> list[Utterance]:
    speakers = [path for path in require_matches(root, "0*") if re.fullmatch(r"\d{4}", path.name)]
    return [utterance for speaker in speakers for utterance in _speaker(speaker)]


def _speaker(folder: Path) -> list[Utterance]:
    language = "zh" if int(folder.name) <= LAST_CHINESE_SPEAKER else "en"
    texts = _texts(folder / f"{folder.name}.txt", language)
    utterances = [
        Utterance(
            id=file.stem,
            audio=str(file),
            text=texts.get(file.stem),
            language=language,
            emotion=label,
        )
        for emotion, label in EMOTIONS.items()
        for file in sorted((folder / emotion).rglob(f"{folder.name}_*.wav"))
    ]
    if not utterances:
        raise InvalidDataset(f"no {'|'.join(EMOTIONS)}/{folder.name}_*.wav in {folder}")
    return utterances


def _texts(path: Path, language: str) -> dict[str, str]:
    """Id → text."""
    lines = _decode(path, language).splitlines()
    return {found[1]: found[2] for line in lines if (found := _LINE.fullmatch(line.strip()))}


def _decode(path: Path, language: str) -> str:
    """The speakers' files differ in encoding: UTF-16 and UTF-8 with or without a mark, GB 2312, Latin-1."""
    if not path.is_file():
        raise InvalidDataset(f"no file {path}")
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("gb18030" if language == "zh" else "cp1252", errors="replace")


ADAPTER = Adapter(
    name="esd",
    title="ESD",
    source="https://github.com/HLTSingapore/Emotional-Speech-Data (unpacks to 'Emotion Speech Dataset')",
    terms="research only",
    languages=("zh", "en"),
    labels=("text", "language", "emotion"),
    layout="0001/0001.txt and 0001/Angry/…/0001_000351.wav, a folder a speaker",
    read=_read,
)
