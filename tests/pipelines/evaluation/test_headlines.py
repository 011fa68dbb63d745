"""Figures in words."""

import pytest

from pipelines.evaluation.headlines import bounds, headlines, percent, points
from pipelines.evaluation.published import PUBLISHED, Published
from pipelines.evaluation.results import Evaluation, Interval


def interval(value: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value=value, low=low, high=high)


@pytest.mark.parametrize(
    ("delta", "text"),
    [
        (interval(0.001, -0.002, 0.004), "+0.10 pp (−0.20 to +0.40)"),
        (interval(-0.00001), "±0.00 pp"),
        (interval(-0.05), "−5.00 pp"),
    ],
)
def test_differences_have_a_sign(delta: Interval, text: str) -> None:
    assert points(delta) == text


def test_an_interval_is_told_only_where_there_is_one() -> None:
    assert bounds(interval(0.03, 0.0271, 0.032)) == "2.71–3.20 %"
    assert bounds(interval(0.03)) == ""
    assert percent(0.0296) == "2.96 %"


def test_every_language_tag_and_speed_has_a_headline(evaluation: Evaluation) -> None:
    found = {one.title: one for one in headlines(evaluation, PUBLISHED["common-voice"])}
    assert {"zh CER", "yue CER", "ja CER", "ko CER", "en WER"} < set(found)
    assert {"Language accuracy", "Event accuracy", "Real-time factor", "Cold start"} < set(found)
    assert found["zh CER"].published == "10.78 %"
    assert found["zh CER"].champion == "champion 0.00 %"
    assert found["zh CER"].difference.startswith("+")
    assert found["p95 a clip"].champion == "× 1.10 of the champion's"
    assert found["Peak memory"].value == "412 MiB"


def test_a_set_measured_in_parts_has_a_headline_for_each_part(evaluation: Evaluation) -> None:
    found = {one.title: one for one in headlines(evaluation, PUBLISHED["librispeech"])}
    assert found["en clean WER"].published == "3.15 %"
    assert found["en other WER"].published == "7.18 %"
    assert not found["en WER"].published


def test_emotion_stands_beside_the_published_unweighted_accuracy(evaluation: Evaluation) -> None:
    found = {one.title: one for one in headlines(evaluation, PUBLISHED["meld"])}
    assert found["Emotion UA, four classes"].published == "50.80 %"


def test_nothing_measured_makes_no_headlines(bare_evaluation: Evaluation) -> None:
    assert list(headlines(bare_evaluation, Published())) == []
