"""Encoded audio → 16 kHz float32 blocks, with PyAV.

Decoding is lazy and every limit is counted on decoded samples, never trusted from a header, so memory
stays bounded whatever the file claims.
"""

import io
import struct
from collections.abc import Iterator
from itertools import chain

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer

from predictor.engine.errors import AudioTooLarge, AudioTooLong, InvalidAudio
from predictor.engine.types import SAMPLE_RATE, Samples, Waveform

DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,caf,eac3,flac,gsm,matroska,mov,mp3,mpeg,mpegts,ogg,"
    "oma,tta,voc,w64,wav,wv"
)
"""Containers that hold audio itself. Playlists and other formats that open further files are left out."""

SAMPLE_RATES = (1_000, 768_000)
"""Lowest and highest rate taken, in hertz. A lower one would grow without bound in resampling."""

MAX_CHANNELS = 8
MAX_PEAK = 2.0
"""Largest magnitude of float samples: room for overshoot, not for 16-bit integers. A waveform beyond it
is refused; a file, whose writer cannot be asked again, is clipped."""

MAX_DAMAGED_SHARE = 0.1
"""Share of packets that may fail to decode before the whole file counts as damaged."""

TRUNCATED_SHARE = 0.95
"""A file that holds less than this share of the length it declares is truncated."""

PCM_CODECS = (1, 3, 0xFFFE)
"""WAV format tags of integer, float and extensible PCM."""

PCM_TAGS = tuple(struct.pack("<H", tag) for tag in PCM_CODECS)

UNKNOWN_LENGTH = 0x7FFFFF00
"""WAV data sizes from here on are placeholders of encoders that write to a pipe."""


def check_size(data: bytes, max_bytes: int) -> None:
    """Raises:
    InvalidAudio: no bytes at all.
    AudioTooLarge: more than ``max_bytes`` bytes.
    """
    if not data:
        raise InvalidAudio("audio: empty, 0 bytes")
    if len(data) > max_bytes:
        raise AudioTooLarge(f"audio: {len(data)} bytes, the limit is {max_bytes} bytes")


def decode(data: bytes, max_seconds: float, split: bool = False) -> Iterator[Samples]:
    """Decode a file of any container in ``DEMUXERS`` and any codec FFmpeg knows.

    Args:
        data: the whole file.
        max_seconds: longest audio taken.
        split: keep the channels apart instead of averaging them.

    Yields:
        float32 [n_channels, n_samples] at 16 kHz; n_channels is 1 unless ``split``.

    Raises:
        InvalidAudio: not audio, damaged, truncated, or without a sample.
        AudioTooLong: more than ``max_seconds`` decoded.
    """
    with _open(data) as container:
        if not container.streams.audio:
            raise InvalidAudio("audio: the file holds no audio stream")
        frames = _frames(container, _declared_seconds(data, container))
        yield from _resampled(frames, max_seconds, split)


def from_waveform(waveform: Waveform, max_seconds: float) -> Iterator[Samples]:
    """A waveform at any rate → float32 [1, n_samples] blocks at 16 kHz.

    Raises:
        InvalidAudio: empty, not one-dimensional, not finite, far outside [-1, 1], or a senseless rate.
        AudioTooLong: longer than ``max_seconds``.
    """
    samples, rate = waveform.samples, waveform.sample_rate
    if samples.ndim != 1:
        raise InvalidAudio(f"waveform: must have 1 dimension, not {samples.ndim}")
    if not samples.size:
        raise InvalidAudio("waveform: empty, 0 samples")
    _check_rate(rate, "sample_rate")
    if len(samples) > max_seconds * rate:
        raise _too_long(max_seconds)
    if not np.isfinite(samples).all():
        raise InvalidAudio("waveform: holds values that are not finite")
    peak = float(np.abs(samples).max())
    if peak > MAX_PEAK:
        raise InvalidAudio(
            f"waveform: samples must be in [-1, 1], the largest magnitude is {peak:g}"
        )
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if rate == SAMPLE_RATE:
        yield samples[None, :]
        return
    frame = AudioFrame.from_ndarray(samples[None, :], format="fltp", layout="mono")
    frame.sample_rate = rate
    yield from _resampled(iter([frame]), max_seconds, split=False)


def declared_seconds(data: bytes) -> float | None:
    """The length a file declares, for a progress bar: not checked, None where it declares none."""
    with _open(data) as container:
        return container.duration and float(container.duration) / av.time_base


def _open(data: bytes) -> InputContainer:
    options = {"format_whitelist": DEMUXERS, "protocol_whitelist": ""}
    if data[:4] == b"RIFF" and data[12:16] == b"fmt " and data[20:22] in PCM_TAGS:
        # FFmpeg would decode seconds of PCM in search of surround sound hidden in it: most of the work.
        options |= {"probesize": "2048", "analyzeduration": "0"}
    try:
        return av.open(io.BytesIO(data), mode="r", metadata_errors="replace", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise InvalidAudio("audio: not in a known audio format, or damaged at its start") from error


def _frames(container: InputContainer, declared: float | None) -> Iterator[AudioFrame]:
    """Decoded frames of the first audio stream; a few damaged packets are skipped, as players do."""
    stream = container.streams.audio[0]
    packets = damaged = 0
    seconds = 0.0
    last_damaged = False
    demuxed = container.demux(stream)
    while True:
        try:
            packet = next(demuxed)
        except StopIteration:
            break
        except av.FFmpegError as error:
            raise InvalidAudio("audio: damaged or truncated") from error
        packets += 1
        try:
            frames = packet.decode()
            last_damaged = False
        except av.EOFError:
            break
        except av.FFmpegError:
            damaged += 1
            last_damaged = True
            continue
        for frame in frames:
            seconds += frame.samples / frame.sample_rate
            yield frame
    if not seconds and not damaged:
        raise InvalidAudio("audio: holds no samples")
    if damaged > MAX_DAMAGED_SHARE * packets or not seconds:
        raise InvalidAudio(f"audio: damaged, {damaged} of {packets} packets cannot be decoded")
    if last_damaged:
        raise InvalidAudio("audio: truncated, its last packet is incomplete")
    if declared is not None and seconds < TRUNCATED_SHARE * declared - 0.1:
        raise InvalidAudio(
            f"audio: truncated, it declares {declared:.2f} s and holds {seconds:.2f} s"
        )


def _resampled(frames: Iterator[AudioFrame], max_seconds: float, split: bool) -> Iterator[Samples]:
    resampler: AudioResampler | None = None
    n_channels = 0
    n_samples = n_pending = 0
    pending: list[Samples] = []
    # The trailing None flushes the resampler.
    for frame in chain(frames, (None,)):
        if resampler is None:
            if frame is None:
                raise InvalidAudio("audio: holds no samples")
            n_channels = len(frame.layout.channels)
            if n_channels > MAX_CHANNELS:
                raise InvalidAudio(f"audio: {n_channels} channels, the limit is {MAX_CHANNELS}")
            _check_rate(frame.sample_rate, "audio: sample rate")
            # Packed, because PyAV reads past the plane pointers of a planar frame of eight channels.
            resampler = AudioResampler(format="flt", layout=frame.layout, rate=SAMPLE_RATE)
        if frame is not None:
            # Timestamps are of no use here, and a gap in them must not add or drop samples.
            frame.pts = None
        try:
            resampled = resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            raise InvalidAudio(
                "audio: its sample format or channel count changes in the middle"
            ) from error
        for out in resampled:
            n_samples += out.samples
            n_pending += out.samples
            if n_samples > max_seconds * SAMPLE_RATE:
                raise _too_long(max_seconds)
            pending.append(out.to_ndarray().astype(np.float32, copy=False))
        # Codecs give pieces of 20 ms, and each call below costs as much for a second.
        if pending and (frame is None or n_pending >= SAMPLE_RATE):
            block: Samples = np.concatenate(pending, axis=1).reshape(-1, n_channels).T
            pending, n_pending = [], 0
            # A float codec may carry NaN, which would poison the whole network batch.
            block = np.nan_to_num(block, nan=0.0).clip(-MAX_PEAK, MAX_PEAK)
            if block.size:
                yield np.ascontiguousarray(block) if split else block.mean(axis=0, keepdims=True)
    if not n_samples:
        raise InvalidAudio("audio: holds no samples")


def _check_rate(rate: int, name: str) -> None:
    lowest, highest = SAMPLE_RATES
    if not lowest <= rate <= highest:
        raise InvalidAudio(f"{name}: must be {lowest} to {highest} Hz, not {rate}")


def _too_long(max_seconds: float) -> AudioTooLong:
    return AudioTooLong(f"audio: longer than the limit of {max_seconds:g} seconds")


def _declared_seconds(data: bytes, container: InputContainer) -> float | None:
    """The length a file promises, where its format states one exactly; None elsewhere.

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
    # The container lasts as long as its longest stream, which may be a picture.
    if len(container.streams) > 1:
        if stream.duration is None or stream.time_base is None:
            return None
        return float(stream.duration * stream.time_base)
    return container.duration and float(container.duration) / av.time_base


def _mp3_seconds(data: bytes, rate: int) -> float | None:
    """Seconds declared by the Xing or Info header in an MP3's first frame; None without one, where
    any length is a guess from the bit rate."""
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
    while position + 8 <= len(data):
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
