import pytest

from pipelines.data.manifest import InvalidManifest, Utterance
from pipelines.rollout.answers import TAGS, Answers, Asked
from pipelines.rollout.plan import ReplayBounds, TagFlips
from pipelines.rollout.replay import Clip, Replay, judge_replay, read_clips, replay
from pipelines.rollout.target import ServedModel

BOUNDS = ReplayBounds(max_latency_ratio=1000)


@pytest.fixture
def asked(world):
    """Candidate and stable revision, both ready."""
    service = world.service
    service.write(
        service.observe(), state="{}", percent=0, model=ServedModel(world.uri("b"), "b" * 64)
    )
    seen = world.settled()
    return Asked(seen.candidate, "b" * 64), Asked(seen.stable, "a" * 64)


@pytest.fixture
def run(world, asked):
    """Replays the clips; returns what was found."""
    answers = Answers("sensevoice", 5.0)

    def once(candidate=asked[0], stable=asked[1], clips=world.clips, between=lambda: None):
        return replay(answers, clips, candidate, stable, between)

    yield once
    answers.close()


def labelled(number, text):
    return Clip(Utterance(id=f"clip-{number}", audio="a.wav", text=text), text.encode())


def test_equal_answers_pass_with_their_figures(run):
    found = run()
    assert (found.clips, found.compared, found.errors, found.changed) == (4, 4, {}, [])
    assert found.flips == {"language": [], "emotion": [], "event": []}
    assert found.cer == 0
    assert found.latency_ratio > 0
    verdict = judge_replay(BOUNDS, found)
    assert verdict.outcome == "pass"
    assert verdict.reason.startswith(
        "replay: 4 clips, 0 texts changed, tags changed: language 0, emotion 0, event 0, CER 0.0%"
    )


def test_every_clip_goes_to_both_in_turns_after_one_to_warm_up(run, world, asked):
    run()
    mine, theirs = (each.revision.name for each in asked)
    texts = [clip.utterance.text for clip in world.clips]
    assert world.server.heard(mine) == world.server.heard(theirs) == [texts[0], *texts]
    order = [name for name, _ in world.server.asked]
    assert order == [mine, theirs] + [mine, theirs, theirs, mine] * 2


def test_somebody_is_told_before_each_request(run, world):
    seen = []
    run(between=lambda: seen.append(len(world.server.asked)))
    assert seen == list(range(10))


def test_words_that_differ_in_case_width_and_punctuation_are_the_same(run, world):
    world.model("b").hear = lambda said: f"，{said.upper()}。" + "１２" * ("turn" in said)
    world.model("a").hear = lambda said: said + "12" * ("turn" in said)
    assert run().changed == []


def test_changed_texts_are_held_to_their_bound(run, world):
    world.model("b").hear = lambda said: said if "灯" in said else "something else"
    found = run()
    assert found.changed == ["clip-0", "clip-2", "clip-3"]
    bounds = BOUNDS.model_copy(update={"max_cer": 100})
    verdict = judge_replay(bounds, found)
    assert (verdict.outcome, verdict.reason) == (
        "fail",
        "replay: 3 of 4 texts differ from the stable revision's, more than 50% (first clip-0)",
    )
    generous = bounds.model_copy(update={"max_changed_texts": 0.75})
    assert judge_replay(generous, found).outcome == "pass"


@pytest.mark.parametrize("kind", TAGS)
def test_each_kind_of_tag_is_held_to_its_own_bound(run, world, kind):
    tags = world.model("a").tag("")
    world.model("b").tag = lambda said: {**tags, kind: "OTHER"} if "turn" in said else tags
    found = run()
    assert found.flips[kind] == ["clip-0"]
    assert sum(map(len, found.flips.values())) == 1
    tight = {"language": 1, "emotion": 1, "event": 1, kind: 0.2}
    verdict = judge_replay(BOUNDS.model_copy(update={"max_tag_flips": TagFlips(**tight)}), found)
    assert (verdict.outcome, verdict.reason) == (
        "fail",
        f"replay: 1 of 4 {kind} tags differ from the stable revision's, more than 20% (first clip-0)",
    )
    wide = TagFlips(language=0, emotion=0, event=0).model_copy(update={kind: 0.25})
    verdict = judge_replay(BOUNDS.model_copy(update={"max_tag_flips": wide}), found)
    assert verdict.outcome == "pass"


def test_answers_are_held_to_the_labels(run, world):
    for letter in "ab":
        world.model(letter).hear = lambda said: ""
    found = run()
    assert found.changed == []
    assert found.cer == 1
    reason = judge_replay(BOUNDS, found).reason
    assert reason == "replay: character error rate 100.0% against the labels, more than 30.0%"


def test_clips_without_a_label_have_no_error_rate(run):
    clips = [
        Clip(Utterance(id="none", audio="a.wav"), b"one"),
        Clip(Utterance(id="silence", audio="b.wav", text=""), b""),
        Clip(Utterance(id="sign", audio="c.wav", text="…"), b"two"),
    ]
    found = run(clips=clips)
    assert (found.compared, found.cer) == (3, None)
    assert "CER" not in judge_replay(BOUNDS, found).reason


def test_clips_that_the_candidate_does_not_answer(run, world):
    world.model("b").status = 500
    found = run()
    assert (found.compared, len(found.errors)) == (0, 4)
    verdict = judge_replay(BOUNDS, found)
    assert verdict.outcome == "fail"
    assert verdict.reason.startswith("replay: 4 of 4 clips without an answer, more than 0 (first")
    assert "status 500" in verdict.reason
    assert judge_replay(BOUNDS.model_copy(update={"max_errors": 4}), found).outcome == "pass"


@pytest.mark.parametrize("letter", ["a", "b"])
def test_an_answer_by_another_model_is_never_judged(run, world, letter):
    world.model(letter).digest = "c" * 64
    found = run()
    assert found.compared == 0
    if letter == "b":
        assert found.cer is None
        assert all("answers with model cccccccccccc" in why for why in found.errors.values())
        assert judge_replay(BOUNDS, found).outcome == "fail"
    else:
        assert (found.errors, found.cer) == ({}, 0)


@pytest.mark.parametrize("number", [0, 1])
def test_an_answer_by_another_revision_is_never_judged(run, world, asked, number):
    """The same model in another image: the digest does not tell the two apart."""
    world.model("b").digest = "a" * 64
    other = asked[1 - number].revision
    names = [each.revision.name for each in asked]
    route = world.server.route
    world.server.route = lambda name: route(other.name if name == names[number] else name)
    found = run(candidate=Asked(asked[0].revision, "a" * 64))
    assert found.compared == 0
    if number == 0:
        assert len(found.errors) == 4
        assert found.errors["clip-0"] == f"answers for {names[0]} come from revision {names[1]}"


def test_a_broken_stable_revision_does_not_count_against_the_candidate(run, world):
    world.model("a").dead = True
    found = run()
    assert (found.errors, found.compared, found.cer) == ({}, 0, 0)
    assert found.latency_ratio is None
    assert judge_replay(BOUNDS, found).outcome == "pass"


def test_a_first_release_is_held_to_the_labels_alone(run, world):
    found = run(stable=None)
    assert (found.clips, found.compared, found.cer) == (4, 0, 0)
    world.model("b").hear = lambda said: "nonsense"
    assert judge_replay(BOUNDS, run(stable=None)).outcome == "fail"


def test_slow_answers_are_held_to_the_stable_revisions(run, world):
    world.model("b").seconds = 0.1
    found = run()
    verdict = judge_replay(BOUNDS.model_copy(update={"max_latency_ratio": 1.7}), found)
    assert verdict.outcome == "fail"
    assert "times the stable revision's, more than 1.7" in verdict.reason


def test_one_slow_clip_is_not_a_slow_model():
    found = Replay(clips=3, compared=3, ratios=[1.0, 1.1, 50.0])
    assert found.latency_ratio == 1.1
    assert judge_replay(ReplayBounds(), found).outcome == "pass"
    found.ratios = [1.71] * 3
    assert judge_replay(ReplayBounds(), found).reason == (
        "replay: answers take 1.71 times the stable revision's, more than 1.7"
    )


def test_all_broken_bounds_are_told(run, world):
    tags = {"language": "zh", "emotion": "SAD", "event": "BGM"}
    world.model("b").hear, world.model("b").tag = lambda said: "none of it", lambda said: tags
    reason = judge_replay(BOUNDS, run()).reason
    for what in ("texts", "language tags", "emotion tags", "event tags", "character error rate"):
        assert what in reason


def test_clips_come_from_a_manifest(demo_model_dir):
    manifest = demo_model_dir / "evaluation"
    clips = read_clips(manifest, 5)
    assert len({clip.utterance.id for clip in clips}) == 5
    assert {clip.audio[:4] for clip in clips} == {
        (manifest / clips[0].utterance.audio).read_bytes()[:4]
    }
    with pytest.raises(InvalidManifest):
        read_clips(manifest / "nowhere", 5)
