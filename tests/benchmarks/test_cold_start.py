from functools import partial
from pathlib import Path

import pytest

from tests.benchmarks import page_cache
from tests.benchmarks.clips import write_clips
from tests.benchmarks.cold_start import Plan, Starter, measure, start_process, with_ratios


def test_phases_of_a_real_start_add_up(demo_model_dir, tmp_path):
    clip = write_clips(tmp_path, 2, 1)[0]
    found = start_process("ours", demo_model_dir, "fp32", clip, 1)
    assert list(found["phases"]) == ["start", "import", "load", "verify", "first answer"]
    assert sum(found["phases"].values()) == pytest.approx(found["total_s"])
    assert all(seconds >= 0 for seconds in found["phases"].values())
    assert found["text"]


def test_a_start_that_fails_says_why(tmp_path):
    clip = write_clips(tmp_path, 2, 1)[0]
    with pytest.raises(RuntimeError, match="not a prepared model directory"):
        start_process("ours", tmp_path, "fp32", clip, 1)


def told(seconds):
    return lambda: {"total_s": seconds, "cpu_s": seconds, "phases": {"import": seconds}}


def test_the_headline_is_our_engine_over_funasr(tmp_path):
    (tmp_path / "weights").write_bytes(b"x" * 5000)
    starter = partial(Starter, model=tmp_path)
    found = [
        starter("ours engine", "int8", start=told(2.0)),
        starter("funasr", "fp32", start=told(20.0)),
    ]
    result = measure(found, Plan(2, 0, ("int8",)), threads=1)
    assert result["ratio_to_funasr"] == 0.1
    assert result["ratio_to_funasr_cold"] is None
    assert [(row["variant"], row["cache"]) for row in result["rows"]] == [
        ("ours engine", "warm"),
        ("funasr", "warm"),
    ]


def test_warm_starts_are_compared_with_warm_ones():
    rows = [
        {"variant": "funasr", "cache": "warm", "total_s": 10.0},
        {"variant": "funasr", "cache": "cold", "total_s": 40.0},
        {"variant": "ours engine", "cache": "cold", "total_s": 10.0},
    ]
    assert [row["ratio_to_funasr"] for row in with_ratios(rows)] == [1.0, 1.0, 0.25]


def test_what_was_read_is_cached_and_what_is_evicted_is_no_longer(tmp_path):
    if Path("/proc/mounts").read_text().count(f" {tmp_path.parents[-2]} tmpfs "):
        pytest.skip("a file in memory cannot be evicted from memory")
    file = tmp_path / "weights"
    file.write_bytes(b"x" * (1 << 20))
    page_cache.read_in([file])
    assert page_cache.cached_share([file]) == 1.0
    page_cache.evict([file])
    assert page_cache.cached_share([file]) < 1.0
