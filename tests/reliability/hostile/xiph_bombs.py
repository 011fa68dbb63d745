"""FLAC and Ogg files that would cost much: comments, pictures, streams and packets without end."""

import io
import struct

import soundfile

from tests.reliability.hostile import formats
from tests.reliability.hostile.boxes import (
    OPUS_120_MS,
    Bomb,
    ogg_opus,
    ogg_page,
    opus_head,
    raw_ogg_page,
)


def _comments(size: int) -> bytes:
    n = size // 14
    entries = b"".join(struct.pack("<I10s", 10, b"A%07d=b" % at) for at in range(n))
    return struct.pack("<I4sI", 4, b"none", n) + entries


def flac_of_many_comments(size: int) -> bytes:
    data = _flac()
    comments = _comments(min(size, 0xFFFFF0))
    return (
        data[:4]
        + b"\0"
        + data[5:42]
        + struct.pack(">I", 0x84 << 24 | len(comments))
        + comments
        + _frames()
    )


def _flac() -> bytes:
    file = io.BytesIO()
    soundfile.write(file, formats.sound(1, 16_000), 16_000, format="FLAC")
    return file.getvalue()


def _frames() -> bytes:
    data = _flac()
    at, last = 4, False
    while not last:
        last = bool(data[at] & 0x80)
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    return data[at:]


def flac_of_many_pictures(size: int) -> bytes:
    data = _flac()
    image = bytes(1000)
    picture = struct.pack(">II9sIIIIII", 3, 9, b"image/png", 0, 9, 9, 24, 0, len(image)) + image
    one = struct.pack(">I", 6 << 24 | len(picture)) + picture
    return (
        data[:4]
        + b"\0"
        + data[5:42]
        + one * (size // len(one))
        + b"\x81\0\0\4"
        + bytes(4)
        + _frames()
    )


def flac_of_a_large_picture(size: int) -> bytes:
    data = _flac()
    image = bytes(min(size, 0xFFFF00))
    picture = struct.pack(">II9sIIIIII", 3, 9, b"image/png", 0, 9, 9, 24, 0, len(image)) + image
    one = struct.pack(">I", 6 << 24 | len(picture)) + picture
    return data[:4] + b"\0" + data[5:42] + one + b"\x81\0\0\4" + bytes(4) + _frames()


def _ogg_packet(data: bytes) -> bytes:
    """One packet over as many pages as it takes, as Ogg's number 1 and following."""
    pages = []
    for number, at in enumerate(range(0, len(data) + 1, 255 * 255), start=1):
        part = data[at : at + 255 * 255]
        lacing = bytes([255] * (len(part) // 255))
        if len(part) < 255 * 255:
            lacing += bytes([len(part) % 255])
        pages.append(raw_ogg_page(lacing, part, int(number > 1), 1, 0, number))
    return b"".join(pages)


def opus_of_many_comments(size: int) -> bytes:
    first = ogg_page([opus_head()], flags=2)
    audio = ogg_page([OPUS_120_MS] * 50, granule=50 * 5760, number=9999, flags=4)
    return first + _ogg_packet(b"OpusTags" + _comments(size)) + audio


def ogg_of_many_streams(size: int) -> bytes:
    heads = b"".join(ogg_page([opus_head()], flags=2, serial=at) for at in range(size // 47))
    return heads + ogg_page([OPUS_120_MS] * 9, serial=1, number=1)


def ogg_chain(size: int) -> bytes:
    one = [
        ogg_page([opus_head()], 2),
        ogg_page([b"OpusTags" + bytes(8)], 0),
        ogg_page([b"\x19"], 4, 1),
    ]
    links = (
        b"".join(page[:14] + struct.pack("<I", at) + page[18:] for page in one)
        for at in range(size // 120)
    )
    return b"".join(links)


def ogg_of_empty_pages(size: int) -> bytes:
    return ogg_opus(ogg_page([], number=2) * (size // 27))


def ogg_of_years(size: int) -> bytes:
    return ogg_opus(ogg_page([OPUS_120_MS] * 9, granule=2**62, number=2))


def opus_of_broken_packets(size: int) -> bytes:
    """Each claims frames that are not there."""
    page = ogg_page([b"\xff"] * 255, number=2, granule=1)
    return ogg_opus(page * (size // len(page)))


def opus_of_empty_packets(size: int) -> bytes:
    page = ogg_page([b""] * 255, number=2, granule=1)
    return ogg_opus(page * (size // len(page)))


BOMBS: dict[str, Bomb] = {
    "FLAC of many comments": flac_of_many_comments,
    "FLAC of many pictures": flac_of_many_pictures,
    "FLAC of a large picture": flac_of_a_large_picture,
    "Opus of many comments": opus_of_many_comments,
    "Ogg of many streams": ogg_of_many_streams,
    "Ogg chain": ogg_chain,
    "Ogg of empty pages": ogg_of_empty_pages,
    "Ogg of years": ogg_of_years,
    "Opus of broken packets": opus_of_broken_packets,
    "Opus of empty packets": opus_of_empty_packets,
}
"""Bytes → a file."""
