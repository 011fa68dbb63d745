"""Which clips are made, and that a plan always gives the same clip."""

import json
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("pypinyin", reason="pypinyin is needed by the recipe only")

from pipelines.demo_model import corpus
from pipelines.demo_model.events import EVENTS
from pipelines.demo_model.grammar import LANGUAGES
from pipelines.demo_model.prosody import EMOTIONS


def test_held_out_plans_are_balanced():
    plans = corpus.held_out_plans(1, "test", 60, 13)
    speech = [plan for plan in plans if plan.language != "nospeech"]
    counts = Counter((plan.language, plan.emotion) for plan in speech)
    assert counts == {(language, emotion): 15 for language in LANGUAGES for emotion in EMOTIONS}
    events = Counter(plan.event for plan in plans if plan.language == "nospeech")
    assert events == dict.fromkeys(EVENTS, 13)


def test_training_plans_follow_from_the_seed():
    assert corpus.training_plans(1, 30, 2) == corpus.training_plans(1, 30, 2)
    assert corpus.training_plans(1, 30, 2) != corpus.training_plans(2, 30, 2)


def test_clip_names_are_unique():
    for plans in (corpus.training_plans(1, 30, 2), corpus.held_out_plans(1, "test", 8, 3)):
        assert len({plan.name for plan in plans}) == len(plans)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_plan_gives_one_clip(split):
    plan = corpus.Plan(5, "Cough-1", split, "nospeech", "event", "", "EMO_UNKNOWN", "Cough")
    (clip, first), (_, second) = corpus.make(plan), corpus.make(plan)
    np.testing.assert_array_equal(first, second)
    assert (clip.text, clip.event) == ("", "Cough")


def test_built_sets_hold_what_was_planned(tmp_path):
    plans = [
        corpus.Plan(5, f"{event}-0", "test", "nospeech", "event", "", "EMO_UNKNOWN", event)
        for event in ("BGM", "Sneeze")
    ]
    corpus.build_held_out(tmp_path / "test", plans, workers=1)
    rows = [json.loads(line) for line in (tmp_path / "test" / "manifest.jsonl").open()]
    assert [row["event"] for row in rows] == ["BGM", "Sneeze"]
    assert all((tmp_path / "test" / row["audio"]).is_file() for row in rows)

    assert list(corpus.build_training(tmp_path, plans, workers=1)) == [2]
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").open()]
    size = (tmp_path / "train.features").stat().st_size
    assert size == sum(row["frames"] for row in rows) * corpus.N_MELS * 2
    assert rows[1]["offset"] == rows[0]["frames"]
