"""Live streams → turns."""

import numpy as np
import pytest

from predictor.engine import live, segment
from predictor.engine.live import Listener, Started, Turn, TurnDetection
from predictor.engine.packets import PacketDecoder
from predictor.engine.segment import SPAN_SECONDS
from predictor.engine.types import SAMPLE_RATE

DETECTION = TurnDetection(0.5, segment.PAD_MS, segment.MIN_PAUSE_MS)


def sound(seconds, level=0.3):
    rng = np.random.default_rng(round(seconds * 1000))
    samples = rng.uniform(-level, level, round(seconds * SAMPLE_RATE))
    return np.round(samples * 32767).astype("<i2").tobytes()


def hear(listener, data, size=640):
    return [
        event for at in range(0, len(data), size) for event in listener.hear(data[at : at + size])
    ]


@pytest.fixture
def by_loudness(loudness_detector, monkeypatch):
    monkeypatch.setattr(live, "load_detector", lambda *_: segment.load_detector())


@pytest.mark.usefixtures("by_loudness")
@pytest.mark.parametrize("size", [640, 3200, 32_000, 10**9])
def test_each_turn_follows_its_start(size):
    """Two utterances, and the beginning of a third."""
    data = b"".join([sound(1, 0), sound(1.5), sound(1, 0), sound(0.8), sound(1, 0), sound(0.5)])
    listener = Listener(PacketDecoder("audio/pcm", SAMPLE_RATE), DETECTION)
    events = hear(listener, data, size)
    assert [type(event) for event in events] == [Started, Turn, Started, Turn, Started]
    for started, turn in zip(events[:4:2], events[1:4:2], strict=True):
        assert turn.start == started.at
    assert events[1].start == pytest.approx(1.0, abs=0.15)
    assert events[1].end == pytest.approx(2.5, abs=0.15)
    assert events[3].duration == pytest.approx(0.8, abs=0.3)
    assert listener.speaking_seconds == pytest.approx(0.5, abs=0.2)
    (last,) = listener.commit()
    assert last.start == events[4].at
    assert last.end == pytest.approx(5.8, abs=0.01)
    assert listener.running() is None
    assert listener.commit() == []


@pytest.mark.usefixtures("by_loudness")
def test_speech_without_a_pause_is_cut():
    listener = Listener(PacketDecoder("audio/pcm", SAMPLE_RATE), DETECTION)
    events = hear(listener, sound(70), 32_000)
    turns = [event for event in [*events, *listener.commit()] if isinstance(event, Turn)]
    assert len(turns) == 3
    assert all(turn.duration <= SPAN_SECONDS for turn in turns)
    assert sum(turn.duration for turn in turns) == pytest.approx(70, abs=0.1)


@pytest.mark.usefixtures("by_loudness")
def test_after_a_commit_the_same_speech_goes_on_where_it_was_cut():
    listener = Listener(PacketDecoder("audio/pcm", SAMPLE_RATE), DETECTION, start=100.0)
    (started,) = hear(listener, sound(1))
    (turn,) = listener.commit()
    (again,) = hear(listener, sound(1))
    assert (started.at, turn.end) == (100.0, 101.0)
    assert again.at == pytest.approx(turn.end, abs=0.05)
    assert again.at >= turn.end


def test_without_detection_all_is_speech():
    listener = Listener(PacketDecoder("audio/pcm", SAMPLE_RATE), None)
    (started,) = hear(listener, sound(2, 0))
    assert started == Started(0.0)
    (turn,) = listener.commit()
    assert (turn.start, turn.duration) == (0.0, 2.0)
    hear(listener, sound(1))
    listener.clear()
    assert listener.commit() == []
    assert listener.now == 3.0
    turns = [event for event in hear(listener, sound(40)) if isinstance(event, Turn)]
    assert len(turns) == 1


def test_a_long_message_is_cut_into_seconds():
    listener = Listener(PacketDecoder("audio/pcm", 8000), None)
    assert [len(piece) for piece in listener.pieces(bytes(40_000))] == [16_000, 16_000, 8000]
    assert list(listener.pieces(b"")) == [b""]
    assert list(Listener(PacketDecoder("audio/opus", 0), None).pieces(b"packet")) == [b"packet"]
