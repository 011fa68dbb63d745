import json

import pytest

from pipelines.rollout.rollout import roll_out
from pipelines.rollout.target import Traffic

STABLE, CANDIDATE = "sensevoice-00001", "sensevoice-00002"


def test_a_good_candidate_is_promoted_through_every_step(world):
    world.guard()
    found = world.roll_out()
    assert (found.outcome, found.version) == ("promoted", "B")
    assert world.service.shares == [
        {STABLE: 100},
        {STABLE: 100, CANDIDATE: 0},
        {STABLE: 95, CANDIDATE: 5},
        {STABLE: 50, CANDIDATE: 50},
        {CANDIDATE: 100},
    ]
    assert world.registry.told == [("promoted", "B")]
    for state, percent in world.service.writes:
        assert json.loads(state)["percent"] == percent


def test_the_decisions_are_told_in_their_order(world):
    found = world.roll_out()
    assert [line["reason"] for line in found.lines] == world.service.reasons
    assert world.service.reasons == [
        "RolloutStarted",
        "RolloutStepPassed",
        *["RolloutStepStarted", "RolloutStepPassed"] * 2,
        "RolloutPromoted",
    ]
    assert found.lines[0]["message"] == f"version B (bbbbbbbbbbbb) against {STABLE}"
    assert found.lines[-1]["message"] == found.reason


def test_the_report_is_a_line_for_each_decision(world, tmp_path):
    path = tmp_path / "decisions.jsonl"
    found = roll_out(
        world.service,
        world.meter,
        world.registry,
        world.candidate(),
        world.plan,
        world.clips,
        report=path,
        clock=world.clock,
    )
    assert [json.loads(line) for line in path.read_text().splitlines()] == found.lines


def test_a_report_that_cannot_be_written_stops_it_before_anything_is_changed(world, tmp_path):
    with pytest.raises(IsADirectoryError):
        roll_out(
            world.service,
            world.meter,
            world.registry,
            world.candidate(),
            world.plan,
            world.clips,
            report=tmp_path,
            clock=world.clock,
        )
    assert world.service.writes == []


def bad_tags(said):
    return {"language": "nospeech", "emotion": "SAD", "event": "BGM"}


def slow(revision, seconds):
    return Traffic(200, 0, 0.2 if revision == STABLE else 0.9, 1.0)


def failing(revision, seconds):
    return Traffic(200, 0 if revision == STABLE else 20, 0.2, 0.4)


@pytest.mark.parametrize(
    ("spoil", "told", "largest"),
    [
        (lambda w: setattr(w.model("b"), "hear", lambda said: ""), "texts differ", 0),
        (lambda w: setattr(w.model("b"), "tag", bad_tags), "language tags differ", 0),
        (lambda w: setattr(w.model("b"), "status", 500), "4 of 4 clips without an answer", 0),
        (lambda w: setattr(w.model("b"), "dead", True), "does not answer", 0),
        (lambda w: setattr(w.model("b"), "digest", "c" * 64), "answers with model", 0),
        (lambda w: w.service.failures.update({w.uri("b"): "no nodes"}), "no nodes", 0),
        (lambda w: w.service.never_ready.add(w.uri("b")), "00002 is not ready", 0),
        (lambda w: setattr(w.meter, "script", slow), "p95 is 0.900 s, 4.50 times", 5),
        (lambda w: setattr(w.meter, "script", failing), "20 of 200 answers are errors", 5),
        (
            lambda w: setattr(w.meter, "script", lambda *asked: Traffic(1, 0, 0.2, 0.4)),
            "inconclusive at 5 %",
            5,
        ),
    ],
)
def test_a_bad_candidate_is_rolled_back_and_the_stable_revision_serves_all(
    world, spoil, told, largest
):
    spoil(world)
    found = world.roll_out()
    assert (found.outcome, found.version) == ("rejected", "B")
    assert told in found.reason
    assert world.registry.told == [("rejected", "B", found.reason)]
    assert world.service.users == {world.uri("a"): 100}
    assert max(shares.get(CANDIDATE, 0) for shares in world.service.shares) == largest
    assert (world.state.phase, world.state.percent) == ("rejected", 0)


def test_a_promotion_that_does_not_take_effect_is_rolled_back(world):
    def stall(call, number, when):
        if (call, when) == ("write", "after") and world.state.phase == "promoting":
            world.service._pending = 1_000

    world.service.hook = stall
    found = world.roll_out()
    assert found.outcome == "rejected"
    assert "the controller has not acted on the last change" in found.reason
    assert world.service.users == {world.uri("a"): 100}


def test_a_rejected_candidate_leaves_the_way_for_the_next(world):
    world.model("b").hear = lambda said: ""
    assert world.roll_out("b").outcome == "rejected"
    world.guard(bad="b")
    assert world.roll_out("c").outcome == "promoted"
    assert world.registry.told[1] == ("promoted", "C")
    assert world.state.stable == STABLE


def test_one_that_goes_on_starting_does_not_keep_the_next_away(world):
    world.service.never_ready.add(world.uri("b"))
    world.roll_out("b")
    assert world.roll_out("c").outcome == "promoted"


def test_a_rejected_candidate_can_be_tried_again(world):
    world.service.failures[world.uri("b")] = "no nodes"
    assert world.roll_out().outcome == "rejected"
    del world.service.failures[world.uri("b")]
    world.guard()
    assert world.roll_out().outcome == "promoted"
    assert world.service.users == {world.uri("b"): 100}


def test_the_image_of_a_rejected_candidate_is_not_the_next_ones(world):
    world.model("b").hear = lambda said: ""
    world.roll_out("b", image="broken:2")
    assert world.service.image == "broken:2"
    world.roll_out("c")
    assert world.service.image is None


# The first release


def test_a_first_release_gets_the_service_at_once_and_is_held_to_its_labels(empty_world):
    found = empty_world.roll_out()
    assert found.outcome == "promoted"
    assert empty_world.service.shares == [{STABLE: 100}]
    assert len(empty_world.server.heard(STABLE)) == len(empty_world.clips) + 1
    assert empty_world.meter.asked == []
    assert found.lines[0]["message"].endswith("against nothing: the first release")


def test_a_first_release_that_fails_is_told_and_can_be_cured(empty_world):
    world = empty_world
    world.service.failures[world.uri("b")] = "no such model"
    found = world.roll_out("b")
    assert found.outcome == "rejected"
    assert "no such model" in found.reason
    assert world.service.users == {}
    assert world.roll_out("c").outcome == "promoted"
    assert world.service.users == {world.uri("c"): 100}


# Nothing to do


def test_what_serves_already_is_promoted_without_work(world):
    world.roll_out("b")
    writes, asked = len(world.service.writes), len(world.server.heard(CANDIDATE))
    found = world.roll_out("b")
    assert (found.outcome, found.reason) == ("promoted", "version B serves all users already")
    assert len(world.service.writes) == writes
    assert len(world.server.heard(CANDIDATE)) == asked
    assert world.registry.told == [("promoted", "B")] * 2


def test_the_same_model_in_another_image_is_rolled_out(world):
    world.service.edit(image="predictor:1")
    found = world.roll_out("a", image="predictor:2")
    assert (found.outcome, world.service.image) == ("promoted", "predictor:2")
    assert max(shares.get("sensevoice-00003", 0) for shares in world.service.shares) == 100
    assert world.roll_out("a", image="predictor:2").reason.endswith("already")


def test_an_answer_of_another_revision_does_not_make_it_serve_already(world):
    """The stable revision's URL leads to the candidate that was rejected, which is of no use to users."""
    world.model("b").hear = lambda said: ""
    world.roll_out("b")
    route = world.server.route
    world.server.route = lambda name: route(CANDIDATE if name == STABLE else name)
    assert world.roll_out("b").outcome == "rejected"


# Broken before it began


def test_a_broken_stable_revision_is_replaced(world):
    world.model("a").dead = True
    world.meter.script = lambda revision, seconds: (
        Traffic(0, 0, None, None) if revision == STABLE else Traffic(200, 0, 0.2, 0.4)
    )
    world.guard()
    assert world.roll_out().outcome == "promoted"


def test_a_broken_stable_revision_is_gone_back_to_all_the_same(world):
    world.model("a").dead = True
    world.model("b").hear = lambda said: ""
    assert world.roll_out().outcome == "rejected"
    assert world.service.users == {world.uri("a"): 100}


# Back to a former version


def test_rollback_is_one_step_without_replay_and_bake(world):
    world.roll_out("b")
    world.server.asked.clear()
    world.meter.asked.clear()
    writes = len(world.service.writes)
    found = world.rollback("a")
    assert found.outcome == "promoted"
    assert [percent for _, percent in world.service.writes[writes:]] == [0, 0, None, None]
    assert world.service.users == {world.uri("a"): 100}
    assert world.meter.asked == []
    assert {said for _, said in world.server.asked} == {"identity"}
    assert world.registry.told[-1] == ("promoted", "A")


def test_a_rollback_to_a_version_that_does_not_come_up_leaves_the_users_where_they_are(world):
    world.roll_out("b")
    world.model("a").digest = "c" * 64
    found = world.rollback("a")
    assert found.outcome == "rejected"
    assert world.service.users == {world.uri("b"): 100}
