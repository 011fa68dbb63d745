"""Servers over loopback: throughput, latency and CPU time, beside the engine alone in the same run.

The load generator shares the machine's cores with the server, so throughput over loopback understates
both servers; the servers' own CPU time does not.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks import servers
from tests.benchmarks.clips import write_clips
from tests.benchmarks.load import Load, make_load, summary
from tests.benchmarks.models import Models, funasr_home
from tests.benchmarks.servers import Server
from tests.benchmarks.variants import FUNASR, OURS, Variant
from tests.benchmarks.worker import Worker

CLIP_S = 5.0
CLIPS = 8

RATE = 11.6
"""Requests per second of a million a day."""

P99_LIMIT_S = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long is measured.

    Attributes:
        precisions: of our server.
        concurrencies: requests at a time.
        load_s: length of each load, in seconds.
        rounds: how often each load is made, all servers in turn.
        sustain_s: length of the constant arrival rate, in seconds.
        search_s: length of each step of the search for the highest rate; None: no search.
    """

    precisions: Sequence[str]
    concurrencies: Sequence[int]
    load_s: float
    rounds: int
    sustain_s: float
    search_s: float | None


FULL = Plan(("int8", "fp32"), (1, 8, 32), 20.0, 2, 600.0, 30.0)
QUICK = Plan(("int8",), (1, 8), 4.0, 1, 20.0, None)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where and with what everything of this part runs."""

    folder: Path
    clips: Sequence[Path]
    locust_python: Path

    def load(self, server: Server, seconds: float, **arrivals: Any) -> Load:
        return make_load(server, self.clips, seconds, self.folder, self.locust_python, **arrivals)


@dataclass(frozen=True, slots=True)
class Alone:
    """The engine without a server.

    Attributes:
        batch: has all the server's threads.
        single: has as many as the server gives one clip.
        calls: what they answered, round by round.
    """

    batch: Worker
    single: Worker
    calls: list[dict[str, Any]]


def measure(
    models: Models, variants: Sequence[Variant], plan: Plan, threads: int, bench: Bench
) -> dict[str, Any]:
    """Rows by server and concurrency, the engine alone, and the constant arrival rate.

    Args:
        models: one set of weights for both servers.
        variants: among them ours, for the engine alone.
        plan: how long.
        threads: CPU threads of each server and of the engine.
        bench: where.
    """
    engines = [v for v in variants if v.name == OURS and v.precision in plan.precisions]
    with ExitStack() as stack:
        contenders: dict[tuple[str, str], Server] = {}
        for precision in plan.precisions:
            log = bench.folder / f"server-{precision}.log"
            server = servers.ours(models.prepared, precision, threads, log)
            contenders[OURS, precision] = stack.enter_context(server)
        home = funasr_home(models, bench.folder / "funasr", threads)
        rival = servers.funasr(home, threads, bench.folder / "server-funasr.log")
        contenders[FUNASR, "fp32"] = stack.enter_context(rival)
        workers = {
            each.precision: {
                count: stack.enter_context(
                    Worker(each, count, bench.folder / f"engine-{each.precision}-{count}.log")
                )
                for count in sorted({threads, servers.CLIP_THREADS})
            }
            for each in engines
        }
        for ready in contenders.values():
            ready.wait()
        for each in workers.values():
            for worker in each.values():
                worker.wait()
        alone = {
            precision: Alone(each[threads], each[servers.CLIP_THREADS], [])
            for precision, each in workers.items()
        }
        loads = _rounds(contenders, alone, plan, bench)
        engine = {precision: engine_alone(each.calls) for precision, each in alone.items()}
        rows = [
            row(name, precision, concurrency, threads, done, engine.get(precision))
            for (name, precision, concurrency), done in loads.items()
        ]
        first = plan.precisions[0]
        server = contenders[OURS, first]
        sustained = sustain(server, plan.sustain_s, bench) | {"precision": first}
        if plan.search_s:
            fastest = max(
                row["requests_per_s"]
                for row in rows
                if (row["variant"], row["precision"]) == (OURS, first)
            )
            sustained["highest"] = highest_rate(server, fastest, plan.search_s, bench)
    return {
        "clip_s": CLIP_S,
        "threads": threads,
        "rows": rows,
        "engine": engine,
        "sustain": sustained,
        "ratios": server_ratios(rows),
    }


def _rounds(
    contenders: Mapping[tuple[str, str], Server],
    alone: Mapping[str, Alone],
    plan: Plan,
    bench: Bench,
) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """All loads, server after server, and the engine alone before and after each round."""
    loads: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for server in contenders.values():
        for clip in bench.clips:
            server.post(clip.read_bytes())
    for engine in alone.values():
        engine.batch.ask(bench.clips)
        engine.single.ask(bench.clips)
    for _ in range(plan.rounds):
        _ask_engines(alone, bench)
        for concurrency in plan.concurrencies:
            for (name, precision), server in contenders.items():
                logging.info("server: %s %s, %d at a time", name, precision, concurrency)
                done = summary(bench.load(server, plan.load_s, users=concurrency), CLIP_S)
                loads.setdefault((name, precision, concurrency), []).append(done)
        _ask_engines(alone, bench)
    return loads


def _ask_engines(alone: Mapping[str, Alone], bench: Bench) -> None:
    for engine in alone.values():
        batch = engine.batch.ask(bench.clips)
        singles = [engine.single.ask([clip]) for clip in bench.clips]
        engine.calls.append({"batch": batch, "single_s": [one["wall_s"] for one in singles]})


def engine_alone(calls: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The engine without a server: its rate in batches, CPU time, and time of one clip by itself."""
    audio_s = CLIPS * CLIP_S
    return {
        "batch": CLIPS,
        "audio_s_per_s": audio_s / median(call["batch"]["wall_s"] for call in calls),
        "cpu_s_per_audio_s": median(call["batch"]["cpu_s"] for call in calls) / audio_s,
        "single_s": median(wall for call in calls for wall in call["single_s"]),
    }


def row(
    name: str,
    precision: str,
    concurrency: int,
    threads: int,
    rounds: Sequence[Mapping[str, Any]],
    engine: Mapping[str, float] | None,
) -> dict[str, Any]:
    """A row of ``server.json``: medians over rounds, failures in all, and what the engine does alone."""
    figures: dict[str, Any] = {
        key: median(done[key] for done in rounds)
        for key, value in rounds[0].items()
        if isinstance(value, float)
    }
    figures["requests"] = sum(done["requests"] for done in rounds)
    figures["failures"] = sum(done["failures"] for done in rounds)
    figures["first_failures"] = [text for done in rounds for text in done["first_failures"]]
    rates = [done["requests_per_s"] for done in rounds]
    figures["requests_per_s_min_max"] = [min(rates), max(rates)]
    if engine and name == OURS:
        figures["share_of_engine"] = figures["audio_s_per_s"] / engine["audio_s_per_s"]
        figures["engine_cpu_share"] = engine["cpu_s_per_audio_s"] / figures["cpu_s_per_audio_s"]
        if concurrency == 1:
            figures["over_engine_ms"] = 1000 * (figures["p50_s"] - engine["single_s"])
    return {
        "variant": name,
        "precision": precision,
        "concurrency": concurrency,
        "threads": threads,
        **figures,
    }


def server_ratios(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Ours against FunASR's server at each concurrency."""
    theirs = {row["concurrency"]: row for row in rows if row["variant"] == FUNASR}
    return [
        {
            "ours": row["precision"],
            "concurrency": row["concurrency"],
            **{
                key: row[key] / theirs[row["concurrency"]][key]
                for key in ("requests_per_s", "p50_s", "p99_s", "cpu_s_per_request", "rss_mb")
            },
        }
        for row in rows
        if row["variant"] == OURS
    ]


def sustain(server: Server, seconds: float, bench: Bench, rate: float = RATE) -> dict[str, Any]:
    """A constant arrival rate, whether answers come or not."""
    logging.info("server: %.1f requests a second for %g s", rate, seconds)
    figures = summary(bench.load(server, seconds, rate=rate), CLIP_S)
    held = not figures["failures"] and figures.get("p99_s", float("inf")) <= P99_LIMIT_S
    return {
        "rate": rate,
        "seconds": seconds,
        "held": held,
        "cores_needed": rate * figures["cpu_s_per_request"],
        **figures,
    }


def highest_rate(server: Server, fastest: float, seconds: float, bench: Bench) -> dict[str, Any]:
    """The highest rate that holds the latency limit without a failure, within a sixteenth of the fastest
    rate that was reached by asking again at once."""
    low, high = 0.0, 1.0
    best: dict[str, Any] = {"rate": 0.0, "held": False}
    for _ in range(4):
        middle = (low + high) / 2
        tried = sustain(server, seconds, bench, rate=middle * fastest)
        if tried["held"]:
            low, best = middle, tried
        else:
            high = middle
    return best


def make_bench(folder: Path, locust_python: Path) -> Bench:
    """The clips and a folder for what the loads leave behind."""
    return Bench(folder, write_clips(folder / "clips", CLIP_S, CLIPS), locust_python)
