"""Whole rollouts with the real client over a Kubernetes API whose revisions answer over HTTP."""

import json

import pytest

from pipelines.rollout.cluster.errors import ClusterError
from pipelines.rollout.cluster.inference_service import STATE
from pipelines.rollout.drive import NotSettled
from pipelines.rollout.lease import ChangedElsewhere
from pipelines.rollout.patience import Clock
from pipelines.rollout.rollout import abandon, roll_out, rollback
from pipelines.rollout.state import Candidate, RolloutState
from pipelines.rollout.target import Traffic, Unavailable

STABLE, CANDIDATE = "sensevoice-predictor-00001", "sensevoice-predictor-00002"


class Service:
    """The cluster's service and all that a rollout of it needs."""

    def __init__(self, kubernetes, cluster, server, meter, registry, clock, plan, clips):
        self.kubernetes = kubernetes
        self.cluster = cluster
        self.server = server
        self.meter = meter
        self.registry = registry
        self.time = clock
        self.clock = Clock(clock.now, clock.sleep, clock.steady)
        self.plan = plan
        self.clips = clips
        self.shares = []
        self.unverified = []
        self.theirs = False
        kubernetes.tag_url = lambda tag: f"{server.url}/{tag}"
        server.route = self.route
        server.models = {uri(old[-1]): model for old, model in server.models.items()}
        step = kubernetes.controllers.step

        def watched(document):
            acted = step(document)
            self.watch()
            return acted

        kubernetes.controllers.step = watched

    def traffic(self):
        predictor = self.kubernetes.document["status"]["components"]["predictor"]
        return predictor.get("traffic", [])

    def route(self, tag):
        """Where the mesh leads at this moment."""
        found = [each["revisionName"] for each in self.traffic() if each["tag"] == tag]
        return (found[0], self.kubernetes.controllers.models[found[0]]) if found else None

    def watch(self):
        """No user is to have a revision that was not asked all clips, but the first."""
        shares = {}
        for each in self.traffic():
            shares[each["revisionName"]] = shares.get(each["revisionName"], 0) + each["percent"]
        for name in {name for name, share in shares.items() if share} - {STABLE}:
            if len(self.server.heard(name)) <= len(self.clips) and not self.theirs:
                self.unverified.append(shares)
        if not self.shares or self.shares[-1] != shares:
            self.shares.append(shares)

    def roll_out(self, letter="b", **changes):
        one = self.candidate(letter, **changes)
        needs = (self.cluster, self.meter, self.registry, one, self.plan, self.clips)
        try:
            return roll_out(*needs, clock=self.clock)
        finally:
            assert self.unverified == []

    def candidate(self, letter, **changes):
        fields = {"version": letter.upper(), "storage_uri": uri(letter), "digest": letter * 64}
        return Candidate.model_validate({**fields, **changes})

    @property
    def users(self):
        """Storage URI → percent of the users."""
        shares = {}
        for each in self.traffic():
            model = self.kubernetes.controllers.models[each["revisionName"]]
            shares[model] = shares.get(model, 0) + each["percent"]
        return {model: share for model, share in shares.items() if share}

    @property
    def state(self):
        text = self.kubernetes.document["metadata"]["annotations"][STATE]
        return RolloutState.model_validate_json(text)

    @property
    def told(self):
        return [event["reason"] for event in self.kubernetes.events.values()]

    @property
    def patches(self):
        return sum(request.startswith("PATCH") for request in self.kubernetes.requests)


def uri(letter):
    return f"pvc://models/{letter * 4}"


@pytest.fixture
def service(kubernetes, cluster, revision_server, meter, registry, time_machine, plan, clips):
    quick = plan.model_copy(update={"bake_seconds": 10.0, "interval_seconds": 5.0})
    return Service(
        kubernetes, cluster, revision_server, meter, registry, time_machine, quick, clips
    )


# The whole way


def test_a_good_candidate_is_promoted_step_by_step(service):
    found = service.roll_out()
    assert (found.outcome, found.version) == ("promoted", "B")
    assert service.shares == [
        {STABLE: 100},
        {CANDIDATE: 0, STABLE: 100},
        {CANDIDATE: 5, STABLE: 95},
        {CANDIDATE: 50, STABLE: 50},
        {CANDIDATE: 100},
    ]
    assert service.registry.told == [("promoted", "B")]
    assert "canaryTrafficPercent" not in service.kubernetes.document["spec"]["predictor"]
    assert len(service.kubernetes.controllers.models) == 2
    assert service.told == [
        "RolloutStarted",
        "RolloutStepPassed",
        *["RolloutStepStarted", "RolloutStepPassed"] * 2,
        "RolloutPromoted",
    ]
    assert {name for name, _ in service.meter.asked} == {STABLE, CANDIDATE}


def test_then_the_next_and_back_to_the_former(service):
    for letter in "bc":
        assert service.roll_out(letter).outcome == "promoted"
    assert service.users == {uri("c"): 100}
    one = service.candidate("b")
    needs = (service.cluster, service.meter, service.registry, one, service.plan)
    found = rollback(*needs, clock=service.clock)
    assert found.outcome == "promoted"
    assert service.users == {uri("b"): 100}
    assert [told for told, _ in service.registry.told] == ["promoted"] * 3


@pytest.mark.parametrize(
    ("spoil", "told", "largest"),
    [
        (lambda s: s.kubernetes.broken.add(uri("b")), "failed with message: no nodes", 0),
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
def test_a_bad_candidate_is_rolled_back(service, spoil, told, largest):
    spoil(service)
    found = service.roll_out()
    assert found.outcome == "rejected"
    assert told in found.reason
    assert service.users == {uri("a"): 100}
    assert max(shares.get(CANDIDATE, 0) for shares in service.shares) == largest
    assert service.registry.told == [("rejected", "B", found.reason)]
    assert service.told[-2:] == ["RolloutRollingBack", "RolloutRejected"]
    # And the next one has its way.
    assert service.roll_out("d").outcome == "promoted"
    assert service.users == {uri("d"): 100}


def test_a_rejected_candidate_is_tried_again_with_a_new_revision(service):
    service.kubernetes.broken.add(uri("b"))
    assert service.roll_out().outcome == "rejected"
    service.kubernetes.broken.clear()
    assert service.roll_out().outcome == "promoted"
    assert service.users == {uri("b"): 100}


def test_the_same_model_in_another_image_is_told_apart_by_its_revision(service):
    found = service.roll_out("a", image="predictor:2")
    assert found.outcome == "promoted"
    assert service.kubernetes.document["spec"]["predictor"]["model"]["image"] == "predictor:2"
    assert service.shares[-1] == {CANDIDATE: 100}


def test_while_the_mesh_still_leads_to_the_old_pods_nothing_is_judged(service):
    """The tag's new route comes some looks later than the controllers say."""
    late = []

    def lagging(tag):
        if tag == "latest" and service.route(tag) and service.route(tag)[0] == CANDIDATE:
            late.append(tag)
            if len(late) < 4:
                return STABLE, uri("a")
        return service.route(tag)

    service.server.route = lagging
    assert service.roll_out().outcome == "promoted"
    assert service.server.heard(STABLE)[: len(service.clips)] != []
    assert len(service.server.heard(CANDIDATE)) == len(service.clips) + 1


def test_a_first_release_that_fails_is_told_and_cured(service):
    service.kubernetes.broken.add(uri("x"))
    service.kubernetes.controllers.template = ""
    service.kubernetes.controllers.models.clear()
    service.kubernetes.create(uri("x"))
    service.watch = lambda: None  # Nothing was there to be verified first.
    service.kubernetes.broken.add(uri("b"))
    found = service.roll_out("b")
    assert found.outcome == "rejected"
    assert "no nodes" in found.reason
    assert service.users == {}
    assert service.roll_out("c").outcome == "promoted"
    assert service.users == {uri("c"): 100}


# Faults of the API in the middle


@pytest.mark.parametrize("skip", [0, 1, 3, 6])
@pytest.mark.parametrize(
    ("method", "status", "applied"),
    [
        ("PATCH", 409, False),
        *(
            (method, status, applied)
            for method in ("GET", "PATCH")
            for status, applied in ((500, False), (504, True), (None, False), (None, True))
        ),
    ],
)
def test_one_fault_anywhere_changes_nothing(service, fault, method, skip, status, applied):
    service.kubernetes.faults.append(fault(method, status, applied=applied, skip=skip))
    assert service.roll_out().outcome == "promoted"
    assert service.kubernetes.faults == []
    assert service.registry.told == [("promoted", "B")]
    assert service.shares[-1] == {CANDIDATE: 100}
    assert [shares[CANDIDATE] for shares in service.shares[1:]] == [0, 5, 50, 100]


def test_an_api_that_stays_away_ends_it_and_it_can_be_run_again(service, fault):
    service.kubernetes.faults += [fault("PATCH", 500, skip=4)] + [
        fault("PATCH", 500) for _ in range(20)
    ]
    with pytest.raises(Unavailable, match="500"):
        service.roll_out()
    service.kubernetes.faults.clear()
    service.time.sleep(service.plan.lease_seconds + 1)
    assert service.roll_out().outcome == "promoted"
    assert "RolloutResumed" in service.told


def test_a_right_that_is_missing_stops_it_at_once(service, fault):
    service.kubernetes.faults.append(fault("PATCH", 403, "forbidden"))
    with pytest.raises(ClusterError, match="a Role must allow verb patch"):
        service.roll_out()
    assert STATE not in service.kubernetes.document["metadata"]["annotations"]


def test_events_that_are_forbidden_stop_nothing(service, fault):
    service.kubernetes.faults += [fault("POST", 403, "forbidden") for _ in range(50)]
    assert service.roll_out().outcome == "promoted"
    assert service.told == []


def test_controllers_that_are_gone_are_told(service):
    service.kubernetes.paused = True
    with pytest.raises(NotSettled, match=f"rollback: .*expected {STABLE}"):
        service.roll_out()
    assert service.state.phase == "rolling_back"
    assert service.registry.told == []


# Someone else in the middle


def edit_at(service, percent, change):
    """Someone's edit, as soon as the candidate has that share."""
    watch, done = service.watch, []

    def watched():
        watch()
        if not done and service.shares[-1].get(CANDIDATE) == percent:
            done.append(percent)
            service.kubernetes.edit(change)
            # What they bring to the users is theirs, until the share is taken back.
            service.theirs = True

    service.watch = watched


def spec(**changes):
    return lambda document: document["spec"]["predictor"].update(changes)


@pytest.mark.parametrize(
    ("change", "told", "left"),
    [
        (spec(canaryTrafficPercent=30), "share to 30 %; the rollout had set 5 %", 30),
        (
            lambda document: document["spec"]["predictor"].pop("canaryTrafficPercent"),
            "share to none",
            None,
        ),
        (spec(minReplicas=2), "changed the specification", 0),
        (
            lambda document: document["spec"]["predictor"]["model"].update(storageUri=uri("c")),
            f"model to {uri('c')}",
            0,
        ),
        (
            lambda document: document["spec"]["predictor"]["model"].update(image="theirs"),
            "changed the specification",
            0,
        ),
        (lambda document: document["metadata"]["annotations"].pop(STATE), "removed", 0),
        (
            lambda document: document["spec"]["predictor"].pop("annotations"),
            "changed the specification",
            0,
        ),
    ],
)
def test_someones_edit_stops_it_and_takes_the_share_back(service, change, told, left):
    edit_at(service, 5, change)
    with pytest.raises(ChangedElsewhere, match=told):
        service.roll_out()
    predictor = service.kubernetes.document["spec"]["predictor"]
    assert predictor.get("canaryTrafficPercent") == left
    assert (service.state.phase, service.state.percent) == ("stopped", left)
    assert service.told[-1] == "RolloutStopped"
    assert service.registry.told == []


def label(document):
    document["metadata"]["labels"] = {"team": "voice"}


def test_a_label_of_somebodys_makes_a_revision_that_nobody_verified(service):
    """KServe copies it to the pods' template."""
    edit_at(service, 5, label)
    assert "has taken the place of" in service.roll_out().reason
    assert service.users == {uri("a"): 100}


def test_a_label_from_before_stops_nothing(service):
    service.theirs = True
    service.kubernetes.edit(label)
    assert service.roll_out().outcome == "promoted"
    assert service.users == {uri("b"): 100}


def test_what_the_controllers_drop_of_the_empty_values_stops_nothing(service):
    edit_at(service, 5, lambda document: document["spec"]["predictor"]["model"].pop("resources"))
    assert service.roll_out().outcome == "promoted"


# Left by a dead process


def test_a_dead_rollout_is_abandoned(service, fault):
    service.kubernetes.faults += [fault("PATCH", 403, skip=4), fault("PATCH", 403)]
    with pytest.raises(ClusterError) as told:
        service.roll_out()
    assert service.users == {uri("a"): 95, uri("b"): 5}
    assert "left rolling, with 5 % of the users on version B" in told.value.__notes__[0]
    needs = (service.cluster, service.meter, service.registry, "B", service.plan)
    found = abandon(*needs, clock=service.clock)
    assert found.outcome == "rejected"
    assert service.users == {uri("a"): 100}


def test_an_error_gives_the_users_back_and_the_next_run_goes_on_at_once(service, fault):
    service.kubernetes.faults += [fault("PATCH", 403, skip=4)]
    with pytest.raises(ClusterError) as told:
        service.roll_out()
    assert f"were given back to {STABLE}" in told.value.__notes__[0]
    service.cluster.observe()
    assert service.users == {uri("a"): 100}
    assert service.told[-1] == "RolloutInterrupted"
    slept = service.time.slept
    assert service.roll_out().outcome == "promoted"
    assert service.time.slept - slept < 2 * service.plan.lease_seconds
    assert service.shares[-1] == {CANDIDATE: 100}


def test_the_state_is_small_enough_for_an_annotation(service):
    service.server.models[uri("b")].hear = lambda said: ""
    service.roll_out()
    text = service.kubernetes.document["metadata"]["annotations"][STATE]
    assert len(text.encode()) < 4096
    assert json.loads(text)["reason"].startswith("replay")
