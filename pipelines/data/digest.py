"""What an evaluation was made on, as one number."""

import hashlib
import json
from pathlib import Path

from pipelines.data.manifest import InvalidManifest, read_audio, read_manifest


def digest(manifest: Path) -> str:
    """Hex sha256 of a data set's content: equal for the same labels and the same audio in the same order,
    wherever the files lie.

    Each utterance counts with its id, its labels and the sha256 of its audio. Audio behind a remote URI
    counts with the URI alone: it is not fetched for this.

    Raises:
        InvalidManifest: see :func:`~pipelines.data.manifest.read_manifest`; also, audio cannot be read.
    """
    total = hashlib.sha256()
    for utterance in read_manifest(manifest):
        row = utterance.model_dump(exclude_none=True)
        if "://" not in utterance.audio or utterance.audio.startswith("file://"):
            try:
                row["audio"] = hashlib.sha256(read_audio(manifest, utterance)).hexdigest()
            except OSError as error:
                raise InvalidManifest(f"{manifest}: audio of {utterance.id!r}: {error}") from error
        line = json.dumps(row, ensure_ascii=False, sort_keys=True)
        total.update(line.encode() + b"\n")
    return total.hexdigest()
