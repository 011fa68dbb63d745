"""Metrics as trackers take them."""

import math
import re

import pytest

from pipelines.evaluation.results import Evaluation
from pipelines.evaluation.summary import metrics


def test_values_are_the_evaluation_s(evaluation: Evaluation) -> None:
    found = metrics(evaluation)
    zh = evaluation.accuracy.languages["zh"]
    assert found["accuracy/zh/cer"] == zh.rate.value
    assert found["accuracy/zh/cer_low"] == zh.rate.low
    assert found["accuracy/en/wer"] == evaluation.accuracy.languages["en"].rate.value
    assert found["accuracy/failures"] == 1
    assert evaluation.tags.emotion_four is not None
    four = evaluation.tags.emotion_four
    assert found["tags/emotion_four/unweighted_accuracy"] == four.unweighted_accuracy.value
    assert found["tags/emotion_four/f1/HAPPY"] == four.f1["HAPPY"]
    assert found["speed/p95_s"] == 0.22
    assert found["speed/ratio/p95_s"] == 1.1
    assert found["parity/held"] == 1.0
    assert evaluation.comparison is not None
    difference = evaluation.comparison.error_rates["zh"].delta
    assert found["difference/error_rate/zh"] == difference.value
    assert found["difference/tag_flips"] == len(evaluation.comparison.flips)


def test_values_are_finite_floats_with_plain_names(evaluation: Evaluation) -> None:
    for name, value in metrics(evaluation).items():
        assert isinstance(value, float)
        assert math.isfinite(value)
        assert re.fullmatch(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*", name)


@pytest.mark.parametrize("label", ["../..", "Music/Singing", "a b!", "音乐"])
def test_labels_of_any_kind_become_plain_names(evaluation: Evaluation, label: str) -> None:
    assert evaluation.tags.event is not None
    event = evaluation.tags.event.model_copy(update={"f1": {label: 0.5}})
    tags = evaluation.tags.model_copy(update={"event": event})
    found = metrics(evaluation.model_copy(update={"tags": tags}))
    (name,) = (name for name in found if name.startswith("tags/event/f1/"))
    assert re.fullmatch(r"tags/event/f1/[A-Za-z0-9_-]+", name)
    assert found[name] == 0.5


def test_what_is_not_a_number_is_left_out(evaluation: Evaluation) -> None:
    assert evaluation.tags.event is not None
    event = evaluation.tags.event.model_copy(update={"macro_f1": math.nan})
    tags = evaluation.tags.model_copy(update={"event": event})
    found = metrics(evaluation.model_copy(update={"tags": tags}))
    assert "tags/event/macro_f1" not in found
    assert "tags/event/weighted_f1" in found


def test_what_was_not_measured_is_absent(bare_evaluation: Evaluation) -> None:
    assert {name.split("/")[0] for name in metrics(bare_evaluation)} == {"accuracy"}
