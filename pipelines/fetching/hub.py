"""What every model hub can be asked."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

from pipelines.fetching.errors import FetchFailed
from predictor.engine.checkpoint import CMVN, CONFIG, PICKLED_WEIGHTS, sha256

TOKENIZER = "*.bpe.model"

REQUIRED = (CONFIG, CMVN, TOKENIZER, PICKLED_WEIGHTS)
"""What a model is made of; the large file last."""

WELCOME = ("configuration.json", "README.md", "LICENSE*")
"""What says whose model it is and under which licence."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub lists it.

    Attributes:
        name: at the repository's top; no folder.
        size: bytes.
        sha256: of the content; empty where the hub lists git's own digest instead.
        git_sha1: git's blob id, for small files of hubs that list no sha256.
    """

    name: str
    size: int
    sha256: str
    git_sha1: str = ""

    def matches(self, path: Path) -> bool:
        """Whether the file at ``path`` is the one listed, by digest."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256:
            return sha256(path) == self.sha256
        return _git_sha1(path) == self.git_sha1


@dataclass(frozen=True, slots=True)
class Listing:
    """A model's files at one commit."""

    commit: str
    files: tuple[RemoteFile, ...]


class Hub(Protocol):
    """A model hub. Calls retry what may pass, with growing pauses, and then give up."""

    name: str

    def listing(self, repository: str, revision: str) -> Listing:
        """The files that are needed of a revision.

        Raises:
            HubUnavailable: no answer.
            FetchFailed: no such repository or revision, or it lacks a file.
        """

    def download(self, repository: str, revision: str, file: RemoteFile, directory: Path) -> None:
        """Bring one file into ``directory``, going on where an earlier call was cut off.

        Raises:
            HubUnavailable: no answer, or it breaks off again and again.
            FetchFailed: what the hub sends is not what it lists.
            OSError: the directory cannot be written.
        """


def needed(where: str, files: Iterable[RemoteFile]) -> tuple[RemoteFile, ...]:
    """Of a repository's files those that are fetched, small ones first.

    Raises:
        FetchFailed: one is missing, or listed without a digest.
    """
    top = {file.name: file for file in files if "/" not in file.name}
    for pattern in REQUIRED:
        if not any(fnmatchcase(name, pattern) for name in top):
            raise FetchFailed(f"{where} has no {pattern}: it is no SenseVoiceSmall")
    wanted = [f for f in top.values() if any(fnmatchcase(f.name, p) for p in REQUIRED + WELCOME)]
    for file in wanted:
        if not (file.sha256 or file.git_sha1):
            raise FetchFailed(f"{where} lists no digest of {file.name}: it cannot be verified")
    return tuple(sorted(wanted, key=lambda file: file.size))


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()
