"""Options as callers write them, and transcripts as JSON."""

import json
from dataclasses import FrozenInstanceError, fields

import pytest
from pydantic import ValidationError

from predictor.engine.errors import InvalidOption
from predictor.engine.types import (
    LANGUAGES,
    Segment,
    StageTimes,
    Tag,
    TranscribeOptions,
    Transcript,
    Waveform,
    Word,
)


@pytest.mark.parametrize(
    ("language", "codes"),
    [
        ("auto", ("auto",)),
        ("zh", ("zh",)),
        ("zh,en", ("en", "zh")),
        (" zh , en ", ("en", "zh")),
        (["zh", "en", "zh"], ("en", "zh")),
        (("yue",), ("yue",)),
        ({"ja", "nospeech"}, ("ja", "nospeech")),
        ("nospeech", ("nospeech",)),
    ],
)
def test_languages_are_a_code_a_list_or_a_comma_string(language, codes):
    assert TranscribeOptions.parse({"language": language}).language == codes


def test_defaults():
    options = TranscribeOptions.parse({})
    assert options == TranscribeOptions()
    assert options.model_dump() == {
        "language": ("auto",),
        "use_itn": True,
        "timestamps": "segment",
        "ban_emo_unk": False,
        "distributions": False,
        "rich": False,
        "channels": "mix",
        "segmentation": "vad",
    }


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"language": "fr"}, ["'language'", "'fr'", *LANGUAGES]),
        ({"language": "zh,fr,de"}, ["'language'", "'de', 'fr'"]),
        ({"language": ""}, ["'language'"]),
        ({"language": []}, ["'language'", "no code", "yue"]),
        ({"language": "auto,zh"}, ["'language'", "'auto' cannot be combined"]),
        ({"language": 7}, ["'language'", "a code, a comma-separated string or a list"]),
        ({"language": None}, ["'language'"]),
        ({"timestamps": "words"}, ["'timestamps'", "'none'", "'segment'", "'word'"]),
        ({"channels": "left"}, ["'channels'", "'mix'", "'split'"]),
        ({"segmentation": "none"}, ["'segmentation'", "'vad'", "'overlap'"]),
        ({"use_itn": "yes"}, ["'use_itn'", "boolean"]),
        ({"rich": 1}, ["'rich'", "boolean"]),
        ({"lang": "zh"}, ["'lang' is unknown", "language", "use_itn", "segmentation"]),
        ({"language": "xx", "rich": 3}, ["'language'", "'rich'"]),
        ({"lang": "zh", "rich": 3}, ["'lang' is unknown"]),
    ],
)
def test_messages_name_the_option_and_what_it_may_be(options, parts):
    with pytest.raises(InvalidOption) as caught:
        TranscribeOptions.parse(options)
    for part in parts:
        assert part in caught.value.message
    assert "\n" not in caught.value.message


def test_options_cannot_be_changed():
    with pytest.raises(ValidationError):
        TranscribeOptions().rich = True


TAG = Tag("zh", 0.123456, {"zh": 0.123456, "en": 0.876544})


def transcript(**changes):
    values = {"text": "好。", "language": TAG, "emotion": TAG, "event": TAG, "duration": 1.23456789}
    return Transcript(**{**values, **changes})


def test_what_was_not_asked_for_is_absent():
    plain = Tag("zh", 1.0)
    out = transcript(language=plain, emotion=plain, event=plain).to_dict()
    assert set(out) == {"text", "language", "emotion", "event", "duration", "times"}
    assert out["language"] == {"label": "zh", "confidence": 1.0}


def test_what_was_asked_for_is_there():
    segment = Segment(0.0, 1.0, "好。", TAG, TAG, TAG, (Word("好", 0.1, 0.2, 0.9),), channel=0)
    out = transcript(segments=(segment,), rich="好。😊").to_dict()
    assert out["rich"] == "好。😊"
    assert out["segments"][0]["channel"] == 0
    assert out["segments"][0]["words"] == [
        {"text": "好", "start": 0.1, "end": 0.2, "confidence": 0.9}
    ]
    assert out["language"]["distribution"] == {"zh": 0.1235, "en": 0.8765}


def test_unknown_word_times_are_null_and_words_not_asked_for_absent():
    lone = Segment(0.0, 1.0, "…", TAG, TAG, TAG, (Word("…", None, None, 0.0),))
    none = Segment(1.0, 2.0, "", TAG, TAG, TAG)
    first, second = transcript(segments=(lone, none)).to_dict()["segments"]
    assert first["words"] == [{"text": "…", "start": None, "end": None, "confidence": 0.0}]
    assert "words" not in second
    assert "channel" not in second


def test_an_audio_without_segments_says_so():
    assert transcript(segments=()).to_dict()["segments"] == []


def test_transcripts_are_json_with_numbers_rounded():
    out = transcript(times=StageTimes(decode=0.123456)).to_dict()
    assert json.loads(json.dumps(out, allow_nan=False)) == out
    assert out["duration"] == 1.2346
    assert out["times"]["decode"] == 0.1235


@pytest.mark.parametrize("value", [TAG, transcript(), Word("a", 0.0, 1.0, 1.0), StageTimes()])
def test_results_cannot_be_changed(value):
    with pytest.raises(FrozenInstanceError):
        setattr(value, fields(value)[0].name, "other")


def test_stage_times_add_up_and_scale():
    total = StageTimes(decode=1.0, encoder=2.0) + StageTimes(decode=0.5, queue=3.0)
    assert total == StageTimes(decode=1.5, encoder=2.0, queue=3.0)
    assert total * 0.5 == StageTimes(decode=0.75, encoder=1.0, queue=1.5)


def test_a_waveform_knows_its_length():
    assert Waveform([0.0] * 4000, 8000).duration == 0.5
