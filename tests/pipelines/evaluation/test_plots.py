"""Charts, read as the SVG that they are."""

import base64
import warnings
from xml.etree import ElementTree

import pytest

from pipelines.evaluation import plots
from pipelines.evaluation.plots import MAX_WRITTEN_LABELS, Row
from pipelines.evaluation.results import Bin, Difference, Interval

PREFIX = "data:image/svg+xml;base64,"
SVG = "{http://www.w3.org/2000/svg}"


def drawn(uri: str) -> ElementTree.Element:
    assert uri.startswith(PREFIX)
    # Our own image, which nobody else wrote.
    return ElementTree.fromstring(base64.b64decode(uri.removeprefix(PREFIX)))  # noqa: S314  # noqa: S314


def texts(uri: str) -> list[str]:
    return ["".join(one.itertext()).strip() for one in drawn(uri).iter(f"{SVG}text")]


def interval(value: float, low: float | None = None, high: float | None = None) -> Interval:
    return Interval(value=value, low=low, high=high)


@pytest.mark.parametrize("label", ["zh", "会议室", "$x^$", "<script>&amp;", "a\\b{", "_^_", "🎉"])
def test_every_label_is_drawn_as_text_without_complaint(label: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert label in texts(plots.bars([Row(label, interval(0.1, 0.05, 0.2))]))


def test_a_long_label_leaves_room_for_the_chart() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        long = "x" * 500
        (shown,) = {one for one in texts(plots.bars([Row(long, interval(0.1))])) if "xx" in one}
        assert len(shown) == plots.MAX_LABEL
        assert not {long} & set(texts(plots.confusion([long], [[1]])))


def test_bars_name_champion_and_published_only_where_they_are_there() -> None:
    everything = texts(plots.bars([Row("zh", interval(0.1), champion=0.2, published=0.05)]))
    assert {"candidate", "champion", "published"} <= set(everything)
    alone = texts(plots.bars([Row("zh", interval(0.1))]))
    assert not {"candidate", "champion", "published"} & set(alone)


def test_equal_values_make_equal_images() -> None:
    rows = [Row("zh", interval(0.1, 0.05, 0.2), champion=0.2, published=0.05)]
    assert plots.bars(rows) == plots.bars(rows)


def test_nothing_but_zeros_can_be_drawn() -> None:
    assert "zh" in texts(plots.bars([Row("zh", interval(0.0, 0.0, 0.0))]))
    assert "zh" in texts(plots.stacked({"zh": (0.0, 0.0, 0.0)}, ("a", "b", "c")))
    assert "p95" in texts(plots.panels({"p95": [0.0]}, ["candidate"]))
    difference = Difference(candidate=0, champion=0, delta=interval(0, 0, 0), utterances=1)
    assert "zh" in texts(plots.forest({"zh": difference}, less_is_better=True))


def test_parts_of_bars_are_named() -> None:
    found = texts(plots.stacked({"zh": (0.1, 0.2, 0.0)}, ("wrong", "gone", "new")))
    assert {"wrong", "gone", "new", "zh"} <= set(found)


def test_a_confusion_matrix_writes_its_counts_where_they_can_be_read() -> None:
    found = texts(plots.confusion(["HAPPY", "SAD"], [[31, 7], [0, 45]]))
    assert {"HAPPY", "SAD", "31", "7", "45"} <= set(found)
    many = [str(index) + "x" for index in range(MAX_WRITTEN_LABELS + 1)]
    counts = [[77] * len(many) for _ in many]
    assert "77" not in texts(plots.confusion(many, counts))


def test_reliability_draws_one_dot_a_bin() -> None:
    bins = [Bin(confidence=0.5, accuracy=0.4, count=3), Bin(confidence=0.9, accuracy=1, count=9)]
    both, one = (drawn(plots.reliability(some)) for some in (bins, bins[:1]))
    assert len(list(both.iter())) > len(list(one.iter()))


def test_a_difference_is_coloured_only_where_its_interval_leaves_zero_out() -> None:
    def colours(delta: Interval, less_is_better: bool) -> str:
        difference = Difference(candidate=0, champion=0, delta=delta, utterances=1)
        image = plots.forest({"zh": difference}, less_is_better=less_is_better)
        return base64.b64decode(image.removeprefix(PREFIX)).decode().lower()

    better, worse = plots.GREEN.lower(), plots.RED.lower()
    assert worse in colours(interval(0.02, 0.01, 0.03), True)
    assert worse not in colours(interval(0.02, 0.01, 0.03), False)
    assert f"stroke: {better}" in colours(interval(0.02, 0.01, 0.03), False)
    for undecided in (interval(0.02, -0.01, 0.03), interval(0.02)):
        assert worse not in colours(undecided, True)
        assert f"stroke: {better}" not in colours(undecided, True)


def test_panels_write_their_values() -> None:
    found = texts(plots.panels({"memory": [412.0, 440.0]}, ["candidate", "champion"]))
    assert {"memory", "412", "440", "candidate", "champion"} <= set(found)
