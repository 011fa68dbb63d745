"""Containers built by hand, byte by byte, with whatever numbers in them that no writer would put there."""

import struct
import zlib
from collections.abc import Callable, Iterable

RATE = 16_000

Bomb = Callable[[int], bytes]
"""How large → a whole file."""

OPUS_120_MS = b"\x19"
"""Two frames of 60 ms, both left out because of silence: a whole packet."""


def box(kind: bytes, *parts: bytes, size: int | None = None) -> bytes:
    """An MP4 box; ``size`` to lie about it."""
    body = b"".join(parts)
    return struct.pack(">I4s", len(body) + 8 if size is None else size, kind) + body


def full_box(kind: bytes, *parts: bytes, flags: int = 0) -> bytes:
    """One with a version, 0, and flags."""
    return box(kind, struct.pack(">I", flags), *parts)


def sample_entry(
    codec: bytes = b"sowt", rate: int = RATE, channels: int = 1, *extra: bytes
) -> bytes:
    """What ``stsd`` says of one track: 16 bits."""
    head = struct.pack(">6xH8xHHHHI", 1, channels, 16, 0, 0, (rate & 0xFFFF) << 16)
    return full_box(b"stsd", struct.pack(">I", 1), box(codec, head, *extra))


def sample_table(
    sizes: bytes, chunks: bytes, per_chunk: bytes, times: bytes, entry: bytes | None = None
) -> bytes:
    """``stbl`` of ``stsz``, ``stco``, ``stsc`` and ``stts`` without their versions."""
    return box(
        b"stbl",
        entry or sample_entry(),
        full_box(b"stts", times),
        full_box(b"stsc", per_chunk),
        full_box(b"stsz", sizes),
        full_box(b"stco", chunks),
    )


def track(table: bytes, number: int = 1, edits: bytes = b"", more: bytes = b"") -> bytes:
    """A sound track of MP4, for ever long."""
    header = struct.pack(">IIIII", 0, 0, number, 0, 0x7FFFFFFF) + bytes(60)
    media = struct.pack(">IIIIHH", 0, 0, RATE, 0x7FFFFFFF, 0, 0)
    reference = full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1))
    return box(
        b"trak",
        full_box(b"tkhd", header, flags=7),
        box(b"edts", full_box(b"elst", edits)) if edits else b"",
        box(
            b"mdia",
            full_box(b"mdhd", media),
            full_box(b"hdlr", struct.pack(">4s4s12x", b"mhlr", b"soun"), b"\0"),
            box(b"minf", full_box(b"smhd", bytes(4)), box(b"dinf", reference), table),
        ),
        more,
    )


def movie(*tracks: bytes, media: bytes = b"", more: bytes = b"", compressed: bool = False) -> bytes:
    """A whole MP4 file, its media first, from the 24th byte on."""
    header = full_box(
        b"mvhd", struct.pack(">IIIIIH", 0, 0, 1000, 0x7FFFFFFF, 0x10000, 256), bytes(74)
    )
    moov = box(b"moov", header, *tracks, more)
    if compressed:
        body = struct.pack(">I", len(moov)) + zlib.compress(moov, 9)
        moov = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", body)))
    return box(b"ftyp", b"qt  ", bytes(4)) + box(b"mdat", media) + moov


MEDIA_AT = 24
"""Where the media of ``movie`` begins."""


def pcm_table(n_chunks: int, samples_per_chunk: int = 1) -> bytes:
    """A table of PCM whose chunks all lie at the same place of the file."""
    return sample_table(
        sizes=struct.pack(">II", 2, n_chunks * samples_per_chunk & 0xFFFFFFFF),
        chunks=struct.pack(">I", n_chunks) + struct.pack(">I", MEDIA_AT) * n_chunks,
        per_chunk=struct.pack(">IIII", 1, 1, samples_per_chunk, 1),
        times=struct.pack(">III", 1, n_chunks * samples_per_chunk & 0xFFFFFFFF, 1),
    )


def element(number: int, *parts: bytes, size: int | None = None) -> bytes:
    """A Matroska element; its size takes eight bytes."""
    body = b"".join(parts)
    n = number.bit_length() // 8 + 1 if number.bit_length() % 8 else number.bit_length() // 8
    length = len(body) if size is None else size
    return number.to_bytes(n, "big") + struct.pack(">Q", length | 1 << 56) + body


def unsigned(number: int, value: int) -> bytes:
    return element(number, struct.pack(">Q", value))


def matroska_track(
    codec: bytes = b"A_PCM/INT/LIT",
    rate: float = RATE,
    channels: int = 1,
    number: int = 1,
    private: bytes = b"",
    *more: bytes,
) -> bytes:
    """A sound track of Matroska, 16 bits."""
    sound = element(0xB5, struct.pack(">d", rate)) + unsigned(0x9F, channels) + unsigned(0x6264, 16)
    return element(
        0xAE,
        unsigned(0xD7, number),
        unsigned(0x73C5, number),
        unsigned(0x83, 2),
        element(0x86, codec),
        element(0x63A2, private) if private else b"",
        element(0xE1, sound),
        *more,
    )


def matroska(tracks: Iterable[bytes], *clusters: bytes, more: bytes = b"") -> bytes:
    """A whole Matroska file."""
    head = element(0x1A45DFA3, element(0x4282, b"matroska"))
    info = element(0x1549A966, unsigned(0x2AD7B1, 1_000_000))
    body = info + more + element(0x1654AE6B, *tracks) + b"".join(clusters)
    return head + element(0x18538067, body)


def cluster(*blocks: bytes, at: int = 0) -> bytes:
    """Matroska's group of blocks from ``at`` milliseconds on."""
    return element(0x1F43B675, unsigned(0xE7, at), *(element(0xA3, each) for each in blocks))


def block(data: bytes, flags: int = 0, track_number: int = 1) -> bytes:
    return bytes([0x80 | track_number]) + struct.pack(">hB", 0, flags) + data


def laced(packet: bytes, n: int = 256) -> bytes:
    """A block of ``n`` equal packets."""
    return block(bytes([n - 1]) + packet * n, flags=0x04)


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        value = byte << 24
        for _ in range(8):
            value = (value << 1 ^ 0x04C11DB7 if value & 0x80000000 else value << 1) & 0xFFFFFFFF
        table.append(value)
    return table


CRC = _crc_table()


def ogg_page(
    packets: Iterable[bytes], flags: int = 0, serial: int = 1, granule: int = 0, number: int = 0
) -> bytes:
    """A page of whole packets, each shorter than 255 bytes."""
    packets = list(packets)
    return raw_ogg_page(bytes(map(len, packets)), b"".join(packets), flags, serial, granule, number)


def raw_ogg_page(
    lacing: bytes, body: bytes, flags: int, serial: int, granule: int, number: int
) -> bytes:
    head = struct.pack("<4sBBqIII", b"OggS", 0, flags, granule, serial, number, 0)
    page = bytearray(head + bytes([len(lacing)]) + lacing + body)
    checksum = 0
    for byte in page:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ CRC[checksum >> 24 ^ byte]
    struct.pack_into("<I", page, 22, checksum)
    return bytes(page)


def opus_head(channels: int = 1, rate: int = 48_000) -> bytes:
    return struct.pack("<8sBBHIhB", b"OpusHead", 1, channels, 0, rate, 0, 0)


def ogg_opus(pages: bytes, comments: bytes | None = None) -> bytes:
    tags = comments or b"OpusTags" + struct.pack("<I4sI", 4, b"none", 0)
    return ogg_page([opus_head()], flags=2) + ogg_page([tags], number=1) + pages


def chunk(kind: bytes, body: bytes = b"", size: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def wav(
    body: bytes,
    rate: int = RATE,
    channels: int = 1,
    before: bytes = b"",
    size: int | None = None,
) -> bytes:
    """A WAV file of 16-bit PCM; ``size`` to lie about its data."""
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, rate * channels * 2 & 0xFFFFFFFF, channels * 2 & 0xFFFF, 16
    )
    chunks = before + chunk(b"fmt ", form) + chunk(b"data", body, size)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4 & 0xFFFFFFFF) + b"WAVE" + chunks


def id3(frames: bytes, version: int = 4) -> bytes:
    size = bytes(len(frames) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes([version, 0, 0]) + size + frames


def synchsafe(number: int) -> bytes:
    return bytes(number >> shift & 0x7F for shift in (21, 14, 7, 0))
