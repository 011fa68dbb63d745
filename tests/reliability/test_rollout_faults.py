"""Whatever fails while users are being moved: fault × moment × what became of the users."""

import itertools
import math

import pytest

from pipelines.rollout.rollout import Outcome
from tests.reliability.faults import (
    FINAL,
    MOMENTS,
    PASSING,
    PROMISE,
    REFUSING,
    ROLLBACK,
    UNJUDGED,
    sample,
)
from tests.reliability.rollout_world import FAULTY, HEALTHY, PLAN, STABLE, World, vector


@pytest.mark.promise(PROMISE)
def test_a_fault_of_the_api_that_passes_changes_nothing(effort, tried):
    table = itertools.product(MOMENTS.items(), PASSING.items())
    for (moment, when), (kind, fault) in sample(effort, table, 12):
        with World() as world:
            world.fault(fault, when, times=2)
            ended = world.roll_out()
            assert isinstance(ended, Outcome), (moment, kind, ended)
            assert ended.outcome == "promoted", (moment, kind, ended)
            assert world.hits > 0, (moment, kind)
            assert [each.get(f"{STABLE[:-1]}2", 0) for each in world.shares[1:]] == [0, 5, 50, 100]
            world.check(ended)
        tried["faults that passed"] += 1


@pytest.mark.promise(PROMISE)
def test_a_fault_of_the_api_that_stays_is_told_and_the_next_run_finishes(effort, tried):
    rows = itertools.product(MOMENTS.items(), (PASSING | FINAL).items())
    table = zip(rows, itertools.cycle(["roll out", "abandon"]), strict=False)
    for ((moment, when), (kind, fault)), again in sample(effort, table, 12):
        with World() as world:
            world.fault(fault, when, times=math.inf)
            ended = world.roll_out()
            if kind in ("504, carried out", "lost answer") and isinstance(ended, Outcome):
                pass  # Each write was made, and seen by the next look.
            else:
                assert isinstance(ended, Exception), (moment, kind, ended)
            world.check(ended)
            world.kubernetes.disturb = lambda method, body: None
            world.time.sleep(PLAN.lease_seconds + 1)
            if again == "roll out":
                ended = world.roll_out()
                assert isinstance(ended, Outcome), (moment, kind, ended)
                assert world.users == {"b": 100}, (moment, kind)
            else:
                before = world.state
                ended = world.abandon()
                decided = before is not None and before.phase in ("promoting", "promoted")
                assert world.users == {"b" if decided else "a": 100}, (moment, kind)
            world.check(ended)
        tried["faults that stayed"] += 1


@pytest.mark.promise(PROMISE)
def test_nor_does_a_fault_in_the_rollback_keep_users_on_a_bad_candidate(effort, tried):
    table = itertools.product(ROLLBACK.items(), (PASSING | FINAL).items(), (2, math.inf))
    for (moment, when), (kind, fault), times in sample(effort, table, 8):
        with World() as world:
            world.prometheus.script = lambda revision: (
                200,
                vector(HEALTHY if revision == STABLE else FAULTY),
            )
            world.fault(fault, when, times)
            ended = world.roll_out()
            world.check(ended)
            world.kubernetes.disturb = lambda method, body: None
            if not isinstance(ended, Outcome):
                world.time.sleep(PLAN.lease_seconds + 1)
                ended = world.roll_out()
                world.check(ended)
            assert isinstance(ended, Outcome), (moment, kind, times, ended)
            assert ended.outcome == "rejected", (moment, kind, times)
            assert world.users == {"a": 100}
        tried["faults in a rollback"] += 1


# The meter


@pytest.mark.promise("A candidate whose figures cannot be judged never gets more users")
def test_figures_that_cannot_be_judged_never_pass(effort, tried):
    table = itertools.product((UNJUDGED | REFUSING).items(), (5, 50))
    for (kind, answer), percent in sample(effort, table, 12):
        with World() as world:

            def script(revision, world=world, answer=answer, percent=percent):
                state = world.state
                return answer if state and state.percent == percent else (200, vector(HEALTHY))

            world.prometheus.script = script
            ended = world.roll_out()
            world.check(ended)
            assert world.users == {"a": 100}, kind
            assert max(each.get(f"{STABLE[:-1]}2", 0) for each in world.shares) == percent, kind
            if kind in REFUSING:
                assert isinstance(ended, Exception), kind
                assert "given back to" in ended.__notes__[0]
                world.prometheus.script = lambda revision: (200, vector(HEALTHY))
                ended = world.roll_out()  # At once: the one before let go.
                world.check(ended)
                assert world.users == {"b": 100}, kind
            else:
                assert isinstance(ended, Outcome), kind
                assert ended.outcome == "rejected", kind
        tried["unjudged figures"] += 1


@pytest.mark.promise(PROMISE)
def test_a_meter_that_comes_back_is_waited_for(effort, tried):
    for kind, answer in sample(effort, UNJUDGED.items(), 2):
        with World() as world:
            answers = itertools.chain([answer] * 4, itertools.repeat((200, vector(HEALTHY))))
            world.prometheus.script = lambda revision, answers=answers: next(answers)
            ended = world.roll_out()
            world.check(ended)
            assert world.users == {"b": 100}, (kind, ended)
        tried["meters that came back"] += 1


# The registry


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("good", [True, False])
def test_a_registry_that_is_away_is_told_later(good, tried):
    with World() as world:
        if not good:
            world.revisions.models["pvc://models/bbbb"].hear = lambda said: ""
        world.registry.outages = 3
        world.check(world.roll_out())
        world.registry.told.clear()
        world.registry.outages = 10**6
        ended = world.roll_out("c")
        world.check(ended)
        assert "what follows is not done" in ended.__notes__[0]
        assert world.users == {"c": 100}
        world.registry.outages = 0
        ended = world.roll_out("c")
        world.check(ended)
        assert world.registry.told == [("promoted", "C")]
    tried["registry faults"] += 2


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("good", [True, False])
def test_a_version_that_the_registry_lost_keeps_no_other_away(good, tried):
    with World() as world:
        if not good:
            world.revisions.models["pvc://models/bbbb"].hear = lambda said: ""
        world.registry.refuses.add("B")
        ended = world.roll_out()
        world.check(ended)
        assert "has no version B" in str(ended)
        assert world.users == {"b" if good else "a": 100}
        ended = world.roll_out("c")
        world.check(ended)
        assert world.users == {"c": 100}
    tried["registry faults"] += 1
