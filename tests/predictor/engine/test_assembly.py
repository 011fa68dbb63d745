"""What the network heard in the clips → one transcript."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from predictor.engine.assembly import Hypothesis, assemble
from predictor.engine.decoding import Tags, Token
from predictor.engine.recording import Recording
from predictor.engine.types import SAMPLE_RATE, StageTimes, Tag, TranscribeOptions

pytestmark = pytest.mark.usefixtures("loudness_detector")

FRAME = 0.06
WINDOW, STEP = 30.0, 25.98


def tags(language="zh", emotion="HAPPY", event="Speech", confidence=0.9):
    def tag(label):
        return Tag(label, confidence, {label: confidence, "other": 1 - confidence})

    return Tags(tag(language), tag(emotion), tag(event))


def heard(start, end, tokens=(), speech=True, channel=None, about=None):
    return Hypothesis(
        start, start, end, speech, channel, tuple(tokens), about or tags(), StageTimes(encoder=0.1)
    )


def exhausted(seconds, **options):
    blocks = iter([np.zeros((1, round(seconds * SAMPLE_RATE)), np.float32)])
    recording = Recording(blocks, TranscribeOptions.parse(options))
    list(recording)
    return recording


def tokens_of(tokenizer, text, first=5, apart=6):
    ids = tokenizer.encode(text)
    return [Token(i, first + apart * n, first + apart * n + 2, 0.9) for n, i in enumerate(ids)]


def transcript_of(tokenizer, hypotheses, seconds=60.0, **options):
    return assemble(exhausted(seconds, **options), hypotheses, tokenizer, FRAME)


def test_nothing_heard_is_no_speech(demo_tokenizer):
    transcript = transcript_of(demo_tokenizer, [], seconds=2.5)
    assert (transcript.text, transcript.segments, transcript.duration) == ("", (), 2.5)
    labels = [t.label for t in (transcript.language, transcript.emotion, transcript.event)]
    assert labels == ["nospeech", "EMO_UNKNOWN", "Event_UNK"]


def test_segments_are_in_order_of_start_and_their_texts_joined(demo_tokenizer):
    late = heard(10.0, 12.0, tokens_of(demo_tokenizer, "please"))
    early = heard(1.0, 3.0, tokens_of(demo_tokenizer, "hello"))
    transcript = transcript_of(demo_tokenizer, [late, early])
    assert transcript.text == "hello please"
    assert [(s.start, s.end, s.text) for s in transcript.segments] == [
        (1.0, 3.0, "hello"),
        (10.0, 12.0, "please"),
    ]


def test_what_no_voice_was_heard_in_has_its_event_and_no_text(demo_tokenizer):
    noise = heard(0, 30, tokens_of(demo_tokenizer, "hello"), speech=False, about=tags(event="BGM"))
    transcript = transcript_of(demo_tokenizer, [noise])
    assert transcript.text == ""
    assert transcript.language.label == "nospeech"
    assert transcript.event.label == "BGM"


def test_overall_tags_weigh_segments_by_duration(demo_tokenizer):
    transcript = transcript_of(
        demo_tokenizer,
        [
            heard(0, 1, about=tags("en", "SAD", confidence=0.9)),
            heard(1, 2, about=tags("en", "SAD", confidence=0.9)),
            heard(2, 10, about=tags("zh", "ANGRY", confidence=0.6)),
        ],
        distributions=True,
    )
    assert transcript.language.label == "zh"
    assert transcript.emotion.label == "ANGRY"
    assert transcript.language.distribution == pytest.approx(
        {"en": 0.18, "zh": 0.48, "other": 0.34}
    )
    assert transcript.language.confidence == pytest.approx(0.48)


@pytest.mark.parametrize("asked", [True, False])
def test_distributions_are_given_when_asked_for(demo_tokenizer, asked):
    transcript = transcript_of(demo_tokenizer, [heard(0, 1)], distributions=asked)
    for holder in (transcript, *transcript.segments):
        for tag in (holder.language, holder.emotion, holder.event):
            assert (tag.distribution is not None) is asked


@pytest.mark.parametrize(
    ("timestamps", "segments", "words"),
    [("none", False, False), ("segment", True, False), ("word", True, True)],
)
def test_times_are_given_as_asked_for(demo_tokenizer, timestamps, segments, words):
    clip = heard(2.0, 4.0, tokens_of(demo_tokenizer, "hello please"))
    transcript = transcript_of(demo_tokenizer, [clip], timestamps=timestamps)
    assert transcript.text == "hello please"
    assert (transcript.segments is not None) is segments
    if segments:
        assert (transcript.segments[0].words is not None) is words
    if words:
        assert [word.text for word in transcript.segments[0].words] == ["hello", "please"]
        assert transcript.segments[0].words[0].start == pytest.approx(2 + 4.5 * FRAME + 0.0125)


def test_stage_times_are_those_of_the_recording_and_the_clips(demo_tokenizer):
    recording = exhausted(1.0)
    transcript = assemble(recording, [heard(0, 1), heard(1, 2)], demo_tokenizer, FRAME)
    assert transcript.times == replace(recording.times, encoder=pytest.approx(0.2))


TEXT = "hello please turn on the light good morning the door is open please wait " * 3


@pytest.fixture
def windows(demo_tokenizer):
    """A recording of 80 s in three overlapping windows, each hearing the words that lie whole in it."""
    tokens = tokens_of(demo_tokenizer, TEXT, first=3, apart=round(1300 / len(TEXT) * 4))
    tokens = [token for token in tokens if token.end * FRAME < 80]
    hypotheses = []
    for start in (0.0, STEP, 2 * STEP):
        end = min(start + WINDOW, 80.0)
        first, last = round(start / FRAME), end / FRAME
        mine = [t.shifted(-first) for t in tokens if t.start >= first and t.end <= last]
        hypotheses.append(heard(start, end, mine))
    return tokens, hypotheses


def test_overlapping_windows_become_adjoining_segments(demo_tokenizer, windows):
    tokens, hypotheses = windows
    transcript = transcript_of(demo_tokenizer, hypotheses, 80.0, segmentation="overlap")
    assert transcript.text == demo_tokenizer.decode([token.id for token in tokens])
    edges = [(segment.start, segment.end) for segment in transcript.segments]
    assert edges[0][0] == 0.0
    assert edges[-1][1] == 80.0
    for one, other in pairwise(edges):
        assert one[1] == other[0]
        assert one[0] < one[1]


def test_words_of_overlapping_windows_keep_their_times_and_segments(demo_tokenizer, windows):
    tokens, hypotheses = windows
    transcript = transcript_of(
        demo_tokenizer, hypotheses, 80.0, segmentation="overlap", timestamps="word"
    )
    spoken = [word for segment in transcript.segments for word in segment.words]
    assert " ".join(word.text for word in spoken) == transcript.text
    starts = [t.start for t in tokens if demo_tokenizer.starts_word(t.id)]
    assert [word.start for word in spoken] == pytest.approx(
        [(start - 0.5) * FRAME + 0.0125 for start in starts]
    )
    for segment in transcript.segments:
        for word in segment.words:
            assert segment.start - FRAME <= word.start < word.end <= segment.end + FRAME


def test_windows_of_different_channels_are_not_joined(demo_tokenizer):
    both = [
        heard(0, 30, tokens_of(demo_tokenizer, "hello"), channel=0),
        heard(0, 30, tokens_of(demo_tokenizer, "hello"), channel=1),
    ]
    transcript = transcript_of(demo_tokenizer, both, 30.0, segmentation="overlap", channels="split")
    assert [(s.channel, s.start, s.end, s.text) for s in transcript.segments] == [
        (0, 0, 30, "hello"),
        (1, 0, 30, "hello"),
    ]


def test_windows_around_a_silent_one_are_not_joined(demo_tokenizer):
    """The window between them was silence, so they share nothing."""
    far = [
        heard(0, 30, tokens_of(demo_tokenizer, "hello")),
        heard(2 * STEP, 80, tokens_of(demo_tokenizer, "please")),
    ]
    transcript = transcript_of(demo_tokenizer, far, 80.0, segmentation="overlap")
    assert [(s.start, s.end, s.text) for s in transcript.segments] == [
        (0, 30, "hello"),
        (2 * STEP, 80, "please"),
    ]
