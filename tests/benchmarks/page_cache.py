"""Files out of the page cache, as on a node that has never run the program.

``posix_fadvise(DONTNEED)`` needs no privileges, but leaves what another process has mapped. How much stayed
is therefore measured (mincore(2)) and reported.
"""

import ctypes
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_LIBC.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]


def files_below(folders: Iterable[Path]) -> list[Path]:
    """Every regular file that is not empty, links followed."""
    return [
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.stat().st_size
    ]


def evict(files: Iterable[Path]) -> None:
    """Ask the kernel to forget files; what was just written goes to disk first."""
    for file in files:
        with _opened(file) as descriptor:
            os.fdatasync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def read_in(files: Iterable[Path]) -> None:
    """Read files, so that they are in the page cache."""
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while opened.read(1 << 24):
                pass


def cached_share(files: Iterable[Path]) -> float:
    """Share of the files' pages that are in memory, between 0 and 1."""
    cached = total = 0
    for file in files:
        with _opened(file) as descriptor:
            size = os.fstat(descriptor).st_size
            pages = -(-size // mmap.PAGESIZE)
            address = _LIBC.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
            resident = ctypes.create_string_buffer(pages)
            _LIBC.mincore(address, size, resident)
            _LIBC.munmap(address, size)
            cached += sum(page & 1 for page in resident.raw)
            total += pages
    return cached / total if total else 0.0


@contextmanager
def _opened(file: Path) -> Iterator[int]:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
