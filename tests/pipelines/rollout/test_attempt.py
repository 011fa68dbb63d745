"""Killed, shut out, disturbed: whoever runs it next ends it, and no user has what was not verified."""

from itertools import count

import pytest

from pipelines.rollout.drive import NotSettled
from pipelines.rollout.lease import ChangedElsewhere, RolloutRunning, Superseded
from pipelines.rollout.state import InvalidState
from pipelines.rollout.target import Conflict, Traffic, Unavailable

STABLE, CANDIDATE = "sensevoice-00001", "sensevoice-00002"


def killed_at(world, call, number, when):
    """The process ends at one call of the service."""

    def hook(*now):
        if now == (call, number, when):
            world.service.hook = lambda *later: None
            raise world.killed

    world.service.hook = hook


def die(world, call, number, when, letter="b"):
    """Roll out, and die there; False where it ended before."""
    killed_at(world, call, number, when)
    try:
        world.roll_out(letter)
    except world.killed:
        world.time.sleep(world.plan.lease_seconds + 1)
        return True
    return False


def spoil(world, letter, how):
    if how == "replay":
        world.model(letter).hear = lambda said: ""
    elif how == "traffic":
        bad = world.uri(letter)
        world.meter.script = lambda revision, seconds: Traffic(
            200, 40 * (world.service.models[revision] == bad), 0.2, 0.4
        )


def each_death(world, call, stride=1):
    """A fresh world, and where a rollout in it is to die."""
    for number in count(1, stride):
        for when in ("before", "after"):
            one = world.fresh()
            one.guard()
            yield one, number, when


# Killed


@pytest.mark.parametrize(("call", "stride"), [("write", 1), ("observe", 5)])
def test_killed_anywhere_a_good_candidate_is_promoted_by_the_next_run(world, call, stride):
    for one, number, when in each_death(world, call, stride):
        if not die(one, call, number, when):
            break
        assert one.roll_out().outcome == "promoted", (number, when)
        assert one.service.users == {one.uri("b"): 100}
        assert set(one.registry.told) == {("promoted", "B")}
    assert number > {"write": 10, "observe": 50}[call]


@pytest.mark.parametrize("how", ["replay", "traffic"])
def test_killed_anywhere_a_bad_candidate_is_rejected_by_the_next_run(world, how):
    spoil(world, "b", "replay" if how == "replay" else "")
    for one, number, when in each_death(world, "write"):
        spoil(one, "b", how)
        if not die(one, "write", number, when):
            break
        found = one.roll_out()
        assert found.outcome == "rejected", (number, when)
        assert one.service.users == {one.uri("a"): 100}
        assert {told[:2] for told in one.registry.told} == {("rejected", "B")}
    assert number > 4


def test_killed_anywhere_another_candidate_follows(world):
    seen = set()
    for one, number, when in each_death(world, "write"):
        if not die(one, "write", number, when):
            break
        assert one.roll_out("c").outcome == "promoted", (number, when)
        assert one.service.users == {one.uri("c"): 100}
        told = [each[:2] for each in one.registry.told]
        assert told[-1] == ("promoted", "C")
        # Rolled back, unless its promotion was decided, or nothing of it was ever written.
        assert len({outcome for outcome, version in told if version == "B"}) <= 1
        seen |= set(told[:-1])
        assert bool(told[:-1]) == ((number, when) != (1, "before"))
    assert seen == {("rejected", "B"), ("promoted", "B")}


def test_killed_anywhere_an_exit_handler_ends_it(world):
    ends = []
    for one, number, when in each_death(world, "write"):
        if not die(one, "write", number, when):
            break
        found = one.abandon("B")
        ends.append(one.state.phase if one.service.state else "")
        assert one.service.users == {one.uri("b" if ends[-1] == "promoted" else "a"): 100}
        assert {told[0] for told in one.registry.told} == {ends[-1]} - {""}
        assert found is None or found.outcome == ends[-1]
    assert ends[0] == ""  # Nothing had been written.
    assert set(ends[1:]) == {"rejected", "promoted"}


def test_killed_twice(world):
    for number in range(1, 8):
        one = world.fresh()
        one.guard()
        assert die(one, "write", 4, "after")
        assert die(one, "write", 4 + number, "after")
        assert one.roll_out().outcome == "promoted"


@pytest.mark.parametrize("end", ["promoted", "rejected"])
def test_killed_while_the_registry_is_told_it_is_told_again(world, end):
    spoil(world, "b", "replay" if end == "rejected" else "")
    tell = world.registry._tell

    def die_after(*what):
        tell(*what)
        world.registry._tell = tell
        raise world.killed

    world.registry._tell = die_after
    with pytest.raises(world.killed):
        world.roll_out()
    world.time.sleep(world.plan.lease_seconds + 1)
    assert world.roll_out().outcome == end
    assert [told[0] for told in world.registry.told] == [end, end]


def test_a_first_release_that_was_killed_is_ended_too(empty_world):
    world = empty_world
    assert die(world, "write", 2, "after")
    assert world.roll_out().outcome == "promoted"
    assert world.service.shares == [{STABLE: 100}]


def test_the_next_run_waits_for_a_lease_that_still_runs(world):
    killed_at(world, "write", 3, "after")
    with pytest.raises(world.killed):
        world.roll_out()
    began, beat = world.time.seconds, world.state.heartbeat
    assert world.roll_out().outcome == "promoted"
    assert "RolloutResumed" in world.service.reasons
    assert world.time.seconds > beat + world.plan.lease_seconds > began


# Two at once


def meanwhile(world, number, act):
    """Do ``act`` before one write, as another process would."""

    def hook(*now):
        if now == ("write", number, "before"):
            world.service.hook = lambda *later: None
            act()

    world.service.hook = hook


@pytest.mark.parametrize("number", [2, 4, 6])
def test_another_candidate_is_refused_and_the_first_goes_on(world, number):
    def other():
        with pytest.raises(RolloutRunning, match=r"of version B \(rolling, .*/.*\) holds"):
            world.roll_out("c")

    meanwhile(world, number, other)
    assert world.roll_out("b").outcome == "promoted"
    assert world.registry.told == [("promoted", "B")]


def test_of_two_that_begin_at_once_one_does(world):
    meanwhile(world, 1, lambda: world.lease("c"))
    with pytest.raises(RolloutRunning, match="of version C"):
        world.roll_out("b")
    assert world.service.model == world.uri("c")


@pytest.mark.parametrize("number", [2, 4, 6, 8])
def test_a_process_that_slept_through_its_lease_stops(world, number):
    """Another run takes the rollout over and ends it; the first one wakes and changes nothing."""
    world.guard()

    def other():
        world.time.sleep(world.plan.lease_seconds + 1)
        assert world.roll_out("b").outcome == "promoted"
        world.writes = len(world.service.writes)

    meanwhile(world, number, other)
    with pytest.raises(Superseded, match="has taken over"):
        world.roll_out("b")
    assert len(world.service.writes) == world.writes
    assert world.service.users == {world.uri("b"): 100}


def test_one_whose_rollout_was_ended_for_another_candidate_stops_too(world):
    def other():
        world.time.sleep(world.plan.lease_seconds + 1)
        assert world.roll_out("c").outcome == "promoted"

    meanwhile(world, 5, other)
    with pytest.raises(Superseded):
        world.roll_out("b")
    assert world.service.users == {world.uri("c"): 100}
    assert [told[:2] for told in world.registry.told] == [("rejected", "B"), ("promoted", "C")]


def test_of_two_that_take_over_at_once_one_does(world):
    assert die(world, "write", 4, "after")
    number = world.service.calls["write"] + 1
    meanwhile(world, number, lambda: world.roll_out("b"))
    assert world.roll_out("b").reason == "version B serves all users already"


# Someone else


@pytest.mark.parametrize(
    ("changes", "told", "left"),
    [
        ({"percent": 30}, "share to 30 %; the rollout had set 5 %", 30),
        ({"percent": None}, "share to none", None),
        ({"model": "pvc://models/c"}, "model to pvc://models/c", 0),
        ({"image": "theirs"}, "specification", 0),
        ({"other": "theirs"}, "specification", 0),
        ({"state": None}, "removed the rollout's state", 0),
    ],
)
def test_a_change_by_someone_else_stops_it(world, changes, told, left):
    def edit(shares):
        if shares.get(CANDIDATE) == 5:
            world.service.watch = lambda shares: None
            world.service.edit(**changes)

    world.service.watch = edit
    with pytest.raises(ChangedElsewhere, match=told):
        world.roll_out()
    assert world.service.percent == left
    assert (world.state.phase, world.state.percent) == ("stopped", left)
    assert told in world.state.reason
    assert world.service.events[-1][0] == "RolloutStopped"
    assert world.registry.told == []
    for name in {"model", "image", "other"} & set(changes):
        assert getattr(world.service, name) == changes[name]


def test_after_that_another_rollout_can_begin(world):
    world.service.watch = lambda shares: CANDIDATE in shares and world.service.edit(other="theirs")
    with pytest.raises(ChangedElsewhere):
        world.roll_out()
    world.service.watch = lambda shares: None
    world.settled()
    assert world.roll_out("c").outcome == "promoted"
    assert world.service.other == "theirs"


@pytest.mark.parametrize("letter", ["b", "c"])
def test_what_someone_changed_after_it_died_is_theirs(world, letter):
    assert die(world, "write", 5, "after")
    assert world.service.percent == 5
    world.service.edit(other="theirs")
    with pytest.raises(ChangedElsewhere):
        world.roll_out(letter)
    assert (world.service.percent, world.state.phase) == (0, "stopped")
    world.settled()
    assert world.roll_out(letter).outcome == "promoted"


def test_a_state_that_nobody_can_read_is_left_alone(world):
    world.service.edit(state="{}")
    with pytest.raises(InvalidState, match="remove it"):
        world.roll_out()
    assert world.service.writes == []


def test_someone_elses_deployment_is_waited_for(world):
    world.service.lag = 10
    world.service.edit(model=world.uri("d"))
    assert world.roll_out().outcome == "promoted"
    assert world.state.stable == "sensevoice-00002"


def test_one_that_never_ends_is_told(world):
    world.service.never_ready.add(world.uri("d"))
    world.service.edit(model=world.uri("d"))
    with pytest.raises(NotSettled, match="has not acted on its last change"):
        world.roll_out()
    assert world.service.writes == []


# Out of reach


def outage(world, call, number, seconds):
    """From one call on, the service is out of reach for a while."""
    until = []

    def hook(name, now, when):
        if (name, now, when) == (call, number, "before"):
            until.append(world.time.seconds + seconds)
        if until and world.time.seconds < until[0]:
            raise Unavailable("connection refused")

    world.service.hook = hook


@pytest.mark.parametrize(("call", "stride"), [("write", 1), ("observe", 5)])
def test_a_short_outage_anywhere_is_survived(world, call, stride):
    for number in count(1, stride):
        one = world.fresh()
        one.guard()
        outage(one, call, number, 20)
        assert one.roll_out().outcome == "promoted", number
        if one.service.calls[call] < number:
            break
        assert one.registry.told == [("promoted", "B")]


@pytest.mark.parametrize(("call", "stride"), [("write", 1), ("observe", 5)])
def test_a_lost_answer_anywhere_changes_nothing(world, call, stride):
    for number in count(1, stride):
        one = world.fresh()
        one.guard()
        lost = []

        def hook(name, now, when, number=number, lost=lost):
            if (name, now, when) == (call, number, "after"):
                lost.append(now)
                raise Unavailable("connection lost")

        one.service.hook = hook
        assert one.roll_out().outcome == "promoted", number
        assert one.registry.told == [("promoted", "B")]
        assert [shares.get(CANDIDATE) for shares in one.service.shares] == [None, 0, 5, 50, 100]
        if not lost:
            break


@pytest.mark.parametrize("number", [3, 20, 40, 60])
def test_a_long_outage_ends_it_and_it_can_be_run_again(world, number):
    world.guard()
    outage(world, "observe", number, 1_000)
    with pytest.raises(Unavailable):
        world.roll_out()
    world.time.sleep(1_000)
    assert world.roll_out().outcome == "promoted"
    assert world.service.users == {world.uri("b"): 100}


def test_an_outage_while_it_is_taken_over_is_survived(world):
    for when in ("before", "after"):
        one = world.fresh()
        assert die(one, "write", 4, "after")
        number = one.service.calls["write"] + 1

        def hook(*now, number=number, when=when):
            if now == ("write", number, when):
                raise Unavailable("connection lost")

        one.service.hook = hook
        assert one.roll_out("c").outcome == "promoted"
        assert one.registry.told[0][:2] == ("rejected", "B")


# Broken ends


def test_a_candidate_that_broke_once_promoted_does_not_keep_its_cure_away(world):
    def break_it(shares):
        if shares == {CANDIDATE: 100}:
            world.model("b").dead = True

    world.service.watch = break_it
    with pytest.raises(NotSettled, match="promotion of version B"):
        world.roll_out("b")
    assert world.service.users == {world.uri("b"): 100}
    world.time.sleep(world.plan.lease_seconds + 1)
    world.meter.script = lambda revision, seconds: Traffic(
        200 * (revision != CANDIDATE), 0, 0.2, 0.4
    )
    assert world.roll_out("c").outcome == "promoted"
    assert "RolloutStopped" in world.service.reasons
    assert world.service.users == {world.uri("c"): 100}


def test_a_rollback_that_did_not_take_effect_is_ended_by_the_next_run(world):
    world.model("b").hear = lambda said: ""
    world.service.hook = lambda call, number, when: (
        setattr(world.service, "_pending", 1_000)
        if (call, when) == ("write", "after") and world.state.phase == "rolling_back"
        else None
    )
    world.service.lag = 3
    with pytest.raises(NotSettled, match="rollback"):
        world.roll_out()
    assert world.registry.told == []
    world.service.hook = lambda *now: None
    world.service._pending = 1
    world.time.sleep(world.plan.lease_seconds + 1)
    assert world.roll_out().outcome == "rejected"
    assert len(world.registry.told) == 1


# Abandoned


def test_nothing_unfinished_is_nothing_to_abandon(world):
    assert world.abandon("B") is None
    world.roll_out("b")
    assert world.abandon("B") is None
    assert world.service.reasons[-1] == "RolloutPromoted"


def test_another_versions_rollout_is_not_abandoned(world):
    assert die(world, "write", 4, "after")
    assert world.abandon("C") is None
    assert world.state.phase == "rolling"


def test_a_dead_rollout_is_abandoned_once_its_lease_has_run_out(world):
    killed_at(world, "write", 5, "after")
    with pytest.raises(world.killed):
        world.roll_out()
    assert world.service.percent == 5
    found = world.abandon("B")
    assert (found.outcome, found.reason) == ("rejected", "its rollout died")
    assert world.time.seconds > world.state.heartbeat - 10
    assert world.service.users == {world.uri("a"): 100}


def test_a_live_rollout_is_waited_for_and_left_alone(world):
    killed_at(world, "write", 5, "after")
    with pytest.raises(world.killed):
        world.roll_out()
    calls = world.service.calls["observe"]

    def hook(call, number, when):
        if (call, number, when) == ("observe", calls + 5, "before"):
            world.service.hook = lambda *now: None
            world.time.sleep(world.plan.lease_seconds + 1)
            assert world.roll_out().outcome == "promoted"

    world.service.hook = hook
    assert world.abandon("B") is None
    assert world.service.users == {world.uri("b"): 100}


# Ended in between


def at_share(world, percent, error):
    """An error of the meter, once the candidate has that share."""

    def script(revision, seconds):
        if world.service.percent == percent:
            raise error
        return Traffic(200, 0, 0.2, 0.4)

    world.meter.script = script


@pytest.mark.parametrize("percent", [5, 50])
@pytest.mark.parametrize(
    "error", [RuntimeError("a mistake of ours"), SystemExit(143), KeyboardInterrupt()]
)
def test_whatever_ends_it_the_users_go_back_first(world, percent, error):
    at_share(world, percent, error)
    with pytest.raises(type(error)):
        world.roll_out()
    world.settled()
    assert world.service.users == {world.uri("a"): 100}
    assert (world.state.phase, world.state.percent) == ("rolling", 0)
    assert world.service.reasons[-1] == "RolloutInterrupted"
    assert "given back to sensevoice-00001" in error.__notes__[-1]
    assert world.registry.told == []
    world.meter.script = lambda revision, seconds: Traffic(200, 0, 0.2, 0.4)
    assert world.roll_out().outcome == "promoted"


def test_another_candidate_need_not_wait_for_one_that_let_go(world):
    at_share(world, 5, RuntimeError())
    with pytest.raises(RuntimeError):
        world.roll_out()
    world.meter.script = lambda revision, seconds: Traffic(200, 0, 0.2, 0.4)
    assert world.roll_out("c").outcome == "promoted"
    assert [told[:2] for told in world.registry.told] == [("rejected", "B"), ("promoted", "C")]


def test_a_service_that_changes_before_every_write_is_given_up(world):
    def busy(call, number, when):
        if call == "write" and when == "before":
            raise Conflict("it changed")

    world.service.hook = busy
    with pytest.raises(Unavailable, match="changes all the time: it changed"):
        world.roll_out()
    assert world.service.users == {world.uri("a"): 100}


def test_whichever_rollout_is_left_is_abandoned(world):
    at_share(world, 5, RuntimeError())
    with pytest.raises(RuntimeError):
        world.roll_out()
    assert world.abandon(None).outcome == "rejected"
    assert world.abandon(None) is None


def test_one_that_lives_is_left_alone(world):
    lease = world.lease()
    world.service.hook = lambda call, number, when: (
        call == "observe" and when == "before" and beat(lease)
    )

    def beat(lease):
        world.service.hook = lambda call, number, when: None
        lease.write()
        world.service.hook = lambda call, number, when: (
            call == "observe" and when == "before" and beat(lease)
        )

    assert world.abandon(None) is None
    assert world.state.phase == "rolling"


def test_a_change_of_somebodys_that_cannot_be_answered_is_told_with_what_was_left(world):
    def away(call, number, when):
        if call == "write":
            raise Unavailable("nobody answers")

    def script(revision, seconds):
        if world.service.percent == 5:
            world.service.edit(other="theirs")
            world.service.hook = away
        return Traffic(200, 0, 0.2, 0.4)

    world.meter.script = script
    with pytest.raises(ChangedElsewhere, match="changed the specification") as found:
        world.roll_out()
    assert "left rolling, with 5 % of the users on version B" in found.value.__notes__[0]
