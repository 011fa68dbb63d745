from itertools import pairwise
from pathlib import Path

from tests.benchmarks import accuracy, engine, report, server
from tests.benchmarks.clips import write_clips
from tests.benchmarks.cold_start import with_ratios
from tests.benchmarks.engine import Shape
from tests.benchmarks.load import Load, Request, summary
from tests.benchmarks.variants import FUNASR, OURS, Variant

ABOUT = {
    "command": "make bench",
    "date": "2026-11-22 10:00 UTC",
    "like": "embedded model",
    "machine": {
        "cpu": "A Fine Processor",
        "cores": 2,
        "memory_gib": 23.5,
        "flags": ["avx512_vnni"],
        "system": "Linux 6",
        "python": "3.11.7",
        "load_1min": 0.1,
    },
    "versions": {"torch": "2.13.0", "sherpa-onnx": "2.0.1"},
    "took_s": 90.0,
    "stolen_s": 3.0,
}


def engine_result():
    ours = Variant(OURS, "int8", "ours", Path(), Path())
    rival = Variant(FUNASR, "fp32", "funasr_auto", Path(), Path())
    calls = {
        ours: [{"cpu_s": 0.2, "wall_s": 0.2, "rss_mb": 512.0}],
        rival: [{"cpu_s": 1.0, "wall_s": 1.0, "rss_mb": 2048.0}],
    }
    shape = Shape(5, 1, 1)
    rows = [engine.row(each, shape, 1, calls[each]) for each in calls]
    return {"rows": rows, "ratios": engine.shape_ratios(calls, shape, 1)}


def server_result():
    requests = [Request(i * 0.1, 0.25, "") for i in range(100)]
    figures = [summary(Load(requests, 10.0, 10.0, 100.0), 5.0)]
    alone = {"audio_s_per_s": 50.0, "cpu_s_per_audio_s": 0.02, "single_s": 0.2}
    rows = [
        server.row(OURS, "int8", 1, 2, figures, alone),
        server.row(FUNASR, "fp32", 1, 2, figures, None),
    ]
    held = {"rate": 11.6, "seconds": 20.0, "held": True, "cores_needed": 1.16, **figures[0]}
    return {"clip_s": 5.0, "threads": 2, "rows": rows, "sustain": held}


def cold_start_result():
    rows = [
        {
            "variant": name,
            "precision": "fp32",
            "cache": "warm",
            "total_s": seconds,
            "total_spread": {"min": seconds, "max": seconds},
            "phases": {"import": seconds},
        }
        for name, seconds in (("ours engine", 2.5), ("funasr", 20.0))
    ]
    return {"rows": with_ratios(rows)}


def accuracy_result(model, random_model, paths):
    return {
        "embedded": accuracy.embedded(model, ("fp32",), limit=6),
        "full_size": accuracy.full_size(random_model, ("fp32",), paths),
    }


def test_the_summary_shows_every_part_in_well_formed_tables(
    demo_model_dir, random_model_dir, tmp_path
):
    paths = write_clips(tmp_path, 2, 2)
    parts = {
        "engine": engine_result(),
        "server": server_result(),
        "cold_start": cold_start_result(),
        "accuracy": accuracy_result(demo_model_dir, random_model_dir, paths),
    }
    text = report.summary({part: {"about": ABOUT, **result} for part, result in parts.items()})
    assert "`make bench`, 2026-11-22 10:00 UTC, 6.0 minutes" in text
    assert "A Fine Processor, 2 cores" in text
    assert "sherpa-onnx 2.0.1" in text
    assert "| int8 | 5 s × 1 | 0.20 |" in text
    assert "| asked for | 11.60 | 20 | 0 of 100 | 0.250 |" in text
    assert "+50.0" in text
    assert "| ours engine fp32 | warm | 2.50 (2.50–2.50) | 0.12 | import 2.50 |" in text
    assert text.count("\n## ") == 4
    for line, following in pairwise(text.splitlines()):
        if line.startswith("| ") and following.startswith("| "):
            assert line.count(" | ") == following.count(" | ")


def test_parts_of_different_runs_are_kept_apart():
    later = {**ABOUT, "command": "make bench-quick", "date": "2026-11-23 10:00 UTC"}
    text = report.summary(
        {
            "engine": {"about": ABOUT, **engine_result()},
            "cold_start": {"about": later, **cold_start_result()},
        }
    )
    assert text.index("`make bench`") < text.index("## Engine") < text.index("`make bench-quick`")
    assert text.index("`make bench-quick`") < text.index("## Cold start")
