"""Files of the other containers that would cost much."""

import struct
import zlib

from tests.reliability.hostile import formats
from tests.reliability.hostile.boxes import Bomb, chunk, id3, synchsafe, wav


def adts_of_broken_frames(size: int) -> bytes:
    """Ten bytes each: a header and nothing that decodes."""
    return bytes.fromhex("fff1604001600c ffffff".replace(" ", "")) * (size // 10)


def mp3_of_broken_frames(size: int) -> bytes:
    return (b"\xff\xf3\x18\xc4" + b"\xff" * 20) * (size // 24)


def wav_of_empty_chunks(size: int) -> bytes:
    return wav(bytes(32_000), before=chunk(b"junk") * (size // 8))


def wav_of_lists(size: int) -> bytes:
    info = chunk(
        b"LIST",
        b"INFO" + b"".join(chunk(b"I%03d" % (at % 1000), b"ab") for at in range(size // 10)),
    )
    return wav(bytes(32_000), before=info)


def id3_of_many_frames(size: int) -> bytes:
    frames = b"".join(
        b"TXXX" + synchsafe(12) + b"\0\0" + b"\3%07d\0b\0\0" % at for at in range(size // 22)
    )
    return id3(frames) + formats.encode("mp3", "libmp3lame", formats.sound(1, 16_000), 16_000)


def id3_of_compressed_frames(size: int) -> bytes:
    """A kilobyte of each is a megabyte of text."""
    n = 1 << 20
    body = synchsafe(n) + zlib.compress(b"\3" + b"a" * (n - 1), 9)
    frames = b"".join(
        b"T%03d" % (at % 1000) + synchsafe(len(body)) + b"\0\x09" + body
        for at in range(size // len(body))
    )
    return id3(frames) + formats.encode("mp3", "libmp3lame", formats.sound(1, 16_000), 16_000)


def id3_of_a_large_picture(size: int) -> bytes:
    body = b"\0image/png\0\3\0" + bytes(size)
    return id3(b"APIC" + synchsafe(len(body)) + b"\0\0" + body) + formats.encode(
        "mp3", "libmp3lame", formats.sound(1, 16_000), 16_000
    )


def id3_of_many_chapters(size: int) -> bytes:
    frames = b"".join(
        b"CHAP" + synchsafe(25) + b"\0\0" + b"%08d\0" % at + struct.pack(">IIII", at, at + 1, 0, 0)
        for at in range(size // 35)
    )
    return id3(frames) + formats.encode("mp3", "libmp3lame", formats.sound(1, 16_000), 16_000)


def _wav_at(rate: int, channels: int = 1) -> Bomb:
    return lambda size: wav(bytes(channels * 200), rate, channels)


def rate_that_changes(size: int) -> bytes:
    rates = (8_000, 48_000, 16_000, 44_100)
    return b"".join(formats.encode("adts", "aac", formats.sound(1, rate), rate) for rate in rates)


def tta_of_billions(size: int) -> bytes:
    head = struct.pack("<4sHHHII", b"TTA1", 1, 1, 16, 1, 0x7FFFFFFF)
    return head + struct.pack("<I", zlib.crc32(head)) + bytes(1000)


def ape_of_billions(size: int) -> bytes:
    head = struct.pack("<4sHHIIIIIII", b"MAC ", 3990, 0, 52, 24, 0x7FFFFFF0, 44, 0, 6000, 0)
    head += bytes(16) + struct.pack("<HHIIIHHI", 2000, 0, 1, 1, 100_000_000, 16, 1, 16000)
    return head + bytes(1000)


def caf_of_billions(size: int) -> bytes:
    head = b"caff" + struct.pack(">HH", 1, 0)
    desc = struct.pack(">4sqd4sIIIII", b"desc", 32, 16_000.0, b"alac", 0, 0, 4096, 1, 16)
    pakt = struct.pack(">4sqqqii", b"pakt", 24, 80_000_000, 1 << 40, 0, 0)
    return head + desc + pakt + struct.pack(">4sqI", b"data", -1, 0) + bytes(1000)


def transport_stream_of_many_streams(size: int) -> bytes:
    """A table of 200 streams, then one of other 200, and so on."""

    def packet(pid: int, section: bytes) -> bytes:
        checksum = 0xFFFFFFFF
        for byte in section:
            checksum ^= byte << 24
            for _ in range(8):
                checksum = (
                    checksum << 1 ^ 0x04C11DB7 if checksum >> 31 else checksum << 1
                ) & 0xFFFFFFFF
        body = b"\0" + section + struct.pack(">I", checksum)
        return (struct.pack(">BHB", 0x47, 0x4000 | pid, 0x10) + body).ljust(188, b"\xff")

    def table(kind: int, body: bytes, version: int) -> bytes:
        return (
            struct.pack(">BHHBBB", kind, 0xB000 | len(body) + 9, 1, 0xC1 | version << 1, 0, 0)
            + body
        )

    packets = [packet(0, table(0, struct.pack(">HH", 1, 0xE100), 0))]
    for at in range(min(size // 188, 250)):
        streams = b"".join(
            struct.pack(">BHH", 3, 0xE000 | 0x200 + (at * 30 + n) % 7000, 0xF000) for n in range(30)
        )
        packets.append(
            packet(0x100, table(2, struct.pack(">HH", 0xE200, 0xF000) + streams, at % 32))
        )
    return b"".join(packets) + bytes(188)


def transport_stream_that_changes(size: int) -> bytes:
    """Streams appear after FFmpeg has looked for them."""
    before = formats.encode("mpegts", "aac", formats.sound(40, 16_000), 16_000)
    return before + transport_stream_of_many_streams(min(size, 188 * 5)) + before


def gzip_of_a_wav(size: int) -> bytes:
    return zlib.compress(wav(bytes(size * 100)), 9, 31)


BOMBS: dict[str, Bomb] = {
    "ADTS of broken frames": adts_of_broken_frames,
    "MP3 of broken frames": mp3_of_broken_frames,
    "WAV of empty chunks": wav_of_empty_chunks,
    "WAV of lists": wav_of_lists,
    "ID3 of many frames": id3_of_many_frames,
    "ID3 of compressed frames": id3_of_compressed_frames,
    "ID3 of a large picture": id3_of_a_large_picture,
    "ID3 of many chapters": id3_of_many_chapters,
    "WAV at 0 Hz": _wav_at(0),
    "WAV at 1 Hz": _wav_at(1),
    "WAV at 655 kHz": _wav_at(655_350),
    "WAV at 4 GHz": _wav_at(0xFFFFFFFF),
    "WAV of 255 channels": _wav_at(16_000, 255),
    "WAV of 65,535 channels": _wav_at(16_000, 65_535),
    "WAV of declared hours": lambda size: wav(bytes(1000), size=0x7FFFFF00 - 1),
    "a rate that changes": rate_that_changes,
    "TTA of billions of frames": tta_of_billions,
    "APE of billions of frames": ape_of_billions,
    "CAF of billions of packets": caf_of_billions,
    "MPEG-TS of many streams": transport_stream_of_many_streams,
    "MPEG-TS that changes": transport_stream_that_changes,
    "gzip of a WAV": gzip_of_a_wav,
}
"""Bytes → a file."""
