"""Live packets → samples."""

import av
import numpy as np
import pytest
from av.audio.frame import AudioFrame

from predictor.engine.errors import InvalidAudio
from predictor.engine.packets import PacketDecoder
from predictor.engine.types import SAMPLE_RATE

SECONDS, PITCH = 1.0, 440.0


def sine(rate):
    time = np.arange(round(SECONDS * rate)) / rate
    return np.round(8000 * np.sin(2 * np.pi * PITCH * time)).astype("<i2")


def encoded(codec, rate):
    encoder = av.CodecContext.create(codec, "w")
    encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", "s16"
    encoder.open()
    size = encoder.frame_size or 160
    packets = []
    for at in range(0, rate, size):
        frame = AudioFrame.from_ndarray(sine(rate)[None, at : at + size], "s16", "mono")
        frame.sample_rate, frame.pts = rate, at
        packets += map(bytes, encoder.encode(frame))
    return packets


def packets_of(encoding, rate):
    if encoding == "audio/pcm":
        data = sine(rate).tobytes()
        return [data[at : at + 640] for at in range(0, len(data), 640)]
    codec = {"audio/opus": "libopus", "audio/pcmu": "pcm_mulaw", "audio/pcma": "pcm_alaw"}
    return encoded(codec[encoding], rate)


@pytest.mark.parametrize(
    ("encoding", "rate"),
    [
        *(("audio/pcm", rate) for rate in (8000, 16_000, 24_000, 48_000)),
        ("audio/pcmu", 8000),
        ("audio/pcma", 8000),
        ("audio/opus", 48_000),
    ],
)
def test_a_tone_stays_what_it_is(encoding, rate):
    decoder = PacketDecoder(encoding, rate)
    pieces = [decoder.decode(packet) for packet in packets_of(encoding, rate)]
    samples = np.concatenate(pieces)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(SECONDS * SAMPLE_RATE, abs=200)
    # Without the edges, where codecs and filters begin.
    middle = samples[2000:-2000]
    spectrum = np.abs(np.fft.rfft(middle))
    assert np.argmax(spectrum) * SAMPLE_RATE / len(middle) == pytest.approx(PITCH, abs=2)
    assert np.abs(middle).max() == pytest.approx(8000 / 32768, rel=0.05)


def test_pcm_at_the_models_rate_is_not_touched():
    decoder = PacketDecoder("audio/pcm", SAMPLE_RATE)
    samples = decoder.decode(np.array([-32768, 0, 16384], "<i2").tobytes())
    assert samples.tolist() == [-1.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("encoding", "data", "words"),
    [
        ("audio/pcm", b"", "empty"),
        ("audio/pcm", b"\x00", "1 bytes are no whole number of 16-bit samples"),
        ("audio/opus", b"", "empty"),
        ("audio/opus", b"\xff" * 9, "not an opus packet, or damaged"),
    ],
)
def test_damage_is_told_and_the_stream_goes_on(encoding, data, words):
    decoder = PacketDecoder(encoding, 48_000)
    with pytest.raises(InvalidAudio, match=words):
        decoder.decode(data)
    assert sum(len(decoder.decode(packet)) for packet in packets_of(encoding, 48_000)) > 15_000
