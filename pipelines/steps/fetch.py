"""Bring a model's files here, whole and verified."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipelines.fetching.errors import FetchFailed
from pipelines.fetching.hub import REQUIRED, WELCOME, Hub
from pipelines.fetching.snapshot import snapshot
from pipelines.fetching.source import HubSource, LocalSource, parse
from predictor.engine.checkpoint import MANIFEST, read_manifest, sha256, verify
from predictor.engine.errors import InvalidModel

MOUNT_ROOT = Path("/mnt/pvc")
"""Where pipelines mount volume claims, each under its own name."""

EVALUATION = "evaluation"
"""Folder of a prepared model's own evaluation set."""


class Fetched(BaseModel):
    """A model as its source has it.

    Attributes:
        directory: as a hub gives it (``model.pt``), or already prepared (``model-manifest.json``).
        source: canonical; a hub's with the commit.
        revision: the hub's commit, or the revision that a prepared model names; empty where there is none.
        files: sha256 by path within ``directory``.
    """

    model_config = ConfigDict(frozen=True)

    directory: Path
    source: str
    revision: str
    files: dict[str, str]

    @property
    def prepared(self) -> bool:
        return MANIFEST in self.files


def fetch(source: str, cache: Path, *, mount_root: Path = MOUNT_ROOT) -> Fetched:
    """A model from a hub into the cache; from a volume or a directory it stays where it is.

    A hub's commit that the cache has is verified and used without asking the hub; a branch or tag is
    resolved first, or, with the hub away, taken for what it last was. Killed, failed and simultaneous runs
    leave nothing that looks whole and is not.

    Args:
        source: ``modelscope://owner/model@revision``, ``hf://owner/model@revision``, ``pvc://claim/path``,
            a directory, or ``embedded``.
        cache: folder that runs share.
        mount_root: claims are mounted at ``<mount_root>/<claim>``.

    Raises:
        FetchFailed: the source is malformed, lacks files or does not match its digests.
        HubUnavailable: the hub does not answer and the cache does not have it.
        DiskFull: the cache has no room.
        CacheUnavailable: its volume is gone, read-only or broken.
    """
    parsed = parse(source, mount_root)
    if isinstance(parsed, LocalSource):
        return _local(parsed)
    commit, directory, record = snapshot(parsed, cache, _hub(parsed))
    return Fetched(
        directory=directory, source=str(parsed.at(commit)), revision=commit, files=record.files
    )


def _hub(source: HubSource) -> Hub:
    # Each client library takes about a second to import.
    if source.scheme == "hf":
        from pipelines.fetching.huggingface import HuggingFace

        return HuggingFace()
    from pipelines.fetching.modelscope import ModelScope

    return ModelScope()


def _local(source: LocalSource) -> Fetched:
    directory = source.directory
    revision = ""
    if (directory / MANIFEST).is_file():
        try:
            manifest = read_manifest(directory)
            verify(directory, manifest, manifest.files)
        except InvalidModel as error:
            raise FetchFailed(f"source {source.name}: {error}") from error
        revision = manifest.revision
        evaluation = sorted(p for p in (directory / EVALUATION).rglob("*") if p.is_file())
        paths = [directory / name for name in (*manifest.files, MANIFEST)] + evaluation
    else:
        for pattern in REQUIRED:
            if not any(directory.glob(pattern)):
                raise FetchFailed(
                    f"source {source.name}: neither {MANIFEST} nor {pattern}; a model directory has "
                    f"either the first or all of {', '.join(REQUIRED)}"
                )
        paths = [p for pattern in REQUIRED + WELCOME for p in sorted(directory.glob(pattern))]
    files = {path.relative_to(directory).as_posix(): sha256(path) for path in paths}
    return Fetched(directory=directory, source=source.name, revision=revision, files=files)
