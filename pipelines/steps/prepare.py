"""A fetched model → the directory that is served, named by its content.

``<cache>/sensevoice-small/<digest>/`` is whole from the moment it is there, and never changes. Notes in
``.index`` beside it tell which fetched files became which digest, so that nothing is prepared twice.
"""

import hashlib
import json
import logging
import shutil
from importlib.metadata import version
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError

from pipelines.fetching.cache import locked, publish, read_text, room, scratch, write_text
from pipelines.fetching.errors import DiskFull, FetchFailed
from pipelines.fetching.source import PVC
from pipelines.steps.fetch import MOUNT_ROOT, Fetched
from pipelines.tracking.version import FAMILY
from predictor.engine.checkpoint import Manifest, read_manifest, verify
from predictor.engine.errors import InvalidModel

logger = logging.getLogger(__name__)


class Prepared(BaseModel):
    """A model that can be served.

    Attributes:
        directory: ``<cache>/sensevoice-small/<digest>``.
        digest: sha256 of its files' names and digests.
        revision: of the source; empty where it has none.
        storage_uri: as an InferenceService names it, see :func:`storage_uri`.
    """

    model_config = ConfigDict(frozen=True)

    directory: Path
    digest: str
    revision: str
    storage_uri: str


def storage_uri(directory: Path, mount_root: Path = MOUNT_ROOT) -> str:
    """Where a predictor loads a prepared directory from: ``pvc://<claim>/<path>`` where it is on a mounted
    claim, the absolute path elsewhere."""
    resolved = directory.resolve()
    if resolved.is_relative_to(mount_root):
        return f"{PVC}{resolved.relative_to(mount_root)}"
    return str(resolved)


def find(digest: str, cache: Path) -> Path | None:
    """A prepared directory that the cache holds, verified."""
    directory = cache / FAMILY / digest
    return directory if _whole(directory) else None


def prepare(fetched: Fetched, cache: Path) -> Prepared:
    """Make the served form of a model in the cache, or find it there and verify it.

    A model that is prepared already is verified and copied, with its evaluation set. Where the cache has
    the same content from elsewhere, that stays as it is.

    Raises:
        FetchFailed: the files are no SenseVoiceSmall, or changed since they were fetched.
        DiskFull: the cache has no room.
        CacheUnavailable: its volume is gone, read-only or broken.
    """
    with room(cache):
        return _prepare(fetched, cache)


def _prepare(fetched: Fetched, cache: Path) -> Prepared:
    store = cache / FAMILY
    note = store / ".index" / _key(fetched)
    digest = read_text(note)
    if not digest or not _whole(store / digest):
        with locked(store):
            digest = read_text(note)
            if not digest or not _whole(store / digest):
                digest = _make(fetched, store)
                write_text(note, digest)
    return Prepared(
        directory=store / digest,
        digest=digest,
        revision=fetched.revision,
        storage_uri=storage_uri(store / digest),
    )


def _key(fetched: Fetched) -> str:
    """Name of the note: equal for equal files of one source, prepared by one release."""
    what = [version("sensevoice-kserve"), fetched.source, fetched.revision, fetched.files]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _whole(directory: Path) -> bool:
    if not directory.is_dir():
        return False
    try:
        manifest = read_manifest(directory)
        verify(directory, manifest, manifest.files)
    except InvalidModel as error:
        logger.warning("%s: %s; it is prepared again", directory, error)
        return False
    return manifest.digest == directory.name


def _make(fetched: Fetched, store: Path) -> str:
    """Stage the directory, put it in place, and return its digest. The caller holds the lock."""
    with scratch(store) as folder:
        staged = folder / "model"
        try:
            manifest = _copy(fetched, staged) if fetched.prepared else _convert(fetched, staged)
        except InvalidModel as error:
            raise FetchFailed(f"{fetched.source}: {error}") from error
        final = store / manifest.digest
        if not _whole(final):
            if final.exists():
                final.rename(folder / "damaged")
            publish(staged, final)
    return manifest.digest


def _copy(fetched: Fetched, staged: Path) -> Manifest:
    staged.mkdir()
    for name in fetched.files:
        (staged / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(fetched.directory / name, staged / name)
    manifest = read_manifest(staged)
    verify(staged, manifest, manifest.files)
    return manifest


def _convert(fetched: Fetched, staged: Path) -> Manifest:
    # It imports torch, which takes longer than finding a model that is prepared.
    from predictor.engine import prepare as engine

    try:
        return engine.prepare(
            fetched.directory,
            staged,
            origin=fetched.source,
            revision=fetched.revision,
            licence=_licence(fetched.directory / "README.md"),
        )
    except SafetensorError as error:
        raise DiskFull(f"{staged.parent.parent}: weights cannot be written: {error}") from error


def _licence(card: Path) -> str:
    """The licence that a model card's front matter names; empty where it names none."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    parts = text.split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return ""
    try:
        front = yaml.safe_load(parts[1])
    except yaml.YAMLError:
        return ""
    if not isinstance(front, dict):
        return ""
    return str(front.get("license_name") or front.get("license") or "")
