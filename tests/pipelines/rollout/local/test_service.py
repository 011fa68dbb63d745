"""The service: documents come true as processes."""

import asyncio
import contextlib
from collections import Counter
from pathlib import Path

import httpx
import pytest

from pipelines.rollout.local import revision
from pipelines.rollout.local import service as module
from pipelines.rollout.local.service import Service
from pipelines.rollout.target import Conflict, Revision

ONE, TWO, THREE = (f"sensevoice-{number:05d}" for number in (1, 2, 3))


async def decide(service: Service, percent, model=None):
    """A decision, made again where the controller was quicker, as a rollout does it."""
    while True:
        version = service.observe().version
        with contextlib.suppress(Conflict):
            return await service.write(version, state="s", percent=percent, model=model)


async def release(service: Service, until, model) -> Revision:
    """Model as the stable revision."""
    await decide(service, None, model)
    await until(lambda: service.observe().settled)
    stable = service.observe().stable
    assert stable is not None
    return stable


async def canary(service: Service, until, model, percent: int) -> Revision:
    """Model as the candidate with a share, ready or failed."""
    await decide(service, percent, model)
    await until(lambda: service.observe().candidate.ready or service.observe().candidate.failure)
    await until(lambda: service.observe().settled)
    return service.observe().candidate


async def draws(service: Service, n: int = 200) -> Counter:
    return Counter([(await service.choose(())).name for _ in range(n)])


async def die(client: httpx.AsyncClient, revision: Revision) -> None:
    """Its process ends at once."""
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get(f"{revision.url}/die")


def mark(model, name: str) -> None:
    Path(model.storage_uri, name).touch()


def unmark(model, name: str) -> None:
    Path(model.storage_uri, name).unlink()


def marked(model, name: str) -> bool:
    return Path(model.storage_uri, name).exists()


def starts(model) -> list[int]:
    """Process ids."""
    return [int(line) for line in (Path(model.storage_uri) / "starts").read_text().split()]


async def test_nothing_is_asked_for(service) -> None:
    seen = service.observe()
    assert (seen.stable, seen.candidate, seen.percent, seen.state) == (None, None, None, None)
    assert seen.settled
    assert await service.choose(()) is None


async def test_the_first_release_serves_once_it_is_ready(
    service, until, make_model, client
) -> None:
    model = make_model("first")
    written = await decide(service, None, model)
    assert (written.settled, written.stable) == (False, None)
    assert written.candidate == Revision(ONE, ready=False, percent=100, url=None)
    # A request waits for it.
    chosen = await service.choose(())
    assert chosen.name == ONE
    await until(lambda: service.observe().settled)
    seen = service.observe()
    assert seen.stable == Revision(ONE, ready=True, percent=100, url=chosen.url)
    assert (seen.candidate, seen.storage_uri) == (None, model.storage_uri)
    assert int(seen.version) > int(written.version)
    answer = await client.get(f"{chosen.url}/v2/models/sensevoice/ready")
    assert answer.headers["x-revision"] == ONE


async def test_a_share_moves_and_comes_back(service, until, make_model) -> None:
    await release(service, until, make_model("old"))
    candidate = await canary(service, until, make_model("new"), 0)
    assert (candidate.name, candidate.percent, candidate.ready) == (TWO, 0, True)
    assert await draws(service) == {ONE: 200}
    seen = await decide(service, 50)
    assert seen.settled
    assert (seen.stable.percent, seen.candidate.percent) == (50, 50)
    assert min((await draws(service)).values()) > 50
    back = await decide(service, 0)
    assert back.settled
    assert (back.stable.name, back.stable.percent, back.candidate.name) == (ONE, 100, TWO)
    assert await draws(service) == {ONE: 200}


async def test_the_stable_revision_has_all_until_the_candidate_is_ready(
    service, until, make_model
) -> None:
    await release(service, until, make_model("old"))
    model = make_model("new")
    mark(model, "unready")
    seen = await decide(service, 50, model)
    await until(lambda: marked(model, "starts"))
    seen = service.observe()
    assert (seen.settled, seen.stable.percent, seen.candidate.percent) == (False, 100, 0)
    assert await draws(service) == {ONE: 200}
    unmark(model, "unready")
    await until(lambda: service.observe().settled)
    assert service.observe().candidate.percent == 50


async def test_a_candidate_without_users_keeps_nobody_waiting(service, until, make_model) -> None:
    await release(service, until, make_model("old"))
    seen = await decide(service, 50, make_model("new", never_ready=True))
    assert not seen.settled
    await decide(service, 0)
    await until(lambda: service.observe().settled)
    assert service.observe().stable.percent == 100
    assert not service.observe().candidate.ready


async def test_promotion_ends_the_former_revision_after_its_requests(
    service, until, make_model, client, alive
) -> None:
    old = make_model("old")
    await release(service, until, old)
    await canary(service, until, make_model("new"), 5)
    former = service._running[ONE]
    with former.serving():
        held = asyncio.create_task(client.get(f"{former.url}/hold"))
        await until(lambda: marked(old, "holding"))
        await decide(service, None)
        await until(lambda: service.observe().settled)
        seen = service.observe()
        assert (seen.stable.name, seen.stable.percent, seen.candidate) == (TWO, 100, None)
        assert await draws(service) == {TWO: 200}
        assert alive(*starts(old))
        mark(old, "release")
        assert (await held).status_code == 200
    await until(lambda: not alive(*starts(old)))


async def test_a_process_that_ends_before_it_is_ready_has_failed(
    service, until, make_model
) -> None:
    await release(service, until, make_model("old"))
    model = make_model("new", lives=0)
    failed = await canary(service, until, model, 5)
    assert (failed.ready, failed.percent, failed.url) == (False, 0, None)
    assert "the process ended with status 3" in failed.failure
    assert failed.failure.endswith("first line / out of lives")
    assert len(starts(model)) == 1
    assert await draws(service) == {ONE: 200}
    # A promotion of it changes nothing.
    assert (await decide(service, None)).stable.percent == 100


async def test_a_crashed_revision_is_started_again(
    service, until, make_model, monkeypatch, client
) -> None:
    monkeypatch.setattr(revision, "FIRST_PAUSE_SECONDS", 0.3)
    await release(service, until, make_model("old"))
    model = make_model("new", lives=2)
    candidate = await canary(service, until, model, 50)
    await die(client, candidate)
    await until(lambda: not service.observe().candidate.ready)
    seen = service.observe()
    # Its share is its own; those who would meet it are served by the other one.
    assert (seen.settled, seen.candidate.percent, seen.candidate.failure) == (True, 50, "")
    assert await draws(service) == {ONE: 200}
    await until(lambda: service.observe().candidate.ready)
    assert service.observe().candidate == candidate
    # Its third life ends before it begins, and so do all others: it is tried on, with longer pauses.
    await die(client, candidate)
    await until(lambda: len(starts(model)) == 4)
    assert not service.observe().candidate.ready
    # A promotion waits for it.
    seen = await decide(service, None)
    assert (seen.settled, seen.stable.name, seen.stable.percent) == (False, ONE, 100)


async def test_requests_wait_for_a_crashed_revision_that_is_alone(
    service, until, make_model, monkeypatch, client
) -> None:
    monkeypatch.setattr(revision, "FIRST_PAUSE_SECONDS", 0.1)
    stable = await release(service, until, make_model("only"))
    await die(client, stable)
    await until(lambda: not service.observe().stable.ready)
    assert (await service.choose(())).name == ONE
    # Not for a second attempt, and not for ever.
    assert await service.choose({ONE}) is None
    service._running[ONE].ready = False
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.1)
    assert await service.choose(()) is None


async def test_a_candidate_that_is_replaced_is_ended(service, until, make_model, alive) -> None:
    await release(service, until, make_model("old"))
    first = make_model("first")
    await canary(service, until, first, 5)
    candidate = await canary(service, until, make_model("second"), 0)
    assert candidate.name == THREE
    await until(lambda: not alive(*starts(first)))
    assert set(service._running) == {ONE, THREE}


async def test_a_decision_on_a_former_version_is_a_conflict(service, make_model) -> None:
    seen = await decide(service, 5)
    await decide(service, 6)
    with pytest.raises(Conflict, match="version 1 is gone; the service has 2"):
        await service.write(seen.version, state="x", percent=7, model=make_model("new"))
    assert (service.observe().percent, service.observe().candidate) == (6, None)


async def test_what_cannot_be_written_is_not_done(service, until, make_model, monkeypatch) -> None:
    await release(service, until, make_model("old"))
    write, fail = module.write_document, True

    def full(*arguments) -> None:
        if fail:
            raise OSError("no space left on device")
        write(*arguments)

    monkeypatch.setattr(module, "write_document", full)
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.01)
    with pytest.raises(OSError, match="no space"):
        await decide(service, 5, make_model("new"))
    assert service.observe().candidate is None
    fail = False
    await decide(service, 5, make_model("new"))
    fail = True
    await until(lambda: service._running.get(TWO) and service._running[TWO].ready)
    assert not service.observe().settled
    fail = False
    await until(lambda: service.observe().settled)
    assert service.observe().candidate.percent == 5


async def test_a_service_comes_back(start_service, until, make_model) -> None:
    async with start_service() as service:
        await release(service, until, make_model("old"))
        await canary(service, until, make_model("new"), 25)
        before = service.observe()
    async with start_service() as service:
        assert not service.observe().settled
        await until(lambda: service.observe().settled)
        after = service.observe()
        assert (after.version, after.fingerprint) == (before.version, before.fingerprint)
        assert [(r.name, r.ready, r.percent) for r in (after.stable, after.candidate)] == [
            (ONE, True, 75),
            (TWO, True, 25),
        ]


async def test_a_stable_revision_that_does_not_come_back_leaves_room_for_its_cure(
    start_service, until, make_model, monkeypatch
) -> None:
    monkeypatch.setattr(revision, "FIRST_PAUSE_SECONDS", 0.1)
    async with start_service() as service:
        await release(service, until, make_model("old", lives=1))
    async with start_service() as service:
        await until(lambda: service.observe().settled)
        seen = service.observe()
        assert (seen.stable.ready, seen.stable.percent, seen.stable.failure) == (False, 100, "")
        await decide(service, None, make_model("cure"))
        await until(lambda: service.observe().stable.name == TWO)
