"""The Markdown beside ``gpu.json``."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.benchmarks.report import table

Row = Mapping[str, Any]


def markdown(result: Mapping[str, Any]) -> str:
    """The whole document."""
    about, peak = result["about"], result["peak"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    sections = [
        "# GPU",
        f"`{about['command']}`, {about['date']}, {about.get('took_s', 0) / 60:.1f} minutes. "
        f"{about['device']}; {about['cores']} CPU cores; {versions}. Seeded random weights.",
        f"bf16 product of {peak['size']} × {peak['size']} matrices: "
        f"{peak['flop_per_s'] / 1e12:.4g} TFLOP/s ({_spread(peak['seconds'], 1e3)} ms).",
    ]
    for part, columns in COLUMNS.items():
        if part in result:
            sections += [f"## {part.capitalize()}", _part(result[part], columns)]
    return "\n\n".join(sections) + "\n"


def _part(part: Mapping[str, Any], columns: Mapping[str, Callable[[Row], str]]) -> str:
    if "skipped" in part:
        return f"Skipped: {part['skipped']}"
    rows: Sequence[Row] = part["rows"]
    return table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _spread(values: Mapping[str, Any], factor: float = 1.0) -> str:
    middle, least, most = (factor * values[key] for key in ("median", "min", "max"))
    return f"{middle:.4g} ({least:.4g}–{most:.4g})"


def _rate(row: Row) -> str:
    return "out of memory" if "out_of_memory" in row else _spread(row["audio_s_per_s_spread"])


def _what(row: Row) -> str:
    return f"{row['clip_s']:g} s × {row['batch']}"


COLUMNS: Mapping[str, Mapping[str, Callable[[Row], str]]] = {
    "latency": {
        "clip": lambda row: f"{row['clip_s']:g} s",
        "precision": lambda row: row["precision"],
        "mode": lambda row: row["mode"],
        "p50 ms": lambda row: f"{row['p50_ms']:.3g}",
        "p99 ms": lambda row: f"{row['p99_ms']:.3g}",
        "calls": lambda row: str(row["calls"]),
    },
    "network": {
        "clips": _what,
        "precision": lambda row: row["precision"],
        "mode": lambda row: row["mode"],
        "× real time": _rate,
        "one at a time": lambda row: (
            _spread(row["audio_s_per_s_one_at_a_time"]) if "share_of_peak" in row else ""
        ),
        "of peak": lambda row: f"{row['share_of_peak']:.1%}" if "share_of_peak" in row else "",
        "memory, MiB": lambda row: (
            f"{row['peak_memory_mb']:.0f}" if row.get("peak_memory_mb") else ""
        ),
    },
    "kernels": {
        "operation": lambda row: row["operation"],
        "form": lambda row: row["form"],
        "batch × frames": lambda row: f"{row['batch']} × {row['frames']}",
        "µs": lambda row: _spread(row["us"]) if "us" in row else row["unsupported"],
    },
    "engine": {
        "clips": _what,
        "precision": lambda row: row["precision"],
        "network": lambda row: row["network"],
        "passes at once": lambda row: str(row["passes"]),
        "× real time": _rate,
        "tokens per clip": lambda row: f"{row['tokens_per_clip']:.0f}",
    },
    "server": {
        "clips": lambda row: f"{row['clip_s']:g} s",
        "at a time": lambda row: str(row["concurrency"]),
        "× real time": lambda row: f"{row['audio_s_per_s']:.5g}",
        "requests/s": lambda row: f"{row['requests_per_s']:.4g}",
        "p50 s": lambda row: f"{row['p50_s']:.3f}",
        "p99 s": lambda row: f"{row['p99_s']:.3f}",
        "failed": lambda row: f"{row['failures']} of {row['requests']}",
        "server's CPU s/request": lambda row: f"{row['cpu_s_per_request']:.4f}",
    },
    "funasr": {
        "clips": _what,
        "precision": lambda row: row["precision"],
        "× real time": _rate,
    },
}
"""Headings and cells of each part."""
