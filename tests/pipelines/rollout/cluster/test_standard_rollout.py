"""Whole rollouts in Standard mode: the real client, a Kubernetes API, Services that answer over HTTP."""

import socket
from urllib.parse import urlsplit

import pytest

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import STATE, STATE_MASK
from pipelines.rollout.drive import NotSettled
from pipelines.rollout.lease import ChangedElsewhere
from pipelines.rollout.patience import Clock
from pipelines.rollout.rollout import abandon, roll_out, rollback
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Traffic

STABLE, CANDIDATE = "sensevoice-predictor", "sensevoice-vbbbbbbbb-predictor"
DOMAIN = ".voice.svc.cluster.local"


def uri(letter):
    return f"pvc://models/{letter * 4}"


class Service:
    """The cluster's service and all that a rollout of it needs."""

    def __init__(
        self, kubernetes, controllers, cluster, server, meter, registry, clock, plan, clips
    ):
        self.kubernetes = kubernetes
        self.controllers = controllers
        self.needs = (cluster, meter, registry)
        self.server, self.meter, self.registry = server, meter, registry
        self.clock = Clock(clock.now, clock.sleep, clock.steady)
        self.plan, self.clips = plan, clips
        self.shares, self.unverified = [], []
        server.route = self.route
        server.models = {uri(old[-1]): model for old, model in server.models.items()}
        for model in server.models.values():
            model.tells_revision = False
        controllers.port = urlsplit(server.url).port
        meter.script = self.measure
        step = controllers.step

        def watched(document):
            acted = step(document)
            self.watch()
            return acted

        controllers.step = watched
        self.settle()

    def settle(self):
        """The controllers, until they have nothing left to do."""
        while self.controllers.step(self.kubernetes.document):
            pass

    def route(self, name):
        found = self.controllers.deployments.get(name)
        return (name, found.serving) if found and found.serving else None

    def measure(self, revision, seconds):
        """What the HTTPRoute sends to a revision."""
        n = 2 * self.controllers.weights.get(revision, 0)
        return Traffic(n, 0, 0.2, 0.4) if n else Traffic(0, 0, None, None)

    def watch(self):
        """No user is to have a model that was not asked all clips, but the first, nor none."""
        shares = {name: n for name, n in self.controllers.weights.items() if n}
        for name in shares.keys() - {STABLE}:
            if len(self.server.heard(name)) < len(self.clips):
                self.unverified.append(shares)
        if "" in self.controllers.users:
            self.unverified.append(shares)
        if not self.shares or self.shares[-1] != shares:
            self.shares.append(shares)

    def candidate(self, letter="b", **changes):
        fields = {"version": letter.upper(), "storage_uri": uri(letter), "digest": letter * 64}
        return Candidate.model_validate({**fields, **changes})

    def roll_out(self, letter="b", **changes):
        plan = changes.pop("plan", self.plan)
        one = self.candidate(letter, **changes)
        try:
            return roll_out(*self.needs, one, plan, self.clips, clock=self.clock)
        finally:
            assert self.unverified == []

    @property
    def users(self):
        return self.controllers.users

    @property
    def spec(self):
        return self.kubernetes.document["spec"]

    @property
    def state(self):
        text = self.kubernetes.document["metadata"]["annotations"][STATE]
        return RolloutState.model_validate_json(text)

    @property
    def told(self):
        return [event["reason"] for event in self.kubernetes.events.values()]


@pytest.fixture
def service(
    kubernetes,
    standard,
    cluster,
    revision_server,
    meter,
    registry,
    time_machine,
    plan,
    clips,
    monkeypatch,
):
    """Names of its Services lead to the revisions' server."""
    resolve = socket.getaddrinfo

    def getaddrinfo(host, port, *args, **kwargs):
        name = host.removesuffix(DOMAIN) if isinstance(host, str) else ""
        if name == host:
            return resolve(host, port, *args, **kwargs)
        if name not in standard.deployments:
            raise socket.gaierror(f"no Service {name}")
        return resolve("127.0.0.1", port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    quick = plan.model_copy(
        update={"bake_seconds": 10.0, "interval_seconds": 5.0, "min_requests": 8}
    )
    needs = (cluster, revision_server, meter, registry, time_machine, quick, clips)
    return Service(kubernetes, standard, *needs)


# The whole way


def test_a_good_candidate_is_promoted_step_by_step_without_a_restart(service):
    found = service.roll_out()
    assert (found.outcome, found.version) == ("promoted", "B")
    assert service.shares == [
        {STABLE: 100},
        {CANDIDATE: 5, STABLE: 95},
        {CANDIDATE: 50, STABLE: 50},
        {CANDIDATE: 100},
    ]
    assert service.registry.told == [("promoted", "B")]
    assert service.controllers.deployments.keys() == {CANDIDATE}
    assert service.controllers.deployments[CANDIDATE].starts == 1
    predictor = service.spec["predictor"]
    assert (predictor["name"], predictor["minReplicas"]) == ("vbbbbbbbb", 1)
    assert predictor["model"]["storageUri"] == uri("b")
    assert "canary" not in service.spec
    assert {name for name, _ in service.meter.asked} == {STABLE, CANDIDATE}


@pytest.mark.parametrize("masked", [True, False])
def test_the_rollouts_many_writes_replace_the_stable_pods_at_most_once(service, masked):
    if masked:
        mask = {STATE: STATE_MASK}
        service.kubernetes.edit(lambda d: d["spec"]["predictor"].update(annotations=mask))
        service.settle()
    stable = service.controllers.deployments[STABLE]
    before = stable.starts
    service.roll_out()
    assert sum(request.startswith("PATCH") for request in service.kubernetes.requests) > 5
    assert stable.starts == before + (not masked)


def test_then_the_next_and_back_to_the_former_and_the_same_once_more(service):
    for letter in "bc":
        assert service.roll_out(letter).outcome == "promoted"
    assert service.users == {uri("c"): 100}
    found = rollback(*service.needs, service.candidate("b"), service.plan, clock=service.clock)
    assert found.outcome == "promoted"
    assert service.users == {uri("b"): 100}
    image = "predictor:2"
    assert service.roll_out("b", image=image).outcome == "promoted"
    assert service.spec["predictor"]["model"]["image"] == image
    assert service.spec["predictor"]["name"] != "vbbbbbbbb"
    assert len(service.controllers.deployments) == 1


def test_what_serves_already_is_left_alone(service):
    assert "serves all users already" in service.roll_out("a").reason
    assert service.controllers.deployments.keys() == {STABLE}


@pytest.mark.parametrize(
    ("spoil", "told", "largest"),
    [
        (lambda s: s.kubernetes.broken.add(uri("b")), "ModelLoadFailed: no such file", 0),
        (lambda s: setattr(s.server.models[uri("b")], "hear", lambda said: ""), "texts differ", 0),
        (lambda s: setattr(s.server.models[uri("b")], "digest", "c" * 64), "answers with model", 0),
        (lambda s: setattr(s.server.models[uri("b")], "dead", True), "does not answer", 0),
        (
            lambda s: setattr(
                s.meter,
                "script",
                lambda revision, seconds: Traffic(200, 9 * (revision == CANDIDATE), 0.2, 0.4),
            ),
            "9 of 200 answers are errors",
            5,
        ),
    ],
)
def test_a_bad_candidate_is_rolled_back_and_its_pods_end(service, spoil, told, largest):
    spoil(service)
    found = service.roll_out()
    assert found.outcome == "rejected"
    assert told in found.reason
    assert max(shares.get(CANDIDATE, 0) for shares in service.shares) == largest
    assert service.users == {uri("a"): 100}
    assert "canary" not in service.spec
    assert service.registry.told == [("rejected", "B", found.reason)]
    assert service.told[-2:] == ["RolloutRollingBack", "RolloutRejected"]
    # And the next one has its way.
    assert service.roll_out("d").outcome == "promoted"
    assert service.controllers.deployments.keys() == {"sensevoice-vdddddddd-predictor"}


def test_one_that_never_gets_a_pod_is_rejected_in_time(service):
    """KServe does not say why."""
    service.controllers.tells = False
    service.kubernetes.broken.add(uri("b"))
    assert f"after 60 s {CANDIDATE} is not ready" in service.roll_out().reason


def test_a_rejected_candidate_is_tried_again(service):
    service.kubernetes.broken.add(uri("b"))
    assert service.roll_out().outcome == "rejected"
    service.kubernetes.broken.clear()
    assert service.roll_out().outcome == "promoted"
    assert service.users == {uri("b"): 100}


def test_a_controller_that_moves_no_users_ends_it_with_why(service):
    service.controllers.moves = False
    found = service.roll_out()
    assert found.outcome == "rejected"
    assert "inconclusive at 5 %: 0 of 8 requests to the candidate" in found.reason
    assert "weights of an HTTPRoute alone (kserve/kserve#5912, not in v0.20)" in found.reason
    assert service.users == {uri("a"): 100}
    assert service.shares == [{STABLE: 100}]


def test_a_broken_stable_model_is_cured_at_once(service):
    """KServe moves no share while the stable predictor is not ready; a rollback needs none."""
    service.server.models[uri("a")].dead = True
    service.controllers.deployments[STABLE].uri = "gone"
    found = rollback(*service.needs, service.candidate("b"), service.plan, clock=service.clock)
    assert found.outcome == "promoted"
    assert service.users == {uri("b"): 100}


@pytest.fixture
def unserved(service):
    """The service's first model cannot be loaded."""
    service.kubernetes.broken.add(uri("x"))
    service.controllers.deployments.clear()
    service.controllers.weights = {}
    service.watch = lambda: None  # Nothing was there to be verified first.
    service.kubernetes.create(uri("x"), service.kubernetes.document["metadata"]["annotations"])
    return service


def test_a_first_release_has_the_service_at_once(unserved):
    assert unserved.roll_out().outcome == "promoted"
    assert unserved.users == {uri("b"): 100}
    assert "canary" not in unserved.spec


def test_a_first_release_that_fails_is_told_and_cured(unserved):
    unserved.kubernetes.broken.add(uri("b"))
    found = unserved.roll_out()
    assert found.outcome == "rejected"
    assert "ModelLoadFailed: no such file" in found.reason
    assert unserved.roll_out("c").outcome == "promoted"
    assert unserved.users == {uri("c"): 100}


def test_nor_does_one_that_never_gets_a_pod_keep_its_cure_away(unserved):
    def watched():
        unserved.controllers.tells = "name" not in unserved.spec["predictor"]

    unserved.watch = watched
    unserved.kubernetes.broken.add(uri("b"))
    assert "after 60 s" in unserved.roll_out().reason
    assert unserved.roll_out("c").outcome == "promoted"
    assert unserved.users == {uri("c"): 100}


def test_a_first_model_that_is_starting_is_waited_for(unserved):
    unserved.controllers.tells = False
    unserved.settle()
    unserved.kubernetes.broken.clear()
    unserved.server.models[uri("x")] = unserved.server.models[uri("c")]
    assert unserved.roll_out().outcome == "promoted"
    assert unserved.state.stable == STABLE


# In the middle


@pytest.mark.parametrize("skip", [0, 1, 3, 5])
@pytest.mark.parametrize(
    ("method", "status", "applied"),
    [("PATCH", 409, False), ("PATCH", 504, True), ("PATCH", None, True), ("GET", 500, False)],
)
def test_one_fault_anywhere_changes_nothing(service, fault, method, skip, status, applied):
    service.kubernetes.faults.append(fault(method, status, applied=applied, skip=skip))
    assert service.roll_out().outcome == "promoted"
    assert service.kubernetes.faults == []
    assert service.registry.told == [("promoted", "B")]
    assert [shares.get(CANDIDATE) for shares in service.shares] == [None, 5, 50, 100]
    assert service.controllers.deployments[CANDIDATE].starts == 1


@pytest.mark.parametrize("skip", range(1, 8))
def test_one_that_was_killed_anywhere_is_finished_by_the_next_run(service, fault, skip):
    """A right that is missing ends a process at once, with the rollout as it is."""
    service.kubernetes.faults += [fault("PATCH", 403, skip=skip), fault("PATCH", 403)]
    with pytest.raises(ClusterError):
        service.roll_out()
    assert service.roll_out().outcome == "promoted"
    assert "RolloutResumed" in service.told
    assert service.users == {uri("b"): 100}
    assert service.controllers.deployments[CANDIDATE].starts == 1


def test_a_dead_one_is_abandoned(service, fault):
    service.kubernetes.faults += [fault("PATCH", 403, skip=4), fault("PATCH", 403)]
    with pytest.raises(ClusterError):
        service.roll_out()
    assert service.users == {uri("a"): 95, uri("b"): 5}
    found = abandon(*service.needs, "B", service.plan, clock=service.clock)
    assert found.outcome == "rejected"
    service.settle()
    assert service.controllers.deployments.keys() == {STABLE}


def edit_at(service, percent, change):
    """Someone's edit, as soon as the candidate has that share."""
    watch, done = service.watch, []

    def watched():
        watch()
        if not done and service.shares[-1].get(CANDIDATE) == percent:
            done.append(percent)
            service.kubernetes.edit(change)

    service.watch = watched


def entry(document):
    return document["spec"]["canary"][0]


def experiment(document):
    """Another canary, without users."""
    model = {"modelFormat": {"name": "sensevoice"}, "name": "", "storageUri": uri("c")}
    own = {"trafficPercent": 0, "predictor": {"name": "experiment", "model": model}}
    document["spec"]["canary"].append(own)


@pytest.mark.parametrize(
    ("change", "told", "left"),
    [
        (
            lambda d: entry(d).update(trafficPercent=30),
            "share to 30 %; the rollout had set 5 %",
            [30],
        ),
        (lambda d: d["spec"].pop("canary"), "share to none", []),
        (lambda d: entry(d)["predictor"].update(minReplicas=2), "changed the specification", [0]),
        (lambda d: d["spec"]["predictor"].update(minReplicas=2), "changed the specification", [0]),
        (
            lambda d: d["spec"]["predictor"]["model"].update(storageUri=uri("a") + "/2"),
            "changed the specification",
            [0],
        ),
        (
            lambda d: entry(d)["predictor"]["model"].update(storageUri=uri("b") + "/2"),
            f"model to {uri('b')}/2",
            [0],
        ),
        (experiment, "changed the specification", [0, 0]),
        (lambda d: d["metadata"]["annotations"].pop(STATE), "removed", [0]),
    ],
)
def test_someones_edit_stops_it_and_takes_the_share_back(service, change, told, left):
    service.server.models |= {f"{uri(x)}/2": service.server.models[uri(x)] for x in "ab"}
    edit_at(service, 5, change)
    with pytest.raises(ChangedElsewhere, match=told):
        service.roll_out()
    assert [each["trafficPercent"] for each in service.spec.get("canary", [])] == left
    assert service.state.phase == "stopped"
    assert service.told[-1] == "RolloutStopped"
    assert service.registry.told == []


def test_what_it_was_stopped_at_is_no_obstacle_to_the_next(service):
    edit_at(service, 5, lambda d: d["spec"]["predictor"].update(maxReplicas=3))
    with pytest.raises(ChangedElsewhere):
        service.roll_out()
    assert service.roll_out("c").outcome == "promoted"
    assert service.spec["predictor"]["maxReplicas"] == 3
    assert service.controllers.deployments.keys() == {"sensevoice-vcccccccc-predictor"}


def test_canaries_of_others_are_refused(service):
    service.kubernetes.edit(lambda d: d["spec"].update(canary=[]))
    service.kubernetes.edit(experiment)
    with pytest.raises(ClusterError, match=r"canaries that are not a rollout's \(experiment\)"):
        service.roll_out()
    assert STATE not in service.kubernetes.document["metadata"]["annotations"]


def test_a_controller_that_is_gone_is_told(service):
    service.kubernetes.paused = True
    with pytest.raises(NotSettled, match=r"rollback: .*has not acted on the rollback"):
        service.roll_out()
    assert service.state.phase == "rolling_back"


def test_pods_that_end_at_a_share_are_not_left_there(service):
    service.controllers.tells = False

    def measure(revision, seconds):
        if service.controllers.weights.get(CANDIDATE) == 50:
            service.kubernetes.broken.add(uri("b"))
            service.controllers.deployments[CANDIDATE].serving = None
        return service.measure(revision, seconds)

    service.meter.script = measure
    assert f"at 50 %: {CANDIDATE} is not ready" in service.roll_out().reason
    assert service.users == {uri("a"): 100}
