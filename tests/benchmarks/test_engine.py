import sys
from pathlib import Path

import pytest

from tests.benchmarks import engine
from tests.benchmarks.engine import Shape
from tests.benchmarks.variants import OURS, Variant

COLUMNS = {
    "variant",
    "precision",
    "clip_s",
    "batch",
    "threads",
    "cpu_s_per_audio_s",
    "wall_s_per_audio_s",
    "rss_mb",
}


def variant(name, precision, model=Path()):
    return Variant(name, precision, "ours", Path(sys.executable), model)


def call(cpu_s, wall_s=1.0, rss_mb=100.0):
    return {"cpu_s": cpu_s, "wall_s": wall_s, "rss_mb": rss_mb}


def test_a_worker_measures_the_embedded_model(demo_model_dir, tmp_path):
    ours = variant(OURS, "fp32", demo_model_dir)
    result = engine.measure([ours], [Shape(2, 1, 2), Shape(2, 3, 1)], [1], tmp_path)
    assert [(row["clip_s"], row["batch"]) for row in result["rows"]] == [(2, 1), (2, 3)]
    for row in result["rows"]:
        assert row.keys() >= COLUMNS
        assert (row["variant"], row["precision"], row["threads"]) == (OURS, "fp32", 1)
        assert 0 < row["cpu_s_per_audio_s"] < 10
        # An interpreter with torch and the network lies between.
        assert 50 < row["rss_mb"] < 4000
    assert result["loaded"][0]["versions"]["torch"]
    assert result["ratios"] == []


def test_a_worker_that_cannot_load_says_why(tmp_path):
    broken = variant(OURS, "fp32", tmp_path)
    with pytest.raises(RuntimeError, match="not a prepared model directory"):
        engine.measure([broken], [Shape(2, 1, 1)], [1], tmp_path)


def test_a_row_is_per_second_of_audio():
    calls = [call(8.0, 4.0), call(10.0, 6.0), call(12.0, 5.0, 300.0)]
    row = engine.row(variant(OURS, "int8"), Shape(5, 4, 3), 2, calls)
    assert row["cpu_s_per_audio_s"] == 10.0 / 20
    assert row["wall_s_per_audio_s"] == 5.0 / 20
    assert row["rss_mb"] == 300.0
    assert (row["cpu_spread"]["min"], row["cpu_spread"]["max"]) == (8.0 / 20, 12.0 / 20)


def test_ratios_set_each_of_ours_against_each_rival():
    calls = {
        variant(OURS, "fp32"): [call(4.0)],
        variant(OURS, "int8"): [call(1.0, rss_mb=25.0)],
        variant("funasr", "fp32"): [call(4.0)],
        variant("sherpa-onnx", "int8"): [call(2.0)],
    }
    ratios = engine.shape_ratios(calls, Shape(5, 1, 1), 1)
    found = {(r["ours"], r["rival"]): (r["cpu"]["median"], r["rss"]) for r in ratios}
    assert found == {
        ("fp32", "funasr"): (1.0, 1.0),
        ("fp32", "sherpa-onnx"): (2.0, 1.0),
        ("int8", "funasr"): (0.25, 0.25),
        ("int8", "sherpa-onnx"): (0.5, 0.25),
    }


class Echo:
    """A worker that keeps the order it was asked in."""

    def __init__(self, name, order):
        self.variant = variant(name, "fp32")
        self.order = order

    def ask(self, paths):
        self.order.append(self.variant.name)
        return call(float(len(self.order)))


def test_rounds_begin_with_another_worker_each_time():
    order = []
    calls = engine.run_rounds([Echo("a", order), Echo("b", order)], [], 2)
    warm, first, second = order[:2], order[2:4], order[4:]
    assert (warm, first, second) == (["a", "b"], ["a", "b"], ["b", "a"])
    # The warm calls are not among the measurements.
    assert [answer["cpu_s"] for answer in calls[variant("a", "fp32")]] == [3.0, 6.0]
