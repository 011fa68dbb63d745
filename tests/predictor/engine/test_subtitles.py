"""Transcripts as SubRip subtitles."""

import pytest

from predictor.engine.subtitles import CUE_SECONDS, srt, vtt
from predictor.engine.types import Segment, Tag, Transcript, Word

TAG = Tag("en", 1.0)


def transcript(*segments):
    return Transcript("", TAG, TAG, TAG, 10.0, segments)


def segment(start, end, text, words=None):
    return Segment(start, end, text, TAG, TAG, TAG, words)


def spoken(*starts, length=0.4):
    """Words w0, w1, ... at the given seconds."""
    return tuple(Word(f"w{i}", start, start + length, 0.9) for i, start in enumerate(starts))


def cues(*segments):
    """(times, text) of each cue, whose numbers must count from 1."""
    blocks = srt(transcript(*segments)).strip().split("\n\n")
    parts = [block.split("\n") for block in blocks]
    assert [part[0] for part in parts] == [str(i) for i in range(1, len(parts) + 1)]
    return [(part[1], part[2]) for part in parts]


def test_segments_are_numbered_cues():
    assert srt(transcript(segment(0.5, 2.25, "hello"), segment(3661.0, 3662.0, "好"))) == (
        "1\n00:00:00,500 --> 00:00:02,250\nhello\n\n2\n01:01:01,000 --> 01:01:02,000\n好\n"
    )


def test_webvtt_has_the_same_cues():
    assert vtt(transcript(segment(0.5, 2.25, "a < b & c"), segment(3661.0, 3662.0, "好"))) == (
        "WEBVTT\n\n00:00:00.500 --> 00:00:02.250\na &lt; b &amp; c\n\n"
        "01:01:01.000 --> 01:01:02.000\n好\n"
    )
    assert vtt(transcript()) == "WEBVTT\n"


@pytest.mark.parametrize("segments", [None, (), (segment(0, 1, ""),)])
def test_nobody_speaking_gives_no_subtitles(segments):
    assert srt(Transcript("", TAG, TAG, TAG, 1.0, segments)) == ""


def test_segments_without_text_take_no_number():
    assert cues(segment(0, 1, ""), segment(1, 2, "hi")) == [("00:00:01,000 --> 00:00:02,000", "hi")]


def test_times_are_rounded_to_milliseconds():
    assert cues(segment(0.0004, 59.9996, "hi")) == [("00:00:00,000 --> 00:01:00,000", "hi")]


def test_a_short_segment_is_one_cue_however_it_pauses():
    (cue,) = cues(segment(0, CUE_SECONDS, "w0 w1", spoken(0.5, 6.0)))
    assert cue == ("00:00:00,000 --> 00:00:07,000", "w0 w1")


def test_a_long_segment_is_cut_at_pauses():
    assert cues(segment(0, 12, "w0 w1 w2 w3", spoken(1, 1.5, 4, 4.5))) == [
        ("00:00:01,000 --> 00:00:01,900", "w0 w1"),
        ("00:00:04,000 --> 00:00:04,900", "w2 w3"),
    ]


def test_a_cue_never_stays_too_long():
    words = spoken(*(i * 0.5 for i in range(40)))
    found = cues(segment(0, 20.4, "…", words))
    assert " ".join(text for _, text in found) == " ".join(word.text for word in words)
    assert len(found) == 3
    for times, _ in found:
        start, end = (float(time[6:].replace(",", ".")) for time in times.split(" --> "))
        assert 0 < end - start <= CUE_SECONDS


def test_words_without_times_stay_with_their_neighbours():
    words = (Word("…", None, None, 0.0), *spoken(1, 5))
    assert cues(segment(0, 9, "… w0 w1", words)) == [
        ("00:00:01,000 --> 00:00:01,400", "… w0"),
        ("00:00:05,000 --> 00:00:05,400", "w1"),
    ]


def test_characters_of_scripts_without_spaces_are_not_spaced():
    words = tuple(Word(c, i * 1.0, i + 0.9, 0.9) for i, c in enumerate("今天好"))
    assert cues(segment(0, 8, "今天好", words))[0][1] == "今天好"
