"""An evaluation for people: one HTML file that needs nothing else, and a short Markdown text."""

import html as escapes
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipelines.evaluation import figures
from pipelines.evaluation.headlines import Headline, bounds, headlines, percent, points
from pipelines.evaluation.marking import Marked, mark
from pipelines.evaluation.plots import Plot
from pipelines.evaluation.published import PUBLISHED, SOURCE, Published
from pipelines.evaluation.results import Evaluation, Gated, Verdict, Worst

MAX_FAILURES = 100
MAX_FLIPS = 200
"""Rows of a table; the table of utterances has all of them."""

MAX_TEXT = 300
"""Characters of an id or an error message in a table."""

SIGNS = {"fail": "✗", "inconclusive": "?", "pass": "✓"}
"""Of a rule's outcome, gravest first."""


@dataclass(frozen=True)
class Report:
    """What the templates read.

    Attributes:
        evaluation: what was measured.
        gated: what the gate says; None before it, or without one.
        data_name: name of the data set; the authors' figures are shown for those that they published on
            (:data:`~pipelines.evaluation.published.PUBLISHED`).
        about: where it all came from, such as source, revision, pipeline run, versions.
    """

    evaluation: Evaluation
    gated: Gated | None = None
    data_name: str = ""
    about: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def html(self) -> str:
        """The page, under 2 MB however large the evaluation."""
        return _TEMPLATES.get_template("report.html.j2").render(report=self, signs=SIGNS)

    @cached_property
    def markdown(self) -> str:
        """Verdict and headline figures."""
        return _TEMPLATES.get_template("summary.md.j2").render(report=self, signs=SIGNS)

    @cached_property
    def published(self) -> Published:
        return PUBLISHED.get(self.data_name, Published())

    @property
    def published_source(self) -> str:
        return SOURCE if self.data_name in PUBLISHED else ""

    @property
    def verdicts(self) -> list[Verdict]:
        """Gravest first."""
        order = list(SIGNS)
        verdicts = self.gated.verdicts if self.gated else []
        return sorted(verdicts, key=lambda verdict: order.index(verdict.outcome))

    @cached_property
    def headlines(self) -> list[Headline]:
        return list(headlines(self.evaluation, self.published))

    @cached_property
    def sections(self) -> dict[str, list[Plot]]:
        """Plots under their headings."""
        evaluation = self.evaluation
        sections = {"Words": list(figures.of_words(evaluation, self.published))}
        if evaluation.comparison is not None:
            sections["Against the champion"] = list(figures.of_comparison(evaluation.comparison))
        sections["Tags"] = list(figures.of_tags(evaluation))
        if evaluation.speed is not None:
            sections["Speed"] = [figures.of_speed(evaluation.speed)]
        return {title: plots for title, plots in sections.items() if plots}

    @property
    def provenance(self) -> dict[str, str]:
        digests = {
            "model digest": self.evaluation.model,
            "champion digest": self.evaluation.champion,
            "data set": self.data_name,
            "data digest": self.evaluation.data,
        }
        return {name: value for name, value in (digests | dict(self.about)).items() if value}

    def marked(self, worst: Worst) -> Marked:
        """Its two texts with what differs marked, by words where its language is scored so."""
        rate = self.evaluation.accuracy.languages.get(worst.language)
        words = rate is not None and rate.metric == "WER"
        return mark(worst.reference, worst.hypothesis, words=words)


def _short(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _markdown_text(text: str) -> str:
    """Text that Markdown, tables and HTML leave as it is."""
    plain = re.sub(r"([\\`*_\[\]|~])", r"\\\1", " ".join(text.split()))
    return escapes.escape(plain, quote=False)


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "bounds": bounds,
        "points": points,
        "short": _short,
        "plain": _markdown_text,
    }
    limits: dict[str, Any] = {
        "MAX_FAILURES": MAX_FAILURES,
        "MAX_FLIPS": MAX_FLIPS,
    }
    environment.globals |= {**limits, "TAGS": figures.TAGS, "SPEED": figures.SPEED}
    return environment


_TEMPLATES = _environment()
