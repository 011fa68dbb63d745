"""A data set: audio and what is known of it, one JSON object a line.

``{"audio": "a/b.wav", "text": "...", "language": "zh", "emotion": "HAPPY", "event": "Speech"}``: ``audio``
is a path relative to the manifest, an absolute path, or a URI that fsspec opens (``https://``, ``s3://``).
Labels that a set does not have are absent or null. ``id`` (default: ``audio``) is unique; ``noise`` names a
recording condition to report by.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import fsspec
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

MANIFEST = "manifest.jsonl"

Label = Annotated[str, StringConstraints(min_length=1)]


class Utterance(BaseModel):
    """One audio file and its labels; a label is None where nobody knows it.

    Attributes:
        id: unique in its set.
        audio: path relative to the manifest, absolute path, or URI.
        text: what is said; empty where nobody speaks.
        language: ``zh``, ``en``, ``yue``, ``ja``, ``ko`` or ``nospeech``.
        emotion: SenseVoice's label: ``HAPPY``, ``SAD``, ``ANGRY``, ``NEUTRAL``, ``FEARFUL``, ``DISGUSTED``,
            ``SURPRISED`` or ``OTHER``.
        event: SenseVoice's label, such as ``Speech``, ``BGM``, ``Laughter``.
        noise: the recording condition.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Label
    audio: Label
    text: str | None = None
    language: Label | None = None
    emotion: Label | None = None
    event: Label | None = None
    noise: Label | None = None

    @model_validator(mode="before")
    @classmethod
    def _audio_names_it(cls, row: object) -> object:
        return {"id": row.get("audio"), **row} if isinstance(row, dict) else row


class InvalidManifest(ValueError):
    """Names the file, the line and what is wrong with it."""


def read_manifest(path: Path) -> list[Utterance]:
    """Utterances in the file's order.

    Args:
        path: the JSONL file, or a directory with ``manifest.jsonl``.

    Raises:
        InvalidManifest: no such file, a line that is not an utterance, or one id twice.
    """
    file = path / MANIFEST if path.is_dir() else path
    try:
        # Not splitlines, which cuts at characters that JSON leaves as they are.
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidManifest(f"{file}: {error}") from error
    utterances: dict[str, Utterance] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            one = Utterance.model_validate(json.loads(line))
        except (json.JSONDecodeError, ValidationError) as error:
            raise InvalidManifest(f"{file}:{number}: {_first(error)}") from error
        if one.id in utterances:
            raise InvalidManifest(f"{file}:{number}: id {one.id!r} stands there twice")
        utterances[one.id] = one
    if not utterances:
        raise InvalidManifest(f"{file}: no utterances")
    return list(utterances.values())


def _first(error: json.JSONDecodeError | ValidationError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg}"
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'line'}: {problem['msg']}"


def write_manifest(path: Path, utterances: Iterable[Utterance]) -> None:
    """The JSONL file; unknown labels are left out."""
    rows = (one.model_dump(exclude_none=True) for one in utterances)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")


def read_audio(manifest: Path, utterance: Utterance) -> bytes:
    """The audio file of an utterance of ``manifest``.

    Raises:
        OSError: it cannot be read.
    """
    if "://" in utterance.audio:
        with fsspec.open(utterance.audio, "rb") as file:
            content: bytes = file.read()
        return content
    folder = manifest if manifest.is_dir() else manifest.parent
    return (folder / utterance.audio).read_bytes()


def sample(utterances: Sequence[Utterance], n: int) -> list[Utterance]:
    """``n`` of them, evenly spread over the set's order; all where there are no more."""
    if n >= len(utterances):
        return list(utterances)
    return [utterances[index * len(utterances) // n] for index in range(n)]
