"""One audio as a lazy stream of clips, and clips as batches of bounded size."""

from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.recording import Clip, Recording, batches
from predictor.engine.segment import Span
from predictor.engine.types import SAMPLE_RATE, TranscribeOptions

MIXED = TranscribeOptions(segmentation="overlap")
SPLIT = TranscribeOptions(segmentation="overlap", channels="split")


def recording_of(samples, options=MIXED, block=1000):
    """float32 [n_channels, n_samples] in the small pieces that codecs give."""
    pieces = (samples[:, at : at + block] for at in range(0, samples.shape[1], block))
    return Recording(pieces, options)


def hum(*channels_seconds, level=0.1):
    length = round(max(channels_seconds) * SAMPLE_RATE)
    samples = np.zeros((len(channels_seconds), length), np.float32)
    for channel, seconds in enumerate(channels_seconds):
        samples[channel, : round(seconds * SAMPLE_RATE)] = level
    return samples


@pytest.mark.parametrize("length", [1, 999, 16_000, 16_001, 700_123])
def test_duration_is_that_of_the_decoded_samples(length):
    recording = recording_of(np.full((1, length), 0.1, np.float32))
    list(recording)
    assert recording.duration == length / SAMPLE_RATE


def test_mixed_channels_have_no_number_and_split_ones_theirs():
    assert [clip.channel for clip in recording_of(hum(2))] == [None]
    assert [clip.channel for clip in recording_of(hum(2, 1, 2), SPLIT)] == [0, 1, 2]


def test_silent_pieces_are_left_out():
    assert list(recording_of(hum(1, level=0.0))) == []
    assert [clip.channel for clip in recording_of(hum(1, 0.0001), SPLIT)] == [0, 1]
    assert [clip.channel for clip in recording_of(hum(1, 0), SPLIT)] == [0]


def test_clips_come_before_the_audio_has_ended():
    endless = (np.full((1, SAMPLE_RATE), 0.1, np.float32) for _ in count())
    recording = Recording(endless, MIXED)
    assert next(iter(recording)).span.start == 0
    assert recording.duration < 40


def test_long_silence_is_decoded_in_steps():
    hour = (np.zeros((1, SAMPLE_RATE), np.float32) for _ in range(3600))
    recording = Recording(hour, MIXED)
    steps = 0
    while recording.advance() is not None:
        steps += 1
        assert recording.duration <= 20 * steps
    assert recording.duration == 3600


def test_a_pause_of_the_blocks_ends_the_step_and_loses_nothing():
    pause = np.zeros((1, 0), np.float32)
    second = np.full((1, SAMPLE_RATE), 0.1, np.float32)
    half = second[:, ::2]
    recording = Recording(iter([pause, half, pause, half, second, pause, pause]), MIXED)
    assert [recording.advance() for _ in range(4)] == [[]] * 4
    (clip,) = recording
    assert clip.duration == recording.duration == 2.0


def test_stage_times_only_grow():
    recording = recording_of(hum(90))
    seen = [recording.times, *(recording.times for _ in recording)]
    for one, other in pairwise(seen):
        assert 0 <= one.decode <= other.decode
        assert 0 <= one.segment <= other.segment


def clips_of(seconds):
    options = TranscribeOptions()
    return [Clip(Span(0, np.zeros(round(s * 100), np.float32)), options) for s in seconds]


@given(st.lists(st.floats(0.01, 30), max_size=20), st.floats(1, 60))
def test_batches_keep_order_and_fit_when_padded(seconds, limit):
    clips = clips_of(seconds)
    limit *= 100 / SAMPLE_RATE
    groups = list(batches(iter(clips), limit))
    assert [clip for group in groups for clip in group] == clips
    for group in groups:
        assert group
        longest = max(clip.duration for clip in group)
        assert len(group) == 1 or longest * len(group) <= limit


def test_batches_are_filled():
    limit = 100 * 100 / SAMPLE_RATE
    assert [len(group) for group in batches(iter(clips_of([25] * 9)), limit)] == [4, 4, 1]
