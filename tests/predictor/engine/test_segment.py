"""Long audio → spans: nothing spoken is lost, no span is too long, memory stays bounded."""

import threading
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictor.engine import segment
from predictor.engine.segment import SPAN_SECONDS, OverlapSegmenter, Span, VadSegmenter
from predictor.engine.types import SAMPLE_RATE

LIMIT = round(SPAN_SECONDS * SAMPLE_RATE)


def noise(seconds, level=0.3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(-level, level, round(seconds * SAMPLE_RATE)).astype(np.float32)


def spans_of(segmenter, samples, block=SAMPLE_RATE):
    spans = []
    for at in range(0, len(samples), block):
        spans += segmenter.push(samples[at : at + block])
    return spans + segmenter.flush()


def places(spans):
    return [(span.start, span.end, span.speech) for span in spans]


def assert_true_to(samples, spans, limit=LIMIT):
    """Spans are pieces of the recording in order, apart from each other, none empty or too long."""
    for span in spans:
        assert 0 < len(span.samples) <= limit
        assert np.array_equal(span.samples, samples[span.start : span.end])
    for one, other in pairwise(spans):
        assert one.end <= other.start


@pytest.mark.parametrize("block", [97, 777, 16000, 100_000])
@pytest.mark.parametrize("length", [1, 15_999, 32_000, 32_001, 56_000, 56_001, 99_999])
def test_overlapping_windows_tile_the_recording(length, block):
    samples = noise(length / SAMPLE_RATE)
    spans = spans_of(OverlapSegmenter(2.0, 0.5), samples, block)
    assert [span.start for span in spans] == [24_000 * i for i in range(len(spans))]
    assert spans[-1].end == length
    for span in spans:
        assert np.array_equal(span.samples, samples[span.start : span.start + 32_000])
    for one, other in pairwise(spans):
        assert one.end - other.start == 8_000
        assert other.end > one.end


def test_overlapping_windows_start_on_whole_frames():
    spans = spans_of(OverlapSegmenter(), np.zeros(100 * SAMPLE_RATE, np.float32))
    assert all(span.start % 960 == 0 for span in spans)
    assert max(len(span.samples) for span in spans) == LIMIT


@pytest.mark.parametrize("segmenter", [OverlapSegmenter, VadSegmenter])
@pytest.mark.parametrize("seconds", [0.001, 5, 30])
def test_what_fits_one_span_is_kept_whole(segmenter, seconds):
    samples = noise(seconds)
    (span,) = spans_of(segmenter(), samples)
    assert (span.start, span.speech) == (0, True)
    assert np.array_equal(span.samples, samples)


@pytest.mark.parametrize("segmenter", [OverlapSegmenter, VadSegmenter])
def test_nothing_gives_no_span(segmenter):
    assert segmenter().flush() == []


@pytest.mark.parametrize(
    ("samples", "silent"),
    [(np.zeros(100), True), (np.full(100, 5e-5), True), (np.full(100, -1e-3), False), ([], True)],
)
def test_silence_is_told_by_its_peak(samples, silent):
    assert Span(0, np.array(samples, np.float32)).silent is silent


def strung(clips, gap):
    """Clips with ``gap`` seconds of faint noise around them → samples, (first, last) of each."""
    pieces, bounds, at = [noise(gap, 1e-4)], [], round(gap * SAMPLE_RATE)
    for seed, clip in enumerate(clips):
        loud = np.flatnonzero(np.abs(clip) > 0.05 * np.abs(clip).max())
        bounds.append((at + int(loud[0]), at + int(loud[-1])))
        pieces += [clip, noise(gap, 1e-4, seed)]
        at += len(clip) + len(pieces[-1])
    return np.concatenate(pieces), bounds


@pytest.fixture(scope="module")
def conversation(spoken):
    """More than a minute of speech with pauses of two seconds."""
    clips = [clip for language in sorted(spoken) for clip in spoken[language][:4]]
    samples, bounds = strung([clip.samples for clip in clips], gap=2.0)
    assert len(samples) > 60 * SAMPLE_RATE
    return samples, bounds


@pytest.fixture(scope="module")
def conversation_spans(conversation):
    return spans_of(VadSegmenter(), conversation[0])


def test_spans_are_where_the_speech_is(conversation, conversation_spans):
    samples, bounds = conversation
    spans = conversation_spans
    assert_true_to(samples, spans)
    tolerance = 0.4 * SAMPLE_RATE
    for first, last in bounds:
        own = [span for span in spans if span.start < last and span.end > first]
        assert own, f"speech at {first / SAMPLE_RATE:.1f} s was missed"
        assert abs(own[0].start - first) <= tolerance
        assert abs(own[-1].end - last) <= tolerance
    assert all(span.speech for span in spans)
    assert len(spans) >= len(bounds)


@pytest.mark.parametrize("block", [333, 48_001])
def test_spans_do_not_depend_on_the_blocks(conversation, conversation_spans, block):
    spans = spans_of(VadSegmenter(), conversation[0], block)
    assert places(spans) == places(conversation_spans)


@pytest.mark.parametrize("sound", ["noise", "tone", "silence"])
def test_a_minute_without_speech_gives_one_span_that_says_so(tone, sound):
    samples = {
        "noise": noise(60, 0.05),
        "tone": tone(440, 60),
        "silence": np.zeros(60 * SAMPLE_RATE, np.float32),
    }[sound]
    (span,) = spans_of(VadSegmenter(), samples)
    assert places([span]) == [(0, LIMIT, False)]


def test_unbroken_speech_is_cut_before_it_is_too_long(spoken):
    """Clips without the silence around them, strung together without a pause."""
    clips = [clip.samples for language in sorted(spoken) for clip in spoken[language]]
    speech = np.concatenate([clip[np.abs(clip) > 0.01] for clip in clips])[: 75 * SAMPLE_RATE]
    spans = spans_of(VadSegmenter(), speech)
    assert_true_to(speech, spans)
    assert sum(len(span.samples) for span in spans) > 0.8 * len(speech)


@pytest.mark.usefixtures("loudness_detector")
def test_speech_without_a_pause_is_cut_at_the_quietest_place():
    samples = noise(70)
    quiet = [round(second * SAMPLE_RATE) for second in (25, 50)]
    for at in quiet:
        samples[at : at + 1600] *= 0.2
    spans = spans_of(VadSegmenter(), samples)
    assert_true_to(samples, spans)
    for at, one, other in zip(quiet, spans, spans[1:], strict=False):
        assert at <= one.end == other.start <= at + 1600
    assert (spans[0].start, spans[-1].end) == (0, len(samples))


@pytest.mark.usefixtures("loudness_detector")
@pytest.mark.parametrize("extra", [1, 200, 255, 511, 512, 513])
def test_speech_a_little_longer_than_a_span_is_cut(extra):
    samples = noise((LIMIT + extra) / SAMPLE_RATE)
    assert_true_to(samples, spans_of(VadSegmenter(), samples))


@pytest.mark.usefixtures("loudness_detector")
def test_a_pause_at_the_end_of_a_span_gives_no_empty_span():
    """Speech is cut within the pause, whose end the detector then dates before the cut."""
    samples = noise(33)
    start, end = round(29.7 * SAMPLE_RATE), round(32 * SAMPLE_RATE)
    samples[start:end] = noise(2.3, 0.01)
    quietest = round(29.9 * SAMPLE_RATE)
    samples[quietest : quietest + 1024] = 0
    spans = spans_of(VadSegmenter(), samples)
    assert_true_to(samples, spans)
    assert abs(spans[-1].start - end) < 0.2 * SAMPLE_RATE


@st.composite
def loud_and_quiet(draw):
    """A recording of loud and quiet stretches, and which samples are loud."""
    stretches = draw(st.lists(st.floats(0.02, 3.0), min_size=2, max_size=14))
    return np.concatenate(
        [noise(s, 0.3 if i % 2 else 0.01, seed=i) for i, s in enumerate(stretches)]
    )


@pytest.mark.usefixtures("loudness_detector")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(loud_and_quiet(), st.sampled_from([500, 4_000, 16_000]))
def test_every_loud_sample_is_in_exactly_one_span(recording, block):
    spans = spans_of(VadSegmenter(span_seconds=2.0), recording, block)
    if len(recording) <= 2 * SAMPLE_RATE:
        assert places(spans) == [(0, len(recording), True)]
        return
    assert_true_to(recording, spans, limit=2 * SAMPLE_RATE)
    spoken = np.zeros(len(recording), bool)
    for span in spans:
        spoken[span.start : span.end] = span.speech
    # The detector judges whole windows: an incomplete one at the end is nobody's.
    whole = len(recording) // segment.VAD_WINDOW * segment.VAD_WINDOW
    assert spoken[:whole][np.abs(recording[:whole]) > 0.05].all()


def held(holder):
    """Samples that an object and its parts hold."""
    parts = [part for part in vars(holder).values() if part is not None]
    arrays = [len(part) for part in parts if isinstance(part, np.ndarray)]
    return sum(arrays) + sum(held(part) for part in parts if isinstance(part, segment.SpeechCutter))


@pytest.mark.usefixtures("loudness_detector")
@pytest.mark.parametrize(
    "level", [lambda second: 0.3, lambda second: 0.3 if second % 7 else 0.0, lambda second: 0.0]
)
def test_memory_stays_bounded_over_ten_minutes(level):
    """One span, a block, and the head kept in case nobody ever speaks."""
    for segmenter in (VadSegmenter(), OverlapSegmenter()):
        for second in range(600):
            segmenter.push(noise(1, level(second)))
            assert held(segmenter) <= 2 * LIMIT + 2 * SAMPLE_RATE


def test_torch_keeps_its_threads():
    torch.set_num_threads(2)
    try:
        spans_of(VadSegmenter(), noise(31, 0.05))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_segmenters_of_several_threads_do_not_disturb_each_other(conversation, conversation_spans):
    """Each recording has a detector of its own: it carries state from window to window."""
    results: list[list] = [[], []]

    def run(index):
        results[index] = places(spans_of(VadSegmenter(), conversation[0]))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [places(conversation_spans)] * 2
