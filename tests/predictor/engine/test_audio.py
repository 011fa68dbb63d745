"""Encoded audio and raw waveforms → 16 kHz samples, or an error that says what is wrong."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine import audio
from predictor.engine.errors import AudioTooLarge, AudioTooLong, InvalidAudio
from predictor.engine.types import SAMPLE_RATE, Waveform
from tests.reliability.hostile import boxes, formats, other_bombs

SECONDS = 1.5
EXACT = {"wav": 0.002, "flac": 0.002, "aiff": 0.002, "ogg": 0.03, "opus": 0.03, "webm": 0.03}
"""Seconds by which a decoded length may differ; MP3 and AAC are padded to whole frames, at 8 kHz of
0.13 s each."""


def decoded(data, max_seconds=60.0, split=False):
    return np.concatenate(list(audio.decode(data, max_seconds, split)), axis=1)


def loudest_hertz(samples):
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * SAMPLE_RATE / len(samples)


def resampled(waveform, max_seconds=60.0):
    return np.concatenate(list(audio.from_waveform(waveform, max_seconds)), axis=1)


RATES = {
    **dict.fromkeys(("wav", "flac", "aiff"), (8000, 16000, 44100, 48000)),
    **dict.fromkeys(("mp3", "m4a", "ogg"), (8000, 44100)),
    **dict.fromkeys(("opus", "webm"), (8000, 16000, 48000)),
}


@pytest.mark.parametrize(
    ("kind", "rate", "channels"),
    [
        (kind, rate, channels)
        for kind, rates in RATES.items()
        for rate in rates
        for channels in ((1, 2) if kind == "mp3" else (1, 2, 6))
    ],
)
def test_every_format_keeps_length_and_pitch(encode, tone, kind, rate, channels):
    samples = np.tile(tone(440, SECONDS, rate), (channels, 1))
    mixed = decoded(encode(samples, rate, kind))
    assert mixed.shape[0] == 1
    assert mixed.dtype == np.float32
    assert mixed.shape[1] / SAMPLE_RATE == pytest.approx(SECONDS, abs=EXACT.get(kind, 0.2))
    assert loudest_hertz(mixed[0]) == pytest.approx(440, abs=2)


@pytest.mark.parametrize("kind", ["wav", "flac", "m4a", "opus"])
def test_split_keeps_channels_apart(encode, tone, kind):
    samples = np.stack([tone(440, SECONDS, 48000), tone(1000, SECONDS, 48000)])
    left, right = decoded(encode(samples, 48000, kind), split=True)
    assert loudest_hertz(left) == pytest.approx(440, abs=2)
    assert loudest_hertz(right) == pytest.approx(1000, abs=2)


def test_mix_is_the_mean_of_the_channels(encode):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (6, 4000)).astype(np.float32)
    mixed = decoded(encode(samples, kind="wav-float"))
    np.testing.assert_allclose(mixed[0], samples.mean(axis=0), atol=1e-6)


def test_samples_at_16_khz_come_through_unchanged(encode):
    samples = np.random.default_rng(0).uniform(-1, 1, 5000).astype(np.float32)
    assert np.array_equal(decoded(encode(samples, kind="wav-float"))[0], samples)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "webm", "aiff", "au"])
def test_truncated_files_are_refused(encode, kind, share):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 5 * 16000).astype(np.float32)
    data = encode(noise, kind=kind)
    with pytest.raises(InvalidAudio):
        decoded(data[: int(len(data) * share)])


def test_a_wav_written_to_a_pipe_has_no_length_to_check(encode, tone):
    data = bytearray(encode(tone(440, 1.0)))
    at = data.index(b"data")
    for placeholder in (0x7FFFFFFF, 0xFFFFFFFF):
        data[at + 4 : at + 8] = struct.pack("<I", placeholder)
        assert decoded(bytes(data)).shape[1] == SAMPLE_RATE


def test_the_byte_rate_of_a_wav_may_be_wrong(encode, tone):
    """Players go by the sample rate and the sample size; some recorders write a wrong byte rate."""
    data = bytearray(encode(tone(440, 2.0)))
    struct.pack_into("<I", data, data.index(b"fmt ") + 16, 16000)
    assert decoded(bytes(data)).shape[1] == 2 * SAMPLE_RATE


@pytest.mark.parametrize("rate", [1, 100])
def test_a_file_of_a_senseless_rate_is_refused_before_it_fills_the_memory(rate):
    """At 1 Hz a block of 4096 samples is over an hour: 64 million samples at 16 kHz."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1000, np.int16), rate, format="FLAC")
    with pytest.raises(InvalidAudio, match="1000 to 768000 Hz"):
        decoded(file.getvalue())


def test_a_few_damaged_packets_are_skipped(encode):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 20 * 16000).astype(np.float32)
    data = bytearray(encode(noise, kind="mp3"))
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    assert decoded(bytes(data)).shape[1] / SAMPLE_RATE == pytest.approx(20, abs=0.3)


def _media(tmp_path: Path, audio_seconds: float, video_seconds: float) -> bytes:
    """An MP4 or WebM recording whose picture lasts longer than its sound."""
    path = tmp_path / "clip.mp4"
    with av.open(path, mode="w") as output:
        video = output.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        sound = output.add_stream("aac", rate=16000, layout="mono")
        for _ in range(round(video_seconds * 10)):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            output.mux(video.encode(picture))
        for index in range(round(audio_seconds * 16000 / 1024)):
            frame = av.AudioFrame.from_ndarray(
                np.full((1, 1024), 0.1, np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16000, index * 1024
            output.mux(sound.encode(frame))
        output.mux(video.encode(None))
        output.mux(sound.encode(None))
    return path.read_bytes()


def test_an_encoders_delay_is_no_truncation():
    """Matroska counts it; LAME's, at the low rates of speech, is a third of a short clip."""
    data = formats.encode("matroska", "libmp3lame", formats.sound(0.4, 16_000), 16_000)
    assert decoded(data).shape[1] == pytest.approx(0.4 * SAMPLE_RATE, abs=2)


def test_packets_must_hold_sound():
    """One sample each: a file of 100 MB may have 25 million."""
    n = audio.UNCOUNTED_PACKETS
    few = boxes.movie(boxes.track(boxes.pcm_table(n - 1, 1)), media=bytes(100))
    assert decoded(few).shape[1] == n - 1
    many = boxes.movie(boxes.track(boxes.pcm_table(2 * n, 1)), media=bytes(100))
    with pytest.raises(InvalidAudio, match=f"damaged, {n + 1} packets hold only"):
        decoded(many)


@pytest.mark.parametrize(("n_edits", "repeats"), [(10, True), (audio.MAX_EDITS + 1, False)])
def test_edits_are_followed_up_to_a_limit(n_edits, repeats):
    """An edit may leave out what its author cut away, or repeat it, and with it the file's cost."""
    second = struct.pack(">IiI", 1000, 0, 0x10000)
    edits = struct.pack(">I", n_edits) + second * n_edits
    table = boxes.pcm_table(10, 1600)
    mixed = decoded(boxes.movie(boxes.track(table, edits=edits), media=bytes(3200)))
    assert mixed.shape[1] == SAMPLE_RATE * (n_edits if repeats else 1)


@pytest.mark.parametrize("n_tables", [1, 5])
def test_streams_may_appear_in_the_middle(n_tables):
    """As in a broadcast whose programme changes; PyAV fails there at the file's end."""
    before = formats.encode("mpegts", "aac", formats.sound(40, SAMPLE_RATE), SAMPLE_RATE)
    tables = other_bombs.transport_stream_of_many_streams(188 * n_tables)
    mixed = decoded(before + tables + before, max_seconds=100)
    assert mixed.shape[1] / SAMPLE_RATE >= 40


@pytest.mark.parametrize(("n_streams", "taken"), [(50, True), (audio.MAX_STREAMS + 1, False)])
def test_a_file_may_have_some_streams(n_streams, taken):
    track = boxes.track(boxes.pcm_table(10, 1600))
    data = boxes.movie(*[track] * n_streams, media=bytes(3200))
    if taken:
        assert decoded(data).shape[1] == SAMPLE_RATE
    else:
        with pytest.raises(InvalidAudio, match="not in a known audio format"):
            decoded(data)


def test_a_packet_of_hours_is_refused_before_it_is_resampled():
    """Its 16-bit samples at 1 kHz are 32 times as large as float samples at 16 kHz."""
    block = boxes.block(bytes(400_000))
    data = boxes.matroska([boxes.matroska_track(rate=1000.0)], boxes.cluster(block))
    with pytest.raises(InvalidAudio, match="one packet holds 200 s, the limit is 120 s"):
        decoded(data, max_seconds=3600)


def test_a_film_may_last_longer_than_its_sound(tmp_path):
    mixed = decoded(_media(tmp_path, audio_seconds=3.0, video_seconds=5.0))
    assert mixed.shape[1] / SAMPLE_RATE == pytest.approx(3.0, abs=0.15)


def test_a_title_says_nothing_about_the_length_of_an_mp3(tone):
    """Without a Xing header, FFmpeg guesses an MP3's length from its first frames' bit rate."""
    rate = 44100
    quiet_then_noise = np.concatenate(
        [np.zeros(rate // 2), np.random.default_rng(0).uniform(-0.9, 0.9, 3 * rate)]
    ).astype(np.float32)
    file = io.BytesIO()
    with av.open(file, mode="w", format="mp3", options={"write_xing": "0"}) as output:
        output.metadata["title"] = "Info: Xing Xing"
        stream = output.add_stream("libmp3lame", rate=rate, layout="mono", options={"q": "0"})
        stream.codec_context.flags |= 0x2  # AV_CODEC_FLAG_QSCALE: a variable bit rate
        stream.codec_context.global_quality = 0
        stream.codec_context.open()
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="mono", rate=rate, frame_size=1152
        )
        frame = av.AudioFrame.from_ndarray(quiet_then_noise[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for source in (frame, None):
            for piece in resampler.resample(source):
                output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    assert decoded(file.getvalue()).shape[1] / SAMPLE_RATE == pytest.approx(3.5, abs=0.2)


JUNK = {
    "one byte": b"\x00",
    "zeros": bytes(5000),
    "text": b"hello, this is no audio at all. " * 100,
    "html": b"<!DOCTYPE html><html><head><title>404</title></head><body>gone</body></html>" * 20,
    "json": b'{"error": "not found"}' * 50,
    "elf": b"\x7fELF\x02\x01\x01" + bytes(range(256)) * 20,
    "zip": b"PK\x03\x04" + bytes(range(256)) * 20,
    "png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200),
    "riff header alone": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "ogg header alone": b"OggS\x00\x02" + bytes(30),
    "flac header alone": b"fLaC\x00\x00\x00\x22" + bytes(34),
    "id3 alone": b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10),
}


@pytest.mark.parametrize("data", JUNK.values(), ids=JUNK.keys())
def test_what_is_not_audio_is_refused(data):
    with pytest.raises(InvalidAudio, match=r"^audio: "):
        decoded(data)


def test_a_wav_without_samples_is_refused(encode):
    with pytest.raises(InvalidAudio, match="no samples"):
        decoded(encode(np.zeros((1, 0)), kind="wav-float"))


@given(st.binary(min_size=1, max_size=2000))
def test_random_bytes_raise_invalid_audio_and_nothing_else(data):
    with pytest.raises(InvalidAudio):
        decoded(data)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "opus"])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_audio_up_to_the_limit_is_taken_and_longer_audio_refused(encode, tone, kind, rate):
    data = encode(tone(440, 3.0, rate), rate, kind)
    assert decoded(data, max_seconds=3.1).shape[1] > 2.9 * SAMPLE_RATE
    with pytest.raises(AudioTooLong, match=r"limit of 2\.9 seconds"):
        decoded(data, max_seconds=2.9)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_audio_of_exactly_the_limit_is_taken(encode, tone, rate):
    samples = tone(440, 2.0, rate)
    assert decoded(encode(samples, rate), max_seconds=2.0).shape[1] <= 2 * SAMPLE_RATE
    assert resampled(Waveform(samples, rate), max_seconds=2.0).shape[1] <= 2 * SAMPLE_RATE


def test_the_limit_counts_decoded_samples_not_the_header(encode, tone):
    """Nor does a header without a length let minutes pass."""
    data = bytearray(encode(tone(440, 10.0)))
    at = data.index(b"data")
    data[at + 4 : at + 8] = struct.pack("<I", 0xFFFFFFFF)
    blocks = audio.decode(bytes(data), max_seconds=1.0)
    taken = []
    with pytest.raises(AudioTooLong):
        taken.extend(block.shape[1] for block in blocks)
    assert sum(taken) <= SAMPLE_RATE


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "ogg", "opus", "webm", "aiff"])
def test_the_declared_length_is_told_without_decoding(encode, tone, kind):
    declared = audio.declared_seconds(encode(tone(440, 5.0), kind=kind))
    assert declared == pytest.approx(5.0, abs=0.3)


def test_a_file_that_declares_no_length_has_none(encode, tone):
    data = bytearray(encode(tone(440, 1.0), kind="flac"))
    # The low bits of STREAMINFO's sample count, 36 bits from the 22nd byte of the file on.
    data[22:26] = bytes(4)
    assert not audio.declared_seconds(bytes(data))
    assert decoded(bytes(data)).shape[1] == SAMPLE_RATE


def test_the_length_of_what_is_not_audio_is_not_told():
    with pytest.raises(InvalidAudio):
        audio.declared_seconds(b"junk" * 100)


def test_decoding_is_lazy(encode, tone):
    blocks = audio.decode(encode(tone(440, 30.0), kind="flac"), max_seconds=60.0)
    assert next(blocks).shape[1] < 2 * SAMPLE_RATE


def test_size_limits():
    audio.check_size(b"1234", 4)
    with pytest.raises(AudioTooLarge, match="5 bytes, the limit is 4 bytes"):
        audio.check_size(b"12345", 4)
    with pytest.raises(InvalidAudio, match="empty"):
        audio.check_size(b"", 4)


def _many_channels(n):
    file = io.BytesIO()
    soundfile.write(file, np.full((1000, n), 0.1), 16000, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("channels", [2, 3, 6, 7, 8])
def test_up_to_eight_channels_are_decoded(channels, split):
    """In a process of its own: a crash inside the decoder would end the server, or this test run."""
    program = (
        "import sys; from predictor.engine import audio; "
        f"blocks = list(audio.decode(sys.stdin.buffer.read(), 60.0, {split})); "
        "print(sum(b.shape[1] for b in blocks), blocks[0].shape[0], round(blocks[0].mean(), 3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=_many_channels(channels),
        capture_output=True,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert done.stdout.decode().split() == ["1000", str(channels if split else 1), "0.1"]


@pytest.mark.parametrize("channels", [9, 16])
def test_more_than_eight_channels_are_refused(channels):
    with pytest.raises(InvalidAudio, match=f"{channels} channels, the limit is 8"):
        decoded(_many_channels(channels))


@pytest.mark.parametrize("rate", [16000, 44100])
def test_values_of_a_float_wav_that_are_not_finite_are_silenced_or_clipped(encode, rate):
    samples = np.full(rate, 0.1, np.float32)
    samples[[100, 200, 300]] = [np.nan, np.inf, -np.inf]
    mixed = decoded(encode(samples, rate, "wav-float"))
    assert np.isfinite(mixed).all()
    assert np.abs(mixed).max() <= audio.MAX_PEAK
    assert mixed[0, 8000:] == pytest.approx(0.1, abs=0.01)


def test_a_file_without_sound_is_refused(tmp_path):
    path = tmp_path / "mute.mp4"
    with av.open(path, mode="w") as output:
        video = output.add_stream("mpeg4", rate=10)
        video.width = video.height = 32
        picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        output.mux(video.encode(picture))
        output.mux(video.encode(None))
    with pytest.raises(InvalidAudio, match="no audio stream"):
        decoded(path.read_bytes())


@pytest.mark.parametrize(
    ("samples", "rate", "message"),
    [
        (np.zeros((2, 100)), 16000, "must have 1 dimension, not 2"),
        (np.zeros(()), 16000, "must have 1 dimension, not 0"),
        (np.zeros(0), 16000, "empty"),
        (np.array([0.0, np.nan]), 16000, "not finite"),
        (np.array([0.0, -np.inf]), 16000, "not finite"),
        (np.array([0.0, 30000.0]), 16000, r"in \[-1, 1\], the largest magnitude is 30000"),
        (np.zeros(100), 0, "sample_rate: must be 1000 to 768000 Hz, not 0"),
        (np.zeros(100), -16000, "sample_rate"),
        (np.zeros(100), 1_000_000, "sample_rate"),
    ],
)
def test_waveforms_that_make_no_sense_are_refused(samples, rate, message):
    with pytest.raises(InvalidAudio, match=message):
        resampled(Waveform(samples.astype(np.float32), rate))


def test_a_waveform_longer_than_the_limit_is_refused():
    with pytest.raises(AudioTooLong, match="limit of 2 seconds"):
        resampled(Waveform(np.zeros(16001, np.float32), 8000), max_seconds=2.0)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000, 96000])
def test_waveforms_are_resampled(tone, rate):
    samples = resampled(Waveform(tone(440, 1.0, rate), rate))
    assert samples.shape[0] == 1
    assert samples.shape[1] == pytest.approx(SAMPLE_RATE, abs=2)
    assert loudest_hertz(samples[0]) == pytest.approx(440, abs=2)


def test_an_integer_waveform_of_a_notebook_is_named_as_such():
    with pytest.raises(InvalidAudio, match=r"must be in \[-1, 1\]"):
        resampled(Waveform(np.array([0, 12000], np.int16)))


def test_a_single_sample_is_enough():
    assert resampled(Waveform(np.array([0.5], np.float32))).shape == (1, 1)
