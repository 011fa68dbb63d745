"""A public data set's own layout → a manifest."""

from pathlib import Path
from urllib.parse import quote

from pipelines.data.adapter import Adapter, InvalidDataset
from pipelines.data.excerpt import Excerpt, cut
from pipelines.data.manifest import Utterance, sample, write_manifest

CLIPS = "clips"
"""The folder beside the manifest for clips cut out of long recordings."""


def convert(adapter: Adapter, root: Path, manifest: Path, limit: int = 0) -> list[Utterance]:
    """Write the manifest of a set, with absolute audio paths, and the clips it needs beside it.

    Args:
        adapter: the set.
        root: where its archive was unpacked.
        manifest: the JSONL file; its folder is made.
        limit: how many utterances, evenly spread over the set; 0 for all.

    Returns:
        The utterances written.

    Raises:
        InvalidDataset: the root does not hold the layout, audio is missing, or the limit is negative.
        OSError: audio cannot be read, or the destination cannot be written.
    """
    if limit < 0:
        raise InvalidDataset(f"limit: must be 0 (all) or more, not {limit}")
    everything = adapter.utterances(root)
    chosen = sample(everything, limit) if limit else everything
    _check_audio(adapter, root, chosen)
    manifest.parent.mkdir(parents=True, exist_ok=True)
    whole = _with_clips(chosen, manifest.absolute().parent / CLIPS)
    write_manifest(manifest, whole)
    return whole


def _check_audio(adapter: Adapter, root: Path, utterances: list[Utterance]) -> None:
    excerpts = (Excerpt.parse(one.audio) for one in utterances)
    files = dict.fromkeys(
        part.source if part else Path(one.audio)
        for part, one in zip(excerpts, utterances, strict=True)
    )
    missing = [file for file in files if not file.is_file()]
    if missing:
        problem = (
            f"{len(missing)} of {len(files)} audio files are missing, the first is {missing[0]}"
        )
        raise adapter.wrong(root, problem)


def _with_clips(utterances: list[Utterance], folder: Path) -> list[Utterance]:
    """The same utterances, each with an audio file of its own."""
    clips: dict[Path, Excerpt] = {}
    whole = []
    for one in utterances:
        part = Excerpt.parse(one.audio)
        if part:
            file = folder / f"{quote(one.id, safe='')}.wav"
            clips[file] = part
            one = one.model_copy(update={"audio": str(file)})
        whole.append(one)
    if clips:
        folder.mkdir(exist_ok=True)
        cut(clips)
    return whole
