"""The audio and labels that a model is judged on."""

from pathlib import Path

from pipelines.data.adapter import InvalidDataset
from pipelines.data.convert import convert
from pipelines.data.digest import digest
from pipelines.data.manifest import MANIFEST, Utterance, read_manifest, sample, write_manifest
from pipelines.data.registry import ADAPTERS

EMBEDDED = "embedded"
"""The name of the evaluation set that comes with the embedded model."""

_EMBEDDED_SET = Path(__file__).resolve().parents[2] / "predictor" / "demo_model" / "evaluation"


def dataset(source: str, root: Path | None, destination: Path, limit: int = 0) -> str:
    """Write ``destination/manifest.jsonl``, with absolute audio paths, from any source of data.

    Args:
        source: ``embedded``, the path of a manifest or of its directory, or a public set's name
            (``python -m pipelines.data`` lists them).
        root: where the public set was unpacked; None for the other sources.
        destination: a directory; it is made. Clips cut out of long recordings go there, too.
        limit: how many utterances, evenly spread over the set; 0 for all.

    Returns:
        Hex sha256 of the labels and the audio, see :func:`~pipelines.data.digest.digest`: the same for the
        same data in another place.

    Raises:
        InvalidDataset: no such source, a root missing or given in vain, a negative limit, or the root lacks
            something of the set's layout.
        InvalidManifest: the manifest is not one, or its audio cannot be read.
    """
    manifest = destination / MANIFEST
    if source in ADAPTERS:
        if root is None:
            raise InvalidDataset(f"data {source!r}: root is missing, the folder it unpacked to")
        convert(ADAPTERS[source], root, manifest, limit)
    else:
        if root is not None:
            raise InvalidDataset(f"data {source!r}: takes no root, which is {root}")
        _copy(_locate(source), manifest, limit)
    return digest(manifest)


def _locate(source: str) -> Path:
    path = _EMBEDDED_SET if source == EMBEDDED else Path(source)
    if not source or not path.exists():
        raise InvalidDataset(
            f"data {source!r}: neither a manifest nor a directory with one, nor a set's name: "
            f"{EMBEDDED}, {', '.join(ADAPTERS)}"
        )
    return path


def _copy(source: Path, manifest: Path, limit: int) -> None:
    if limit < 0:
        raise InvalidDataset(f"limit: must be 0 (all) or more, not {limit}")
    everything = read_manifest(source)
    chosen = sample(everything, limit) if limit else everything
    folder = (source if source.is_dir() else source.parent).resolve()
    manifest.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(manifest, [_absolute(one, folder) for one in chosen])


def _absolute(utterance: Utterance, folder: Path) -> Utterance:
    if "://" in utterance.audio:
        return utterance
    return utterance.model_copy(update={"audio": str(folder / utterance.audio)})
