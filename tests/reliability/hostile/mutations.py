"""Mutations of files: what a broken disk, a bad network or an attacker makes of them."""

import struct
from collections.abc import Callable, Sequence

import numpy as np

Mutation = Callable[[bytearray, bytes, np.random.Generator], bytes]
"""A file, another one and a source of chance → a file that may be damaged."""

NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
"""Values at which parsers of sizes and counts go wrong."""

HEADER_BYTES = 512
"""Most formats have all their structure in the beginning; half of all mutations go there."""


def _position(data: bytes | bytearray, rng: np.random.Generator) -> int:
    end = min(len(data), HEADER_BYTES) if rng.random() < 0.5 else len(data)
    return int(rng.integers(0, max(end, 1)))


def _span(data: bytes | bytearray, rng: np.random.Generator) -> slice:
    start = _position(data, rng)
    return slice(start, start + int(2 ** rng.uniform(0, 12)))


def flip_bits(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    for _ in range(int(2 ** rng.uniform(0, 6))):
        data[_position(data, rng)] ^= 1 << int(rng.integers(8))
    return bytes(data)


def overwrite(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    """A run of one byte, or of chance."""
    span = _span(data, rng)
    n = len(data[span])
    data[span] = rng.bytes(n) if rng.random() < 0.5 else bytes([int(rng.integers(256))]) * n
    return bytes(data)


def truncate(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    return bytes(data[: 1 + _position(data, rng)])


def repeat(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    span = _span(data, rng)
    data[span] = data[span] * int(2 ** rng.uniform(1, 5))
    return bytes(data)


def remove(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    del data[_span(data, rng)]
    return bytes(data)


def swap(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    first, second = _span(data, rng), _span(data, rng)
    data[first], data[second] = data[second], data[first]
    return bytes(data)


def set_number(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    """Sizes, counts and rates: whatever is a number in the file, if fields lie at multiples of two."""
    for _ in range(int(rng.integers(1, 4))):
        form = f"{rng.choice(['<', '>'])}{rng.choice(['H', 'I', 'Q'])}"
        size = struct.calcsize(form)
        at = _position(data, rng) // 2 * 2
        largest = 256**size - 1
        number = largest if rng.random() < 0.2 else int(rng.choice(NUMBERS)) & largest
        if at + size <= len(data):
            struct.pack_into(form, data, at, number)
    return bytes(data)


def splice(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    """The header of one file before the body of another, or a piece of one within another."""
    at = _position(data, rng)
    if rng.random() < 0.5:
        return bytes(data[:at]) + other[at:]
    return bytes(data[:at]) + other[_span(other, rng)] + bytes(data[at:])


def append(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    tail = other if rng.random() < 0.5 else rng.bytes(int(2 ** rng.uniform(0, 14)))
    return bytes(data) + tail


def tag(data: bytearray, other: bytes, rng: np.random.Generator) -> bytes:
    """ID3 tags before the audio, each perhaps of a false size, or an APE tag after it."""
    if rng.random() < 0.3:
        claimed = int(rng.choice(NUMBERS))
        footer = struct.pack("<8sIIII8x", b"APETAGEX", 2000, claimed, claimed, 0)
        return bytes(data) + rng.bytes(100) + footer
    for _ in range(int(2 ** rng.uniform(0, 6))):
        frame = b"TIT2" + struct.pack(">IH", int(rng.choice(NUMBERS)), 0) + rng.bytes(20)
        size = len(frame) if rng.random() < 0.7 else int(rng.integers(2**28))
        synchsafe = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        data[:0] = b"ID3" + bytes([int(rng.choice([2, 3, 4])), 0, 0]) + synchsafe + frame
    return bytes(data)


MUTATIONS: Sequence[Mutation] = (
    flip_bits, overwrite, truncate, repeat, remove, swap, set_number, set_number, splice, append, tag
)  # fmt: skip


def mutated(files: Sequence[bytes], index: int) -> bytes:
    """The file number ``index`` of an endless row: the files in turn, each changed up to three times."""
    rng = np.random.default_rng(index)
    data = files[index % len(files)]
    other = files[int(rng.integers(len(files)))]
    for mutation in rng.choice(np.arange(len(MUTATIONS)), int(rng.choice([1, 1, 2, 3]))):
        data = MUTATIONS[mutation](bytearray(data or b"\0"), other, rng)
    return data or b"\0"
