import pytest

from pipelines.rollout.state import Candidate, InvalidState, RolloutState, read_state
from pipelines.rollout.target import ServedModel

CANDIDATE = Candidate(version="7", storage_uri="pvc://models/b", digest="b" * 64)


@pytest.fixture
def state():
    return RolloutState(
        rollout="0123456789ab",
        owner="host/1/abcdefab",
        heartbeat=1000.0,
        lease=60.0,
        candidate=CANDIDATE,
        phase="rolling",
        percent=5,
        stable="s-00001",
        stable_digest="a" * 64,
        stable_image="predictor:1",
    )


def test_what_is_written_is_read_again(state):
    assert read_state("voice", state.model_dump_json()) == state
    everything = state.model_copy(
        update={"percent": None, "reason": "不\u2028好 \"'", "revision": "r"}
    )
    assert read_state("voice", everything.model_dump_json()) == everything


def test_a_service_without_a_state_has_none():
    assert read_state("voice", None) is None


@pytest.mark.parametrize("text", ["", "{}", "no", "[]", "null", '{"rollout": "x"}'])
def test_a_state_of_another_kind_is_refused_with_what_to_do(text):
    with pytest.raises(InvalidState, match=r"voice: .* cannot be read .* remove it"):
        read_state("voice", text)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"rolling"', '"paused"'), ('"percent":5', '"percent":5,"colour":"green"')],
)
def test_an_unknown_field_or_phase_is_refused(state, old, new):
    text = state.model_dump_json()
    assert old in text
    with pytest.raises(InvalidState):
        read_state("voice", text.replace(old, new))


@pytest.mark.parametrize("phase", ["rolling", "promoting", "rolling_back"])
def test_unfinished_phases(state, phase):
    assert not state.model_copy(update={"phase": phase}).finished


@pytest.mark.parametrize("phase", ["promoted", "rejected", "stopped"])
def test_finished_phases(state, phase):
    assert state.model_copy(update={"phase": phase}).finished


def test_an_owner_lives_for_its_lease(state):
    assert state.alive(1000.0)
    assert state.alive(1060.0)
    assert not state.alive(1060.1)


def test_a_candidate_without_an_image_runs_in_the_former_one(state):
    assert state.model == ServedModel("pvc://models/b", "b" * 64, "predictor:1")
    own = CANDIDATE.model_copy(update={"image": "predictor:2"})
    model = state.model_copy(update={"candidate": own}).model
    assert model.image == "predictor:2"


@pytest.mark.parametrize(
    ("heartbeat", "alive"), [(100, True), (59, False), (141, False), (0, False)]
)
def test_a_heartbeat_from_far_in_the_future_is_no_life(heartbeat, alive):
    """A clock that was wrong would hold the service for as long."""
    candidate = Candidate(version="1", storage_uri="u", digest="d")
    state = RolloutState(
        rollout="r",
        owner="o",
        heartbeat=heartbeat,
        lease=40,
        candidate=candidate,
        phase="rolling",
        percent=5,
    )
    assert state.alive(100) is alive
