"""Directories that appear whole or not at all, whoever else writes and whenever the process dies."""

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.fetching.errors import CacheUnavailable, DiskFull

logger = logging.getLogger(__name__)

LOCK = ".lock"
SCRATCH = ".scratch-"

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""No space left, over the quota, or beyond the largest file that is allowed."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Be the only process that changes ``directory``; the kernel lets go of a dead one's lock."""
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        logger.info("%s: waiting for another process that writes there", directory)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch(directory: Path) -> Iterator[Path]:
    """A folder in ``directory`` for unfinished work, gone afterwards. The caller holds the lock, so that
    what a killed process left can be swept away too."""
    for left in directory.glob(f"{SCRATCH}*"):
        shutil.rmtree(left)
    with tempfile.TemporaryDirectory(dir=directory, prefix=SCRATCH) as folder:
        yield Path(folder)


@contextmanager
def room(cache: Path) -> Iterator[None]:
    """For work on the cache's disk.

    Raises:
        DiskFull: it has run out of space.
        CacheUnavailable: any other error of the disk.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise DiskFull(
                f"{cache}: {os.strerror(error.errno)}; what was written is removed again. "
                "SenseVoiceSmall takes 2.5 GB there: make room, or enlarge the volume"
            ) from error
        raise CacheUnavailable(
            f"the model cache {cache}: {error}; see that its volume is mounted, and writable for user "
            f"{os.getuid()}, and run again: what is whole is used"
        ) from error


def publish(staged: Path, final: Path) -> None:
    """Rename a finished directory into place, once all of it is on the disk."""
    for path in [*staged.rglob("*"), staged]:
        # Those who serve the model run as another user than the one who fetches it.
        path.chmod(0o755 if path.is_dir() else 0o644)
        _sync(path)
    staged.rename(final)
    _sync(final.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a small file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=SCRATCH, delete=False) as file:
        try:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)
    _sync(path.parent)


def read_text(path: Path) -> str:
    """The file's text; empty where there is none. What is damaged is text too, and means nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # Of a path out of a damaged text.
        return ""


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
