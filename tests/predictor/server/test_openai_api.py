"""OpenAI's own client against the real server and the embedded model."""

import asyncio
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from predictor.engine.audio import decode
from predictor.server.openai_error import error_value

NAME = "sensevoice"


@pytest.fixture(scope="module")
def evaluation(demo_model_dir: Path) -> Path:
    return demo_model_dir / "evaluation"


@pytest.fixture(scope="module")
def rows(evaluation: Path) -> dict[str, Any]:
    """What was said in each clip, by its name."""
    lines = (evaluation / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {Path(row["audio"]).stem: row for row in map(json.loads, lines)}


@pytest.fixture(scope="module")
def long_file(evaluation: Path) -> bytes:
    """Minutes of clips with pauses between them."""
    pause = np.zeros(16_000, np.float32)
    pieces = [pause]
    for path in sorted(evaluation.glob("en-*.opus")) * 2:
        pieces += [np.concatenate([b[0] for b in decode(path.read_bytes(), 60)]), pause]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(pieces), 16_000, format="FLAC")
    return file.getvalue()


PREFIXES = ("/v1", "/openai/v1")


@pytest.fixture(scope="module")
def client(demo_served: Any) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo_served.http}/v1", api_key="none", max_retries=0) as it:
        yield it


@pytest.fixture
async def aclient(demo_served: Any) -> Any:
    async with openai.AsyncOpenAI(
        base_url=f"{demo_served.http}/v1", api_key="none", max_retries=0
    ) as it:
        yield it


@pytest.fixture(scope="module")
def text(demo_served: Any, evaluation: Path) -> str:
    """What the v2 protocol answers for the first English clip."""
    answer = httpx.post(
        f"{demo_served.http}/v2/models/{NAME}/infer",
        content=(evaluation / "en-001.opus").read_bytes(),
        headers={"inference-header-content-length": "0"},
    )
    return str(answer.json()["outputs"][0]["data"][0])


# Answers


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("model", [NAME, "whisper-1"])
def test_json(client, demo_served, evaluation, text, model, prefix):
    here = client.with_options(base_url=demo_served.http + prefix)
    with (evaluation / "en-001.opus").open("rb") as file:
        answer = here.audio.transcriptions.create(model=model, file=file)
    assert answer.text == text
    assert answer.usage.type == "duration"
    assert [language.code for language in answer.languages] == ["en"]


def test_verbose_json(client, evaluation, text, rows):
    answer = client.audio.transcriptions.create(
        model=NAME,
        file=evaluation / "en-001.opus",
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        prompt="phones",
        temperature=0.2,
    )
    assert (answer.text, answer.language) == (text, "en")
    assert 0 < answer.duration < 10
    (segment,) = answer.segments
    assert segment.text == text
    assert segment.avg_logprob < 0
    assert segment.no_speech_prob < 0.1
    assert segment.emotion["label"] == rows["en-001"]["emotion"]
    assert 0 <= answer.event["confidence"] <= 1
    assert [word.word for word in answer.words] == text.split()
    ends = [time for word in answer.words for time in (word.start, word.end)]
    assert ends == sorted(ends)
    assert ends[-1] <= answer.duration


@pytest.mark.parametrize("response_format", ["text", "srt", "vtt"])
def test_texts(client, evaluation, text, response_format):
    answer = client.audio.transcriptions.create(
        model=NAME, file=evaluation / "en-001.opus", response_format=response_format
    )
    assert isinstance(answer, str)
    assert text in answer
    assert {"text": answer == f"{text}\n", "srt": "," in answer, "vtt": answer[:6] == "WEBVTT"}[
        response_format
    ]


@pytest.mark.parametrize(("language", "clip"), [("zh", "zh-001"), ("ja", "ja-001")])
def test_language_and_itn(client, evaluation, language, clip):
    answers = [
        client.audio.transcriptions.create(
            model=NAME,
            file=evaluation / f"{clip}.opus",
            language=language,
            response_format="verbose_json",
            extra_body={"use_itn": itn},
        )
        for itn in (True, False)
    ]
    assert [answer.language for answer in answers] == [language] * 2
    assert answers[0].text.endswith("。")
    assert not answers[1].text.endswith("。")


def test_logprobs(client, evaluation, text):
    answer = client.audio.transcriptions.create(
        model=NAME, file=evaluation / "en-001.opus", include=["logprobs"]
    )
    assert [each.token for each in answer.logprobs] == text.split()
    assert all(each.logprob <= 0 for each in answer.logprobs)
    assert bytes(map(int, answer.logprobs[0].bytes)).decode() == answer.logprobs[0].token


def test_headers(client, evaluation):
    raw = client.audio.transcriptions.with_raw_response.create(
        model=NAME,
        file=evaluation / "en-002.opus",
        extra_headers={"x-request-id": "mine"},
    )
    assert raw.headers["x-request-id"] == "mine"
    assert raw.headers["x-model-name"] == NAME
    assert "inference;dur=" in raw.headers["server-timing"]
    assert raw.parse().text


async def test_async(aclient, evaluation, text):
    file = ("clip.opus", (evaluation / "en-001.opus").read_bytes())
    assert (await aclient.audio.transcriptions.create(model=NAME, file=file)).text == text


# Streams


def test_a_stream_of_one_clip(client, evaluation, text):
    with client.audio.transcriptions.create(
        model=NAME, file=evaluation / "en-001.opus", stream=True
    ) as stream:
        delta, segment, done = stream
    assert delta.delta == segment.text == done.text == text
    assert segment.emotion["label"] == "NEUTRAL"
    assert done.languages[0].code == "en"
    assert done.usage.type == "duration"


async def test_segments_come_while_the_rest_is_being_transcribed(aclient, long_file, samples):
    """What streams is what comes whole, and the first of it comes while clips still wait."""
    whole = await aclient.audio.transcriptions.create(
        model=NAME, file=("long.flac", long_file), response_format="verbose_json"
    )
    metrics = str(aclient.base_url).removesuffix("v1/") + "metrics"
    stream = await aclient.audio.transcriptions.create(
        model=NAME, file=("long.flac", long_file), stream=True
    )
    running: list[float] = []
    events = []
    async with stream, httpx.AsyncClient() as http:
        async for event in stream:
            if not events:
                seen = samples((await http.get(metrics)).text)
                running.append(seen["sensevoice_requests_running"])
            events.append(event)
    assert running == [1.0]
    *segments, done = [event for event in events if event.type != "transcript.text.delta"]
    assert done.text == whole.text
    assert len(segments) > 20
    assert [(each.start, each.end, each.text) for each in segments] == [
        (each.start, each.end, each.text) for each in whole.segments
    ]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == whole.text


async def test_a_client_that_leaves_a_stream_frees_the_server(demo_served, long_file, samples):
    url = f"{demo_served.http}/v1/audio/transcriptions"
    name = "sensevoice_requests_total outcome=cancelled protocol=openai reason=cancelled"
    async with httpx.AsyncClient() as http:

        async def seen() -> dict[str, float]:
            return samples((await http.get(f"{demo_served.http}/metrics")).text)

        before = (await seen()).get(name, 0)
        form = {"model": NAME, "stream": "true"}
        async with http.stream("POST", url, data=form, files={"file": long_file}) as answer:
            async for line in answer.aiter_lines():
                assert line.startswith("data: ")
                break
        while (await seen()).get(name, 0) == before:
            pass
        assert (await seen())["sensevoice_requests_running"] == 0


async def test_an_error_in_the_middle_is_the_last_event(demo_served, evaluation):
    """A file with a wrong length in its header is found out at its end, and this one's end cannot be
    decoded before its beginning is done: it holds more than a request may have in the queue."""
    clips = [
        block[0]
        for path in sorted(evaluation.glob("en-*.opus"))
        for block in decode(path.read_bytes(), 60)
    ]
    samples = np.concatenate(clips * 3)
    wav = io.BytesIO()
    soundfile.write(wav, samples, 16_000, format="WAV")
    cut = wav.getvalue()[: len(wav.getvalue()) * 3 // 4]
    events: list[Any] = []
    with openai.OpenAI(base_url=f"{demo_served.http}/v1", api_key="none") as client:
        stream = client.audio.transcriptions.create(model=NAME, file=("cut.wav", cut), stream=True)
        with pytest.raises(openai.APIError, match="audio: truncated, it declares") as error:
            events.extend(stream)
    assert len(events) > 2
    assert error.value.code == "invalid_audio"


# Errors


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "param", "code", "words"),
    [
        ({"language": "xx"}, "language", "invalid_option", "unknown code 'xx'; known codes: auto"),
        ({"file": ("a.wav", b"")}, "file", "invalid_audio", "audio: empty, 0 bytes"),
        ({"file": ("a.wav", b"no")}, "file", "invalid_audio", "audio: not in a known audio format"),
        ({"extra_body": {"pormpt": 1}}, None, "invalid_request", "unknown field 'pormpt'"),
        ({"temperature": 2}, "temperature", "invalid_option", "from 0 to 1, not '2'"),
    ],
)
def test_bad_requests(client, evaluation, fields, param, code, words, stream):
    given = {"model": NAME, "file": evaluation / "en-001.opus", "stream": stream, **fields}
    with pytest.raises(openai.BadRequestError) as caught:
        client.audio.transcriptions.create(**given)
    error = caught.value
    assert words in error.message
    assert (error.param, error.code, error.type) == (param, code, "invalid_request_error")


def test_an_unknown_model(client, evaluation):
    with pytest.raises(openai.NotFoundError) as caught:
        client.audio.transcriptions.create(model="gpt-9", file=evaluation / "en-001.opus")
    assert caught.value.code == "model_not_found"
    assert caught.value.body["message"] == "Model with name gpt-9 does not exist."


@pytest.mark.parametrize("stream", [False, True])
def test_the_words_are_those_of_the_other_protocols(demo_served, stream):
    inferred = httpx.post(
        f"{demo_served.http}/v2/models/{NAME}/infer",
        content=b"no audio",
        headers={"inference-header-content-length": "0"},
    )
    answer = httpx.post(
        f"{demo_served.http}/v1/audio/transcriptions",
        data={"model": NAME, "stream": str(stream)},
        files={"file": b"no audio"},
    )
    assert answer.status_code == inferred.status_code == 400
    assert answer.json()["error"]["message"] == inferred.json()["error"]


def test_what_is_no_form(demo_served):
    answer = httpx.post(f"{demo_served.http}/v1/audio/transcriptions", json={"model": NAME})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("Content-Type: must be multipart")


def test_too_large_a_body_is_refused_before_it_is_read(served):
    """The other server takes 30 MB."""
    answer = httpx.post(
        f"{served.http}/v1/audio/transcriptions",
        data={"model": NAME},
        files={"file": bytes(45_000_000)},
        timeout=60,
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "audio_too_large"
    assert answer.headers["connection"] == "close"


async def test_too_many_requests(random_model_dir, start_server, tmp_path, long_file):
    """429 with Retry-After, which OpenAI's client knows and honours."""
    flags = ("--max_queue_seconds=0.001", "--max_batch_seconds=1")
    for server in start_server(random_model_dir, tmp_path / "log", *flags):
        async with openai.AsyncOpenAI(
            base_url=f"{server.http}/v1", api_key="none", max_retries=0
        ) as client:
            create = client.audio.transcriptions.create
            requests = [create(model=NAME, file=("l.flac", long_file)) for _ in range(4)]
            answers = await asyncio.gather(*requests, return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, openai.RateLimitError)]
        assert 1 <= len(refused) < 4
        for error in refused:
            assert (error.type, error.code) == ("rate_limit_error", "overloaded")
            assert int(error.response.headers["retry-after"]) >= 1


# Models


@pytest.mark.parametrize("prefix", PREFIXES)
def test_models_for_openais_client(client, demo_served, prefix):
    here = client.with_options(base_url=demo_served.http + prefix)
    assert [model.id for model in here.models.list()] == [NAME, "whisper-1"]
    assert here.models.retrieve(NAME).object == "model"
    with pytest.raises(openai.NotFoundError):
        here.models.retrieve("nix")


def test_models_for_kserves_clients(demo_served):
    assert httpx.get(f"{demo_served.http}/v1/models").json()["models"] == [NAME]
    ready = httpx.get(f"{demo_served.http}/v1/models/{NAME}").json()
    assert (ready["name"], ready["ready"]) == (NAME, True)
    unknown = httpx.get(f"{demo_served.http}/v1/models/nix")
    assert (unknown.status_code, unknown.json()) == (
        404,
        {"error": "Model with name nix does not exist."},
    )


def test_requests_are_counted(demo_served, samples):
    seen = samples(httpx.get(f"{demo_served.http}/metrics").text)
    assert seen["sensevoice_requests_total outcome=ok protocol=openai reason="] > 0
    assert seen["sensevoice_requests_total outcome=error protocol=openai reason=invalid_audio"] > 0


def test_errors_of_the_server_are_called_so():
    from predictor.server.errors import InternalError

    assert error_value(InternalError("it broke")) == {
        "message": "it broke",
        "type": "server_error",
        "param": None,
        "code": "internal",
    }
