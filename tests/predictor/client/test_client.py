"""Both clients against a real predictor, and against a server that is slow to come."""

import asyncio
import inspect
import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from predictor.client import (
    AsyncClient,
    Client,
    InvalidAnswer,
    Patience,
    Refused,
    ServiceError,
    Unavailable,
)
from predictor.engine.audio import decode
from predictor.engine.types import Transcript

ONCE = Patience(0)


class Awaited:
    """The asynchronous client, awaited method by method, so that a test is written once."""

    def __init__(self, *arguments, **options):
        self._runner = asyncio.Runner()
        self._client = AsyncClient(*arguments, **options)

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
        self._runner.close()


@pytest.fixture(params=[Client, Awaited], ids=["sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def clip(demo_model_dir):
    return demo_model_dir / "evaluation" / "en-001.opus"


def test_a_path_bytes_and_samples_give_the_same_text(kind, demo_served, clip):
    samples = np.concatenate([block[0] for block in decode(clip.read_bytes(), 60)])
    with kind(demo_served.http) as client:
        found = [
            client.transcribe(audio) for audio in (clip, str(clip), clip.read_bytes(), samples)
        ]
    assert {one.text for one in found} == {"I want 8 blue phones."}
    assert found[0].language.label == "en"
    assert found[0].duration == pytest.approx(1.6754)
    assert found[0].times.encoder > 0


def test_options_reach_the_service(kind, demo_served, clip):
    with kind(demo_served.http) as client:
        found = client.transcribe(
            clip, language=["en", "zh"], use_itn=False, timestamps="word", distributions=True
        )
    assert found.text == "i want eight blue phones"
    assert set(found.language.distribution) == {"en", "zh", "nospeech"}
    words = found.segments[0].words
    assert [word.text for word in words] == found.text.split()
    assert all(0 < word.confidence <= 1 for word in words)


def test_samples_of_another_rate(kind, demo_served, clip):
    samples = np.concatenate([block[0] for block in decode(clip.read_bytes(), 60)])
    with kind(demo_served.http) as client:
        found = client.transcribe(samples[::2], sample_rate=8000)
    assert found.duration == pytest.approx(1.6754, abs=0.01)


@pytest.mark.parametrize(
    ("audio", "options", "sentence"),
    [
        (b"no audio at all", {}, "audio: not in a known audio format, or damaged at its start"),
        (b"", {}, "audio"),
        (b"x", {"language": "de"}, "option 'language': unknown code 'de'; known codes: auto, zh"),
        (b"x", {"volume": 3}, "option 'volume' is unknown; known options: language, use_itn"),
    ],
)
def test_a_refusal_has_the_services_own_sentence(kind, demo_served, audio, options, sentence):
    with kind(demo_served.http) as client, pytest.raises(Refused) as refused:
        client.transcribe(audio, **options)
    assert sentence in refused.value.message
    assert refused.value.status == 400
    assert str(refused.value).endswith("(status 400)")


def test_an_unknown_model_is_refused(kind, demo_served, clip):
    with kind(demo_served.http, model_name="whisper") as client:
        with pytest.raises(Refused, match="whisper") as refused:
            client.transcribe(clip)
        assert not client.ready()
    assert refused.value.status == 404


def test_many_come_back_in_order_with_failures_in_their_places(
    kind, demo_served, demo_model_dir, capsys
):
    clips = sorted((demo_model_dir / "evaluation").glob("zh-*.opus"))[:6]
    with kind(demo_served.http) as client:
        alone = [client.transcribe(clip).text for clip in clips]
        found = client.transcribe_all([*clips, b"noise", Path("nowhere.wav")], progress=True)
    assert [one.text for one in found[:6]] == alone
    assert isinstance(found[6], Refused)
    assert isinstance(found[7], FileNotFoundError)
    assert "8/8" in capsys.readouterr().err


def test_many_are_asked_a_few_at_a_time(kind, script, capsys):
    with kind(script.url) as client:
        found = client.transcribe_all([b"x"] * 20, concurrency=3)
    assert [one.text for one in found] == ["fine"] * 20
    assert script.most_at_once <= 3
    assert not capsys.readouterr().err


def test_a_slip_of_the_programmer_ends_the_batch(kind, script):
    with kind(script.url) as client, pytest.raises((ValueError, ExceptionGroup)):
        client.transcribe_all([b"x", np.zeros((2, 5))])


def test_nothing_to_do(kind, script):
    with kind(script.url) as client:
        assert client.transcribe_all([]) == []


@pytest.mark.parametrize(
    ("audio", "error"),
    [
        (np.zeros((2, 100), np.float32), ValueError),
        (np.zeros(100, np.int16), ValueError),
        (None, TypeError),
        (Path("nowhere.wav"), FileNotFoundError),
    ],
)
def test_what_is_no_audio_is_not_sent(kind, script, audio, error):
    with kind(script.url) as client, pytest.raises(error):
        client.transcribe(audio)
    assert not script.requests


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_or_starting_service_is_asked_again(kind, script, reply, quick, status):
    waits = []
    script.replies = [reply(status, b'{"error": "later"}')] * 3 + [reply()]
    with kind(script.url, patience=Patience(60, waits.append)) as client:
        assert client.transcribe(b"x").text == "fine"
    assert [wait.attempt for wait in waits] == [1, 2, 3]
    assert {(wait.error.message, wait.error.status) for wait in waits} == {("later", status)}
    assert len({body for _, body in script.requests}) == 1


def test_a_hung_up_connection_is_tried_again(kind, script, reply, quick):
    script.replies = [reply(hang_up=True), reply()]
    with kind(script.url) as client:
        assert client.transcribe(b"x").text == "fine"


def test_retry_after_is_obeyed_or_ends_the_patience(kind, script, reply):
    waits = []
    script.replies = [reply(429, b'{"error": "full"}', {"Retry-After": "30"})]
    with (
        kind(script.url, patience=Patience(20, waits.append)) as client,
        pytest.raises(Unavailable, match="full") as gone,
    ):
        client.transcribe(b"x")
    assert (gone.value.status, waits, len(script.requests)) == (429, [], 1)


def test_patience_ends(kind, script, reply, quick):
    script.replies = [reply(503, b'{"error": "the server is stopping"}')]
    with (
        kind(script.url, patience=Patience(0.5, lambda wait: None)) as client,
        pytest.raises(Unavailable, match=r"the server is stopping; gave up after \d+ attempts"),
    ):
        client.transcribe(b"x")
    assert len(script.requests) > 2


@pytest.mark.parametrize(("status", "error"), [(400, Refused), (413, Refused), (500, ServiceError)])
def test_other_errors_are_asked_once(kind, script, reply, status, error):
    script.replies = [reply(status, b'{"error": "the limit is 3"}')]
    with kind(script.url) as client, pytest.raises(error, match="the limit is 3") as raised:
        client.transcribe(b"x")
    assert raised.value.status == status
    assert len(script.requests) == 1


@pytest.mark.parametrize(
    ("body", "text"),
    [(b"<h1>upstream failed</h1>", "<h1>upstream failed</h1>"), (b"", "Service Un")],
)
def test_a_gateways_words_are_quoted(kind, script, reply, body, text):
    script.replies = [reply(503, body)]
    with kind(script.url, patience=ONCE) as client, pytest.raises(Unavailable, match=text):
        client.transcribe(b"x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"outputs": []}',
        b'{"outputs": [{"name": "transcript", "data": ["{}"]}]}',
    ],
)
def test_what_is_no_predictor_is_named(kind, script, reply, body):
    script.replies = [reply(200, body)]
    with kind(script.url) as client, pytest.raises(InvalidAnswer, match="not a predictor's answer"):
        client.transcribe(b"x")


def test_nobody_listens_at_first(kind, new_port, demo_model_dir, start_server, tmp_path, caplog):
    """As with a port that is forwarded before the server behind it is up."""
    port, came = new_port(), []

    def ask():
        with kind(f"http://127.0.0.1:{port}", patience=Patience(60)) as client:
            came.append(client.transcribe(demo_model_dir / "evaluation" / "en-001.opus").text)

    with kind(f"http://127.0.0.1:{port}") as client:
        assert not client.ready()
    asking = threading.Thread(target=ask)
    with caplog.at_level(logging.WARNING, "predictor.client"):
        asking.start()
        for _ in start_server(demo_model_dir, tmp_path / "log", f"--http_port={port}"):
            asking.join(60)
    assert came == ["I want 8 blue phones."]
    assert [record.getMessage().split(";")[-1] for record in caplog.records] in (
        [" trying again"],
        [],
    )


def test_nobody_listens(kind, new_port):
    port = new_port()
    with (
        kind(f"http://127.0.0.1:{port}", patience=ONCE) as client,
        pytest.raises(Unavailable, match=f"127.0.0.1:{port}") as gone,
    ):
        client.transcribe(b"x")
    assert gone.value.status is None


@pytest.mark.parametrize("url", ["http://no.such.host.invalid", "localhost:8080"])
def test_a_wrong_address_is_said_at_once(kind, url):
    waits = []
    with (
        kind(url, patience=Patience(60, waits.append), trust_env=False) as client,
        pytest.raises(Unavailable),
    ):
        client.transcribe(b"x")
    assert not waits


def test_an_answer_that_does_not_come_ends_with_the_timeout(kind, script):
    script.hold.clear()
    with (
        kind(script.url, timeout=0.05) as client,
        pytest.raises(Unavailable, match="no answer in time"),
    ):
        client.transcribe(b"x")


def test_ready(kind, demo_served, script):
    with kind(demo_served.http) as client:
        assert client.ready()


def test_headers_of_ones_own_are_sent(kind, script):
    with kind(script.url, headers={"Authorization": "Bearer t"}) as client:
        client.transcribe(b"x")
    assert script.requests[0][0]["authorization"] == "Bearer t"


def test_both_clients_take_the_same():
    for name in ("__init__", "ready", "transcribe", "transcribe_all"):
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (Client, AsyncClient))
        assert ours.parameters == theirs.parameters


def test_answers_are_the_engines_own_type(kind, demo_served, clip):
    with kind(demo_served.http) as client:
        assert isinstance(client.transcribe(clip), Transcript)
