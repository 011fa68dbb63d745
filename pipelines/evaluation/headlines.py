"""The handful of figures that people ask for first, in words."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.evaluation.published import Published
from pipelines.evaluation.results import Difference, Evaluation, Interval, SpeedComparison

TAGS = {
    "language": ("Language accuracy", "weighted_accuracy"),
    "emotion_four": ("Emotion UA, four classes", "unweighted_accuracy"),
    "event": ("Event accuracy", "weighted_accuracy"),
}
"""Kind of tag → title and field of its figure."""


@dataclass(frozen=True, slots=True)
class Headline:
    """A figure and what stands beside it; empty where there is nothing to say.

    Attributes:
        interval: its 95 % interval.
        champion: the champion's value, or the ratio to it.
        difference: candidate minus champion.
        published: the authors' figure.
    """

    title: str
    value: str
    interval: str = ""
    champion: str = ""
    difference: str = ""
    published: str = ""


def headlines(evaluation: Evaluation, published: Published) -> Iterator[Headline]:
    """Error rate of every language, accuracy of tags, speed and memory."""
    compared = evaluation.comparison
    for language, rate in evaluation.accuracy.languages.items():
        target = published.error_rates.get(language)
        yield Headline(
            f"{language} {rate.metric}",
            percent(rate.rate.value),
            bounds(rate.rate),
            *_champion(compared.error_rates.get(language) if compared else None),
            percent(target) if target is not None else "",
        )
    slices = evaluation.accuracy.slices.get("noise", {})
    for name, target in published.noise.items():
        if name in slices:
            rate = slices[name]
            title = f"{name} {rate.metric}"
            yield Headline(
                title, percent(rate.rate.value), bounds(rate.rate), published=percent(target)
            )
    for kind, (title, field) in TAGS.items():
        tags = getattr(evaluation.tags, kind)
        if tags is None:
            continue
        value: Interval = getattr(tags, field)
        weighted = field == "weighted_accuracy"
        target = published.unweighted_accuracy if kind == "emotion_four" else None
        yield Headline(
            title,
            percent(value.value),
            bounds(value),
            *_champion(compared.tags.get(kind) if compared and weighted else None),
            percent(target) if target is not None else "",
        )
    if evaluation.speed is not None:
        yield from _speed(evaluation.speed)


def _speed(speed: SpeedComparison) -> Iterator[Headline]:
    for title, field, unit in (
        ("Real-time factor", "real_time_factor", ""),
        ("p95 a clip", "p95_s", " s"),
        ("Cold start", "cold_start_s", " s"),
        ("Peak memory", "memory_mb", " MiB"),
    ):
        ratio = speed.ratios.get(field)
        value = getattr(speed.candidate, field)
        yield Headline(
            title,
            f"{value:,.0f}{unit}" if value >= 100 else f"{value:.3g}{unit}",
            champion=f"× {ratio:.2f} of the champion's" if ratio is not None else "",
        )


def _champion(difference: Difference | None) -> tuple[str, str]:
    if difference is None:
        return "", ""
    return f"champion {percent(difference.champion)}", points(difference.delta)


def percent(value: float) -> str:
    """0.0296 → ``2.96 %``."""
    return f"{100 * value:.2f} %"


def bounds(interval: Interval) -> str:
    """``2.71–3.20 %``; empty where there is no estimate."""
    if interval.low is None or interval.high is None:
        return ""
    return f"{100 * interval.low:.2f}–{100 * interval.high:.2f} %"


def points(delta: Interval) -> str:
    """A difference in percentage points: ``+0.10 pp (−0.20 to +0.40)``."""
    text = f"{_signed(delta.value)} pp"
    if delta.low is None or delta.high is None:
        return text
    return f"{text} ({_signed(delta.low)} to {_signed(delta.high)})"


def _signed(value: float) -> str:
    # Adding 0.0 turns a rounded -0.0 into 0.0.
    return f"{round(100 * value, 2) + 0.0:+.2f}".replace("-", "−").replace("+0.00", "±0.00")
