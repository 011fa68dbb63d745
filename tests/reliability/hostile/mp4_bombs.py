"""MP4 and MOV files that would cost much: tables, edits and fragments of billions, tracks without end."""

import struct

from tests.reliability.hostile.boxes import (
    MEDIA_AT,
    Bomb,
    box,
    full_box,
    movie,
    pcm_table,
    sample_entry,
    sample_table,
    track,
)


def edits_that_repeat_the_media(size: int) -> bytes:
    n = size // 24
    edits = struct.pack(">I", n) + struct.pack(">IiI", 1000, 0, 0x10000) * n
    return movie(track(pcm_table(n, 1), edits=edits), media=bytes(1000))


def edits_without_length(size: int) -> bytes:
    n = size // 24
    edits = struct.pack(">I", n) + struct.pack(">IiI", 0, 0, 0x10000) * n
    return movie(track(pcm_table(n, 1), edits=edits), media=bytes(1000))


def _table_of_billions(codec: bytes, sample_size: int) -> Bomb:
    def bomb(size: int) -> bytes:
        table = sample_table(
            sizes=struct.pack(">II", sample_size, 0x7FFFFFFF),
            chunks=struct.pack(">II", 1, MEDIA_AT),
            per_chunk=struct.pack(">IIII", 1, 1, 0x7FFFFFFF, 1),
            times=struct.pack(">III", 1, 0x7FFFFFFF, 1),
            entry=sample_entry(codec),
        )
        return movie(track(table), media=bytes(1000))

    return bomb


def _fragment_of_billions(n: int, sample_size: int) -> Bomb:
    def bomb(size: int) -> bytes:
        table = sample_table(bytes(8), bytes(4), bytes(4), bytes(4), sample_entry(b"mp4a"))
        defaults = full_box(b"trex", struct.pack(">IIIII", 1, 1, 1024, sample_size, 0))
        run = full_box(b"trun", struct.pack(">Ii", n, 8), flags=1)
        traf = box(b"traf", full_box(b"tfhd", struct.pack(">I", 1), flags=0x20000), run)
        moof = box(b"moof", full_box(b"mfhd", struct.pack(">I", 1)), traf)
        init = movie(track(table), more=box(b"mvex", defaults))
        return init + moof * max(1, size // 100_000) + box(b"mdat", bytes(1000))

    return bomb


def times_of_billions(size: int) -> bytes:
    table = sample_table(
        sizes=struct.pack(">II", 2, 1000),
        chunks=struct.pack(">II", 1, MEDIA_AT),
        per_chunk=struct.pack(">IIII", 1, 1, 1000, 1),
        times=struct.pack(">I", size // 8)
        + struct.pack(">II", 0xFFFFFFFF, 0xFFFFFFFF) * (size // 8),
    )
    return movie(track(table), media=bytes(2000))


def movie_of_many_tracks(size: int) -> bytes:
    one = track(pcm_table(1, 1000))
    return movie(*[one] * (size // len(one)), media=bytes(2000))


def compressed_header(size: int) -> bytes:
    return movie(more=box(b"free", bytes(size * 200)), compressed=True)


def compressed_header_of_many_tracks(size: int) -> bytes:
    one = track(pcm_table(1, 1000))
    return movie(*[one] * (size // 5), media=bytes(2000), compressed=True)


def nested_boxes(size: int) -> bytes:
    moov = b""
    for _ in range(min(size, 200_000) // 8):
        moov = struct.pack(">I4s", len(moov) + 8, b"moov") + moov if len(moov) < 60_000 else moov
    return box(b"ftyp", b"qt  ", bytes(4)) + moov


def movie_of_much_metadata(size: int) -> bytes:
    """Each under a name of its own, as QuickTime's ``keys`` allow."""
    n = size // 60
    names = b"".join(box(b"mdta", b"%08d" % at) for at in range(n))
    values = b"".join(
        struct.pack(">II", 33, at + 1) + box(b"data", struct.pack(">II", 1, 0), b"%09d" % at)
        for at in range(n)
    )
    hdlr = full_box(b"hdlr", struct.pack(">4s4s12x", bytes(4), b"mdta"), b"\0")
    keys = full_box(b"keys", struct.pack(">I", n), names)
    meta = box(b"meta", hdlr, keys, box(b"ilst", values))
    return movie(track(pcm_table(1, 1000)), media=bytes(2000), more=meta)


def mov_of_packets_of_one_sample(size: int) -> bytes:
    return movie(track(pcm_table(size // 4, 1)), media=bytes(1000))


def alac_of_giant_frames(size: int) -> bytes:
    """Frames of 4096 × 4096 samples, at a rate where each lasts for hours."""
    private = struct.pack(
        ">I4sI IBBBBBBHIII", 36, b"alac", 0, 1 << 24, 0, 16, 40, 10, 14, 1, 255, 0, 0, 1200
    )
    entry = sample_entry(b"alac", 1200, 1, private)
    # One channel, its length written, not compressed; then zeros that end too soon.
    head = int("000" + "0000" + "0" * 12 + "1" + "00" + "0" + f"{1 << 24:032b}", 2) << 1
    packet = head.to_bytes(7, "big") + bytes(1000)
    table = sample_table(
        sizes=struct.pack(">II", len(packet), 10),
        chunks=struct.pack(">II", 1, MEDIA_AT),
        per_chunk=struct.pack(">IIII", 1, 1, 10, 1),
        times=struct.pack(">III", 1, 10, 1 << 24),
        entry=entry,
    )
    return movie(track(table), media=packet * 10)


BOMBS: dict[str, Bomb] = {
    "edits that repeat the media": edits_that_repeat_the_media,
    "edits without length": edits_without_length,
    "a table of billions of samples": _table_of_billions(b"mp4a", 1),
    "a table of billions of empty samples": _table_of_billions(b"mp4a", 0),
    "a table of billions of PCM samples": _table_of_billions(b"sowt", 2),
    "fragments of billions of empty samples": _fragment_of_billions(0x7FFFFFF, 0),
    "fragments of billions of giant samples": _fragment_of_billions(0x7FFFFFFF, 0x7FFFFFFF),
    "fragments of millions of samples": _fragment_of_billions(10_000_000, 1),
    "times of billions": times_of_billions,
    "MOV of many tracks": movie_of_many_tracks,
    "MOV of a compressed header": compressed_header,
    "MOV of a compressed header of many tracks": compressed_header_of_many_tracks,
    "MOV of nested boxes": nested_boxes,
    "MOV of much metadata": movie_of_much_metadata,
    "MOV of packets of one sample": mov_of_packets_of_one_sample,
    "ALAC of giant frames": alac_of_giant_frames,
}
"""Bytes → a file."""
