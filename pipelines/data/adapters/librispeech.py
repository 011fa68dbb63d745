"""LibriSpeech (Panayotov et al. 2015, ICASSP): read English, test-clean and test-other."""

from pathlib import Path

from pipelines.data.adapter import Adapter, InvalidDataset, read_lines, require_matches
from pipelines.data.manifest import Utterance

SPLITS = {"test-clean": "clean", "test-other": "other"}
"""Folder → the condition that figures are published by."""


def _read(root: Path) -> list[Utterance]:
    splits = [name for name in SPLITS if (root / name).is_dir()]
    if not splits:
        raise InvalidDataset(f"neither {' nor '.join(SPLITS)} in {root}")
    return [utterance for split in splits for utterance in _split(root / split)]


def _split(folder: Path) -> list[Utterance]:
    utterances = []
    for transcript in require_matches(folder, "*/*/*.trans.txt"):
        for number, line in enumerate(read_lines(transcript), 1):
            key, _, text = line.partition(" ")
            if not text:
                raise InvalidDataset(f"{transcript}:{number}: no text after the id")
            utterances.append(
                Utterance(
                    id=key,
                    audio=str(transcript.parent / f"{key}.flac"),
                    # The set is written in capitals throughout: it knows no case.
                    text=text.lower(),
                    language="en",
                    noise=SPLITS[folder.name],
                )
            )
    return utterances


ADAPTER = Adapter(
    name="librispeech",
    title="LibriSpeech",
    source="https://www.openslr.org/12/ (test-clean.tar.gz, test-other.tar.gz)",
    terms="CC BY 4.0",
    languages=("en",),
    labels=("text", "language", "noise"),
    layout="test-clean/1089/134686/1089-134686.trans.txt beside 1089-134686-0000.flac, or test-other/…",
    read=_read,
)
