"""From starting a process to its first transcript, with files in the page cache and without."""

import json
import logging
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.benchmarks import page_cache, servers
from tests.benchmarks.clips import write_clips
from tests.benchmarks.models import REPOSITORY, Models
from tests.benchmarks.spread import spread
from tests.benchmarks.variants import FUNASR, OUR_PRECISIONS, OURS
from tests.benchmarks.worker import environment

CLIP_S = 5.0
HEADLINE = (f"{OURS} engine", "int8")
"""Whose ratio to FunASR stands at the top of ``cold_start.json``."""


@dataclass(frozen=True, slots=True)
class Starter:
    """Something that can be started.

    Attributes:
        name: ``ours engine``, ``ours server`` or ``funasr``.
        precision: of its weights.
        model: the directory it loads.
        start: starts it, waits for the first transcript, stops it, and tells the phases.
    """

    name: str
    precision: str
    model: Path
    start: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How often each is started, with a warm and with a cold page cache."""

    warm_runs: int
    cold_runs: int
    precisions: Sequence[str]


FULL = Plan(3, 2, OUR_PRECISIONS)
QUICK = Plan(1, 0, ("int8",))


def starters(models: Models, plan: Plan, threads: int, folder: Path) -> list[Starter]:
    """The engine at each precision, the server at its own, and FunASR."""
    clip = write_clips(folder / "clips", CLIP_S, 1)[0]
    found = []
    for precision in plan.precisions:
        start = partial(start_process, "ours", models.prepared, precision, clip, threads)
        found.append(Starter(f"{OURS} engine", precision, models.prepared, start))
    precision = HEADLINE[1]
    log = folder / "cold-server.log"
    server = partial(start_server, models.prepared, precision, clip, threads, log)
    found.append(Starter(f"{OURS} server", precision, models.prepared, server))
    rival = partial(start_process, "funasr", models.hub, "fp32", clip, threads)
    found.append(Starter(FUNASR, "fp32", models.hub, rival))
    return found


def measure(found: Sequence[Starter], plan: Plan, threads: int) -> dict[str, Any]:
    """Rows of seconds by phase, and ratios to FunASR's start with the same page cache."""
    rows: list[dict[str, Any]] = []
    evicted: dict[str, float] = {}
    if plan.warm_runs:
        for starter in found:
            page_cache.read_in(page_cache.files_below([starter.model]))
            if plan.warm_runs > 1:
                starter.start()
        runs = rounds(found, plan.warm_runs, lambda starter: None)
        rows += [row(starter, "warm", runs[starter]) for starter in found]
    if plan.cold_runs:
        programs = page_cache.files_below([Path(sysconfig.get_path("purelib"))])

        def forget(starter: Starter) -> None:
            files = [*programs, *page_cache.files_below([starter.model])]
            page_cache.evict(files)
            evicted[starter.name] = page_cache.cached_share(files)

        runs = rounds(found, plan.cold_runs, forget)
        rows += [row(starter, "cold", runs[starter]) for starter in found]
    rows = with_ratios(rows)
    headline = {
        row["cache"]: row["ratio_to_funasr"]
        for row in rows
        if (row["variant"], row["precision"]) == HEADLINE
    }
    return {
        "clip_s": CLIP_S,
        "threads": threads,
        "ratio_to_funasr": headline.get("warm"),
        "ratio_to_funasr_cold": headline.get("cold"),
        "cold_means": "model files and site-packages evicted with posix_fadvise(DONTNEED)",
        "cached_after_eviction": evicted,
        "rows": rows,
    }


def rounds(
    found: Sequence[Starter], count: int, before: Callable[[Starter], None]
) -> dict[Starter, list[Mapping[str, Any]]]:
    """Start each in turn, ``count`` times."""
    runs: dict[Starter, list[Mapping[str, Any]]] = {starter: [] for starter in found}
    for _ in range(count):
        for starter in found:
            before(starter)
            logging.info("cold start: %s %s", starter.name, starter.precision)
            runs[starter].append(starter.start())
    return runs


def row(starter: Starter, cache: str, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of ``cold_start.json``: medians, in seconds."""
    total = spread([run["total_s"] for run in runs])
    return {
        "variant": starter.name,
        "precision": starter.precision,
        "cache": cache,
        "total_s": total["median"],
        "total_spread": total,
        "cpu_s": spread([run["cpu_s"] for run in runs])["median"],
        "phases": {
            phase: spread([run["phases"][phase] for run in runs])["median"]
            for phase in runs[0]["phases"]
        },
    }


def with_ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with ``ratio_to_funasr``: seconds over FunASR's with the same page cache."""
    theirs = {row["cache"]: row["total_s"] for row in rows if row["variant"] == FUNASR}
    return [{**row, "ratio_to_funasr": row["total_s"] / theirs[row["cache"]]} for row in rows]


def start_process(
    who: str, model: Path, precision: str, clip: Path, threads: int
) -> dict[str, Any]:
    """A fresh interpreter, to its first transcript."""
    started = time.monotonic()
    command = [sys.executable, "-m", "tests.benchmarks.workers.cold_start", who]
    command += ["--model", model, "--precision", precision, "--clip", clip]
    command += ["--threads", str(threads), "--started", repr(started)]
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=environment(threads),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{who} did not start:\n{done.stderr[-4000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def start_server(
    model: Path, precision: str, clip: Path, threads: int, log: Path
) -> dict[str, Any]:
    """The whole predictor: to ``ready``, then to the first transcript over HTTP."""
    wav = clip.read_bytes()
    with servers.ours(model, precision, threads, log) as server:
        server.wait()
        ready = time.perf_counter()
        server.post(wav)
        answered = time.perf_counter()
        return {
            "phases": {"ready": ready - server.started, "first answer": answered - ready},
            "total_s": answered - server.started,
            "cpu_s": server.cpu_seconds(),
        }
