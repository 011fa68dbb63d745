"""Matroska files that would cost much: compressed blocks, tags, tracks and rates that no writer gives."""

import bz2
from collections.abc import Callable

from tests.reliability.hostile.boxes import (
    Bomb,
    block,
    cluster,
    element,
    laced,
    matroska,
    matroska_track,
    unsigned,
)


def matroska_of_packets_of_one_sample(size: int) -> bytes:
    return matroska([matroska_track()], cluster(*[laced(b"\1\0")] * (size // 530)))


def compressed(algorithm: int, compress: Callable[[bytes], bytes]) -> Bomb:
    def bomb(size: int) -> bytes:
        packet = compress(bytes(1 << 20))
        encoding = element(
            0x6D80,
            element(0x6240, unsigned(0x5032, 1), element(0x5034, unsigned(0x4254, algorithm))),
        )
        blocks = [block(packet)] * max(1, size // len(packet))
        return matroska(
            [matroska_track(b"A_PCM/INT/LIT", 16_000.0, 1, 1, b"", encoding)], cluster(*blocks)
        )

    return bomb


def matroska_of_many_tracks(size: int) -> bytes:
    one = matroska_track()
    tracks = (matroska_track(number=at + 1) for at in range(size // len(one)))
    return matroska(tracks, cluster(block(bytes(3200))))


def matroska_of_many_tags(size: int) -> bytes:
    tags = (
        element(
            0x7373,
            element(0x63C0),
            element(0x67C8, element(0x45A3, b"%08d" % at), element(0x4487, b"b")),
        )
        for at in range(size // 60)
    )
    return matroska(
        [matroska_track()], cluster(block(bytes(3200))), more=element(0x1254C367, *tags)
    )


def matroska_of_many_chapters(size: int) -> bytes:
    atoms = (
        element(0xB6, unsigned(0x73C4, at + 1), unsigned(0x91, at), unsigned(0x92, at + 1))
        for at in range(size // 60)
    )
    chapters = element(0x1043A770, element(0x45B9, *atoms))
    return matroska([matroska_track()], cluster(block(bytes(3200))), more=chapters)


def matroska_of_attachments(size: int) -> bytes:
    one = element(
        0x61A7,
        element(0x466E, b"a.ttf"),
        element(0x4660, b"font/ttf"),
        element(0x465C, b"abc"),
        unsigned(0x46AE, 1),
    )
    return matroska(
        [matroska_track()],
        cluster(block(bytes(3200))),
        more=element(0x1941A469, one * (size // len(one))),
    )


def matroska_of_gaps(size: int) -> bytes:
    clusters = (cluster(block(bytes(32)), at=at << 40) for at in range(min(size // 60, 10_000)))
    return matroska([matroska_track()], *clusters)


def _at_rate(rate: float) -> Bomb:
    return lambda size: matroska(
        [matroska_track(rate=rate)], *(cluster(block(bytes(3200))) for _ in range(10))
    )


BOMBS: dict[str, Bomb] = {
    "Matroska of bzlib": compressed(1, bz2.compress),
    "Matroska of packets of one sample": matroska_of_packets_of_one_sample,
    "Matroska of many tracks": matroska_of_many_tracks,
    "Matroska of many tags": matroska_of_many_tags,
    "Matroska of many chapters": matroska_of_many_chapters,
    "Matroska of attachments": matroska_of_attachments,
    "Matroska of gaps": matroska_of_gaps,
    "Matroska at 0 Hz": _at_rate(0.0),
    "Matroska at 1e300 Hz": _at_rate(1e300),
    "Matroska at no rate": _at_rate(float("nan")),
}
"""Bytes → a file."""
