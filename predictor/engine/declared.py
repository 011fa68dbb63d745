"""How long a file says it is: what was cut off can be told by it, and by nothing else."""

import struct

import av
from av.container import InputContainer

from predictor.engine.errors import InvalidAudio

PCM_CODECS = (1, 3, 0xFFFE)
"""WAV format tags of integer, float and extensible PCM."""

UNKNOWN_LENGTH = 0x7FFFFF00
"""WAV data sizes from here on are placeholders of encoders that write to a pipe."""

MAX_CHUNKS = 1000
"""Chunks of a WAV file that may come before its samples; there may be one every eight bytes."""


def declared_length(data: bytes, container: InputContainer) -> float | None:
    """The length in seconds that a file promises, where its format states one exactly; None elsewhere.

    Args:
        data: the whole file.
        container: the same, opened; it has an audio stream.

    Raises:
        InvalidAudio: an Ogg file that stops within a page.
    """
    name = container.format.name
    stream = container.streams.audio[0]
    if name == "wav":
        return _wav_seconds(data)
    if name == "ogg":
        _check_last_ogg_page(data)
        return None
    if name == "mp3":
        return _mp3_seconds(data, stream.rate)
    if name not in {"flac", "aiff", "au"} and not name.startswith(("mov", "matroska")):
        return None
    # A container lasts as long as its longest stream, which may be a picture.
    if len(container.streams) > 1:
        if stream.duration is None or stream.time_base is None:
            return None
        return float(stream.duration * stream.time_base)
    if container.duration is None:
        return None
    seconds = float(container.duration) / av.time_base
    codec = stream.codec_context
    if name.startswith("matroska") and codec is not None and codec.name.startswith("mp3"):
        # Counted here are the encoder's delay and padding, which the decoder removes: up to four frames.
        seconds -= 4 * codec.frame_size / max(stream.rate, 1)
    return seconds


def _mp3_seconds(data: bytes, rate: int) -> float | None:
    """Seconds declared by the Xing or Info header in an MP3's first frame; None without one, where
    any length is a guess from the bit rate."""
    if not rate:
        return None
    start = 0
    if data[:3] == b"ID3" and len(data) > 10:
        # The size of an ID3 tag is written in seven bits a byte.
        start = 10 + sum(
            byte << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True)
        )
    head = data[start : start + 200]
    for name in (b"Xing", b"Info"):
        at = head.find(name)
        if at >= 0 and len(head) >= at + 12 and head[at + 7] & 1:
            n_frames = int(struct.unpack_from(">I", head, at + 8)[0])
            samples = 1152 if rate >= 32_000 else 576
            return n_frames * samples / rate
    return None


def _wav_seconds(data: bytes) -> float | None:
    """Seconds declared by a RIFF header; None where the size is a placeholder or absent."""
    position = 12
    bytes_per_second = 0
    for _ in range(MAX_CHUNKS):
        if position + 8 > len(data):
            break
        chunk, size = struct.unpack_from("<4sI", data, position)
        if chunk == b"fmt " and position + 22 <= len(data):
            codec, _, rate, bytes_per_second, block_bytes = struct.unpack_from(
                "<HHIIH", data, position + 8
            )
            # Players go by the rate of PCM, so its byte rate is often wrong.
            if codec in PCM_CODECS:
                bytes_per_second = rate * block_bytes
        if chunk == b"data":
            known = bytes_per_second and 0 < size < UNKNOWN_LENGTH
            return size / bytes_per_second if known else None
        position += 8 + size + size % 2
    return None


def _check_last_ogg_page(data: bytes) -> None:
    start = data.rfind(b"OggS")
    header_end = start + 27
    if header_end > len(data):
        raise InvalidAudio("audio: truncated within an Ogg page")
    n_segments = data[header_end - 1]
    sizes = data[header_end : header_end + n_segments]
    if len(sizes) < n_segments or header_end + n_segments + sum(sizes) > len(data):
        raise InvalidAudio("audio: truncated within an Ogg page")
