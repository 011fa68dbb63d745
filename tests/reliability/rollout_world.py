"""A service in a cluster, all that a rollout of it asks, each over a socket, and what is to hold there."""

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

from kubernetes import client

from pipelines.data.manifest import Utterance
from pipelines.rollout import rollout as core
from pipelines.rollout.cluster import target as cluster
from pipelines.rollout.cluster.inference_service import STATE
from pipelines.rollout.cluster.prometheus import PrometheusMeter
from pipelines.rollout.ending import terminable
from pipelines.rollout.patience import Clock
from pipelines.rollout.plan import Plan, ReplayBounds
from pipelines.rollout.replay import Clip
from pipelines.rollout.rollout import Outcome
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Refused
from tests.pipelines.rollout.cluster.double import NAME, NAMESPACE, Fault, KubernetesDouble
from tests.pipelines.rollout.doubles import FakeClock, RecordingRegistry
from tests.pipelines.rollout.revisions import Model, RevisionServer

TEXTS = ("turn on the light", "打开客厅的灯")
STABLE = f"{NAME}-predictor-00001"

PLAN = Plan(
    steps=(0, 5, 50, 100),
    bake_seconds=10,
    interval_seconds=5,
    inconclusive_limit=3,
    min_requests=20,
    ready_timeout_seconds=60,
    unavailable_timeout_seconds=30,
    request_timeout_seconds=10,
    lease_seconds=40,
    poll_seconds=2,
    replay=ReplayBounds(clips=len(TEXTS), max_latency_ratio=1000),
)

Figures = dict[str, str]
HEALTHY: Figures = {"requests": "200", "errors": "0", "p95": "0.2", "p99": "0.4", "age": "1"}
FAULTY: Figures = {**HEALTHY, "errors": "40"}


def vector(figures: Figures, **more: Any) -> bytes:
    """An answer of Prometheus's API."""
    result = [
        {"metric": {"figure": name}, "value": [1_800_000_000, value]}
        for name, value in figures.items()
    ]
    return json.dumps({"status": "success", "data": {"result": result}, **more}).encode()


class PrometheusDouble:
    """Attributes: script: revision → status and body; a status of None closes the connection."""

    def __init__(self) -> None:
        self.script: Callable[[str], tuple[int | None, bytes]] = lambda revision: (
            200,
            vector(HEALTHY),
        )
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: Any) -> None: ...

            def do_POST(self) -> None:
                query = self.rfile.read(int(self.headers["Content-Length"])).decode()
                (revision,) = set(re.findall(rf"{NAME}-predictor-[0-9]+", query))
                status, body = outer.script(revision)
                if status is None:
                    return
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Killed(BaseException):
    """As by SIGKILL: nothing of the process runs any more."""


@dataclass
class MortalClock(FakeClock):
    """Attributes: sleeps_left: the process is killed in the last of them; None: it is not."""

    sleeps_left: int | None = None

    def sleep(self, seconds: float) -> None:
        if self.sleeps_left is not None:
            self.sleeps_left -= 1
            if self.sleeps_left < 0:
                raise Killed
        super().sleep(seconds)


@dataclass
class Registry(RecordingRegistry):
    """Attributes: refuses: versions that it has no longer."""

    refuses: set[str] = field(default_factory=set)

    def _tell(self, *what: str) -> None:
        if what[1] in self.refuses:
            raise Refused(f"the registry has no version {what[1]}")
        super()._tell(*what)


class World:
    """The model ``a`` serves; ``b``, ``c`` and ``d`` are candidates, of the versions B, C and D.

    Attributes:
        spoilt: letters of models whose requests fail.
        hits: faults that requests have met.
        unverified: shares of users on revisions that had not been asked all clips before.
    """

    def __init__(self) -> None:
        self.kubernetes = KubernetesDouble()
        self.revisions = RevisionServer()
        self.prometheus = PrometheusDouble()
        self.registry = Registry()
        self.time = MortalClock()
        self.clips = [
            Clip(Utterance(id=f"clip-{n}", audio="a.wav", text=text), text.encode())
            for n, text in enumerate(TEXTS)
        ]
        self.shares: list[dict[str, int]] = []
        self.unverified: list[dict[str, int]] = []
        self.hits = 0
        self.spoilt: set[str] = set()
        self._owner = ""
        self.revisions.models = {uri(letter): Model(letter * 64) for letter in "abcd"}
        self.revisions.route = self._route
        self.kubernetes.tag_url = lambda tag: f"{self.revisions.url}/{tag}"
        self.kubernetes.create(uri("a"))
        self._act = self.kubernetes.controllers.step
        self.kubernetes.controllers.step = self._step  # type: ignore[method-assign]

    def __enter__(self) -> "World":
        return self

    def __exit__(self, *error: object) -> None:
        self.kubernetes.server.shutdown()
        self.kubernetes.server.server_close()
        self.revisions.close()
        self.prometheus.close()

    def roll_out(self, letter: str = "b") -> "Outcome | BaseException":
        """One process with a candidate: how it ended."""
        return self._process(
            lambda needs: core.roll_out(
                *needs, self.candidate(letter), PLAN, self.clips, clock=self.clock
            )
        )

    def abandon(self, version: str | None = None) -> "Outcome | BaseException | None":
        return self._process(lambda needs: core.abandon(*needs, version, PLAN, clock=self.clock))

    def candidate(self, letter: str) -> Candidate:
        return Candidate(version=letter.upper(), storage_uri=uri(letter), digest=letter * 64)

    @property
    def clock(self) -> Clock:
        return Clock(self.time.now, self.time.sleep, self.time.steady)

    @property
    def state(self) -> RolloutState | None:
        """What stands on the service."""
        annotations = self.kubernetes.document["metadata"]["annotations"]
        text = annotations.get(STATE)
        return RolloutState.model_validate_json(text) if text else None

    @property
    def users(self) -> dict[str, int]:
        """Model's letter → percent of the users, once the controllers have nothing left to do."""
        with self.kubernetes.lock:
            while self._step(self.kubernetes.document):
                self.kubernetes._touch()
        found: dict[str, int] = {}
        for each in self._traffic():
            letter = self.kubernetes.controllers.models[each["revisionName"]][-1]
            found[letter] = found.get(letter, 0) + each["percent"]
        return {letter: share for letter, share in found.items() if share}

    def check(self, ended: "Outcome | BaseException | None") -> None:
        """Users have a version that passed all gates or was stable before, or the end says otherwise."""
        assert self.unverified == []
        users, state = self.users, self.state
        assert sum(users.values()) == 100
        if isinstance(ended, Outcome):
            assert len(users) == 1, users
            assert (ended.version.lower() in users) == (ended.outcome == "promoted")
            assert self.registry.told[-1][:2] == (ended.outcome, ended.version)
        if not isinstance(ended, Exception | SystemExit) or state is None or state.finished:
            return
        version = state.candidate.version
        share = users.get(version.lower(), 0)
        if state.owner == self._owner or (state.phase == "rolling" and not share):
            return
        said = " ".join([str(ended), *getattr(ended, "__notes__", [])])
        assert f"version {version}" in said, said
        assert "python -m pipelines.abandon" in said, said
        if state.phase == "rolling":
            assert f"{share} % of the users on version {version}" in said, said

    def _process(self, act: Callable[[Any], Any]) -> Any:
        api = client.Configuration(host=self.kubernetes.url)
        # The client's own pauses, after connections that are refused, are real time.
        with patch.object(cluster, "RETRY", cluster.RETRY.new(backoff_factor=0)):
            target = cluster.connect(NAMESPACE, NAME, api)
        meter = PrometheusMeter(self.prometheus.url, NAMESPACE)
        self._owner = self.state.owner if self.state else ""
        try:
            with terminable():
                return act((target, meter, self.registry))
        except (Exception, SystemExit, Killed) as error:
            return error

    def _traffic(self) -> list[dict[str, Any]]:
        predictor = self.kubernetes.document["status"]["components"]["predictor"]
        return list(predictor.get("traffic", []))

    def _route(self, tag: str) -> tuple[str, str] | None:
        found = [each["revisionName"] for each in self._traffic() if each["tag"] == tag]
        return (found[0], self.kubernetes.controllers.models[found[0]]) if found else None

    def _step(self, document: dict[str, Any]) -> bool:
        acted = self._act(document)
        shares: dict[str, int] = {}
        for each in self._traffic():
            shares[each["revisionName"]] = shares.get(each["revisionName"], 0) + each["percent"]
        if not self.shares or self.shares[-1] != shares:
            self.shares.append(shares)
            for name in {name for name, share in shares.items() if share} - {STABLE}:
                if set(self.revisions.heard(name)) != set(TEXTS):
                    self.unverified.append(shares)
        return acted

    def fault(self, kind: Fault, when: "Moment", times: float) -> None:
        """From here on, the requests of a moment meet a fault, ``times`` at most."""
        left = times

        def disturb(method: str, body: Any) -> Fault | None:
            nonlocal left
            if left <= 0 or method == "POST" or not when(self, method, body):
                return None
            left -= 1
            self.hits += 1
            return replace(kind, method=method)

        self.kubernetes.disturb = disturb


Moment = Callable[[World, str, Any], bool]


def uri(letter: str) -> str:
    return f"pvc://models/{letter * 4}"


def writes(**wanted: Any) -> Moment:
    """The patch that writes a state with these fields."""

    def is_it(world: World, method: str, body: Any) -> bool:
        if method != "PATCH":
            return False
        state = RolloutState.model_validate_json(body["metadata"]["annotations"][STATE])
        return all(getattr(state, name) == value for name, value in wanted.items())

    return is_it


def during(**wanted: Any) -> Moment:
    """Any request while the state on the service has these fields."""

    def is_it(world: World, method: str, body: Any) -> bool:
        state = world.state
        return state is not None and all(
            getattr(state, name) == value for name, value in wanted.items()
        )

    return is_it
