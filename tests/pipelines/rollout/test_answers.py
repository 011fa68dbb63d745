import json
import socket

import pytest

from pipelines.rollout.answers import Answers, Asked, BadAnswer, Identity
from pipelines.rollout.target import Revision
from predictor.engine.checkpoint import read_manifest

REVISION = Revision("s-00002", ready=True, percent=0, url="http://s-00002.example")


@pytest.fixture
def answers():
    client = Answers("sensevoice", 5.0)
    yield client
    client.close()


@pytest.fixture
def url(world):
    """The revision that serves the model ``a``."""
    return world.service.observe().stable.url


def test_a_revision_tells_who_it_is(answers, url, world):
    assert answers.identity(url) == Identity("a" * 64, "sensevoice-00001")
    world.model("a").tells_revision = False
    assert answers.identity(url) == Identity("a" * 64, "")


def test_audio_comes_back_as_text_and_tags(answers, url, world):
    world.model("a").tag = lambda said: {"language": "zh", "emotion": "SAD", "event": "BGM"}
    found = answers.transcribe(url, "打开客厅的灯".encode())
    assert found.text == "打开客厅的灯"
    assert found.tags == {"language": "zh", "emotion": "SAD", "event": "BGM"}
    assert found.identity == Identity("a" * 64, "sensevoice-00001")
    assert found.seconds > 0


def test_a_whole_answer_is_waited_for(answers, url, world):
    world.model("a").seconds = 0.05
    assert answers.transcribe(url, b"x").seconds >= 0.05


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>a gateway</html>",
        b"[]",
        b'{"outputs": []}',
        b'{"outputs": [{"name": "transcript", "data": []}]}',
        b'{"outputs": [{"name": "transcript", "data": ["x"]}]}',
        b'{"error": "no"}',
    ],
)
def test_what_is_no_v2_answer_is_named(answers, url, world, body):
    world.model("a").body = body
    with pytest.raises(BadAnswer, match=r"sensevoice-00001: not an answer of the v2 protocol"):
        answers.transcribe(url, b"x")


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
def test_an_error_is_named_with_its_status(answers, url, world, status):
    world.model("a").status = status
    with pytest.raises(BadAnswer, match=rf"infer: status {status}"):
        answers.transcribe(url, b"x")


def test_nobody_there(answers, url, world, new_port):
    with pytest.raises(BadAnswer, match="ConnectError"):
        answers.identity(f"http://127.0.0.1:{new_port()}")
    with pytest.raises(BadAnswer, match="status 404"):
        answers.identity(f"{world.server.url}/nobody")
    world.model("a").dead = True
    for ask in (answers.identity, lambda url: answers.transcribe(url, b"x")):
        with pytest.raises(BadAnswer, match="RemoteProtocolError"):
            ask(url)


def test_an_answer_that_does_not_come_ends_with_the_timeout():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        impatient = Answers("sensevoice", 0.05)
        with pytest.raises(BadAnswer, match="ReadTimeout"):
            impatient.identity(f"http://127.0.0.1:{silent.getsockname()[1]}")
        impatient.close()


@pytest.mark.parametrize(
    ("digest", "found", "why"),
    [
        ("b" * 64, Identity("b" * 64, "s-00002"), ""),
        ("b" * 64, Identity("b" * 64, ""), ""),
        ("", Identity("whatever", "s-00002"), ""),
        (
            "b" * 64,
            Identity("a" * 64, "s-00002"),
            "s-00002 answers with model aaaaaaaaaaaa, not bbbbbbbbbbbb",
        ),
        ("b" * 64, Identity("", ""), "s-00002 answers with model unknown, not bbbbbbbbbbbb"),
        # The same model in another image.
        ("b" * 64, Identity("b" * 64, "s-00001"), "answers for s-00002 come from revision s-00001"),
        ("", Identity("", "s-00001"), "answers for s-00002 come from revision s-00001"),
    ],
)
def test_whose_answer_it_is(digest, found, why):
    assert Asked(REVISION, digest).stranger(found) == why


def test_the_predictor_itself_is_understood(answers, demo_served, demo_model_dir):
    evaluation = demo_model_dir / "evaluation"
    row = json.loads((evaluation / "manifest.jsonl").read_text().splitlines()[0])
    digest = read_manifest(demo_model_dir).digest
    assert answers.identity(demo_served.http) == Identity(digest, "")
    found = answers.transcribe(demo_served.http, (evaluation / row["audio"]).read_bytes())
    assert found.identity.digest == digest
    assert found.text
    assert found.tags["language"] == row["language"]
