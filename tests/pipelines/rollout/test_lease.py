import pytest

from pipelines.rollout.lease import (
    ChangedElsewhere,
    Lease,
    Superseded,
    new_state,
    patiently,
)
from pipelines.rollout.state import InvalidState
from pipelines.rollout.target import Conflict, Unavailable


@pytest.fixture
def lease(world):
    return world.lease()


@pytest.fixture
def disturb(world):
    """Raise an error at one call of the service, such as ``disturb("write", 3, "after", error)``."""

    def once(call, number, when, error):
        def hook(*now):
            if now == (call, number, when):
                raise error

        world.service.hook = hook

    return once


# Patience


def test_a_keeper_that_comes_back_is_waited_for(world):
    left = iter([Unavailable("no")] * 6)

    def call():
        if error := next(left, None):
            raise error
        return "answer"

    began = world.time.seconds
    assert patiently(world.plan, world.clock, call) == "answer"
    assert world.time.seconds - began == 0.5 + 1 + 2 + 4 + 8 + 10


def test_a_keeper_that_stays_away_is_given_up_after_the_plans_time(world):
    began = world.time.seconds
    with pytest.raises(Unavailable, match="gone"):
        patiently(world.plan, world.clock, lambda: (_ for _ in ()).throw(Unavailable("gone")))
    assert world.time.seconds - began <= world.plan.unavailable_timeout_seconds


def test_other_errors_are_not_waited_for(world):
    began = world.time.seconds
    with pytest.raises(Conflict):
        patiently(world.plan, world.clock, lambda: (_ for _ in ()).throw(Conflict("no")))
    assert world.time.seconds == began


# The first write


def test_state_share_and_model_are_one_write(world, lease):
    assert len(world.service.writes) == 1
    assert (world.service.model, world.service.percent) == (world.uri("b"), 0)
    assert world.state.candidate == world.candidate("b")
    assert (world.state.phase, world.state.percent) == ("rolling", 0)
    assert (world.state.stable, world.state.stable_digest) == ("sensevoice-00001", "a" * 64)
    assert lease.state.fingerprint == world.service.observe().fingerprint


def test_a_service_that_changed_since_is_left_alone(world):
    seen = world.service.observe()
    state = new_state(world.candidate(), world.plan, world.clock, seen, None, "")
    world.service.edit(other="theirs")
    with pytest.raises(Conflict):
        Lease.begin(world.service, world.plan, world.clock, seen, state)
    assert (world.service.state, world.service.model) == (None, world.uri("a"))


def test_a_first_write_whose_answer_is_lost_is_found_as_made(world, disturb):
    disturb("write", 1, "after", Unavailable("connection lost"))
    lease = world.lease()
    assert len(world.service.writes) == 1
    # And what it wrote is guarded like any other.
    assert lease.state.fingerprint == world.service.observe().fingerprint
    world.service.edit(other="theirs")
    with pytest.raises(ChangedElsewhere):
        lease.look()


def test_a_first_write_that_was_not_made_is_made_again(world, disturb):
    disturb("write", 1, "before", Unavailable("connection refused"))
    world.lease()
    assert len(world.service.writes) == 1


# Looking and writing


def test_looking_tells_that_the_rollout_lives(world, lease):
    beat = lease.state.heartbeat
    world.time.sleep(world.plan.lease_seconds / 4 - 1)
    lease.look()
    assert world.state.heartbeat == beat
    world.time.sleep(1)
    lease.look()
    assert world.state.heartbeat == beat + world.plan.lease_seconds / 4
    assert world.state.alive(world.time.seconds)


def test_state_and_share_change_together(world, lease):
    lease.write(percent=5, revision="sensevoice-00002")
    assert world.service.percent == world.state.percent == 5
    assert world.state.revision == lease.state.revision == "sensevoice-00002"
    lease.write(percent=None, phase="promoting")
    assert world.service.percent is world.state.percent is None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"percent": 30}, "someone set the canary's share to 30 %; the rollout had set 0 %"),
        (
            {"percent": None},
            r"someone set the canary's share to none \(all to the newest revision\)",
        ),
        (
            {"model": "pvc://models/c"},
            r"someone set the model to pvc://models/c \(image None\); the rollout had set "
            r"pvc://models/b \(image None\)",
        ),
        ({"image": "theirs"}, "someone changed the specification"),
        ({"other": "theirs"}, "someone changed the specification, other than its model"),
        ({"state": None}, "someone removed the rollout's state"),
    ],
)
@pytest.mark.parametrize("act", ["look", "write"])
def test_a_change_by_someone_else_is_told(world, lease, changes, told, act):
    world.service.edit(**changes)
    with pytest.raises(ChangedElsewhere, match=told):
        getattr(lease, act)()


def test_an_image_of_the_candidates_is_guarded_by_name(world):
    lease = world.lease(image="predictor:2")
    assert world.service.image == "predictor:2"
    world.service.edit(image="predictor:3")
    with pytest.raises(ChangedElsewhere, match=r"image predictor:3\).*image predictor:2\)"):
        lease.look()


def test_a_state_that_someone_spoilt_is_told(world, lease):
    world.service.edit(state="{}")
    with pytest.raises(InvalidState):
        lease.look()


def test_a_conflict_is_decided_again_on_the_fresh_object(world, lease):
    edits = []

    def hook(call, number, when):
        if (call, when) == ("write", "before") and len(edits) < 3:
            edits.append(number)
            world.service._version += 1  # A status, an annotation of somebody's: nothing of ours.

    world.service.hook = hook
    lease.write(percent=5)
    assert (len(edits), world.service.percent) == (3, 5)


def test_a_conflict_with_someones_share_does_not_overwrite_it(world, lease):
    def hook(call, number, when):
        if (call, when) == ("write", "before"):
            world.service.edit(percent=80)

    world.service.hook = hook
    with pytest.raises(ChangedElsewhere, match="80 %"):
        lease.write(percent=5)
    assert world.service.percent == 80


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_write_without_an_answer_is_made_once(world, lease, disturb, when):
    disturb("write", 2, when, Unavailable("connection lost"))
    lease.write(percent=5)
    assert [percent for _, percent in world.service.writes] == [0, 5]
    lease.write(percent=50)
    assert world.service.percent == 50


def test_a_keeper_that_stays_away_ends_the_lease_and_nothing_is_lost(world, lease):
    def hook(call, number, when):
        raise Unavailable("down")

    world.service.hook = hook
    with pytest.raises(Unavailable):
        lease.write(percent=5)
    world.service.hook = lambda *now: None
    assert world.state.percent == world.service.percent == 0


# Taking over


def dead(world):
    """The state of a rollout whose lease has run out."""
    world.lease()
    world.settled()
    world.time.sleep(world.plan.lease_seconds + 1)
    return world.state


def test_a_dead_rollout_gets_a_new_owner(world):
    prior = dead(world)
    lease = Lease.take_over(world.service, world.plan, world.clock, world.service.observe(), prior)
    assert world.state == lease.state
    assert world.state.rollout == prior.rollout
    assert world.state.owner != prior.owner
    assert world.state.alive(world.time.seconds)
    assert world.state.fingerprint == world.service.observe().fingerprint


def test_the_former_owner_stops(world):
    former = world.lease()
    world.settled()
    world.time.sleep(world.plan.lease_seconds + 1)
    Lease.take_over(world.service, world.plan, world.clock, world.service.observe(), world.state)
    owner = world.state.owner
    for act in (former.look, lambda: former.write(percent=50)):
        with pytest.raises(Superseded, match=owner):
            act()
    former.stop("it is not the former owner's business any more")
    assert (world.state.phase, world.state.owner, world.service.percent) == ("rolling", owner, 0)


def test_of_two_that_take_over_one_does(world):
    prior = dead(world)
    seen = world.service.observe()
    Lease.take_over(world.service, world.plan, world.clock, seen, prior)
    with pytest.raises(Conflict):
        Lease.take_over(world.service, world.plan, world.clock, seen, prior)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_takeover_whose_answer_is_lost_is_made_once(world, disturb, when):
    prior = dead(world)
    disturb("write", 2, when, Unavailable("connection lost"))
    lease = Lease.take_over(world.service, world.plan, world.clock, world.service.observe(), prior)
    assert world.state == lease.state
    assert len(world.service.writes) == 2


def test_what_someone_changed_meanwhile_is_told(world):
    prior = dead(world)
    world.service.edit(percent=30)
    with pytest.raises(ChangedElsewhere, match="30 %"):
        Lease.take_over(world.service, world.plan, world.clock, world.service.observe(), prior)
    assert world.state == prior


# Letting go


@pytest.mark.parametrize(
    ("changes", "left"),
    [
        ({"other": "theirs"}, 0),
        ({"model": "pvc://models/c"}, 0),
        ({"state": None}, 0),
        ({"percent": 80}, 80),
        ({"percent": None}, None),
        ({"percent": 80, "state": None}, 80),
    ],
)
def test_a_share_that_is_still_ours_goes_back_and_theirs_stays(world, lease, changes, left):
    lease.write(percent=50)
    world.service.edit(**changes)
    lease.stop("because")
    assert world.service.percent == left
    assert (world.state.phase, world.state.reason, world.state.percent) == (
        "stopped",
        "because",
        left,
    )
    for field, value in changes.items():
        if field not in ("state", "percent"):
            assert getattr(world.service, field) == value


def test_a_share_whose_answer_was_lost_goes_back_too(world, lease, disturb):
    """Written, but the owner never learned of it."""
    disturb("write", 2, "after", RuntimeError("the process stumbled"))
    with pytest.raises(RuntimeError):
        lease.write(percent=50)
    assert lease.state.percent == 0
    world.service.edit(other="theirs")
    lease.stop("because")
    assert (world.service.percent, world.state.phase) == (0, "stopped")


def test_another_rollouts_state_is_never_overwritten(world, lease):
    world.service.edit(state=None)
    other = world.lease("c")
    lease.stop("because")
    assert world.state.rollout == other.state.rollout
    assert world.state.phase == "rolling"


def test_another_rollout_that_begins_just_then_is_not_overwritten_either(world, lease):
    world.service.edit(state=None)
    begun = []

    def hook(call, number, when):
        if (call, when) == ("write", "before") and not begun:
            begun.append(number)
            begun.append(world.lease("c"))

    world.service.hook = hook
    lease.stop("because")
    assert world.state.rollout == begun[1].state.rollout


@pytest.mark.parametrize("when", ["before", "after"])
def test_letting_go_survives_an_outage(world, lease, disturb, when):
    lease.write(percent=50)
    world.service.edit(other="theirs")
    disturb("write", 3, when, Unavailable("connection lost"))
    lease.stop("because")
    assert (world.service.percent, world.state.phase) == (0, "stopped")


# The image to go back to


def test_the_stable_image_is_the_specifications(world):
    world.service.edit(image="predictor:1")
    seen = world.service.observe()
    state = new_state(world.candidate(), world.plan, world.clock, seen, None, "")
    assert state.stable_image == state.model.image == "predictor:1"


@pytest.mark.parametrize("before", ["predictor:1", None])
def test_after_a_rollback_it_is_the_one_of_before(world, before):
    """The rejected candidate's image is still in the specification."""
    world.service.edit(image=before)
    lease = world.lease(image="broken:2")
    lease.write(phase="rejected")
    seen = world.settled()
    assert seen.image == "broken:2"
    after = new_state(world.candidate("c"), world.plan, world.clock, seen, world.state, "")
    Lease.begin(world.service, world.plan, world.clock, seen, after)
    assert world.service.image == before


def test_letting_go_gives_the_users_back_and_is_no_life(world):
    lease = world.lease()
    lease.write(percent=50, revision="sensevoice-00002")
    lease.let_go()
    assert (world.state.phase, world.state.percent, world.state.heartbeat) == ("rolling", 0, 0)
    assert not world.state.alive(world.time.now())


@pytest.mark.parametrize("phase", ["promoting", "rolling_back"])
def test_what_was_decided_stays_so_when_it_lets_go(world, phase):
    lease = world.lease()
    percent = None if phase == "promoting" else 0
    lease.write(phase=phase, percent=percent)
    lease.let_go()
    assert (world.state.phase, world.state.percent, world.state.heartbeat) == (phase, percent, 0)


def test_the_first_release_has_nobody_to_give_the_users_back_to(empty_world):
    lease = empty_world.lease()
    lease.let_go()
    assert (empty_world.state.percent, empty_world.state.heartbeat) == (None, 0)


def test_a_write_whose_answer_was_lost_is_taken_back_too(world):
    lease = world.lease()

    def lost(call, number, when):
        if (call == "write" and when == "after") or (call == "observe" and number > seen):
            raise Unavailable("no answer")

    seen = world.service.calls["observe"] + 1
    world.service.hook = lost
    with pytest.raises(Unavailable):
        lease.write(percent=50)
    assert world.service.percent == 50
    world.service.hook = lambda call, number, when: None
    lease.let_go()
    assert world.service.percent == 0


def test_who_was_superseded_gives_nothing_back(world):
    lease = world.lease()
    world.time.sleep(41)
    other = Lease.take_over(world.service, world.plan, world.clock, world.settled(), lease.state)
    other.write(percent=5)
    with pytest.raises(Superseded):
        lease.let_go()
    assert world.service.percent == 5


def test_a_service_that_changes_all_the_time_is_given_up(world):
    lease = world.lease()

    def busy(call, number, when):
        if call == "write" and when == "before":
            raise Conflict("it changed")

    world.service.hook = busy
    with pytest.raises(Unavailable, match="it changed"):
        lease.write(percent=5)
    assert world.time.slept < 2 * world.plan.unavailable_timeout_seconds


def test_a_clock_that_is_set_back_stops_no_heartbeat(world):
    lease = world.lease()
    world.time.seconds -= 3600
    lease.look()
    assert world.state.heartbeat == world.time.now()
