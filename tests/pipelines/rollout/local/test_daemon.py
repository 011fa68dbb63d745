"""The daemon as a process: killed and started again, ended in order, and changed under load."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipelines.rollout.local.address import ADDRESS, read_address
from pipelines.rollout.local.daemon import LISTENING, local_service
from pipelines.rollout.local.document import DOCUMENT
from pipelines.rollout.local.errors import LocalError
from pipelines.rollout.local.target import LocalTarget
from pipelines.rollout.plan import Plan
from pipelines.rollout.rollout import Outcome, roll_out
from pipelines.rollout.state import Candidate
from pipelines.rollout.target import Conflict, Observed, ServedModel

ONE, TWO = "sensevoice-00001", "sensevoice-00002"


class RecordingRegistry:
    """What it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def promoted(self, version: str) -> None:
        self.told.append(("promoted", version))

    def rejected(self, version: str, reason: str) -> None:
        self.told.append(("rejected", version))


def start(directory: Path, *flags: str) -> "subprocess.Popen[str]":
    """A daemon that listens."""
    command = [sys.executable, "-m", "pipelines.rollout.local", str(directory), "--port=0", *flags]
    daemon = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    assert daemon.stdout.readline().startswith(LISTENING)
    return daemon


@pytest.fixture
def daemon(directory) -> Iterator["subprocess.Popen[str]"]:
    daemon = start(directory)
    yield daemon
    daemon.kill()
    daemon.wait(60)


@pytest.fixture
def target(directory) -> Iterator[LocalTarget]:
    target = LocalTarget(directory)
    yield target
    target.close()


@pytest.fixture
def decide(target, until):
    """The function that writes a decision and waits until it is in effect."""

    async def write(percent, model=None, state="s") -> Observed:
        served = ServedModel(**model.model_dump()) if model else None
        written = False
        while not written:
            with contextlib.suppress(Conflict):  # The controller was quicker.
                target.write(target.observe(), state=state, percent=percent, model=served)
                written = True
        await until(lambda: target.observe().settled)
        return target.observe()

    return write


def starts(model) -> list[int]:
    return [int(line) for line in (Path(model.storage_uri) / "starts").read_text().split()]


def let_go(model) -> None:
    """Of requests to ``/hold``."""
    Path(model.storage_uri, "release").touch()


def users_of(directory: Path) -> str:
    return read_address(directory).traffic


async def test_a_killed_daemon_comes_back_to_what_it_kept(
    daemon, directory, target, decide, until, alive, make_model, client
) -> None:
    old, new = make_model("old"), make_model("new")
    await decide(None, old)
    before = await decide(25, new, state='{"of": "a rollout"}')
    daemon.kill()
    daemon.wait(60)
    # Its predictors die with it.
    await until(lambda: not alive(*starts(old), *starts(new)))
    again = start(directory)
    try:
        # Users wait until the stable revision is there again, and are answered.
        answer = await client.get(users_of(directory))
        assert answer.headers["x-revision"] in (ONE, TWO)
        await until(lambda: target.observe().settled)
        after = target.observe()
        assert (after.version, after.state, after.percent, after.fingerprint) == (
            before.version,
            '{"of": "a rollout"}',
            25,
            before.fingerprint,
        )
        assert (after.stable.name, after.stable.percent, after.stable.ready) == (ONE, 75, True)
        assert (after.candidate.name, after.candidate.percent) == (TWO, 25)
        # A rollout goes on where it was.
        promoted = await decide(None)
        assert (promoted.stable.name, promoted.candidate) == (TWO, None)
    finally:
        again.kill()
        again.wait(60)


async def test_a_daemon_ends_in_order(
    daemon, directory, decide, until, alive, make_model, client
) -> None:
    model = make_model("old")
    await decide(None, model)
    url = users_of(directory)
    held = asyncio.create_task(client.get(f"{url}/hold"))
    await until(lambda: Path(model.storage_uri, "holding").exists())
    daemon.terminate()

    def refuses() -> bool:
        with contextlib.suppress(httpx.ConnectError):
            httpx.get(url, trust_env=False)
            return False
        return True

    await until(refuses)
    assert alive(*starts(model))
    assert not held.done()
    let_go(model)
    assert (await held).status_code == 200
    assert daemon.wait(60) == 0
    assert not alive(*starts(model))
    assert not (directory / ADDRESS).exists()


async def test_no_request_fails_while_revisions_come_and_go(
    daemon, directory, target, decide, until, make_model
) -> None:
    """Started, given shares, rolled back, replaced, promoted, ended: five times over."""
    await decide(None, make_model("first"))
    url, done = users_of(directory), asyncio.Event()
    answers: list[tuple[int, str]] = []

    async def use() -> None:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as user:
            while not done.is_set():
                answer = await user.post(f"{url}/v2/models/sensevoice/infer", content=b"x" * 5000)
                answers.append((answer.status_code, answer.headers["x-revision"]))

    users = [asyncio.create_task(use()) for _ in range(4)]

    async def in_thread(*arguments) -> None:
        """The decision is made beside the users, not between them."""
        await asyncio.to_thread(asyncio.run, decide(*arguments))

    async def canary(name: str) -> None:
        await in_thread(0, make_model(name))
        await in_thread(50)
        candidate = target.observe().candidate.name
        await until(lambda: candidate in {name for _, name in answers})

    for number in range(5):
        await canary(f"rejected-{number}")
        await in_thread(0)
        await canary(f"promoted-{number}")
        await in_thread(None)
    since = len(answers)
    await until(lambda: len(answers) > since + 20)
    done.set()
    await asyncio.gather(*users)
    assert {status for status, _ in answers} == {200}
    assert len({name for _, name in answers}) == 11
    # Four that were under way at the last decision may yet come in.
    assert {name for _, name in answers[since + 4 :]} == {"sensevoice-00011"}


async def test_a_rollout_outlives_its_daemon(directory, target, until, make_model) -> None:
    plan = Plan.model_validate(
        {
            "steps": [0, 50, 100],
            "bake_seconds": 3,
            "interval_seconds": 0.2,
            "inconclusive_limit": 10000,
            "min_requests": 20,
            "max_p95_ratio": 100,
            "max_p99_ratio": 100,
            "poll_seconds": 0.1,
        }
    )
    daemon, done = start(directory), asyncio.Event()
    url, served = users_of(directory), set()

    registry = RecordingRegistry()

    def release(name: str) -> Outcome:
        candidate = Candidate(version=name, **make_model(name).model_dump())
        return roll_out(target, target, registry, candidate, plan, ())

    async def use() -> None:
        async with httpx.AsyncClient(timeout=60, trust_env=False) as user:
            while not done.is_set():
                with contextlib.suppress(httpx.TransportError):  # The daemon is down.
                    served.add((await user.get(url)).headers["x-revision"])
                await asyncio.sleep(0.01)

    try:
        assert (await asyncio.to_thread(release, "first")).outcome == "promoted"
        rollout = asyncio.create_task(asyncio.to_thread(release, "second"))
        user = asyncio.create_task(use())
        await until(lambda: TWO in served)
        daemon.kill()
        daemon.wait(60)
        daemon = start(directory, f"--port={httpx.URL(url).port}")
        assert (await rollout).outcome == "promoted"
        assert registry.told == [("promoted", "first"), ("promoted", "second")]
        assert target.observe().stable.name == TWO
        done.set()
        await user
    finally:
        daemon.kill()
        daemon.wait(60)


@contextlib.contextmanager
def parent_of_a_service(directory: Path) -> Iterator["subprocess.Popen[str]"]:
    program = (
        "import sys, pathlib; from pipelines.rollout.local.daemon import local_service\n"
        "with local_service(pathlib.Path(sys.argv[1])) as url: print(url, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(directory)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("http://127.0.0.1:")
        yield parent


async def test_a_service_beside_a_process_ends_with_it_however_that_ends(
    directory, decide, until, alive, make_model
) -> None:
    model = make_model("old")
    with parent_of_a_service(directory) as parent:
        await decide(None, model)
        parent.kill()
    await until(lambda: not alive(*starts(model)))
    with parent_of_a_service(directory) as parent:
        await decide(None)
        assert len(starts(model)) == 2
        parent.communicate("\n")
    assert parent.returncode == 0
    assert not alive(*starts(model))


def test_two_daemons_do_not_keep_one_directory(daemon, directory) -> None:
    with (
        pytest.raises(LocalError, match="another daemon keeps it; end that one first"),
        local_service(directory),
    ):
        pass
    # The first one's address is still there.
    assert LocalTarget(directory).observe().version == "0"


def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipelines.rollout.local", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_port_that_is_taken_is_named(daemon, directory, tmp_path) -> None:
    port = httpx.URL(users_of(directory)).port
    done = run(tmp_path / "other", f"--port={port}")
    assert (done.returncode, done.stderr) == (1, f"port {port}: Address already in use\n")


def test_a_document_of_another_kind_is_named(directory) -> None:
    (directory / DOCUMENT).write_text(json.dumps({"revisions": []}))
    done = run(directory, "--port=0")
    assert done.returncode == 1
    assert f"{DOCUMENT}: revisions: Extra inputs are not permitted" in done.stderr
    assert done.stdout == ""


def test_a_deadline_and_a_name_can_be_set(directory, target, make_model) -> None:
    """A first release that hangs ends its rollout."""
    daemon = start(directory, "--progress-deadline=0.5", "--model-name=another")
    try:
        hangs = Candidate(version="1", **make_model("hangs", never_ready=True).model_dump())
        registry = RecordingRegistry()
        outcome = roll_out(target, target, registry, hangs, Plan(poll_seconds=0.1), ())
        assert registry.told == [("rejected", "1")]
        assert outcome.reason.startswith("another-00001: not ready after 0.5 s; its log")
    finally:
        daemon.send_signal(signal.SIGINT)
        assert daemon.wait(60) == 0


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        ("--port=65536", "port 65536: must be 0 to 65535"),
        ("--progress-deadline=0", "argument --progress-deadline: must be more than 0 seconds"),
        ("--progress-deadline=soon", "argument --progress-deadline: invalid"),
    ],
)
def test_flags_out_of_range_are_named(directory, flag, says) -> None:
    done = run(directory, flag)
    assert done.returncode != 0
    assert says in done.stderr
