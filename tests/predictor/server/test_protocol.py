"""v1 requests ⇄ values: what is taken, and the sentence for everything that is not."""

import base64
import json
from typing import Any

import pytest

from predictor.engine.errors import (
    AudioTooLarge,
    InvalidAudio,
    InvalidRequest,
    Overloaded,
    SpeechError,
)
from predictor.engine.types import Tag, Transcript
from predictor.server.protocol import (
    BASE64_STEP,
    AudioUrl,
    Item,
    Limits,
    V1Body,
    V1Call,
    decode_base64,
)

LIMITS = Limits(max_audio_bytes=10_000_000, max_items=3)


def parse(request: Any) -> V1Call:
    return V1Body(json.dumps(request).encode()).parse(LIMITS)


def instance(**fields: Any) -> dict[str, Any]:
    return {"audio": {"b64": "QUJD"}, **fields}


def transcript(text: str) -> Transcript:
    tag = Tag("en", 0.5)
    return Transcript(text, tag, tag, tag, duration=1.0)


def test_audio_and_options() -> None:
    call = parse({"instances": [instance(language="en"), {"audio": {"url": "http://a/b"}}]})
    first, second = call.items
    assert isinstance(first, Item)
    assert isinstance(second, Item)
    assert first.audio == b"ABC"
    assert first.options.language == ("en",)
    assert second.audio == AudioUrl("http://a/b")


def test_large_audio() -> None:
    data = bytes(range(256)) * 30_000
    (item,) = parse({"instances": [{"audio": {"b64": base64.b64encode(data).decode()}}]}).items
    assert isinstance(item, Item)
    assert item.audio == data


@pytest.mark.parametrize(
    ("request_value", "sentence"),
    [
        ([], "body: must be a JSON object"),
        ({}, "instances: missing"),
        ({"instances": []}, "instances: empty"),
        ({"instances": "x"}, "instances: missing"),
        ({"instances": [instance()] * 4}, "instances: 4 items, the limit is 3"),
        ({"instances": [instance()], "extra": 1}, "body: unknown field 'extra'"),
        ({"instances": [instance()], "parameters": []}, "parameters: must be a JSON object"),
        ({"instances": [instance()], "parameters": {"x": 1}}, "option 'x' is unknown"),
    ],
)
def test_requests_that_are_wrong_as_a_whole(request_value: Any, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        parse(request_value)


@pytest.mark.parametrize(
    ("item", "sentence"),
    [
        (5, "instances[0]: must be a JSON object"),
        ({}, "instances[0].audio: missing"),
        ({"audio": "QUJD"}, "instances[0].audio: must be a JSON object"),
        ({"audio": {}}, "instances[0].audio: give exactly one of"),
        ({"audio": {"b64": "", "url": ""}}, "instances[0].audio: give exactly one of"),
        ({"audio": {"file": ""}}, "instances[0].audio: unknown field 'file'; known: b64, url"),
        ({"audio": {"b64": 5}}, "instances[0].audio.b64: must be a string"),
        ({"audio": {"url": 5}}, "instances[0].audio.url: must be a string"),
        (
            {"audio": {"url": "data:audio/wav;base64,QUJD"}},
            "instances[0].audio.url: must be an http",
        ),
        ({"audio": {"b64": "data:audio/wav;base64,QUJD"}}, "instances[0].audio.b64: is a data URL"),
        ({"audio": {"b64": "QUJD!"}}, "instances[0].audio.b64: not valid base64"),
        (
            instance(language="xx"),
            "instances[0]: option 'language': unknown code 'xx'; known codes",
        ),
        (instance(use_itn="yes"), "instances[0]: option 'use_itn'"),
        (instance(speed=1), "instances[0]: option 'speed' is unknown; known options"),
    ],
)
def test_an_item_that_is_wrong_stands_as_its_error(item: Any, sentence: str) -> None:
    (wrong, right) = parse({"instances": [item, instance()]}).items
    assert isinstance(wrong, InvalidRequest)
    assert str(wrong).startswith(sentence)
    assert isinstance(right, Item)


@pytest.mark.parametrize(
    "text", ["QUJ", "QUJD\n", "QU JD", "QUI=QUJD", "====", "QQ=", "Q-_D", "QUJDé", "QUJD="]
)
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(InvalidAudio, match="not valid base64"):
        decode_base64(text, "b64", LIMITS)


def test_padding_at_the_end_of_a_step_is_not_the_end() -> None:
    text = "A" * (BASE64_STEP - 2) + "==" + "AAAA"
    with pytest.raises(InvalidAudio, match="not valid base64"):
        decode_base64(text, "b64", LIMITS)


def test_the_size_limit_is_exact() -> None:
    limits = Limits(max_audio_bytes=7, max_items=1)
    for n_bytes in (6, 7):
        text = base64.b64encode(bytes(n_bytes)).decode()
        assert decode_base64(text, "b64", limits) == bytes(n_bytes)
    with pytest.raises(AudioTooLarge, match="the limit is 7 bytes"):
        decode_base64(base64.b64encode(bytes(10)).decode(), "b64", limits)


def test_predictions_are_in_order_and_an_error_stands_in_its_place() -> None:
    outcomes = [transcript("a"), InvalidAudio("audio: empty"), transcript("c")]
    first, second, third = V1Call(()).render(outcomes)["predictions"]
    assert (first["text"], third["text"]) == ("a", "c")
    assert second == {"error": {"code": "invalid_audio", "message": "audio: empty"}}


@pytest.mark.parametrize("outcomes", [[Overloaded("full")], [Overloaded("full"), InvalidAudio("")]])
def test_where_all_failed_the_first_error_is_the_answer(outcomes: list[SpeechError]) -> None:
    with pytest.raises(Overloaded, match="full"):
        V1Call(()).render(outcomes)
