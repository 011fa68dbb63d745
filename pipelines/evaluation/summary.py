"""An evaluation in plain numbers: names and values, as experiment trackers take them."""

import math
import re
from collections.abc import Iterator

from pipelines.evaluation.results import (
    Accuracy,
    Classification,
    Comparison,
    Evaluation,
    Interval,
    SpeedComparison,
)

KINDS = ("language", "emotion_four", "emotion_open", "event")
"""Fields of :class:`~pipelines.evaluation.results.Tags`."""


def metrics(evaluation: Evaluation) -> dict[str, float]:
    """Every figure that is worth following from version to version; what was not measured is absent.

    Names are paths such as ``accuracy/zh/cer``, ``tags/event/f1/Speech``, ``speed/ratio/p95_s``; an
    interval adds ``_low`` and ``_high``. They hold letters, digits, ``_``, ``-`` and ``/`` only, which
    MLflow and Kubeflow allow.
    """
    found = dict(_accuracy(evaluation.accuracy))
    for kind in KINDS:
        classification = getattr(evaluation.tags, kind)
        if classification is not None:
            found |= dict(_classification(f"tags/{kind}", classification))
    if evaluation.comparison is not None:
        found |= dict(_comparison(evaluation.comparison))
    if evaluation.speed is not None:
        found |= dict(_speed(evaluation.speed))
    if evaluation.parity is not None:
        found |= {f"parity/{name}": float(v) for name, v in evaluation.parity.model_dump().items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _accuracy(accuracy: Accuracy) -> Iterator[tuple[str, float]]:
    for language, rate in accuracy.languages.items():
        prefix = f"accuracy/{_name(language)}"
        yield from _interval(f"{prefix}/{rate.metric.lower()}", rate.rate)
        for name in ("utterances", "units", "substitutions", "deletions", "insertions"):
            yield f"{prefix}/{name}", float(getattr(rate, name))
    yield "accuracy/failures", float(len(accuracy.failures))
    yield "accuracy/silent_utterances", float(accuracy.silent_utterances)
    yield "accuracy/silent_with_text", float(accuracy.silent_with_text)


def _classification(prefix: str, tags: Classification) -> Iterator[tuple[str, float]]:
    yield f"{prefix}/utterances", float(tags.utterances)
    yield from _interval(f"{prefix}/weighted_accuracy", tags.weighted_accuracy)
    yield from _interval(f"{prefix}/unweighted_accuracy", tags.unweighted_accuracy)
    for name in ("macro_f1", "weighted_f1", "calibration_error"):
        yield f"{prefix}/{name}", float(getattr(tags, name))
    for label, value in tags.f1.items():
        yield f"{prefix}/f1/{_name(label)}", value


def _comparison(comparison: Comparison) -> Iterator[tuple[str, float]]:
    for group, differences in (
        ("error_rate", comparison.error_rates),
        ("accuracy", comparison.tags),
    ):
        for name, difference in differences.items():
            yield from _interval(f"difference/{group}/{_name(name)}", difference.delta)
    yield "difference/tag_flips", float(len(comparison.flips))
    yield "difference/changed_texts", comparison.changed_texts


def _speed(speed: SpeedComparison) -> Iterator[tuple[str, float]]:
    for name, value in speed.candidate.model_dump().items():
        yield f"speed/{name}", value
    for name, value in speed.ratios.items():
        yield f"speed/ratio/{name}", value


def _interval(name: str, interval: Interval) -> Iterator[tuple[str, float]]:
    yield name, interval.value
    if interval.low is not None and interval.high is not None:
        yield f"{name}_low", interval.low
        yield f"{name}_high", interval.high


def _name(label: str) -> str:
    """A label as one part of a path: neither other characters nor ``..``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", label)
