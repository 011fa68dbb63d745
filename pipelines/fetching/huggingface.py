"""Hugging Face, through its own library; ``HF_ENDPOINT`` and ``HF_TOKEN`` steer it."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoSibling

from pipelines.fetching.errors import FetchFailed, HubUnavailable
from pipelines.fetching.hub import Listing, RemoteFile, needed

ATTEMPTS = 5
PAUSE_SECONDS = 1.0
"""Before the second attempt; doubled before each further one. The library itself does not repeat a listing,
nor a download that the hub answers with 500."""

TIMEOUT_SECONDS = 30.0
"""Of one listing."""

T = TypeVar("T")


class HuggingFace:
    """The hub that ``HF_ENDPOINT`` names; huggingface.co unless it does."""

    def __init__(self) -> None:
        # The library itself reads the variable once, when something first imports it.
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        self.name = f"Hugging Face ({self._api.endpoint})"

    def listing(self, repository: str, revision: str) -> Listing:
        where = f"{self.name}: {repository}@{revision}"
        info = _patiently(
            where,
            lambda: self._api.model_info(
                repository, revision=revision, files_metadata=True, timeout=TIMEOUT_SECONDS
            ),
        )
        if not info.sha:
            raise FetchFailed(f"{where} is listed without a commit: name one as the revision")
        return Listing(info.sha, needed(where, map(_remote_file, info.siblings or ())))

    def download(self, repository: str, revision: str, file: RemoteFile, directory: Path) -> None:
        where = f"{self.name}: {file.name} of {repository}@{revision}"
        _patiently(
            where,
            lambda: self._api.hf_hub_download(
                repository, file.name, revision=revision, local_dir=directory
            ),
        )


def _remote_file(sibling: RepoSibling) -> RemoteFile:
    large = sibling.lfs
    return RemoteFile(
        sibling.rfilename,
        sibling.size or 0,
        sha256=large.sha256 if large else "",
        git_sha1="" if large else sibling.blob_id or "",
    )


def _patiently(where: str, call: Callable[[], T]) -> T:
    """``call``'s answer, asked for again while the hub is unavailable."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _translated(where, call)
        except HubUnavailable:
            if attempt == ATTEMPTS:
                raise
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
    raise AssertionError("unreachable")


def _translated(where: str, call: Callable[[], T]) -> T:
    try:
        return call()
    except GatedRepoError as error:
        raise FetchFailed(f"{where}: no access; accept its terms and set HF_TOKEN") from error
    except (RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise FetchFailed(
            f"{where}: not there, or not for you; check owner, model and revision, or set HF_TOKEN"
        ) from error
    except LocalEntryNotFoundError as error:
        raise _unavailable(where, error) from error
    except EntryNotFoundError as error:
        raise FetchFailed(f"{where}: the hub lists the file and does not have it") from error
    except FileMetadataError as error:
        raise FetchFailed(f"{where}: the hub does not tell its size and digest") from error
    except HfHubHTTPError as error:
        if error.response.status_code < 500 and error.response.status_code not in (408, 429):
            raise FetchFailed(f"{where}: {_headline(error)}") from error
        raise _unavailable(where, error) from error
    except httpx2.HTTPError as error:
        raise _unavailable(where, error) from error
    except OSError as error:
        # The library's own check of the length has no errno; a full disk has.
        if error.errno is None:
            raise _unavailable(where, error) from error
        raise


def _unavailable(where: str, error: Exception) -> HubUnavailable:
    return HubUnavailable(
        f"{where}: {type(error).__name__}: {_headline(error)}; try again later, or set HF_ENDPOINT to "
        "a mirror"
    )


def _headline(error: Exception) -> str:
    return (str(error).splitlines() or ["no answer"])[0]
