"""Forms of OpenAI's API → calls."""

import pytest

from predictor.engine.errors import InvalidOption, InvalidRequest
from predictor.server.form import Form
from predictor.server.openai_request import parse_request


def call(**fields):
    given = {"model": "whisper-1", **fields}
    values = {name: v if isinstance(v, list) else [v] for name, v in given.items()}
    return parse_request(Form(values, {"file": b"audio"}))


def test_defaults():
    wanted = call()
    assert (wanted.model, wanted.stream, wanted.item.audio) == ("whisper-1", False, b"audio")
    assert wanted.answer.response_format == "json"
    options = wanted.item.options
    assert (options.language, options.use_itn, options.timestamps) == (("auto",), True, "segment")


@pytest.mark.parametrize(
    ("fields", "language"),
    [
        ({"language": "yue"}, ("yue",)),
        ({"language": "auto"}, ("auto",)),
        ({"languages": ["zh", "en"]}, ("en", "zh")),
    ],
)
def test_languages(fields, language):
    assert call(**fields).item.options.language == language


@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
def test_what_has_times_asks_for_words(response_format):
    assert call(response_format=response_format).item.options.timestamps == "word"


def test_fields_without_effect_are_taken():
    wanted = call(prompt="x", temperature="0.3", keywords=["y"], chunking_strategy="auto")
    assert wanted.item == call().item


@pytest.mark.parametrize("text", ["true", "True", "1"])
def test_booleans(text):
    wanted = call(stream=text, use_itn=text)
    assert wanted.stream
    assert wanted.item.options.use_itn
    assert not call(use_itn="false").item.options.use_itn


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": ""}, "model: missing"),
        ({"temprature": "0"}, "body: unknown field 'temprature'; known: file, model"),
        ({"temperature": ["0", "1"]}, "temperature: given 2 times"),
        ({"languages": ["zh"], "language": "en"}, "languages: give either"),
    ],
)
def test_wrong_forms(fields, words):
    with pytest.raises(InvalidRequest, match=words):
        call(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"language": "english"}, "option 'language': unknown code 'english'; known codes: auto"),
        ({"languages": ["zh", "auto"]}, "'auto' cannot be combined"),
        ({"response_format": "diarized_json"}, "response_format: 'diarized_json' is not known"),
        ({"response_format": "srt", "stream": "true"}, "srt cannot be streamed"),
        ({"temperature": "1.1"}, "temperature: must be a number from 0 to 1"),
        ({"temperature": "nan"}, "temperature: must be a number from 0 to 1"),
        ({"temperature": "warm"}, "temperature: must be a number from 0 to 1, not 'warm'"),
        ({"stream": "yes"}, "stream: must be true or false, not 'yes'"),
        ({"timestamp_granularities": ["word"]}, "timestamp_granularities: needs response_format"),
        (
            {"response_format": "verbose_json", "timestamp_granularities": ["letter"]},
            "'letter' is not known; known: segment, word",
        ),
        ({"response_format": "text", "include": ["logprobs"]}, "include: logprobs needs"),
        ({"include": ["tokens"]}, "include: 'tokens' is not known"),
        ({"chunking_strategy": "server_vad"}, "chunking_strategy: must be 'auto'"),
        ({"known_speaker_names": ["A"]}, "known_speaker_names: not served"),
    ],
)
def test_wrong_options(fields, words):
    with pytest.raises(InvalidOption, match=words):
        call(**fields)


def test_a_file_is_needed():
    with pytest.raises(InvalidRequest, match="file: missing"):
        parse_request(Form({"model": ["whisper-1"]}, {}))
