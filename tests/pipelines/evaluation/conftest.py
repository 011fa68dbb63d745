"""Rows of a table of hypotheses, made up by tests."""

from collections.abc import Callable
from typing import Any

import pytest

from pipelines.data.manifest import Utterance
from pipelines.evaluation.hypothesis import Choice, Hypothesis


def choice(distribution: dict[str, float]) -> Choice:
    label = max(distribution, key=distribution.__getitem__)
    return Choice(label=label, confidence=distribution[label], distribution=distribution)


def hypothesis(
    name: str,
    text: str | None = None,
    recognised: str = "",
    error: str = "",
    duration: float = 1.0,
    tags: dict[str, dict[str, float]] | None = None,
    **labels: Any,
) -> Hypothesis:
    """``labels`` of the utterance; ``tags``: the distribution of each kind."""
    return Hypothesis(
        utterance=Utterance(id=name, audio=f"{name}.wav", text=text, **labels),
        text=recognised,
        error=error,
        duration=0.0 if error else duration,
        **{kind: choice(distribution) for kind, distribution in (tags or {}).items()},
    )


@pytest.fixture(scope="session")
def row() -> Callable[..., Hypothesis]:
    """Makes one hypothesis."""
    return hypothesis
