"""A rollout's view of a local service, over the control API."""

import asyncio
import json
import logging
import socket

import pytest

from pipelines.rollout.local import target as module
from pipelines.rollout.local.address import ADDRESS, Address, write_address
from pipelines.rollout.local.control import EVENTS, control
from pipelines.rollout.local.errors import LocalError
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.target import LocalTarget, connect
from pipelines.rollout.target import Conflict, Observed, ServedModel, Traffic, Unavailable

MODEL = ServedModel("/models/new", "new")


@pytest.fixture
def target(directory):
    target = LocalTarget(directory)
    yield target
    target.close()


@pytest.fixture
async def served(service, directory, listen):
    """A service's control API, its address told; returns the meter."""
    meter = Meter()
    url = await listen(control(service, meter, directory, "token"))
    write_address(directory, Address("http://127.0.0.1:1", url, "token"))
    return meter


@pytest.fixture
def answering(directory, listen):
    """The function that lets something else answer at the daemon's address."""

    async def start(status: int, body: bytes) -> None:
        async def app(scope, receive, send) -> None:
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})

        write_address(directory, Address("http://127.0.0.1:1", await listen(app), "token"))

    return start


async def test_it_observes_and_writes(served, service, target) -> None:
    assert target.name == "local/service"
    seen = await asyncio.to_thread(target.observe)
    assert seen == service.observe()
    assert isinstance(seen, Observed)
    written = await asyncio.to_thread(target.write, seen, state="é", percent=5, model=MODEL)
    assert (written.version, written.state, written.percent) == ("1", "é", 5)
    assert (written.storage_uri, written.image) == ("/models/new", None)
    assert (written.candidate.name, written.candidate.ready) == ("sensevoice-00001", False)
    with pytest.raises(Conflict, match="409: version 0 is gone"):
        await asyncio.to_thread(target.write, seen, state="x", percent=None)
    again = await asyncio.to_thread(target.write, written, state="y", percent=None)
    assert (again.percent, again.fingerprint) == (None, written.fingerprint)


async def test_it_measures(served, target) -> None:
    served.add("a", 0.5, is_error=True)
    found = await asyncio.to_thread(target.measure, "a", 60)
    assert found == Traffic(requests=1, errors=1, p95_s=0.5, p99_s=0.5)
    nothing = await asyncio.to_thread(target.measure, "b", 60)
    assert nothing == Traffic(requests=0, errors=0, p95_s=None, p99_s=None)


async def test_it_records(served, target, directory) -> None:
    await asyncio.to_thread(target.record, "RolloutStuck", "why", warning=True)
    (line,) = (directory / EVENTS).read_text().splitlines()
    assert json.loads(line)["message"] == "why"


async def test_a_mistake_is_told_not_tried_again(served, target) -> None:
    seen = await asyncio.to_thread(target.observe)
    wrong = ServedModel("models/new", "new")
    with pytest.raises(LocalError, match=r"422: model\.storage_uri: .* absolute path, not 'models"):
        await asyncio.to_thread(target.write, seen, state="x", percent=5, model=wrong)
    with pytest.raises(LocalError, match="422: seconds"):
        await asyncio.to_thread(target.measure, "a", -1)


def test_no_daemon_keeps_the_directory(directory, target, caplog) -> None:
    message = f"no daemon keeps {directory}; start it with `python -m pipelines.rollout.local"
    with pytest.raises(Unavailable, match=message):
        target.observe()
    with pytest.raises(Unavailable, match=message):
        connect(directory)
    with caplog.at_level(logging.WARNING):
        target.record("RolloutStarted", "told to nobody")
    assert "event RolloutStarted on local/service was not written" in caplog.text


def test_a_daemon_that_died_left_its_address(directory, target) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    write_address(directory, Address("", f"http://127.0.0.1:{port}", "token"))
    with pytest.raises(Unavailable, match="ConnectError"):
        target.observe()


async def test_a_daemon_that_is_started_again_is_found_again(
    target, served, service, directory, listen
) -> None:
    await asyncio.to_thread(target.observe)
    url = await listen(control(service, Meter(), directory, "another token"))
    write_address(directory, Address("", url, "token"))
    with pytest.raises(LocalError, match="401"):
        await asyncio.to_thread(target.observe)
    write_address(directory, Address("", url, "another token"))
    assert await asyncio.to_thread(target.observe) == service.observe()


async def test_an_error_of_the_daemon_may_pass(answering, target) -> None:
    await answering(500, b"Internal Server Error")
    with pytest.raises(Unavailable, match="500: Internal Server Error"):
        await asyncio.to_thread(target.observe)


async def test_a_daemon_that_does_not_answer_is_down(
    directory, target, monkeypatch, listen
) -> None:
    gate = asyncio.Event()

    async def app(scope, receive, send) -> None:
        await gate.wait()

    write_address(directory, Address("", await listen(app), "token"))
    monkeypatch.setattr(module, "TIMEOUT_S", 0.1)
    impatient = LocalTarget(directory)
    with pytest.raises(Unavailable, match="ReadTimeout"):
        await asyncio.to_thread(impatient.observe)
    gate.set()
    impatient.close()


async def test_another_server_at_the_address_is_told(answering, target) -> None:
    await answering(200, b"<html>")
    with pytest.raises(LocalError, match="but not as a service's daemon does"):
        await asyncio.to_thread(target.observe)


def test_an_address_of_another_kind_is_named(directory, target) -> None:
    (directory / ADDRESS).write_text('{"url": "x"}')
    with pytest.raises(LocalError, match=f"{ADDRESS}: not an address"):
        target.observe()


async def test_connect_gives_the_target(served, directory) -> None:
    target = await asyncio.to_thread(connect, directory)
    assert isinstance(target, LocalTarget)
    target.close()
