"""Encoded audio → 16 kHz float32 blocks, with PyAV.

Decoding is lazy and every limit is counted on decoded samples, never trusted from a header, so memory
stays bounded whatever the file claims.
"""

import io
import struct
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import TypeAlias

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.codec.codec import Codec, UnknownCodecError
from av.container import InputContainer

from predictor.engine.declared import PCM_CODECS, declared_length
from predictor.engine.errors import AudioTooLarge, AudioTooLong, InvalidAudio
from predictor.engine.resampler import Resampler
from predictor.engine.types import SAMPLE_RATE, Samples, Waveform

Decode: TypeAlias = Callable[[bytes, float, bool], Iterator[Samples]]
"""The type of :func:`decode`."""

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

MIN_PACKET_SECONDS = 0.0005
"""Least audio in a packet, on average: a codec's packets hold 0.7 ms or more. A file may have as many that
hold nothing, or one sample, as it has bytes, and each costs as much as any other."""

UNCOUNTED_PACKETS = 10_000
"""Packets before that average is asked for: a file may begin with damage."""

MAX_EDITS = 1000
"""Edits of an MP4 file that are followed. Each may repeat all of its packets."""

MAX_FRAME_SECONDS = 120.0
"""Longest piece that a codec may give at once. Codecs give less than a second, but some could give hours,
which would be in memory, sixteen times as large, before they are counted."""

MAX_STREAMS = 200
"""Tracks and attachments of one file. A film has some tens of them, its fonts perhaps a hundred."""

TRUNCATED_SHARE = 0.95
"""A file that holds less than this share of the length it declares is truncated."""

PCM_TAGS = tuple(struct.pack("<H", tag) for tag in PCM_CODECS)


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
        frames = _frames(container, declared_length(data, container))
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
    options = {
        "format_whitelist": DEMUXERS,
        "codec_whitelist": audio_codecs(),
        "protocol_whitelist": "",
        "max_streams": str(MAX_STREAMS),
    }
    if data[:4] == b"RIFF" and data[12:16] == b"fmt " and data[20:22] in PCM_TAGS:
        # FFmpeg would decode seconds of PCM in search of surround sound hidden in it: most of the work.
        options |= {"probesize": "2048", "analyzeduration": "0"}
    elif _has_many_edits(data):
        options["advanced_editlist"] = "0"
    try:
        return av.open(io.BytesIO(data), mode="r", metadata_errors="replace", options=options)
    except (av.FFmpegError, ValueError) as error:
        raise InvalidAudio("audio: not in a known audio format, or damaged at its start") from error


@cache
def audio_codecs() -> str:
    """All that FFmpeg decodes for a file: its audio codecs, separated by commas. Pictures and subtitles
    stay undecoded, whereas FFmpeg alone would look into them to learn their sizes."""
    return ",".join(sorted(filter(_is_audio_decoder, av.codecs_available)))


def _is_audio_decoder(name: str) -> bool:
    try:
        return Codec(name, "r").type == "audio"
    except UnknownCodecError:
        return False


def _has_many_edits(data: bytes) -> bool:
    """Whether an MP4 file may have more than MAX_EDITS edits: some list has, or cannot be looked into."""
    n_edits, at = 0, data.find(b"elst")
    while at >= 0 and n_edits <= MAX_EDITS:
        # At least one, so that lists without end are not read to their end.
        n_edits += max(1, int.from_bytes(data[at + 8 : at + 12], "big"))
        at = data.find(b"elst", at + 4)
    return n_edits > MAX_EDITS or b"cmov" in data


def _frames(container: InputContainer, declared: float | None) -> Iterator[AudioFrame]:
    """Decoded frames of the first audio stream; a few damaged packets are skipped, as players do."""
    stream = container.streams.audio[0]
    packets = damaged = 0
    seconds = 0.0
    last_damaged = False
    demuxed = container.demux(stream)
    while True:
        if packets > UNCOUNTED_PACKETS and seconds < packets * MIN_PACKET_SECONDS:
            raise InvalidAudio(f"audio: damaged, {packets} packets hold only {seconds:.2f} s")
        try:
            packet = next(demuxed)
        except (StopIteration, IndexError):
            # IndexError: PyAV, at the end of a file in which a stream appeared only while reading.
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
            _check_rate(frame.sample_rate, "audio: sample rate")
            length = frame.samples / frame.sample_rate
            if length > MAX_FRAME_SECONDS:
                raise InvalidAudio(
                    f"audio: one packet holds {length:.0f} s, the limit is {MAX_FRAME_SECONDS:g} s"
                )
            seconds += length
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
    resampler: Resampler | None = None
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
            resampler = Resampler()
        if frame is not None:
            # Timestamps are of no use here, and a gap in them must not add or drop samples.
            frame.pts = None
        try:
            resampled = resampler.resample(frame)
        except (av.FFmpegError, ValueError) as error:
            raise InvalidAudio(
                "audio: its sample rate, format or channel count changes in the middle"
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
