"""Files of a model directory that somebody else may have filled: opened only if they are files, and no
larger than such files are."""

import io
import os
import stat
from pathlib import Path

from predictor.engine.errors import InvalidModel

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def open_regular(path: Path, max_bytes: int) -> io.BufferedReader:
    """A file for reading. A pipe, which would keep its reader waiting, or a device is none.

    Raises:
        InvalidModel: the path is missing, cannot be read, is no regular file, or has more bytes.
    """
    try:
        # Opening a pipe waits for its writer otherwise.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InvalidModel(f"{path.name}: missing from {path.parent}") from error
    except OSError as error:
        raise InvalidModel(f"{path.name}: cannot be opened: {error.strerror}") from error
    status = os.fstat(descriptor)
    problem = ""
    if not stat.S_ISREG(status.st_mode):
        problem = "not a regular file"
    elif status.st_size > max_bytes:
        problem = f"{status.st_size} bytes, the limit is {max_bytes}"
    if problem:
        os.close(descriptor)
        raise InvalidModel(f"{path.name}: {problem}")
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, max_bytes: int) -> bytes:
    """What :func:`open_regular` opens, whole.

    Raises:
        InvalidModel: as there, or the disk gives it no more.
    """
    with open_regular(path, max_bytes) as file:
        try:
            return file.read(max_bytes)
        except OSError as error:
            raise InvalidModel(f"{path.name}: cannot be read: {error.strerror}") from None
