"""Transcripts in OpenAI's formats."""

import math

import pytest

from predictor.engine.types import NO_SPEECH, Segment, Tag, Transcript, Word
from predictor.server.openai_answer import Answer, Events

HAPPY, SPEECH = Tag("HAPPY", 0.87654321), Tag("Speech", 0.9)
LANGUAGE = Tag("en", 0.75, {"en": 0.75, NO_SPEECH: 0.125})


def segment(start, text, *words, language=LANGUAGE):
    return Segment(start, start + 2, text, language, HAPPY, SPEECH, words)


HELLO = segment(0.0, "Hello ,", Word("Hello", 0.1, 0.5, 0.5), Word(",", None, None, 0.0))
GOOD = segment(3.5, "好。", Word("好。", 3.6, 3.9, 0.25))
SILENT = segment(6.0, "", language=Tag(NO_SPEECH, 1.0, {NO_SPEECH: 1.0}))


def transcript(*segments, language=LANGUAGE):
    text = "".join(each.text for each in segments)
    return Transcript(text, language, HAPPY, SPEECH, 8.00004, segments)


def test_verbose_json():
    answer = Answer("verbose_json", ("segment", "word")).whole(transcript(HELLO, GOOD, SILENT))
    assert answer["language"] == "en"
    assert answer["duration"] == 8.0
    assert answer["usage"] == {"type": "duration", "seconds": 8.0}
    assert answer["emotion"] == {"label": "HAPPY", "confidence": 0.8765}
    first, second, silent = answer["segments"]
    assert (first["id"], first["start"], first["end"], first["text"]) == (0, 0.0, 2.0, "Hello ,")
    assert first["avg_logprob"] == pytest.approx(math.log(0.5), abs=1e-4)
    assert first["no_speech_prob"] == 0.125
    assert first["event"] == {"label": "Speech", "confidence": 0.9}
    assert second["seek"] == 350
    assert (silent["language"], silent["no_speech_prob"], silent["avg_logprob"]) == (
        NO_SPEECH,
        1.0,
        0.0,
    )
    # A sign by itself has no place in time, and none is invented.
    assert [word["word"] for word in answer["words"]] == ["Hello", "好。"]
    assert answer["words"][0] == {"word": "Hello", "start": 0.1, "end": 0.5, "confidence": 0.5}


@pytest.mark.parametrize("granularities", [("segment",), ("word",)])
def test_only_what_was_asked_for(granularities):
    answer = Answer("verbose_json", granularities).whole(transcript(HELLO))
    assert {"segments", "words"} & set(answer) == {f"{granularities[0]}s"}


def test_json():
    assert Answer("json").whole(transcript(HELLO)) == {
        "text": "Hello ,",
        "languages": [{"code": "en"}],
        "usage": {"type": "duration", "seconds": 8.0},
    }
    silence = Answer("json").whole(transcript(language=Tag(NO_SPEECH, 1.0)))
    assert silence["languages"] == []


def test_logprobs_are_of_words():
    first, comma = Answer("json", logprobs=True).whole(transcript(HELLO))["logprobs"]
    assert first == {"token": "Hello", "bytes": list(b"Hello"), "logprob": -0.6931}
    assert comma["logprob"] is None


def test_texts():
    assert Answer("text").whole(transcript(HELLO)) == "Hello ,\n"
    assert Answer("srt").whole(transcript(GOOD)) == "1\n00:00:03,500 --> 00:00:05,500\n好。\n"
    assert Answer("vtt").whole(transcript(GOOD)) == (
        "WEBVTT\n\n00:00:03.500 --> 00:00:05.500\n好。\n"
    )


def test_events_add_up_to_the_text():
    events = Events(Answer("json", logprobs=True))
    made = [event for each in (HELLO, SILENT, HELLO, GOOD) for event in events.on_segment(each)]
    deltas = [event["delta"] for event in made if event["type"] == "transcript.text.delta"]
    assert deltas == ["Hello ,", " Hello ,", "好。"]
    segments = [event for event in made if event["type"] == "transcript.text.segment"]
    assert [event["id"] for event in segments] == ["seg_0", "seg_1", "seg_2", "seg_3"]
    assert segments[1]["language"] == NO_SPEECH
    done = events.on_end(transcript(HELLO))
    assert done["type"] == "transcript.text.done"
    assert len(done["logprobs"]) == 5
