"""Charts as SVG images in data URIs. Text stays text, so that the reader's own fonts draw every script."""

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipelines.evaluation.results import Bin, Difference, Interval

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#6B7280"
"""Okabe and Ito's palette, which colour-blind people can tell apart ("Color Universal Design", 2008)."""

WIDTH = 5.2
"""Inches of every chart: a phone's width shrinks the text to no less than 8 pixels."""

MAX_WRITTEN_LABELS = 16
"""Labels of a confusion matrix beyond which its cells hold no numbers."""

MAX_LABEL = 28
"""Characters of a label; a longer one would leave no room for the chart."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    # Equal evaluations make equal files.
    "svg.hashsalt": "report",
    # A dollar sign in a label is a dollar sign.
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """An image and its words.

    Attributes:
        title: stands above it.
        alt: what it shows, for those who do not see it.
        uri: ``data:image/svg+xml;base64,…``.
        note: stands below it.
    """

    title: str
    alt: str
    uri: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a bar chart; None: nothing to draw."""

    label: str
    value: Interval
    champion: float | None = None
    published: float | None = None


def bars(rows: Sequence[Row], unit: str = "", *, share: bool = False) -> str:
    """Horizontal bars with 95 % intervals; the champion's value a thinner bar, the published one a diamond.

    Args:
        unit: of the axis.
        share: the axis reaches 100 %.
    """
    with mpl.rc_context(STYLE):
        paired = any(row.champion is not None for row in rows)
        figure, axes = _figure((0.46 if paired else 0.27) * len(rows) + 0.9)
        place = 0.17 if paired else 0.0
        places = [index - place for index in range(len(rows))]
        height = 0.32 if paired else 0.62
        values = [row.value.value for row in rows]
        axes.barh(places, values, height, color=BLUE, label="candidate")
        for y, row in zip(places, rows, strict=True):
            _interval(axes, row.value, y, "black")
        _other(axes, [(i + place, row.champion) for i, row in enumerate(rows)], height)
        _targets(axes, [(float(i), row.published) for i, row in enumerate(rows)])
        _categories(axes, [row.label for row in rows])
        largest = max(
            max(row.value.high or 0, row.value.value, row.champion or 0, row.published or 0)
            for row in rows
        )
        axes.set_xlim(0, 1 if share else max(largest, 0.001) * 1.12)
        _percents(axes)
        axes.set_xlabel(unit)
        _legend(figure, axes)
        return _uri(figure)


def stacked(rows: Mapping[str, Sequence[float]], parts: Sequence[str]) -> str:
    """Horizontal bars made of parts, such as the kinds of errors: label → one share for each part."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.38 * len(rows) + 0.9)
        left = [0.0] * len(rows)
        colours = (BLUE, ORANGE, GREEN)
        for index, part in enumerate(parts):
            widths = [shares[index] for shares in rows.values()]
            axes.barh(range(len(rows)), widths, 0.55, left, color=colours[index], label=part)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        _categories(axes, list(rows))
        axes.set_xlim(0, max(*left, 0.001) * 1.05)
        _percents(axes)
        axes.set_xlabel("errors per unit of the references")
        _legend(figure, axes)
        return _uri(figure)


def confusion(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """A matrix: rows references, columns answers, shaded by the share of the row."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(min(max(0.45 * len(labels) + 1.2, 2.4), 6.5))
        shares = [[count / max(sum(row), 1) for count in row] for row in counts]
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        size = 9 if len(labels) <= 8 else 7
        names = [_short(label) for label in labels]
        axes.set_xticks(range(len(labels)), names, rotation=40, ha="right", fontsize=size)
        axes.set_yticks(range(len(labels)), names, fontsize=size)
        axes.set_xlabel("answer")
        axes.set_ylabel("reference")
        if len(labels) <= MAX_WRITTEN_LABELS:
            _write_counts(axes, counts, shares, size)
        bar = figure.colorbar(image, ax=axes, format=PercentFormatter(1.0), pad=0.02)
        bar.set_label("share of the reference label")
        return _uri(figure)


def reliability(bins: Sequence[Bin]) -> str:
    """How often the chosen label is right against how sure the model was; dots grow with their number."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(3.4)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", label="perfectly calibrated")
        most = max((one.count for one in bins), default=1)
        sizes = [20 + 180 * one.count / most for one in bins]
        sure = [one.confidence for one in bins]
        right = [one.accuracy for one in bins]
        axes.vlines(sure, sure, right, color=RED, alpha=0.6, linewidth=1)
        axes.scatter(sure, right, sizes, color=BLUE, alpha=0.85, clip_on=False, label="answers")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="share correct")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(alpha=0.3)
        axes.legend(loc="upper left")
        return _uri(figure)


def forest(differences: Mapping[str, Difference], *, less_is_better: bool) -> str:
    """Candidate minus champion with intervals; coloured only where the interval leaves 0 out."""
    with mpl.rc_context(STYLE):
        figure, axes = _figure(0.36 * len(differences) + 0.9)
        reach = 0.001
        for y, one in enumerate(differences.values()):
            delta = one.delta
            colour, marker = _judged(delta, less_is_better)
            _interval(axes, delta, y, colour, width=2.0)
            axes.plot(delta.value, y, marker, color=colour, markersize=8)
            reach = max(reach, *(abs(x) for x in (delta.value, delta.low or 0, delta.high or 0)))
        reach *= 1.15
        axes.set_xlim(-reach, reach)
        axes.axvline(0, color="black", linewidth=1)
        ends = (-reach, 0) if less_is_better else (0, reach)
        axes.axvspan(*ends, color=GREEN, alpha=0.08, linewidth=0)
        _categories(axes, list(differences))
        _percents(axes)
        axes.set_xlabel("percentage points (shaded: better)")
        return _uri(figure)


def panels(figures: Mapping[str, Sequence[float]], names: Sequence[str]) -> str:
    """A small bar chart for each figure, because their units differ: figure → one value for each name."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.42 * len(figures) * len(names) + 0.5 * len(figures)))
        figure.set_layout_engine("constrained")
        every = figure.subplots(len(figures), 1, squeeze=False)[:, 0]
        for axes, (title, values) in zip(every, figures.items(), strict=True):
            axes.barh(range(len(names)), values, 0.7, color=(BLUE, ORANGE)[: len(names)])
            for y, value in enumerate(values):
                axes.annotate(
                    f"{value:.3g}",
                    (value, y),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                )
            _categories(axes, names)
            axes.set_xlim(0, max(*values, 1e-9) * 1.18)
            axes.set_xticks([])
            axes.spines["bottom"].set_visible(False)
            axes.set_title(title, loc="left")
        return _uri(figure)


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height))
    figure.set_layout_engine("constrained")
    return figure, figure.subplots()


def _interval(axes: Axes, interval: Interval, y: float, colour: str, width: float = 1.5) -> None:
    if interval.low is not None and interval.high is not None:
        axes.hlines(y, interval.low, interval.high, color=colour, linewidth=width)
        axes.plot([interval.low, interval.high], [y, y], "|", color=colour, markersize=8)


def _other(axes: Axes, values: Sequence[tuple[float, float | None]], height: float) -> None:
    known = [(y, value) for y, value in values if value is not None]
    if known:
        places, widths = zip(*known, strict=True)
        axes.barh(places, widths, height, color=ORANGE, label="champion")


def _targets(axes: Axes, values: Sequence[tuple[float, float | None]]) -> None:
    known = [(y, value) for y, value in values if value is not None]
    if known:
        places, marks = zip(*known, strict=True)
        axes.plot(
            marks,
            places,
            "D",
            color="black",
            markerfacecolor="white",
            markersize=8,
            label="published",
        )


def _percents(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.grid(axis="x", alpha=0.3)


def _categories(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), [_short(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _short(label: str) -> str:
    return label if len(label) <= MAX_LABEL else label[: MAX_LABEL - 1] + "…"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        # Bars first, in the order of drawing; lines would come before them.
        order = sorted(range(len(labels)), key=lambda index: labels[index] == "published")
        figure.legend(
            [handles[index] for index in order],
            [labels[index] for index in order],
            loc="outside upper left",
            ncols=len(order),
        )


def _write_counts(
    axes: Axes, counts: Sequence[Sequence[int]], shares: Sequence[Sequence[float]], size: float
) -> None:
    for y, row in enumerate(counts):
        for x, count in enumerate(row):
            if count:
                colour = "white" if shares[y][x] > 0.55 else "black"
                axes.text(x, y, str(count), ha="center", va="center", color=colour, fontsize=size)


def _judged(delta: Interval, less_is_better: bool) -> tuple[str, str]:
    """Colour and marker of a difference."""
    if delta.low is None or delta.high is None or delta.low <= 0 <= delta.high:
        return GREY, "o"
    improved = (delta.value < 0) == less_is_better
    return (GREEN, "^") if improved else (RED, "v")


def _uri(figure: Figure) -> str:
    content = io.BytesIO()
    with warnings.catch_warnings():
        # The reader's fonts draw the text, so it does not matter what the layout's font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()
