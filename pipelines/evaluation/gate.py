"""Rules that a model must keep to be released, and what they say of an evaluation."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from pipelines.evaluation.results import Evaluation, Gated, Verdict
from pipelines.evaluation.summary import metrics

RULES = Path(__file__).parent / "rules.yaml"
"""The rules that hold where none are changed."""


class InvalidRules(ValueError):
    """Names the rule, the field and what is wrong with it."""


class Rule(BaseModel):
    """A figure and its bound.

    Attributes:
        metric: a name of :func:`~pipelines.evaluation.summary.metrics`, or a pattern with ``*`` that stands
            for several, each with a verdict of its own.
        max, min: the bound, which the figure may equal; exactly one of them.
        conclusive: an inconclusive verdict refuses, too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    max: float | None = None
    min: float | None = None
    conclusive: bool = False

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise ValueError("exactly one of max and min must be given")
        return self

    def judge(self, low: float, high: float) -> Literal["pass", "fail", "inconclusive"]:
        """
        Args:
            low, high: the figure's interval; the value itself where it has none.
        """
        if self.max is not None:
            return "pass" if high <= self.max else "fail" if low > self.max else "inconclusive"
        assert self.min is not None  # noqa: S101  # the validator's promise
        return "pass" if low >= self.min else "fail" if high < self.min else "inconclusive"

    @property
    def bound(self) -> str:
        return f"at most {self.max:g}" if self.max is not None else f"at least {self.min:g}"


def read_rules(changes: Mapping[str, Any] | None = None) -> dict[str, Rule]:
    """The project's rules with some changed.

    Args:
        changes: name → a rule's fields, which replace the rule of that name or add one; none (``{}``) take
            it away.

    Raises:
        InvalidRules: a change is no rule, or takes away one that is not there.
    """
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for name, change in (changes or {}).items():
        if change != {}:
            rules[name] = change
        elif rules.pop(name, None) is None:
            raise InvalidRules(f"rules: there is no rule {name!r} to take away; {', '.join(rules)}")
    return {name: _rule(name, fields) for name, fields in rules.items()}


def _rule(name: str, fields: Any) -> Rule:
    try:
        return Rule.model_validate(fields)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, (name, *problem["loc"])))
        raise InvalidRules(f"rules: {where}: {problem['msg']}") from error


def judge(evaluation: Evaluation, rules: Mapping[str, Rule]) -> Gated:
    """Every rule's verdict."""
    figures = metrics(evaluation)
    return Gated(
        verdicts=[one for name, rule in rules.items() for one in _verdicts(name, rule, figures)]
    )


def _verdicts(name: str, rule: Rule, figures: Mapping[str, float]) -> Iterator[Verdict]:
    bounds = {f"{metric}{side}" for metric in figures for side in ("_low", "_high")}
    found = [m for m in figures if fnmatchcase(m, rule.metric) and m not in bounds]
    if not found:
        must = ", but must be" if rule.conclusive else ""
        yield Verdict(
            rule=name,
            outcome="inconclusive",
            reason=f"{rule.metric} was not measured{must}; {rule.bound}",
            refuses=rule.conclusive,
        )
    for metric in found:
        value = figures[metric]
        low, high = (figures.get(metric + side, value) for side in ("_low", "_high"))
        outcome = rule.judge(low, high)
        interval = f" ({low:.4g} to {high:.4g})" if low != high else ""
        yield Verdict(
            rule=name,
            outcome=outcome,
            reason=f"{metric} is {value:.4g}{interval}, {rule.bound}",
            refuses=outcome == "fail" or (rule.conclusive and outcome == "inconclusive"),
        )
