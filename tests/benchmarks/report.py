"""The Markdown beside the JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def engine(result: Figures) -> str:
    """CPU time by shape, a column for each recogniser, and ratios of ours below it."""
    names = list(dict.fromkeys((row["variant"], row["precision"]) for row in result["rows"]))
    sections = ["## Engine\n\nCPU seconds per second of audio, median (least–most) over rounds."]
    for threads in sorted({row["threads"] for row in result["rows"]}):
        rows = [row for row in result["rows"] if row["threads"] == threads]
        by_shape: dict[tuple[float, int], dict[tuple[str, str], Figures]] = {}
        for row in rows:
            shape = by_shape.setdefault((row["clip_s"], row["batch"]), {})
            shape[row["variant"], row["precision"]] = row
        cells = [
            [_shape(shape), *(_cpu(by_name[name]) for name in names)]
            for shape, by_name in by_shape.items()
        ]
        memory = [
            f"{max(row['rss_mb'] for row in rows if _name(row) == name):.0f}" for name in names
        ]
        header = ["clips", *(" ".join(name) for name in names)]
        cells.append(["peak memory, MiB", *memory])
        sections.append(f"{_threads(threads)}:\n\n{table(header, cells)}")
        ratios = [row for row in result["ratios"] if row["threads"] == threads]
        sections.append(f"Ratio of CPU time, {_threads(threads)}:\n\n{engine_ratios(ratios)}")
    return "\n\n".join(sections)


def engine_ratios(ratios: Sequence[Figures]) -> str:
    """A row for each of ours and each shape, a column for each rival."""
    rivals = list(dict.fromkeys((row["rival"], row["rival_precision"]) for row in ratios))
    cells: dict[tuple[str, float, int], dict[tuple[str, str], str]] = {}
    for row in ratios:
        line = cells.setdefault((row["ours"], row["clip_s"], row["batch"]), {})
        line[row["rival"], row["rival_precision"]] = f"{row['cpu']['median']:.2f}"
    return table(
        ["ours", "clips", *("÷ " + " ".join(rival) for rival in rivals)],
        [[key[0], _shape(key[1:]), *(line[r] for r in rivals)] for key, line in cells.items()],
    )


def server(result: Figures) -> str:
    """Rates and latencies of each server, and the constant arrival rate."""
    rows = [
        [
            f"{row['variant']} {row['precision']}",
            str(row["concurrency"]),
            f"{row['requests_per_s']:.2f}",
            f"{row['audio_s_per_s']:.1f}",
            *(f"{row[key]:.3f}" for key in ("p50_s", "p95_s", "p99_s")),
            f"{row['failures']} of {row['requests']}",
            f"{row['cpu_s_per_request']:.3f}",
            _percent(row.get("share_of_engine")),
            _percent(row.get("engine_cpu_share")),
            f"{row['over_engine_ms']:+.1f}" if "over_engine_ms" in row else "",
        ]
        for row in result["rows"]
    ]
    header = ["server", "at a time", "requests/s", "audio s/s", "p50 s", "p95 s", "p99 s", "failed"]
    header += ["CPU s/request", "of engine's rate", "engine's share of CPU", "ms over engine"]
    lines = [
        f"## Server\n\n{result['clip_s']:g} s WAV clips over loopback, {_threads(result['threads'])}. "
        "The load generator shares the cores with the server; CPU time is the server's alone.",
        table(header, rows),
        "Sustained:\n\n" + sustained(result["sustain"]),
    ]
    return "\n\n".join(lines)


def sustained(result: Figures) -> str:
    """The constant arrival rate, and the highest one that was found to hold."""
    found = [("asked for", result)]
    if "highest" in result:
        found.append(("highest that holds", result["highest"]))
    rows = [
        [
            name,
            f"{row['rate']:.2f}",
            f"{row['seconds']:g}",
            f"{row['failures']} of {row['requests']}",
            *(f"{row[key]:.3f}" if key in row else "–" for key in ("p50_s", "p95_s", "p99_s")),
            f"{row['cores_needed']:.2f}",
            "yes" if row["held"] else "no",
        ]
        for name, row in found
        if "requests" in row
    ]
    header = ["rate", "requests/s", "for s", "failed", "p50 s", "p95 s", "p99 s", "cores needed"]
    return table([*header, "held"], rows)


def cold_start(result: Figures) -> str:
    """Seconds by phase."""
    rows = [
        [
            f"{row['variant']} {row['precision']}",
            row["cache"],
            f"{row['total_s']:.2f} ({row['total_spread']['min']:.2f}–{row['total_spread']['max']:.2f})",
            f"{row['ratio_to_funasr']:.2f}",
            ", ".join(f"{phase} {seconds:.2f}" for phase, seconds in row["phases"].items()),
        ]
        for row in result["rows"]
    ]
    header = ["who", "page cache", "s to the first transcript", "÷ funasr", "phases, s"]
    return f"## Cold start\n\n{table(header, rows)}"


def accuracy(result: Figures) -> str:
    """Scores of the embedded model, and numeric distance at full size."""
    rows = [
        [
            precision,
            _percent(row["scores"]["cer"], 2),
            f"{row['cer_points']:+.2f}",
            *(_percent(row["agreement"][tag]) for tag in ("language", "emotion", "event", "text")),
            f"{row['batch_mismatches']['mismatches']} of {row['batch_mismatches']['clips']}",
        ]
        for precision, row in result["embedded"].items()
    ]
    header = ["precision", "CER", "points", "language", "emotion", "event", "text"]
    trained = table([*header, "changed by neighbours"], rows)
    rows = [
        [
            precision,
            *(f"{row[key]:.2e}" for key in ("logit_max", "logit_rms")),
            _percent(row["frames"], 2),
            f"{row['batch_mismatches']['mismatches']} of {row['batch_mismatches']['clips']}",
        ]
        for precision, row in result["full_size"].items()
    ]
    header = ["precision", "logit error, max", "rms", "same best token", "changed by neighbours"]
    return (
        "## Accuracy\n\nEmbedded model on its evaluation set; tags and text are shares equal to "
        f"fp32's.\n\n{trained}\n\nFull size, random weights, against fp32.\n\n{table(header, rows)}"
    )


def summary(parts: Mapping[str, Figures]) -> str:
    """The whole document: a heading for each run, its machine and versions, and its parts."""
    runs: dict[tuple[str, str], dict[str, Figures]] = {}
    for part, result in parts.items():
        about = result["about"]
        runs.setdefault((about["command"], about["date"]), {})[part] = result
    sections = ["# Benchmarks"]
    for results in runs.values():
        sections.append(head(results))
        sections += [SECTIONS[part](result) for part, result in results.items()]
    return "\n\n".join(sections) + "\n"


def head(results: Mapping[str, Figures]) -> str:
    """Command, machine, versions and weights of one run."""
    about = next(iter(results.values()))["about"]
    machine = about["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    stolen = sum(result["about"]["stolen_s"] for result in results.values())
    took = sum(result["about"]["took_s"] for result in results.values())
    return (
        f"`{about['command']}`, {about['date']}, {took / 60:.1f} minutes.\n\n"
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{' '.join(machine['flags'])}; {machine['system']}, Python {machine['python']}; {versions}.\n\n"
        f"Weights: seeded random ones of full size; tokenizer of {about['like']}. Every process has its "
        "thread count fixed, and OpenMP's threads wait without spinning. Load when it began: "
        f"{machine['load_1min']:.1f}; {stolen:.0f} CPU seconds went to other guests of this host meanwhile."
    )


SECTIONS = {
    "engine": engine,
    "server": server,
    "cold_start": cold_start,
    "accuracy": accuracy,
}


def _name(row: Figures) -> tuple[str, str]:
    return row["variant"], row["precision"]


def _shape(shape: tuple[Any, ...]) -> str:
    return f"{shape[0]:g} s × {shape[1]}"


def _cpu(row: Figures) -> str:
    spread = row["cpu_spread"]
    return f"{spread['median']:.4f} ({spread['min']:.4f}–{spread['max']:.4f})"


def _threads(count: int) -> str:
    return f"{count} thread" + ("s" if count > 1 else "")


def _percent(share: float | None, digits: int = 1) -> str:
    return "" if share is None else f"{share:.{digits}%}"
