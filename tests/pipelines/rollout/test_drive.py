from contextlib import suppress

import pytest

from pipelines.rollout.drive import NotSettled, Rejected
from pipelines.rollout.target import Traffic, Unavailable

GOOD = Traffic(200, 0, 0.2, 0.4)
NOBODY = Traffic(0, 0, None, None)
STABLE, CANDIDATE = "sensevoice-00001", "sensevoice-00002"


@pytest.fixture
def drive(world):
    return world.drive_of(world.lease())


def script(world, *mine, then=GOOD, theirs=GOOD):
    """The candidate's measurements, one after the other; errors are raised."""
    left = list(mine)

    def measure(revision, seconds):
        if revision == STABLE:
            return theirs
        found = left.pop(0) if left else then
        if isinstance(found, Exception):
            raise found
        return found

    world.meter.script = measure


def during(world, call, number, act):
    """Do ``act`` before one call of the service, counted from now."""
    first = world.service.calls[call]

    def hook(name, now, when):
        if (name, now, when) == (call, first + number, "before"):
            act()

    world.service.hook = hook


def at_share(world, percent, act):
    """Do ``act`` as soon as the users have this share of the candidate."""
    done = []

    def watch(shares):
        if shares.get(CANDIDATE) == percent and not done:
            done.append(percent)
            act()

    world.service.watch = watch


# Climbing


def test_every_step_is_written_with_its_state(world, drive):
    drive.climb()
    shares = [shares.get(CANDIDATE) for shares in world.service.shares]
    assert shares == [None, 0, 5, 50]
    assert world.state.percent == 50
    assert world.state.revision == CANDIDATE
    assert world.service.reasons == [
        "RolloutStepPassed",
        *["RolloutStepStarted", "RolloutStepPassed"] * 2,
    ]


def test_each_step_is_measured_since_its_share_took_effect(world, drive):
    drive.climb()
    windows = [10.0, 20.0, 30.0] * 2
    assert [s for name, s in world.meter.asked if name == CANDIDATE] == windows
    assert [s for name, s in world.meter.asked if name == STABLE] == windows


def test_the_lease_is_alive_all_the_while(world, drive):
    def hook(call, number, when):
        assert world.state.alive(world.time.seconds)

    world.service.hook = hook
    drive.climb()


def test_a_resumed_step_is_baked_anew_and_not_replayed(world, drive):
    drive.climb()
    world.server.asked.clear()
    world.meter.asked.clear()
    drive.climb()
    assert world.server.heard(CANDIDATE) == []
    assert [seconds for _, seconds in world.meter.asked][::2] == [10.0, 20.0, 30.0]


def test_a_step_that_the_plan_no_longer_has_begins_with_the_replay(world, drive):
    drive.climb()
    world.plan = world.plan.model_copy(update={"steps": (0, 20, 100)})
    world.server.asked.clear()
    world.drive_of(drive.lease).climb()
    assert len(world.server.heard(CANDIDATE)) == len(world.clips) + 1
    assert [shares[CANDIDATE] for shares in world.service.shares[-2:]] == [0, 20]


# Whose answers they are


@pytest.mark.parametrize(
    ("confuse", "told"),
    [
        (
            lambda world: setattr(world.model("b"), "digest", "c" * 64),
            r"after 60 s .* answers with model cccccccccccc, not bbbbbbbbbbbb",
        ),
        (
            lambda world: setattr(world.model("b"), "digest", ""),
            r"answers with model unknown, not bbbbbbbbbbbb",
        ),
        (lambda world: setattr(world.model("b"), "dead", True), r"does not answer: .*Protocol"),
        # The tag still leads to the old pods, which serve the same model in another image.
        (
            lambda world: (
                setattr(world.model("a"), "digest", "b" * 64),
                setattr(world.server, "route", lambda name: (STABLE, world.uri("a"))),
            ),
            rf"answers for {CANDIDATE} come from revision {STABLE}",
        ),
    ],
)
def test_a_revision_whose_answers_are_not_its_own_is_never_judged(world, drive, confuse, told):
    confuse(world)
    with pytest.raises(Rejected, match=told):
        drive.climb()
    assert world.server.heard(CANDIDATE) == []
    assert world.meter.asked == []
    assert world.service.users == {world.uri("a"): 100}


def test_it_is_waited_for_until_the_answers_are_its_own(world, drive):
    world.model("b").digest = "a" * 64
    during(world, "observe", 9, lambda: setattr(world.model("b"), "digest", "b" * 64))
    drive.climb()
    assert world.state.percent == 50


def test_the_identity_is_made_sure_of_at_every_step(world, drive):
    at_share(world, 5, lambda: setattr(world.model("b"), "digest", "c" * 64))
    with pytest.raises(Rejected, match="answers with model cccccccccccc"):
        drive.climb()
    assert world.meter.asked == []


@pytest.mark.parametrize("looks", [3, 40])
def test_another_revision_that_takes_its_place_is_rejected_at_once(world, drive, looks):
    """In the replay, and in the middle of a step's bake."""
    during(world, "observe", looks, world.service.roll_over)
    began = world.time.seconds
    with pytest.raises(Rejected, match=rf"00003 has taken the place of {CANDIDATE}"):
        drive.climb()
    assert world.time.seconds - began < 3 * world.plan.ready_timeout_seconds / 2
    assert "sensevoice-00003" not in {name for name, _ in world.meter.asked}


def test_a_stable_revision_other_than_before_is_not_measured_against(world, drive):
    """KServe can move the users to the revision before the one that they had."""

    def move():
        world.service.models["sensevoice-00000"] = world.uri("a")
        world.service._rolled = "sensevoice-00000"

    at_share(world, 5, move)
    with pytest.raises(Rejected, match=rf"not 5 % to {CANDIDATE}, 95 % to {STABLE}"):
        drive.climb()
    assert world.meter.asked == []


# Becoming ready


def test_a_failed_revision_is_rejected_at_once_with_its_reason(world):
    world.service.failures[world.uri("b")] = "RevisionFailed: out of memory"
    drive = world.drive_of(world.lease())
    began = world.time.seconds
    with pytest.raises(Rejected, match=rf"{CANDIDATE}: RevisionFailed: out of memory"):
        drive.climb()
    assert world.time.seconds - began < 10


def test_one_that_never_becomes_ready_is_rejected_after_the_plans_time(world):
    world.service.never_ready.add(world.uri("b"))
    drive = world.drive_of(world.lease())
    began = world.time.seconds
    with pytest.raises(Rejected, match=f"after 60 s {CANDIDATE} is not ready"):
        drive.climb()
    assert 60 < world.time.seconds - began < 65
    assert world.state.percent == 0


def test_one_that_becomes_ready_late_is_waited_for(world):
    world.service.lag = 20
    world.drive_of(world.lease()).climb()
    assert world.state.percent == 50


# Replay


def test_nothing_is_replayed_where_there_are_no_clips(world, drive):
    drive.clips = ()
    drive.climb()
    assert world.server.heard(CANDIDATE) == []
    message = f"{CANDIDATE} answers; no clips to replay"
    assert ("RolloutStepPassed", message, False) in world.service.events


def test_a_candidate_that_fails_its_replay_gets_no_user(world, drive):
    world.model("b").hear = lambda said: "nonsense"
    with pytest.raises(Rejected, match="replay: 4 of 4 texts differ"):
        drive.climb()
    assert world.service.users == {world.uri("a"): 100}


# Baking


def test_failed_measurements_are_forgiven_up_to_the_limit(world, drive):
    bad = Traffic(200, 100, 0.2, 0.4)
    script(world, bad, GOOD, GOOD, GOOD, bad)
    drive.climb()
    assert world.service.reasons.count("RolloutMeasurementFailed") == 2  # One in each step.


def test_one_more_is_rejected(world, drive):
    bad = Traffic(200, 100, 0.2, 0.4)
    script(world, bad, GOOD, bad)
    with pytest.raises(Rejected, match="at 5 %: 100 of 200 answers are errors"):
        drive.climb()
    assert world.state.percent == 5


def test_a_bake_does_not_end_on_a_failed_measurement(world, drive):
    script(world, GOOD, GOOD, Traffic(200, 100, 0.2, 0.4))
    drive.climb()
    assert [s for name, s in world.meter.asked if name == CANDIDATE][:4] == [10, 20, 30, 40]


@pytest.mark.parametrize("proof", [NOBODY, Unavailable("no Prometheus")])
def test_what_proves_nothing_prolongs_the_step_up_to_the_limit(world, drive, proof):
    # Two within the bake, which do not count, and the limit of three beyond it.
    script(world, *[proof] * 5)
    drive.climb()
    assert [s for name, s in world.meter.asked if name == CANDIDATE][:6] == [
        *(10, 20, 30, 40, 50, 60)
    ]


@pytest.mark.parametrize(
    ("proof", "told"),
    [
        (NOBODY, "inconclusive at 5 %: 0 of 20 requests to the candidate"),
        (Unavailable("no Prometheus"), "inconclusive at 5 %: nothing can be measured: no Prom"),
    ],
)
def test_one_that_cannot_be_proven_is_rejected(world, drive, proof, told):
    script(world, *[proof] * 6)
    with pytest.raises(Rejected, match=told):
        drive.climb()


def test_a_candidate_that_ends_is_found_though_nothing_counts_its_errors(world, drive):
    script(world, GOOD, then=NOBODY)
    at_share(world, 5, lambda: during(world, "observe", 8, kill))

    def kill():
        world.model("b").dead = True

    with pytest.raises(Rejected, match=rf"at 5 %: {CANDIDATE} does not answer"):
        drive.climb()


def test_a_candidate_that_failed_for_good_is_rejected_at_once(world, drive):
    def fail():
        world.service.failures[world.uri("b")] = "RevisionFailed: evicted"

    at_share(world, 50, lambda: during(world, "observe", 8, fail))
    with pytest.raises(Rejected, match=f"{CANDIDATE}: RevisionFailed: evicted"):
        drive.climb()


def test_while_the_controller_is_at_work_errors_count_and_nothing_passes(world, drive):
    def stall():
        world.service._pending = 1_000

    at_share(world, 5, lambda: during(world, "observe", 5, stall))
    with pytest.raises(Rejected, match="inconclusive at 5 %: the controller is at work"):
        drive.climb()
    script(world, *[Traffic(200, 100, 0.2, 0.4)] * 2)
    with pytest.raises(Rejected, match="at 5 %: 100 of 200"):
        drive._bake(5)


def test_a_bake_shorter_than_the_interval_is_measured_once(world):
    world.plan = world.plan.model_copy(update={"bake_seconds": 4.0})
    world.drive_of(world.lease()).climb()
    assert [s for name, s in world.meter.asked if name == CANDIDATE] == [4.0, 4.0]


def test_a_broken_stable_revision_does_not_keep_its_cure_away(world):
    world.model("a").dead = True
    lease = world.lease()
    lease.write(stable_digest="")
    script(world, theirs=NOBODY)
    world.drive_of(lease).climb()
    assert world.state.percent == 50


def test_a_stable_revision_that_only_lacks_users_is_waited_for(world, drive):
    script(world, theirs=NOBODY)
    with pytest.raises(Rejected, match="inconclusive at 5 %: 0 of 20 requests to the stable"):
        drive.climb()


# Promotion


def test_promotion_is_decided_in_the_write_that_moves_the_users(world, drive):
    drive.climb()
    writes = len(world.service.writes)
    told = drive.promote()
    assert told == f"version B serves all users as {CANDIDATE}"
    assert world.service.users == {world.uri("b"): 100}
    assert [percent for _, percent in world.service.writes[writes:]] == [None, None]
    assert '"promoting"' in world.service.writes[writes][0]
    assert world.state.phase == "promoted"
    assert world.registry.told == [("promoted", "B")]


def test_a_promotion_that_does_not_take_effect_is_rejected(world, drive):
    drive.climb()
    world.service.lag = 1_000
    with pytest.raises(Rejected, match="after 60 s the controller has not acted"):
        drive.promote()
    assert world.registry.told == []


def test_a_candidate_that_breaks_with_all_users_is_not_called_promoted(world, drive):
    drive.climb()
    at_share(world, 100, lambda: setattr(world.model("b"), "dead", True))
    with pytest.raises(NotSettled, match=rf"version B: after 60 s {CANDIDATE} does not answer"):
        drive.promote()
    assert world.state.phase == "promoting"
    assert world.registry.told == []


@pytest.mark.parametrize("end", ["promote", "reject"])
def test_a_registry_out_of_reach_is_waited_for(world, drive, end):
    world.registry.outages = 3
    drive.promote() if end == "promote" else drive.reject("because")
    assert world.registry.told[-1][0] == f"{end}d" if end == "promote" else "rejected"
    assert len(world.registry.told) == 1


@pytest.mark.parametrize("end", ["promote", "reject"])
def test_a_registry_that_stays_away_leaves_the_decision_to_the_next_run(world, drive, end):
    world.registry.outages = 1_000
    with pytest.raises(Unavailable, match="registry"):
        drive.promote() if end == "promote" else drive.reject("because")
    assert world.state.phase == {"promote": "promoting", "reject": "rolling_back"}[end]
    world.registry.outages = 0
    drive.promote() if end == "promote" else drive.reject("because")
    assert len(world.registry.told) == 1


# Rejection


def test_a_rejection_takes_the_share_back_in_the_write_that_says_why(world, drive):
    with suppress(Rejected):
        drive.climb()
    writes = len(world.service.writes)
    assert drive.reject("too slow") == "too slow"
    assert [percent for _, percent in world.service.writes[writes:]] == [0, 0]
    assert '"rolling_back"' in world.service.writes[writes][0]
    assert (world.state.phase, world.state.reason) == ("rejected", "too slow")
    assert world.service.users == {world.uri("a"): 100}
    assert world.registry.told == [("rejected", "B", "too slow")]
    assert world.service.events[-1] == (
        "RolloutRejected",
        f"version B: too slow; {STABLE} serves all users",
        True,
    )


def test_a_rollback_that_does_not_take_effect_is_told_and_not_called_done(world, drive):
    drive.climb()
    world.service.lag = 1_000
    told = f"rollback: after 60 s the controller has not acted on the rollback; expected {STABLE}"
    with pytest.raises(NotSettled, match=told):
        drive.reject("too slow")
    assert world.service.events[-1][0] == "RolloutStuck"
    assert world.state.phase == "rolling_back"
    assert world.registry.told == []


def test_a_rollback_to_a_revision_that_broke_meanwhile_is_done_and_told(world, drive):
    drive.climb()
    world.model("a").dead = True
    drive.reject("too slow")
    assert "RolloutStableBroken" in world.service.reasons
    assert world.service.users == {world.uri("a"): 100}
    assert world.state.phase == "rejected"


def test_a_rollback_waits_for_the_stable_revisions_own_answers(world, drive):
    drive.climb()
    world.model("a").digest = "c" * 64
    during(world, "observe", 9, lambda: setattr(world.model("a"), "digest", "a" * 64))
    drive.reject("too slow")
    assert "RolloutStableBroken" not in world.service.reasons


def test_a_first_release_that_fails_stays_and_is_told(empty_world):
    world = empty_world
    drive = world.drive_of(world.lease())
    world.model("b").hear = lambda said: "nonsense"
    with pytest.raises(Rejected, match="character error rate"):
        drive.climb()
    drive.reject("nonsense")
    assert world.service.users == {world.uri("b"): 100}
    assert world.service.events[-1][1].endswith("nothing served before it")
    assert world.registry.told == [("rejected", "B", "nonsense")]


@pytest.mark.parametrize("jump", [-86_400, 86_400])
def test_a_clock_that_is_set_makes_no_step_shorter_or_longer(world, jump):
    lengths = []

    def script(revision, seconds):
        if not lengths:
            world.time.seconds += jump
        lengths.append(seconds)
        return Traffic(200, 0, 0.2, 0.4)

    world.meter.script = script
    assert world.roll_out().outcome == "promoted"
    assert min(lengths) > 0
    assert max(lengths) >= world.plan.bake_seconds
    assert world.time.slept < 10 * world.plan.bake_seconds
