"""A hub's model at one commit, downloaded once and verified at every use.

Layout: ``<cache>/hub/<scheme>/<owner>--<model>/<commit>/`` holds the files and ``fetched.json``, their
sha256; ``refs/`` beside it what each branch or tag last meant; ``.<commit>.partial`` is a download that can
go on. Changes of one repository are made by one process at a time.
"""

import logging
import shutil
from pathlib import Path
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.fetching.cache import locked, publish, read_text, room, write_text
from pipelines.fetching.errors import DiskFull, FetchFailed, HubUnavailable
from pipelines.fetching.hub import Hub, Listing, RemoteFile
from pipelines.fetching.source import HubSource
from predictor.engine.checkpoint import sha256

logger = logging.getLogger(__name__)

RECORD = "fetched.json"


class Record(BaseModel):
    """``fetched.json``: the sha256 of every file, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    files: dict[str, str]


class Snapshots:
    """What the cache holds of one repository."""

    def __init__(self, cache: Path, source: HubSource) -> None:
        self._cache = cache
        self._source = source
        self._root = cache / "hub" / source.scheme / source.repository.replace("/", "--")

    def directory(self, commit: str) -> Path:
        return self._root / commit

    def find(self, commit: str) -> Record | None:
        """The record of a commit that is here and undamaged."""
        directory = self.directory(commit)
        text = read_text(directory / RECORD)
        if not text:
            return None
        try:
            record = Record.model_validate_json(text)
        except ValidationError:
            logger.warning("%s: %s is damaged; the model is fetched again", directory, RECORD)
            return None
        for name, expected in record.files.items():
            path = directory / name
            if not path.is_file() or sha256(path) != expected:
                logger.warning("%s: missing or altered; the file is fetched again", path)
                return None
        return record

    def last_known(self) -> tuple[str, Record] | None:
        """What the source's branch or tag meant when the hub last answered, if that is here."""
        commit = read_text(self._reference)
        record = self.find(commit) if commit else None
        return (commit, record) if record else None

    def remember(self, commit: str) -> None:
        """Note what the source's branch or tag means."""
        if not self._source.immutable and read_text(self._reference) != commit:
            write_text(self._reference, commit)

    @property
    def _reference(self) -> Path:
        return self._root / "refs" / quote(self._source.revision, safe="")

    def download(self, listing: Listing, hub: Hub) -> Record:
        """Fetch what is missing of a commit. What a killed or failed run brought is kept and used.

        Raises:
            DiskFull, CacheUnavailable: see :func:`.cache.room`.
            FetchFailed: see ``Hub.download``.
        """
        with locked(self._root):
            # Another process may have brought it meanwhile.
            record = self.find(listing.commit)
            if record:
                return record
            partial = self._root / f".{listing.commit}.partial"
            try:
                with room(self._cache):
                    record = self._complete(partial, listing, hub)
                    publish(partial, self.directory(listing.commit))
            except DiskFull:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            for given_up in self._root.glob(".*.partial"):
                shutil.rmtree(given_up)
            return record

    def _complete(self, partial: Path, listing: Listing, hub: Hub) -> Record:
        damaged = self.directory(listing.commit)
        if damaged.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
            damaged.rename(partial)
        partial.mkdir(exist_ok=True)
        for file in listing.files:
            self._bring(file, partial, hub)
        files = {file.name: sha256(partial / file.name) for file in listing.files}
        for path in partial.iterdir():
            if path.name not in files:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        record = Record(source=str(self._source.at(listing.commit)), files=files)
        (partial / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        return record

    def _bring(self, file: RemoteFile, directory: Path, hub: Hub) -> None:
        path = directory / file.name
        if file.matches(path):
            return
        path.unlink(missing_ok=True)
        hub.download(self._source.repository, self._source.revision, file, directory)
        if not file.matches(path):
            path.unlink(missing_ok=True)
            raise FetchFailed(
                f"{hub.name}: {file.name} of {self._source.repository}@{self._source.revision}: wrong size "
                "or digest, not what the hub lists; run again, and if this stays so, tell the hub, or "
                "fetch another revision"
            )


def snapshot(source: HubSource, cache: Path, hub: Hub) -> tuple[str, Path, Record]:
    """Commit, directory and record of a hub's model, downloaded unless it is here.

    A full commit that is here is not asked for. A branch or tag is resolved when the hub answers; when it
    does not, the commit it last meant is used, with a warning.

    Raises:
        FetchFailed: it cannot be had.
    """
    with room(cache):
        return _snapshot(source, cache, hub)


def _snapshot(source: HubSource, cache: Path, hub: Hub) -> tuple[str, Path, Record]:
    snapshots = Snapshots(cache, source)
    record = snapshots.find(source.revision) if source.immutable else None
    if record:
        return source.revision, snapshots.directory(source.revision), record
    try:
        listing = hub.listing(source.repository, source.revision)
    except HubUnavailable as error:
        known = snapshots.last_known()
        if known is None:
            raise
        commit, record = known
        logger.warning("%s; using commit %s, which %s last meant", error, commit, source)
        return commit, snapshots.directory(commit), record
    record = snapshots.find(listing.commit) or snapshots.download(listing, hub)
    snapshots.remember(listing.commit)
    return listing.commit, snapshots.directory(listing.commit), record
