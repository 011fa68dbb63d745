"""A rule's three answers, which of them refuse, and the project's own rules."""

import re

import pytest

from pipelines.evaluation.gate import InvalidRules, judge, read_rules
from pipelines.evaluation.results import Evaluation, Gated
from pipelines.evaluation.summary import metrics


def judged(evaluation: Evaluation, **rule: object) -> Gated:
    changes: dict[str, object] = {**{name: {} for name in read_rules()}, "it": rule}
    return judge(evaluation, read_rules(changes))


def only(gated: Gated):
    (verdict,) = gated.verdicts
    return verdict


@pytest.mark.parametrize(
    ("bound", "outcome"),
    [
        # The whole interval of en's WER, which lies around 0.75, against the bound.
        ({"max": 5}, "pass"),
        ({"max": 0}, "fail"),
        ({"min": 0}, "pass"),
        ({"min": 5}, "fail"),
    ],
)
def test_a_bound_is_kept_or_broken_by_the_whole_interval(evaluation, bound, outcome):
    gated = judged(evaluation, metric="accuracy/en/wer", **bound)
    assert only(gated).outcome == outcome
    assert gated.passed == (outcome == "pass")
    assert only(gated).refuses == (outcome == "fail")


@pytest.mark.parametrize("side", ["max", "min"])
@pytest.mark.parametrize("conclusive", [True, False])
def test_a_bound_within_the_interval_is_inconclusive(evaluation, side, conclusive):
    figures = metrics(evaluation)
    low, high = (figures[f"accuracy/en/wer_{end}"] for end in ("low", "high"))
    assert low < high
    rule = {side: (low + high) / 2, "conclusive": conclusive}
    gated = judged(evaluation, metric="accuracy/en/wer", **rule)
    assert only(gated).outcome == "inconclusive"
    assert gated.passed != conclusive


def test_a_bound_may_be_equalled(evaluation):
    for side in ("max", "min"):
        gated = judged(evaluation, metric="accuracy/failures", **{side: 1})
        assert only(gated).outcome == "pass"


def test_a_reason_has_the_figure_its_interval_and_the_bound(evaluation):
    reason = only(judged(evaluation, metric="accuracy/en/wer", max=0.1)).reason
    assert re.fullmatch(
        r"accuracy/en/wer is 0\.\d+ \(0\.\d+ to \d\.?\d*\), at most 0\.1", reason
    ), reason
    exact = only(judged(evaluation, metric="speed/ratio/p95_s", max=1.4)).reason
    assert exact == "speed/ratio/p95_s is 1.1, at most 1.4"


def test_a_pattern_judges_every_figure_that_it_stands_for(evaluation):
    gated = judged(evaluation, metric="difference/error_rate/*", max=0)
    named = {verdict.reason.split(" is ")[0].rsplit("/", 1)[1] for verdict in gated.verdicts}
    assert named == {"zh", "yue", "ja", "ko", "en"}


@pytest.mark.parametrize("conclusive", [True, False])
def test_what_was_not_measured_is_inconclusive(bare_evaluation, conclusive):
    gated = judged(bare_evaluation, metric="parity/held", min=1, conclusive=conclusive)
    assert only(gated).outcome == "inconclusive"
    assert "parity/held was not measured" in only(gated).reason
    assert gated.passed != conclusive


def test_the_projects_rules_refuse_significant_regressions(evaluation):
    """The fixture's candidate mishears what its champion hears."""
    verdicts = judge(evaluation, read_rules()).verdicts
    failed = {one.rule for one in verdicts if one.outcome == "fail"}
    assert {"words-zh", "words-no-worse", "every-clip-answered"} <= failed
    assert not {"latency", "memory", "parity"} & failed


def test_the_projects_rules_judge_figures_that_evaluations_have(evaluation):
    for verdict in judge(evaluation, read_rules()).verdicts:
        assert "not measured" not in verdict.reason


def test_without_a_champion_nothing_is_worse_than_it(evaluation):
    first = evaluation.model_copy(update={"comparison": None, "champion": ""})
    verdicts = judge(first, read_rules()).verdicts
    beside = [one for one in verdicts if one.rule in ("words-no-worse", "tags-no-worse")]
    assert [one.outcome for one in beside] == ["inconclusive"] * 2
    assert not any(one.refuses for one in beside)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"words": {"max": 1}}, "words.metric: Field required"),
        ({"words": {"metric": "a"}}, "exactly one of max and min"),
        ({"words": {"metric": "a", "max": 1, "min": 0}}, "exactly one of max and min"),
        ({"words": {"metric": "a", "most": 1}}, "words.most: Extra inputs"),
        ({"words": 3}, "words: Input should be"),
        ({"latencies": {}}, "no rule 'latencies' to take away; words-zh"),
    ],
)
def test_a_change_that_is_none_is_named(changes, message):
    with pytest.raises(InvalidRules, match=re.escape(message)):
        read_rules(changes)
