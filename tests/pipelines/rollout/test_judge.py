import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.rollout.judge import judge
from pipelines.rollout.plan import Plan
from pipelines.rollout.target import Traffic

PLAN = Plan(
    min_requests=50,
    max_error_rate=0.02,
    max_error_rate_increase=0.01,
    max_p95_ratio=1.5,
    max_p99_ratio=2.0,
)
GOOD = Traffic(1000, 0, 0.2, 0.4)


def test_equal_revisions_pass_with_their_figures():
    found = judge(PLAN, GOOD, Traffic(100, 1, 0.21, 0.41))
    assert found.outcome == "pass"
    assert found.reason == (
        "100 requests, 1.00% errors, p95 0.210 s, p99 0.410 s; stable revision: 1000 requests, "
        "0.00% errors, p95 0.200 s, p99 0.400 s"
    )


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (Traffic(100, 3, 0.2, 0.4), "3 of 100 answers are errors, more than 2.0%"),
        (
            Traffic(1000, 11, 0.2, 0.4),
            "11 of 1000 answers are errors, more than 1.0% beyond the stable revision's 0.0%",
        ),
        (
            Traffic(100, 0, 0.31, 0.4),
            "p95 is 0.310 s, 1.55 times the stable revision's, more than 1.5",
        ),
        (
            Traffic(100, 0, 0.2, 0.81),
            "p99 is 0.810 s, 2.02 times the stable revision's, more than 2.0",
        ),
    ],
)
def test_each_bound_fails_alone(candidate, reason):
    found = judge(PLAN, GOOD, candidate)
    assert (found.outcome, found.reason) == ("fail", reason)


@pytest.mark.parametrize(
    "candidate",
    [Traffic(100, 2, 0.2, 0.4), Traffic(100, 0, 0.3, 0.4), Traffic(100, 0, 0.2, 0.8)],
)
def test_a_bound_itself_is_allowed(candidate):
    stable = Traffic(1000, 10, 0.2, 0.4)
    assert judge(PLAN, stable, candidate).outcome == "pass"


def test_all_broken_bounds_are_told():
    reason = judge(PLAN, GOOD, Traffic(100, 50, 9, 9)).reason
    assert reason.count(";") == 2
    for part in ("50 of 100", "p95", "p99"):
        assert part in reason


def test_errors_that_the_stable_revision_has_too_are_forgiven_up_to_the_absolute_bound():
    assert judge(PLAN, Traffic(1000, 15, 0.2, 0.4), Traffic(100, 2, 0.2, 0.4)).outcome == "pass"
    assert judge(PLAN, Traffic(1000, 500, 0.2, 0.4), Traffic(100, 3, 0.2, 0.4)).outcome == "fail"


@pytest.mark.parametrize(
    ("stable", "candidate", "reason"),
    [
        (GOOD, Traffic(49, 0, 0.2, 0.4), "49 of 50 requests to the candidate"),
        (Traffic(3, 0, 0.2, 0.4), GOOD, "3 of 50 requests to the stable revision"),
        (
            Traffic(0, 0, None, None),
            Traffic(0, 0, None, None),
            "0 of 50 requests to the candidate, 0 of 50 requests to the stable revision",
        ),
        # Slow, but too few to say so.
        (GOOD, Traffic(49, 0, 9.0, 9.0), "49 of 50 requests to the candidate"),
    ],
)
def test_few_requests_prove_nothing(stable, candidate, reason):
    found = judge(PLAN, stable, candidate)
    assert (found.outcome, found.reason) == ("inconclusive", reason)


def test_errors_that_no_later_answer_can_make_good_fail_at_once():
    # Two of 50 are 4 %, even if the 40 that are missing were all answered well.
    assert judge(PLAN, GOOD, Traffic(10, 2, 0.2, 0.4)).outcome == "fail"
    assert judge(PLAN, GOOD, Traffic(10, 1, 0.2, 0.4)).outcome == "fail"
    assert (
        judge(
            Plan(min_requests=50, max_error_rate=0.02, max_error_rate_increase=0.02),
            GOOD,
            Traffic(10, 1, 0.2, 0.4),
        ).outcome
        == "inconclusive"
    )


def test_without_a_least_number_nobody_is_enough():
    plan = Plan(min_requests=0)
    nobody = Traffic(0, 0, None, None)
    assert judge(plan, nobody, nobody).reason == "0 requests; stable revision: 0 requests"
    assert judge(plan, nobody, nobody).outcome == "pass"
    assert judge(plan, GOOD, Traffic(1, 1, 0.2, 0.4)).outcome == "fail"
    assert judge(plan, nobody, Traffic(1, 0, 9.0, 9.0)).outcome == "pass"


def test_a_stable_revision_that_answers_nobody_is_not_compared_with():
    found = judge(PLAN, None, Traffic(100, 1, 9.0, 9.0))
    assert found.outcome == "pass"
    assert found.reason.endswith("stable revision: answers nobody")
    assert judge(PLAN, None, Traffic(100, 3, 0.2, 0.4)).outcome == "fail"
    assert judge(PLAN, None, Traffic(49, 0, 0.2, 0.4)).outcome == "inconclusive"


traffics = st.integers(0, 10_000).flatmap(
    lambda requests: st.builds(
        Traffic,
        requests=st.just(requests),
        errors=st.integers(0, requests),
        p95_s=st.floats(0.001, 100) if requests else st.none(),
        p99_s=st.floats(0.001, 100) if requests else st.none(),
    )
)


@given(traffics, traffics)
def test_more_errors_never_help(stable, candidate):
    worse = Traffic(candidate.requests, candidate.requests, candidate.p95_s, candidate.p99_s)
    order = ["fail", "inconclusive", "pass"]
    before, after = judge(PLAN, stable, candidate), judge(PLAN, stable, worse)
    assert order.index(after.outcome) <= order.index(before.outcome)


@given(traffics, traffics)
def test_whoever_passes_had_enough_requests_and_few_errors(stable, candidate):
    if judge(PLAN, stable, candidate).outcome == "pass":
        assert min(stable.requests, candidate.requests) >= PLAN.min_requests
        assert candidate.error_rate <= PLAN.max_error_rate


def test_stale_figures_prove_nothing_but_still_fail():
    stable = Traffic(1000, 0, 0.2, 0.4)
    assert judge(PLAN, stable, Traffic(1000, 0, 0.2, 0.4, stale=True)).outcome == "inconclusive"
    assert judge(PLAN, stable, Traffic(1000, 900, 0.2, 0.4, stale=True)).outcome == "fail"


@pytest.mark.parametrize(
    ("stable", "candidate", "whose"),
    [
        (Traffic(1000, 0, 0.2, 0.4), Traffic(1000, 0, None, 0.4), "the candidate"),
        (Traffic(1000, 0, 0.2, None), Traffic(1000, 0, 0.2, 0.4), "the stable revision"),
        (None, Traffic(1000, 0, None, None), "the candidate"),
    ],
)
def test_without_latencies_nothing_is_proven(stable, candidate, whose):
    found = judge(PLAN, stable, candidate)
    assert (found.outcome, found.reason) == ("inconclusive", f"no latencies of {whose}")
