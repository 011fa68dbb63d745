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


def judge(plan: Plan, stable: Traffic | None, candidate: Traffic) -> Judgement:
    """A failed bound wins over what is not known, and that over what holds.

    With few requests the candidate still fails where its errors exceed the bound even if all the requests
    up to ``min_requests`` that are missing were answered well.

    Args:
        stable: None: it answers nobody, so that nothing is compared with it.
    """
    enough = candidate.requests >= plan.min_requests
    compared = stable if stable and stable.requests >= plan.min_requests else None
    failures = _errors(plan, compared, candidate)
    if compared and enough:
        failures += _latency(plan, compared, candidate)
    if failures:
        return Judgement("fail", "; ".join(failures))
    if candidate.stale:
        return Judgement("inconclusive", "the candidate's figures have not been renewed lately")
    answered = {"candidate": candidate, "stable revision": stable}
    few = [
        f"{traffic.requests} of {plan.min_requests} requests to the {who}"
        for who, traffic in answered.items()
        if traffic and traffic.requests < plan.min_requests
    ]
    if few:
        return Judgement("inconclusive", ", ".join(few))
    untimed = [who for who, traffic in answered.items() if traffic and not _timed(traffic)]
    if untimed:
        return Judgement("inconclusive", f"no latencies of the {' and the '.join(untimed)}")
    rest = _figures(stable) if stable else "answers nobody"
    return Judgement("pass", f"{_figures(candidate)}; stable revision: {rest}")


def _errors(plan: Plan, compared: Traffic | None, candidate: Traffic) -> list[str]:
    rate = candidate.errors / max(candidate.requests, plan.min_requests, 1)
    found = f"{candidate.errors} of {candidate.requests} answers are errors"
    if rate > plan.max_error_rate:
        return [f"{found}, more than {plan.max_error_rate:.1%}"]
    if compared and rate - compared.error_rate > plan.max_error_rate_increase:
        return [
            f"{found}, more than {plan.max_error_rate_increase:.1%} beyond the stable revision's "
            f"{compared.error_rate:.1%}"
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


def _timed(traffic: Traffic) -> bool:
    return not traffic.requests or None not in (traffic.p95_s, traffic.p99_s)


def _figures(traffic: Traffic) -> str:
    if traffic.p95_s is None or traffic.p99_s is None:
        return f"{traffic.requests} requests"
    return (
        f"{traffic.requests} requests, {traffic.error_rate:.2%} errors, p95 {traffic.p95_s:.3f} s, "
        f"p99 {traffic.p99_s:.3f} s"
    )
