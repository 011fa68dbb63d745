"""Where a model comes from, as people write it."""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TypeAlias

import predictor
from pipelines.fetching.errors import FetchFailed

SENSEVOICE_SMALL = "modelscope://iic/SenseVoiceSmall@70514a3da51f1160f51d18449dab6128bbd4928b"
"""The published model, at the commit of ModelScope's ``master`` that last changed one of its files."""

EMBEDDED = "embedded"
PVC = "pvc://"

FORMS = (
    "modelscope://owner/model@revision, hf://owner/model@revision, pvc://claim/path, "
    f"a directory, or {EMBEDDED!r}"
)

_HUB = re.compile(r"(modelscope|hf)://([\w.-]+/[\w.-]+)@(\w[\w./-]*)", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of a model hub.

    Attributes:
        scheme: ``modelscope`` or ``hf``.
        repository: ``owner/model``.
        revision: branch, tag or commit.
    """

    scheme: str
    repository: str
    revision: str

    @property
    def immutable(self) -> bool:
        """The revision is a full commit, which can never mean other files."""
        return _COMMIT.fullmatch(self.revision) is not None

    def at(self, revision: str) -> "HubSource":
        return replace(self, revision=revision)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.repository}@{self.revision}"


@dataclass(frozen=True, slots=True)
class LocalSource:
    """A directory that is already here.

    Attributes:
        name: the canonical way to write it.
        directory: absolute.
    """

    name: str
    directory: Path


Source: TypeAlias = HubSource | LocalSource


def parse(source: str, mount_root: Path) -> Source:
    """Read a source.

    Args:
        source: ``modelscope://owner/model@revision``, ``hf://owner/model@revision``, ``pvc://claim/path``,
            a directory, or ``embedded`` for the project's demonstration model.
        mount_root: each claim is mounted at ``<mount_root>/<claim>``.

    Raises:
        FetchFailed: none of these forms, or no such directory.
    """
    if source == EMBEDDED:
        return LocalSource(EMBEDDED, Path(predictor.__file__).parent / "demo_model")
    hub = _HUB.fullmatch(source)
    if hub is not None and ".." not in source:
        return HubSource(*hub.groups())
    if source.startswith(PVC):
        path = PurePosixPath(source.removeprefix(PVC))
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise FetchFailed(f"source {source!r}: write pvc://claim/path, without '..'")
        return _existing(f"{PVC}{path}", mount_root / path)
    if "://" in source or not source:
        hint = "" if "@" in source else "; a hub's source needs its revision, as in @master"
        raise FetchFailed(f"source {source!r} is not one of {FORMS}{hint}")
    directory = Path(source).resolve()
    return _existing(str(directory), directory)


def _existing(name: str, directory: Path) -> LocalSource:
    if not directory.is_dir():
        raise FetchFailed(f"source {name!r}: {directory} is not a directory; sources are {FORMS}")
    return LocalSource(name, directory)
