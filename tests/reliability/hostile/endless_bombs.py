"""Small files that decode to hours, all silence: nothing is wrong with them but their length."""

import io
import zlib

import numpy as np
import soundfile

from tests.reliability.hostile import formats
from tests.reliability.hostile.boxes import (
    OPUS_120_MS,
    RATE,
    Bomb,
    cluster,
    laced,
    matroska,
    matroska_track,
    movie,
    ogg_opus,
    ogg_page,
    opus_head,
    pcm_table,
    track,
)
from tests.reliability.hostile.matroska_bombs import compressed


def _silence(muxer: str, encoder: str) -> Bomb:
    def bomb(seconds: int) -> bytes:
        rate = formats.RATES.get(encoder, 16_000)
        return formats.encode(muxer, encoder, np.zeros(seconds * rate, np.float32), rate)

    return bomb


def _repeated(muxer: str, encoder: str, rate: int) -> Bomb:
    """A second of silence again and again: such streams may be put one after another."""
    return lambda seconds: (
        seconds * formats.encode(muxer, encoder, np.zeros(rate, np.float32), rate)
    )


def flac_of_constant_blocks(seconds: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(seconds * 8000, np.int16), 8000, format="FLAC")
    return file.getvalue()


def opus_of_one_byte_packets(seconds: int) -> bytes:
    page = [OPUS_120_MS] * 255
    n = seconds // 30
    return ogg_opus(
        b"".join(ogg_page(page, number=2 + at, granule=at * 255 * 5760) for at in range(n))
    )


def opus_laced_in_matroska(seconds: int) -> bytes:
    blocks = [laced(OPUS_120_MS)] * (seconds // 30)
    return matroska([matroska_track(b"A_OPUS", 48_000.0, 1, 1, opus_head())], cluster(*blocks))


def amr_wb_without_data(seconds: int) -> bytes:
    return b"#!AMR-WB\n" + b"\x7c" * (seconds * 50)


def mov_of_one_chunk_again_and_again(seconds: int) -> bytes:
    return movie(track(pcm_table(seconds, RATE)), media=bytes(2 * RATE))


def matroska_of_zlib(seconds: int) -> bytes:
    return compressed(0, lambda data: zlib.compress(data, 9))(seconds * 32)


BOMBS: dict[str, Bomb] = {
    "FLAC of constant blocks": flac_of_constant_blocks,
    "FLAC in Ogg": _silence("ogg", "flac"),
    "ALAC": _silence("ipod", "alac"),
    "WavPack": _silence("wv", "wavpack"),
    "TTA": _silence("tta", "tta"),
    "AAC": _repeated("adts", "aac", 16_000),
    "MP3": _repeated("mp3", "libmp3lame", 8_000),
    "MP2": _repeated("mp2", "mp2", 16_000),
    "AC-3": _repeated("ac3", "ac3", 48_000),
    "WMA": _silence("asf", "wmav2"),
    "Vorbis": _silence("ogg", "vorbis"),
    "Opus of one-byte packets": opus_of_one_byte_packets,
    "Opus laced in Matroska": opus_laced_in_matroska,
    "AMR-WB without data": amr_wb_without_data,
    "MOV whose chunks are one": mov_of_one_chunk_again_and_again,
    "Matroska of zlib": matroska_of_zlib,
}
"""Seconds → a file that decodes to so many, and is much smaller than what it decodes to."""
