"""A service in memory, revisions that answer over HTTP, and a clock that only sleeping moves."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pipelines.data.manifest import Utterance
from pipelines.rollout.answers import Answers
from pipelines.rollout.drive import Drive
from pipelines.rollout.lease import Lease, new_state
from pipelines.rollout.patience import Clock
from pipelines.rollout.plan import Plan, ReplayBounds
from pipelines.rollout.replay import Clip
from pipelines.rollout.report import Report
from pipelines.rollout.rollout import Outcome, abandon, roll_out, rollback
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Observed
from tests.pipelines.rollout.doubles import FakeClock, RecordingRegistry, ScriptedMeter
from tests.pipelines.rollout.memory import MemoryService
from tests.pipelines.rollout.revisions import Model, RevisionServer

TEXTS = ("turn on the light", "打开客厅的灯", "電気をつけて", "불을 켜 주세요")


class Killed(BaseException):
    """The process ends here; nothing of it runs any more."""


@dataclass
class World:
    """All that a rollout needs. Models are named by a letter: ``a`` serves, ``b`` is the candidate."""

    service: MemoryService
    server: RevisionServer
    meter: ScriptedMeter
    registry: RecordingRegistry
    time: FakeClock
    plan: Plan
    clips: list[Clip]
    killed: type[BaseException] = Killed

    def fresh(self) -> "World":
        """The same with a service that serves the model ``a`` again, and nothing told."""
        service = _service(self.server)
        service.release(_uri("a"))
        return replace(
            self,
            service=service,
            meter=ScriptedMeter(),
            registry=RecordingRegistry(),
            clips=self.clips,
        )

    def guard(self, bad: str = "") -> None:
        """From here on, no user may have a revision that was not asked all clips, nor the model ``bad``."""
        trusted = {name for name, share in self.service.shares[-1].items() if share}

        def check(shares: dict[str, int]) -> None:
            assert sum(shares.values()) == 100
            for name in {name for name, share in shares.items() if share} - trusted:
                assert self.service.models[name] != _uri(bad)
                assert set(self.server.heard(name)) == {clip.audio.decode() for clip in self.clips}

        self.service.watch = check

    def candidate(self, letter: str = "b", **changes: Any) -> Candidate:
        fields = {
            "version": letter.upper(),
            "storage_uri": _uri(letter),
            "digest": letter * 64,
            "image": None,
        }
        return Candidate.model_validate({**fields, **changes})

    def uri(self, letter: str) -> str:
        return _uri(letter)

    def model(self, letter: str) -> Model:
        return self.server.models[_uri(letter)]

    @property
    def clock(self) -> Clock:
        return Clock(self.time.now, self.time.sleep, self.time.steady)

    def roll_out(self, letter: str = "b", **changes: Any) -> Outcome:
        plan = changes.pop("plan", self.plan)
        clips = changes.pop("clips", self.clips)
        one = self.candidate(letter, **changes)
        return roll_out(self.service, self.meter, self.registry, one, plan, clips, clock=self.clock)

    def rollback(self, letter: str) -> Outcome:
        one = self.candidate(letter)
        return rollback(self.service, self.meter, self.registry, one, self.plan, clock=self.clock)

    def abandon(self, version: str) -> Outcome | None:
        return abandon(
            self.service, self.meter, self.registry, version, self.plan, clock=self.clock
        )

    def settled(self) -> Observed:
        """The service once its controller has nothing left to do."""
        while not (seen := self.service.observe()).settled:
            assert self.service.calls["observe"] < 10_000
        return seen

    def lease(self, letter: str = "b", **changes: Any) -> Lease:
        """A rollout that has begun."""
        seen = self.settled()
        one = self.candidate(letter, **changes)
        digest = "a" * 64 if seen.stable else ""
        state = new_state(one, self.plan, self.clock, seen, None, digest)
        return Lease.begin(self.service, self.plan, self.clock, seen, state)

    def drive_of(self, lease: Lease) -> Drive:

        answers = Answers("sensevoice", 5)
        report = Report(self.service, self.time.now, None)
        drive = Drive(lease, answers, self.meter, self.registry, self.plan, self.clock, report)
        drive.clips = self.clips
        return drive

    @property
    def state(self) -> RolloutState:
        """What stands on the service."""
        assert self.service.state is not None
        return RolloutState.model_validate_json(self.service.state)


def _service(server: RevisionServer) -> MemoryService:
    """Nothing serves in it; the server answers for its revisions."""
    service = MemoryService(server.url)
    server.route = lambda name: (name, service.models[name]) if name in service.models else None
    server.asked.clear()
    return service


def _uri(letter: str) -> str:
    return f"pvc://models/{letter}"


@pytest.fixture
def time_machine() -> FakeClock:
    return FakeClock()


@pytest.fixture
def revision_server() -> Iterator[RevisionServer]:
    """Answers for the models ``a`` to ``d``, once its route is set."""
    server = RevisionServer()
    server.models = {_uri(letter): Model(letter * 64) for letter in "abcd"}
    yield server
    server.close()


@pytest.fixture
def plan() -> Plan:
    """Four steps, half a minute each; the latency of so short answers is not judged."""
    return Plan(
        steps=(0, 5, 50, 100),
        bake_seconds=30,
        interval_seconds=10,
        inconclusive_limit=3,
        min_requests=20,
        ready_timeout_seconds=60,
        unavailable_timeout_seconds=30,
        request_timeout_seconds=10,
        lease_seconds=40,
        poll_seconds=2,
        replay=ReplayBounds(clips=len(TEXTS), max_latency_ratio=1000),
    )


@pytest.fixture
def clips() -> list[Clip]:
    """Labelled clips whose audio is what is said in them."""
    return [
        Clip(Utterance(id=f"clip-{number}", audio="a.wav", text=text), text.encode())
        for number, text in enumerate(TEXTS)
    ]


@pytest.fixture
def world(
    revision_server: RevisionServer, time_machine: FakeClock, plan: Plan, clips: list[Clip]
) -> World:
    """A service that serves the model ``a``."""
    empty = _service(revision_server)
    return World(
        empty, revision_server, ScriptedMeter(), RecordingRegistry(), time_machine, plan, clips
    ).fresh()


@pytest.fixture
def empty_world(world: World) -> World:
    """A service that serves nothing yet."""
    world.service = _service(world.server)
    return world


@pytest.fixture
def meter() -> ScriptedMeter:
    return ScriptedMeter()


@pytest.fixture
def registry() -> RecordingRegistry:
    return RecordingRegistry()
