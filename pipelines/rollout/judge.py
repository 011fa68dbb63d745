"""One measurement of both revisions against the plan. Pure."""

from dataclasses import dataclass
from typing import Literal

from pipelines.rollout.plan import Plan
from pipelines.rollout.target import Traffic


@dataclass(frozen=True, slots=True)
class Judgement:
    """``reason``: the figures against their bounds, as a person reads them."""

    outcome: Literal["pass", "fail", "inconclusive"]
    reason: str


def judge(plan: Plan, stable: Traffic, candidate: Traffic) -> Judgement:
    """A failed bound wins over a lack of requests, and that over what holds.

    With few requests the candidate still fails where its errors exceed the bound even if all the requests
    up to ``min_requests`` that are missing were answered well.
    """
    failures = _errors(plan, stable, candidate)
    enough = {
        "candidate": candidate.requests >= plan.min_requests,
        "stable revision": stable.requests >= plan.min_requests,
    }
    if all(enough.values()):
        failures += _latency(plan, stable, candidate)
    if failures:
        return Judgement("fail", "; ".join(failures))
    counts = {"candidate": candidate.requests, "stable revision": stable.requests}
    few = [
        f"{counts[who]} of {plan.min_requests} requests to the {who}"
        for who, is_enough in enough.items()
        if not is_enough
    ]
    if few:
        return Judgement("inconclusive", ", ".join(few))
    return Judgement("pass", f"{_figures(candidate)}; stable revision: {_figures(stable)}")


def _errors(plan: Plan, stable: Traffic, candidate: Traffic) -> list[str]:
    rate = candidate.errors / max(candidate.requests, plan.min_requests, 1)
    found = f"{candidate.errors} of {candidate.requests} answers are errors"
    if rate > plan.max_error_rate:
        return [f"{found}, more than {plan.max_error_rate:.1%}"]
    if (
        stable.requests >= plan.min_requests
        and rate - stable.error_rate > plan.max_error_rate_increase
    ):
        return [
            f"{found}, more than {plan.max_error_rate_increase:.1%} beyond the stable revision's "
            f"{stable.error_rate:.1%}"
        ]
    return []


def _latency(plan: Plan, stable: Traffic, candidate: Traffic) -> list[str]:
    compared = (
        ("p95", candidate.p95_s, stable.p95_s, plan.max_p95_ratio),
        ("p99", candidate.p99_s, stable.p99_s, plan.max_p99_ratio),
    )
    return [
        f"{name} is {mine:.3f} s, {mine / theirs:.2f} times the stable revision's, more than {bound}"
        for name, mine, theirs, bound in compared
        if mine is not None and theirs and mine / theirs > bound
    ]


def _figures(traffic: Traffic) -> str:
    if traffic.p95_s is None or traffic.p99_s is None:
        return f"{traffic.requests} requests"
    return (
        f"{traffic.requests} requests, {traffic.error_rate:.2%} errors, p95 {traffic.p95_s:.3f} s, "
        f"p99 {traffic.p99_s:.3f} s"
    )
