"""Good and bad releases of the embedded model, rolled out by real predictors under real requests.

One service for all: each test finds a stable revision, and leaves one.
"""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipelines.rollout.local.daemon import local_service
from pipelines.rollout.local.target import LocalTarget, connect
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import Clip, read_clips
from pipelines.rollout.rollout import Outcome, roll_out
from pipelines.rollout.state import Candidate
from predictor.engine.checkpoint import (
    CONFIG,
    INT8_WEIGHTS,
    WEIGHTS,
    read_manifest,
    write_manifest,
)
from predictor.engine.config import read_config
from predictor.engine.prepare import write_int8
from predictor.engine.tokenizer import Tokenizer

PLAN = Plan.model_validate(
    {
        "steps": [0, 50, 100],
        "bake_seconds": 3,
        "interval_seconds": 1,
        "inconclusive_limit": 100,
        "min_requests": 20,
        # Neighbours on the same two cores make a good release slow for a while.
        "max_p95_ratio": 6,
        "max_p99_ratio": 12,
        "ready_timeout_seconds": 240,
        "lease_seconds": 4,
        "poll_seconds": 0.2,
        "replay": {"clips": 8, "max_latency_ratio": 3},
    }
)

DEADLINE_SECONDS = 120
N_USERS = 3
PAUSE_SECONDS = 0.03
"""Of a user between two requests, so that there is something left of two cores."""

FAULTY = '''#!{python}
"""Acts as ``python -m predictor serve``, of a release with a fault."""
import asyncio, os, sys, time
from pathlib import Path
from predictor.__main__ import main
from predictor.server.sdk import app

here = Path(__file__).parent

class Fault:
    def __init__(self, app):
        self.app, self.n_users = app, 0

    async def __call__(self, scope, receive, send):
        started, passed_on = time.monotonic(), send
        async def slow(message):
            if message["type"] == "http.response.start":
                await asyncio.sleep(time.monotonic() - started)
            await passed_on(message)
        async def broken(message):
            if message["type"] == "http.response.start":
                message = {{**message, "status": 500}}
            await passed_on(message)
        is_user = any(name == b"x-user" for name, _ in scope.get("headers", ()))
        self.n_users += is_user
        if {fault!r} == "errors" and is_user and self.n_users % 20 == 10:
            send = broken
        if {fault!r} == "slow" and scope["type"] == "http":
            send = slow
        await self.app(scope, receive, send)

with (here / "starts").open("a") as file:
    file.write(str(os.getpid()) + "\\n")
if {fault!r} == "killed" and len((here / "starts").read_text().split()) > 1:
    sys.exit("does not come back")
app.add_middleware(Fault)
sys.exit(main(sys.argv[3:]))
'''


class RecordingRegistry:
    """What it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def promoted(self, version: str) -> None:
        self.told.append(("promoted", version))

    def rejected(self, version: str, reason: str) -> None:
        self.told.append(("rejected", version))


@dataclass(frozen=True)
class Answered:
    """``status``: 0 where there was no answer."""

    status: int
    revision: str
    digest: str


@dataclass
class Users:
    """Send clips all the while.

    Attributes:
        answers: in the order in which they came.
    """

    url: str
    clips: Sequence[Clip]
    answers: list[Answered] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def sending(self) -> Iterator["Users"]:
        with ThreadPoolExecutor(N_USERS) as pool:
            sent = [pool.submit(self._send, number) for number in range(N_USERS)]
            try:
                yield self
            finally:
                self._stop.set()
        for each in sent:
            each.result()

    def _send(self, number: int) -> None:
        headers = {"Inference-Header-Content-Length": "0", "x-user": str(number)}
        url = f"{self.url}/v2/models/sensevoice/infer"
        clips = itertools.cycle(self.clips[number:] + self.clips[:number])
        with httpx.Client(headers=headers, timeout=DEADLINE_SECONDS, trust_env=False) as client:
            while not self._stop.wait(PAUSE_SECONDS):
                try:
                    answer = client.post(url, content=next(clips).audio)
                except httpx.HTTPError as error:
                    self.answers.append(Answered(0, repr(error), ""))
                    continue
                names = ("x-revision", "x-model-digest")
                told = (answer.headers.get(name, "") for name in names)
                self.answers.append(Answered(answer.status_code, *told))

    def wait_for(self, condition: Callable[[list[Answered]], object], since: int) -> None:
        """Until the answers from number ``since`` on fulfil a condition."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition(self.answers[since:]):
            assert time.monotonic() < deadline, "the users wait in vain"
            self._stop.wait(0.01)


@dataclass
class Stage:
    """A service with a stable revision and users.

    Attributes:
        began: number of the first answer of this test.
    """

    target: LocalTarget
    users: Users
    registry: RecordingRegistry = field(default_factory=RecordingRegistry)
    began: int = 0

    def roll_out(self, candidate: Candidate, plan: Plan = PLAN) -> Outcome:
        clips = self.users.clips
        return roll_out(self.target, self.target, self.registry, candidate, plan, clips)

    @property
    def answers(self) -> list[Answered]:
        """Of this test."""
        return self.users.answers[self.began :]

    @property
    def failures(self) -> list[Answered]:
        return [answer for answer in self.answers if answer.status != 200]

    def stable(self) -> str:
        stable = self.target.observe().stable
        assert stable is not None
        return stable.name

    def newest(self) -> str:
        seen = self.target.observe()
        newest = seen.candidate or seen.stable
        assert newest is not None
        return newest.name

    def assert_all_users_reach(self, revision: str) -> None:
        """From now on; requests that are under way may yet come from another."""
        since = len(self.users.answers)
        self.users.wait_for(lambda answers: len(answers) >= 30, since)
        late = self.users.answers[since + N_USERS :]
        assert {(answer.status, answer.revision) for answer in late} == {(200, revision)}

    def assert_rolled_back(self, outcome: Outcome, version: str, stable: str) -> None:
        """All users have the stable revision, and the registry knows."""
        assert outcome.outcome == "rejected"
        assert self.registry.told[-1] == ("rejected", version)
        seen = self.target.observe()
        assert (seen.stable.name, seen.stable.percent, seen.percent) == (stable, 100, 0)
        self.assert_all_users_reach(stable)


@pytest.fixture(scope="module")
def models(demo_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """The function that copies the embedded model, changes the copy, and describes it anew."""
    folder = tmp_path_factory.mktemp("candidates")
    tokenizer = read_manifest(demo_model_dir).tokenizer

    def make(name: str, change: Callable[[Path], object]) -> Path:
        files = shutil.ignore_patterns("evaluation", "README.md")
        copy = shutil.copytree(demo_model_dir, folder / name, ignore=files)
        change(copy)
        write_manifest(copy, tokenizer, name)
        return copy

    return make


def prepared_again(model: Path) -> None:
    """Another digest, the same network."""
    with (model / CONFIG).open("a") as file:
        file.write(f"# {model.name}\n")


def damaged(model: Path) -> None:
    """Noise on every matrix, in each of the precisions."""
    torch.manual_seed(0)
    state = load_file(model / WEIGHTS)
    for name, tensor in state.items():
        if tensor.ndim == 2:
            values = tensor.float()
            state[name] = (values + values.std() * torch.randn_like(values)).to(tensor.dtype)
    save_file(state, model / WEIGHTS)
    _, sizes = read_config(model / CONFIG, Tokenizer(next(model.glob("*.bpe.model"))).vocab_size)
    write_int8(model, sizes, compiled=False)


@pytest.fixture
def faulty(tmp_path: Path) -> Callable[[str], Path]:
    """The function that makes an image with a fault."""

    def make(fault: str) -> Path:
        image = tmp_path / "python"
        image.write_text(FAULTY.format(python=sys.executable, fault=fault))
        image.chmod(0o755)
        return image

    return make


def candidate(model: Path, image: Path | None = None) -> Candidate:
    return Candidate(
        version=f"version {model.name}",
        storage_uri=str(model),
        digest=read_manifest(model).digest,
        image=str(image) if image else None,
    )


@pytest.fixture(scope="module")
def service(
    demo_model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[LocalTarget, Users]]:
    """The embedded model as its first release."""
    directory = tmp_path_factory.mktemp("service")
    clips = read_clips(demo_model_dir / "evaluation", PLAN.replay.clips)
    with pytest.MonkeyPatch.context() as environment:
        for setting in ("NETWORK_PASSES", "NETWORK_THREADS", "DECODE_THREADS"):
            environment.setenv(f"SENSEVOICE_{setting}", "1")
        environment.setenv("SENSEVOICE_LOG_LEVEL", "warning")
        with local_service(directory) as url:
            target = connect(directory)
            first = candidate(demo_model_dir)
            outcome = roll_out(target, target, RecordingRegistry(), first, PLAN, clips)
            assert outcome.outcome == "promoted"
            with Users(url, clips).sending() as users:
                yield target, users
            target.close()


@pytest.fixture
def stage(service: tuple[LocalTarget, Users]) -> Stage:
    return Stage(*service, began=len(service[1].answers))


def test_a_good_candidate_is_promoted(stage, models) -> None:
    good = candidate(models("good", prepared_again))
    former = stage.stable()
    assert stage.roll_out(good).outcome == "promoted"
    assert stage.registry.told == [("promoted", good.version)]
    promoted = stage.stable()
    assert promoted != former
    stage.assert_all_users_reach(promoted)
    assert stage.failures == []
    assert {answer.revision for answer in stage.answers} == {former, promoted}
    assert stage.answers[-1].digest == good.digest


def test_damaged_weights_reach_no_user(stage, models) -> None:
    bad = candidate(models("damaged", damaged))
    stable = stage.stable()
    outcome = stage.roll_out(bad)
    assert outcome.reason.startswith("replay: ")
    assert "texts differ" in outcome.reason
    assert "character error rate" in outcome.reason
    stage.assert_rolled_back(outcome, bad.version, stable)
    assert stage.failures == []
    assert {answer.revision for answer in stage.answers} == {stable}


def test_errors_that_only_users_meet_end_at_the_first_step(stage, models, faulty) -> None:
    bad = candidate(models("errors", prepared_again), faulty("errors"))
    stable = stage.stable()
    outcome = stage.roll_out(bad)
    assert outcome.reason.startswith("at 50 %: ")
    assert "answers are errors" in outcome.reason
    stage.assert_rolled_back(outcome, bad.version, stable)
    assert {(answer.status, answer.revision) for answer in stage.failures} == {
        (500, stage.newest())
    }


def test_a_slow_candidate_is_rolled_back(stage, models, faulty) -> None:
    """At a step, if not before: in the replay the stable revision is slowed down by its users."""
    bad = candidate(models("slow", prepared_again), faulty("slow"))
    stable = stage.stable()
    default = Plan()
    bounds = {"max_p95_ratio": default.max_p95_ratio, "max_p99_ratio": default.max_p99_ratio}
    strict = PLAN.model_copy(update={**bounds, "replay": default.replay, "bake_seconds": 20.0})
    outcome = stage.roll_out(bad, strict)
    assert "times the stable revision's" in outcome.reason
    stage.assert_rolled_back(outcome, bad.version, stable)
    assert stage.failures == []


def test_a_candidate_that_never_becomes_ready_is_rolled_back(stage, models) -> None:
    model = models("incomplete", prepared_again)
    bad = candidate(model)
    for weights in (WEIGHTS, INT8_WEIGHTS):
        (model / weights).write_bytes(b"half a file")
    stable = stage.stable()
    outcome = stage.roll_out(bad)
    assert "the process ended with status 1; its log" in outcome.reason
    assert "sha256 is" in outcome.reason
    stage.assert_rolled_back(outcome, bad.version, stable)
    assert stage.failures == []
    assert {answer.revision for answer in stage.answers} == {stable}


def test_a_candidate_that_dies_among_users_is_rolled_back(stage, models, faulty) -> None:
    image = faulty("killed")
    bad = candidate(models("killed", prepared_again), image)
    stable = stage.stable()
    with ThreadPoolExecutor(1) as pool:
        rolled_out = pool.submit(stage.roll_out, bad)
        stage.users.wait_for(
            lambda answers: {a.revision for a in answers} - {stable}, since=stage.began
        )
        os.kill(int((image.parent / "starts").read_text()), signal.SIGKILL)
        outcome = rolled_out.result()
    assert outcome.reason.startswith("at 50 %: ")
    stage.assert_rolled_back(outcome, bad.version, stable)
    # What it was answering when it died was answered by the other one.
    assert stage.failures == []


ROLL_OUT = """
import sys
from pathlib import Path
from pipelines.rollout.local.target import connect
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import read_clips
from pipelines.rollout.rollout import roll_out
from pipelines.rollout.state import Candidate

directory, candidate, plan, clips = sys.argv[1:]
plan, target = Plan.model_validate_json(plan), connect(Path(directory))
clips = read_clips(Path(clips), plan.replay.clips)
roll_out(target, target, None, Candidate.model_validate_json(candidate), plan, clips)
"""


def test_a_rollout_that_was_killed_is_finished_by_the_next(
    stage, models, demo_model_dir, tmp_path
) -> None:
    good = candidate(models("resumed", prepared_again))
    former = stage.stable()
    # It would not come to an end by itself.
    endless = PLAN.model_copy(update={"bake_seconds": 3600.0})
    arguments = (stage.target.directory, good.model_dump_json(), endless.model_dump_json())
    command = [sys.executable, "-c", ROLL_OUT, *map(str, arguments), demo_model_dir / "evaluation"]
    with subprocess.Popen(command) as killed:
        stage.users.wait_for(
            lambda answers: {a.revision for a in answers} - {former}, since=stage.began
        )
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    seen = stage.target.observe()
    assert (seen.percent, seen.stable.name) == (50, former)
    outcome = stage.roll_out(good)
    assert outcome.outcome == "promoted"
    assert outcome.lines[0]["reason"] == "RolloutResumed"
    assert stage.registry.told == [("promoted", good.version)]
    assert stage.stable() != former
    stage.assert_all_users_reach(stage.stable())
    assert stage.failures == []
