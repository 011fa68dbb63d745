"""Settings of live sessions."""

import pytest

from predictor.engine.errors import InvalidOption
from predictor.engine.live import TurnDetection
from predictor.server.realtime_session import Session, from_old


def audio(**values):
    return {"audio": {"input": values}}


def test_defaults_are_openais():
    session = Session()
    assert session.audio.input.format.rate == 24_000
    assert session.detection == TurnDetection(0.5, 300, 500)
    assert session.options().timestamps == "word"
    assert session.to_dict()["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
    }


def test_an_update_changes_what_it_mentions():
    session = Session().updated(audio(turn_detection={"silence_duration_ms": 900}))
    session = session.updated(audio(transcription={"language": "zh", "use_itn": False}))
    session = session.updated(audio(transcription={"prompt": "x"}, noise_reduction=None))
    assert session.detection == TurnDetection(0.5, 300, 900)
    assert session.options().language == ("zh",)
    assert not session.options().use_itn
    session = session.updated(audio(turn_detection=None))
    assert session.detection is None
    assert session.updated(audio(turn_detection={"type": "server_vad"})).detection is not None


def test_a_format_comes_whole():
    session = Session().updated(audio(format={"type": "audio/pcm", "rate": 48_000}))
    session = session.updated(audio(format={"type": "audio/opus"}))
    assert session.audio.input.format.type == "audio/opus"


@pytest.mark.parametrize(
    ("update", "words"),
    [
        ({"type": "realtime"}, "session.type: should be 'transcription'"),
        ({"voice": "x"}, "session.voice: unknown field"),
        (audio(format={"type": "audio/mp3"}), "session.audio.input.format.type: should be"),
        (audio(format={"type": "audio/pcm", "rate": 44_100}), "rate: should be 8000, 16000"),
        (audio(transcription={"language": "xx"}), "option 'language': unknown code 'xx'"),
        (audio(transcription={"language": "zh", "languages": ["en"]}), "give either language"),
        (audio(turn_detection={"type": "semantic_vad"}), "turn_detection.type: should be"),
        (audio(turn_detection={"threshold": 2}), "threshold: should be less than 1"),
        (
            audio(turn_detection={"silence_duration_ms": 5}),
            "should be greater than or equal to 100",
        ),
        (audio(noise_reduction={"type": "near_field"}), "noise_reduction: should be None"),
        ({"include": ["all"]}, "session.include.0: should be 'item.input_audio"),
        ({"audio": 3}, "session.audio"),
    ],
)
def test_wrong_updates(update, words):
    with pytest.raises(InvalidOption, match=words):
        Session().updated(update)


def test_the_older_event():
    update = from_old(
        {
            "input_audio_format": "g711_ulaw",
            "input_audio_transcription": {"model": "whisper-1", "language": "ja"},
            "turn_detection": None,
            "include": ["item.input_audio_transcription.logprobs"],
        }
    )
    session = Session().updated(update)
    assert session.audio.input.format.type == "audio/pcmu"
    assert session.options().language == ("ja",)
    assert session.detection is None
    assert session.logprobs
    with pytest.raises(InvalidOption, match="input_audio_format: 'mp3' is not known; known: pcm16"):
        from_old({"input_audio_format": "mp3"})
