"""WenetSpeech (Zhang et al. 2022, arXiv:2110.03370): Mandarin of the internet and of meetings, test sets.

The set describes hours of audio in one JSON document, with a begin and an end for each utterance.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.data.adapter import Adapter, InvalidDataset
from pipelines.data.excerpt import Excerpt
from pipelines.data.manifest import Utterance

METADATA = "WenetSpeech.json"
SUBSETS = {"TEST_NET": "net", "TEST_MEETING": "meeting"}
"""Subset → the condition that figures are published by."""

CHUNK = 1 << 22
"""Characters read at once."""

LARGEST = 1 << 26
"""Characters that no single audio's entry reaches: beyond it, the document is broken, not just unread."""

_BETWEEN = re.compile(r"[\s,]*")


def _read(root: Path) -> list[Utterance]:
    utterances: list[Utterance] = []
    for number, audio in enumerate(_audios(root / METADATA), 1):
        try:
            utterances += _segments(root, audio)
        except (KeyError, TypeError) as error:
            raise InvalidDataset(
                f"{root / METADATA}: audio {number} lacks the field {error}"
            ) from error
    return utterances


def _segments(root: Path, audio: dict[str, Any]) -> Iterator[Utterance]:
    for segment in audio["segments"]:
        for subset in SUBSETS.keys() & set(segment["subsets"]):
            span = Excerpt(root / audio["path"], segment["begin_time"], segment["end_time"])
            yield Utterance(
                id=segment["sid"],
                audio=str(span),
                text=segment["text"].strip(),
                language="zh",
                noise=SUBSETS[subset],
            )


def _audios(path: Path) -> Iterator[dict[str, Any]]:
    """Entries of the document's list ``audios``, one by one: the document is gigabytes, mostly of the
    training set."""
    decoder = json.JSONDecoder()
    text, position = "", 0
    try:
        with path.open(encoding="utf-8") as file:
            while not (start := re.search(r'"audios"\s*:\s*\[', text)):
                text += _more(file.read(CHUNK), path)
            position = start.end()
            while True:
                position = _next(text, position)
                if text[position : position + 1] == "]":
                    return
                try:
                    audio, position = decoder.raw_decode(text, position)
                except json.JSONDecodeError as error:
                    if len(text) - position > LARGEST:
                        raise InvalidDataset(f"{path}: not JSON: {error.msg}") from error
                    text, position = text[position:] + _more(file.read(CHUNK), path), 0
                    continue
                yield audio
    except FileNotFoundError as error:
        raise InvalidDataset(f"no file {path}") from error
    except UnicodeDecodeError as error:
        raise InvalidDataset(f"{path}: {error}") from error


def _next(text: str, position: int) -> int:
    """Where the next entry or the list's end begins."""
    between = _BETWEEN.match(text, position)
    return between.end() if between else position


def _more(chunk: str, path: Path) -> str:
    if not chunk:
        raise InvalidDataset(f"{path}: not a JSON document with a list 'audios', or cut short")
    return chunk


ADAPTER = Adapter(
    name="wenetspeech",
    title="WenetSpeech test sets",
    source="https://wenet-e2e.github.io/WenetSpeech/ (a form gives the password; test_net, test_meeting)",
    terms="CC BY 4.0 for the labels, non-commercial research; the audio stays its owners'",
    languages=("zh",),
    labels=("text", "language", "noise"),
    layout=f"{METADATA} and audio/test_net/…/*.opus, audio/test_meeting/…/*.opus",
    read=_read,
)
