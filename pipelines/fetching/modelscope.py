"""ModelScope, through the client library that its SDK downloads with.

The library resumes, retries with growing pauses, shows progress and checks sizes and digests. Variables
such as ``MODELSCOPE_ENDPOINT``, ``MODELSCOPE_API_TOKEN`` and ``MODELSCOPE_DOWNLOAD_TIMEOUT`` steer it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelscope_hub.api import HubApi
from modelscope_hub.config import HubConfig
from modelscope_hub.errors import (
    AuthenticationError,
    FileIntegrityError,
    HubError,
    NotExistError,
    PermissionDeniedError,
)

from pipelines.fetching.errors import FetchFailed, HubUnavailable
from pipelines.fetching.hub import Listing, RemoteFile, needed
from pipelines.fetching.source import HubSource


class ModelScope:
    """The hub that ``MODELSCOPE_ENDPOINT`` names; modelscope.cn unless it does."""

    def __init__(self) -> None:
        config = HubConfig()
        self._api = HubApi(config=config)
        self.name = f"ModelScope ({config.endpoint})"

    def listing(self, repository: str, revision: str) -> Listing:
        """See ``Hub``. The commit of a branch or tag is the one that last changed any of its files."""
        where = f"{self.name}: {repository}@{revision}"
        with _translated(where):
            # The typed call drops each file's commit.
            entries = self._api.legacy.list_repo_files(repository, "model", revision=revision)
        source = HubSource("modelscope", repository, revision)
        commit = revision if source.immutable else _last_commit(where, entries)
        blobs = (entry for entry in entries if entry.get("Type") != "tree")
        return Listing(commit, needed(where, map(_remote_file, blobs)))

    def download(self, repository: str, revision: str, file: RemoteFile, directory: Path) -> None:
        with _translated(f"{self.name}: {file.name} of {repository}@{revision}"):
            self._api.download_file(
                repository,
                "model",
                file.name,
                revision=revision,
                cache_dir=directory,
                local_dir=directory,
                expected_sha256=file.sha256,
                file_size=file.size,
            )


def _remote_file(entry: dict[str, Any]) -> RemoteFile:
    return RemoteFile(str(entry["Path"]), int(entry["Size"]), str(entry.get("Sha256") or ""))


def _last_commit(where: str, entries: list[dict[str, Any]]) -> str:
    last = max(entries, key=lambda entry: int(entry.get("CommittedDate") or 0), default={})
    commit = str(last.get("Revision") or "")
    if not commit:
        raise FetchFailed(f"{where} is listed without a commit: name one as the revision")
    return commit


@contextmanager
def _translated(where: str) -> Iterator[None]:
    try:
        yield
    except FileIntegrityError as error:
        raise FetchFailed(
            f"{where}: what the hub sends is not what it lists ({error.message}); if this stays so, tell "
            "the hub, or fetch another revision"
        ) from error
    except NotExistError as error:
        raise FetchFailed(f"{where}: not there; check owner, model and revision") from error
    except (AuthenticationError, PermissionDeniedError) as error:
        raise FetchFailed(f"{where}: no access; set MODELSCOPE_API_TOKEN") from error
    except (HubError, OSError) as error:
        # A full disk has an errno, perhaps wrapped; the transport's own errors have none.
        for cause in (error, error.__cause__):
            if isinstance(cause, OSError) and cause.errno is not None:
                raise cause from None
        raise HubUnavailable(
            f"{where}: {type(error).__name__}: {_headline(error)}; try again later, or set "
            "MODELSCOPE_ENDPOINT to a mirror"
        ) from error


def _headline(error: Exception) -> str:
    return (str(error).splitlines() or ["no answer"])[0]
