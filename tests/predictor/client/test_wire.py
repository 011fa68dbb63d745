import httpx
import numpy as np
import orjson
import pytest

from predictor.client.wire import Options, error_text, message, transcript
from predictor.engine.types import Segment, StageTimes, Tag, TranscribeOptions, Transcript, Word


def test_a_file_follows_its_head_as_it_is():
    sent = message(b"RIFF", {"language": "zh"})
    length = int(sent.headers["Inference-Header-Content-Length"])
    head = orjson.loads(sent.content[:length])
    assert sent.content[length:] == b"RIFF"
    assert head["parameters"] == {"language": "zh"}
    assert head["inputs"] == [
        {"name": "audio", "datatype": "UINT8", "shape": [4], "parameters": {"binary_data_size": 4}}
    ]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "f8"])
def test_samples_go_as_little_endian_float32(dtype):
    samples = np.array([0.5, -1.0, 0.25], dtype)
    sent = message(samples, {}, 8000)
    length = int(sent.headers["Inference-Header-Content-Length"])
    assert orjson.loads(sent.content[:length])["parameters"] == {"sample_rate": 8000}
    assert np.frombuffer(sent.content[length:], "<f4").tolist() == samples.tolist()


def test_options_are_those_of_the_engine():
    assert set(Options.__annotations__) == set(TranscribeOptions.model_fields)


def test_a_transcript_survives_the_way():
    tag = Tag("en", 0.5, {"en": 0.5, "zh": 0.25})
    words = (Word("hi", 0.5, 1.0, 0.25), Word("!", None, None, 0.5))
    segment = Segment(0.0, 1.5, "hi!", tag, Tag("SAD", 1.0), Tag("BGM", 0.5), words, channel=1)
    whole = Transcript(
        "hi!",
        tag,
        Tag("SAD", 1.0),
        Tag("BGM", 0.5),
        1.5,
        (segment,),
        "hi!😔",
        StageTimes(encoder=0.5),
    )
    data = orjson.dumps(whole.to_dict()).decode()
    body = {"outputs": [{"name": "transcript", "data": [data]}]}
    request = httpx.Request("POST", "http://s")
    assert transcript(httpx.Response(200, json=body, request=request)) == whole


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"error": "no"}', "no"),
        (b'{"error": {"code": 1}}', "{'code': 1}"),
        (b'"a string"', '"a string"'),
        (b"[]", "[]"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"  ", "Bad Gateway"),
        (b"x" * 1000, "x" * 400),
    ],
)
def test_an_errors_text(body, text):
    assert error_text(httpx.Response(502, content=body)) == text
