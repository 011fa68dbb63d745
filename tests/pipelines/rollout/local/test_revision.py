"""One revision's process: started, probed, drained, ended."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from pipelines.rollout.local import revision as module
from pipelines.rollout.local.document import Generation, Model
from pipelines.rollout.local.revision import LOGS, RevisionProcess

NAME = "sensevoice-00007"


@pytest.fixture
async def start(directory) -> AsyncIterator[Callable[..., RevisionProcess]]:
    """The function that starts a model's process."""
    started: list[RevisionProcess] = []

    def begin(model: Model, *, was_ready: bool = False, progress_seconds: float = 60.0):
        generation = Generation(name=NAME, model=model, was_ready=was_ready)
        process = RevisionProcess(
            generation,
            directory,
            model_name="speech",
            progress_seconds=progress_seconds,
            changed=lambda: None,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        await process.end()


def starts(model: Model) -> list[int]:
    return [int(line) for line in (Path(model.storage_uri) / "starts").read_text().split()]


def touch(model: Model, name: str) -> Path:
    path = Path(model.storage_uri, name)
    path.touch()
    return path


async def test_it_runs_the_predictor_as_its_revision(
    start, until, make_model, client, directory
) -> None:
    model = make_model("one")
    process = start(model)
    assert (process.ready, process.pending) == (False, True)
    await until(lambda: process.ready)
    assert (process.pending, process.failure) == (False, "")
    answer = await client.get(f"{process.url}/v2/models/speech/ready")
    assert answer.headers["x-revision"] == NAME
    command, *_ = (directory / LOGS / f"{NAME}.log").read_text().splitlines()
    port = httpx.URL(process.url).port
    begin = f"-m predictor serve --model_dir={model.storage_uri} --model_name=speech"
    assert command.startswith(f"{begin} --http_port={port} --grpc_port=")


async def test_it_keeps_its_port_while_it_is_down(start, until, make_model, client) -> None:
    process = start(make_model("one", lives=1))
    await until(lambda: process.ready)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"{process.url}/die")
    await until(lambda: not process.ready)
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", httpx.URL(process.url).port))


async def test_one_that_is_not_ready_in_time_has_failed(start, until, make_model, alive) -> None:
    model = make_model("one", never_ready=True)
    process = start(model, progress_seconds=0.5)
    await until(lambda: process.failure)
    assert process.failure.startswith("not ready after 0.5 s; its log")
    assert (process.ready, process.pending) == (False, False)
    await until(lambda: not alive(*starts(model)))


async def test_an_image_that_cannot_be_run_has_failed(start, until, make_model) -> None:
    process = start(make_model("one").model_copy(update={"image": "/nowhere/python"}))
    await until(lambda: process.failure)
    assert process.failure.endswith("cannot run /nowhere/python: No such file or directory")


async def test_one_that_was_ready_before_is_tried_on(start, until, make_model, monkeypatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_SECONDS", 0.01)
    model = make_model("one", lives=0)
    process = start(model, was_ready=True)
    await until(lambda: Path(model.storage_uri, "starts").exists() and len(starts(model)) > 2)
    assert (process.ready, process.pending, process.failure) == (False, False, "")
    (Path(model.storage_uri) / "behaviour.json").write_text(json.dumps({}))
    await until(lambda: process.ready)


async def test_probes_that_go_unanswered_make_it_unready(
    start, until, make_model, monkeypatch
) -> None:
    monkeypatch.setattr(module, "PROBE_SECONDS", 0.01)
    model = make_model("one")
    process = start(model)
    await until(lambda: process.ready)
    unready = touch(model, "unready")
    await until(lambda: not process.ready)
    unready.unlink()
    await until(lambda: process.ready)
    assert len(starts(model)) == 1


async def test_it_ends_after_the_requests_that_run(start, until, make_model, client, alive) -> None:
    model = make_model("one")
    process = start(model)
    await until(lambda: process.ready)
    with process.serving():
        held = asyncio.create_task(client.get(f"{process.url}/hold"))
        await until(lambda: Path(model.storage_uri, "holding").exists())
        ending = asyncio.create_task(process.end())
        touch(model, "release")
        assert (await held).status_code == 200
        assert alive(*starts(model))
        assert not ending.done()
    await ending
    assert not alive(*starts(model))


async def test_requests_that_never_end_do_not_keep_it_for_ever(
    start, until, make_model, alive, monkeypatch
) -> None:
    monkeypatch.setattr(module, "DRAIN_SECONDS", 0.1)
    model = make_model("one")
    process = start(model)
    await until(lambda: process.ready)
    with process.serving():
        await process.end()
    assert not alive(*starts(model))


async def test_one_that_does_not_end_is_made_to(
    start, until, make_model, alive, monkeypatch
) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    model = make_model("one", ignores_sigterm=True)
    process = start(model)
    await until(lambda: process.ready)
    await process.end()
    assert not alive(*starts(model))


async def test_one_that_is_ended_while_it_starts_is_gone(start, until, make_model, alive) -> None:
    model = make_model("one", never_ready=True)
    process = start(model)
    await until(lambda: Path(model.storage_uri, "starts").exists())
    await process.end()
    assert not alive(*starts(model))
    # And where it has not even begun to.
    await start(make_model("two")).end()


async def test_a_log_that_cannot_be_written_is_a_failure(
    start, until, make_model, directory
) -> None:
    (directory / LOGS).write_text("in the way")
    process = start(make_model("one"))
    await until(lambda: process.failure)
    assert process.failure.startswith("no process can be started: ")
