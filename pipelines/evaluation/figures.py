"""Which plots an evaluation is shown in."""

from collections.abc import Iterator, Mapping

from pipelines.evaluation import plots
from pipelines.evaluation.plots import Plot, Row
from pipelines.evaluation.published import Published
from pipelines.evaluation.results import (
    Classification,
    Comparison,
    ErrorRate,
    Evaluation,
    Interval,
    SpeedComparison,
)

MAX_SLICES = 30
"""Bars in one plot of slices."""

TAGS = {
    "language": "Language",
    "emotion_four": "Emotion, four classes",
    "emotion_open": "Emotion, all answers",
    "event": "Event",
}
"""Fields of :class:`~pipelines.evaluation.results.Tags`, and what they are called."""

SPEED = {
    "real_time_factor": "real-time factor (seconds per second of audio)",
    "p50_s": "median seconds a clip",
    "p95_s": "95th percentile seconds a clip",
    "cold_start_s": "seconds from start to first transcript",
    "memory_mb": "peak memory, MiB",
}
"""Fields of :class:`~pipelines.evaluation.results.Speed`, and what they are called."""


def of_words(evaluation: Evaluation, published: Published) -> Iterator[Plot]:
    """Error rates by language and by slice, and what the errors are."""
    languages = evaluation.accuracy.languages
    if languages:
        rows = [_language(evaluation, published, *item) for item in languages.items()]
        yield Plot("Error rate by language", _told(rows), plots.bars(rows, "CER or WER"))
        yield _composition(languages)
    for kind, slices in evaluation.accuracy.slices.items():
        if slices:
            yield _slices(kind, slices, published.noise if kind == "noise" else {})


def _language(evaluation: Evaluation, published: Published, language: str, rate: ErrorRate) -> Row:
    compared = evaluation.comparison and evaluation.comparison.error_rates.get(language)
    return Row(
        f"{language} {rate.metric}",
        rate.rate,
        compared.champion if compared else None,
        published.error_rates.get(language),
    )


def _composition(languages: dict[str, ErrorRate]) -> Plot:
    parts = ("substitutions", "deletions", "insertions")
    rows = {
        language: [getattr(rate, part) / max(rate.units, 1) for part in parts]
        for language, rate in languages.items()
    }
    alt = "; ".join(
        f"{language}: " + ", ".join(f"{getattr(rate, part)} {part}" for part in parts)
        for language, rate in languages.items()
    )
    return Plot("What the errors are", alt, plots.stacked(rows, parts))


def _slices(kind: str, slices: Mapping[str, ErrorRate], published: Mapping[str, float]) -> Plot:
    largest = sorted(slices, key=lambda name: -slices[name].utterances)[:MAX_SLICES]
    rows = [
        Row(f"{name} ({rate.utterances})", rate.rate, published=published.get(name))
        for name, rate in slices.items()
        if name in largest
    ]
    note = "In brackets: utterances."
    if len(rows) < len(slices):
        note += f" The largest {len(rows)} of {len(slices)} slices."
    return Plot(f"Error rate by {kind}", _told(rows), plots.bars(rows, "CER or WER"), note)


def of_tags(evaluation: Evaluation) -> Iterator[Plot]:
    """For each kind of tag: what is taken for what, how well each label is found, and calibration."""
    for kind, name in TAGS.items():
        tags: Classification | None = getattr(evaluation.tags, kind)
        if tags is None:
            continue
        yield Plot(
            f"{name}: confusion", _confused(tags), plots.confusion(tags.labels, tags.confusion)
        )
        rows = [Row(label, _exact(value)) for label, value in tags.f1.items()]
        if rows:
            yield Plot(f"{name}: F1", _told(rows), plots.bars(rows, "F1", share=True))
        if tags.reliability:
            yield Plot(
                f"{name}: calibration (ECE {tags.calibration_error:.3f})",
                "; ".join(
                    f"sure {one.confidence:.0%}, right {one.accuracy:.0%} of {one.count}"
                    for one in tags.reliability
                ),
                plots.reliability(tags.reliability),
            )


def of_comparison(comparison: Comparison) -> Iterator[Plot]:
    """Differences between candidate and champion."""
    note = "Bars: 95 % intervals. Coloured where the interval leaves 0 out: ▲ better, ▼ worse."
    for title, differences, less_is_better in (
        ("Error rate, candidate minus champion", comparison.error_rates, True),
        ("Tag accuracy, candidate minus champion", comparison.tags, False),
    ):
        if differences:
            named = {TAGS.get(name, name): one for name, one in differences.items()}
            rows = [Row(name, one.delta) for name, one in named.items()]
            image = plots.forest(named, less_is_better=less_is_better)
            yield Plot(title, _told(rows), image, note)


def of_speed(speed: SpeedComparison) -> Plot:
    """Candidate beside champion, each figure on a scale of its own."""
    models = {"candidate": speed.candidate}
    if speed.champion is not None:
        models["champion"] = speed.champion
    values = {
        title: [float(getattr(one, field)) for one in models.values()]
        for field, title in SPEED.items()
    }
    alt = "; ".join(
        f"{title}: " + ", ".join(f"{name} {v:.3g}" for name, v in zip(models, row, strict=True))
        for title, row in values.items()
    )
    note = f"{speed.clips} clips, {speed.audio_s:.0f} s of audio, on {speed.machine}."
    return Plot("Speed and memory", alt, plots.panels(values, list(models)), note)


def _told(rows: list[Row]) -> str:
    return "; ".join(
        f"{row.label} {row.value.value:.2%}"
        + (f" (champion {row.champion:.2%})" if row.champion is not None else "")
        + (f" (published {row.published:.2%})" if row.published is not None else "")
        for row in rows
    )


def _confused(tags: Classification) -> str:
    pairs = [
        (count, f"{reference} taken for {answer}: {count}")
        for reference, row in zip(tags.labels, tags.confusion, strict=True)
        for answer, count in zip(tags.labels, row, strict=True)
        if count and reference != answer
    ]
    worst = "; ".join(text for _, text in sorted(pairs, reverse=True)[:10])
    return f"{tags.weighted_accuracy.value:.1%} of {tags.utterances} correct. {worst}".strip()


def _exact(value: float) -> Interval:
    return Interval(value=value, low=None, high=None)
