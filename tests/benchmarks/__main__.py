"""``python -m tests.benchmarks [--quick] [engine server cold_start accuracy]``.

Writes one JSON file a part and ``summary.md`` to ``build/bench``. A part that is not asked for keeps its
file of an earlier run.
"""

import argparse
import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import accuracy, cold_start, engine, report, server
from tests.benchmarks.clips import write_clips
from tests.benchmarks.machine import machine, stolen_seconds, versions
from tests.benchmarks.models import DEMO_MODEL, REPOSITORY, Models, make_models
from tests.benchmarks.variants import OUR_PRECISIONS, fastest, variants

BUILD = REPOSITORY / "build" / "bench"
RIVALS_PYTHON = BUILD / "env" / "bin" / "python"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer shapes, rounds and runs")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{' '.join(PARTS)}; default: all")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    folder = BUILD / "work"
    folder.mkdir(parents=True, exist_ok=True)
    models = make_models(BUILD / "cache", RIVALS_PYTHON)
    about = {
        "command": "make bench-quick" if arguments.quick else "make bench",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "like": models.like,
        "machine": machine(),
        "versions": versions(RIVALS_PYTHON),
    }
    for part in arguments.parts or PARTS:
        started, stolen = time.perf_counter(), stolen_seconds()
        result = PARTS[part](models, arguments.quick, folder)
        took = {
            "took_s": time.perf_counter() - started,
            "stolen_s": stolen_seconds() - stolen,
        }
        logging.info("%s took %.0f s", part, took["took_s"])
        text = json.dumps({"about": about | took, **result}, indent=1, ensure_ascii=False)
        (BUILD / f"{part}.json").write_text(text + "\n", encoding="utf-8")
    (BUILD / "summary.md").write_text(summary(BUILD), encoding="utf-8")
    logging.info("%s", BUILD / "summary.md")


def engine_part(models: Models, quick: bool, folder: Path) -> dict[str, Any]:
    everyone = variants(models, RIVALS_PYTHON)
    if quick:
        return engine.measure(fastest(everyone), engine.QUICK, (1,), folder)
    return engine.measure(everyone, engine.FULL, (1, 2), folder)


def server_part(models: Models, quick: bool, folder: Path) -> dict[str, Any]:
    plan = server.QUICK if quick else server.FULL
    bench = server.make_bench(folder, RIVALS_PYTHON)
    return server.measure(models, variants(models, RIVALS_PYTHON), plan, cores(), bench)


def cold_start_part(models: Models, quick: bool, folder: Path) -> dict[str, Any]:
    plan = cold_start.QUICK if quick else cold_start.FULL
    return cold_start.measure(cold_start.starters(models, plan, cores(), folder), plan, cores())


def accuracy_part(models: Models, quick: bool, folder: Path) -> dict[str, Any]:
    precisions = ("fp32", "int8") if quick else OUR_PRECISIONS
    lengths = (2, 5) if quick else (2, 5, 10, 30)
    clips = [
        path
        for seconds in lengths
        for path in write_clips(folder / "clips", seconds, 2 if quick else 4)
    ]
    return {
        "embedded": accuracy.embedded(DEMO_MODEL, precisions, 30 if quick else None),
        "full_size": accuracy.full_size(models.prepared, precisions, clips),
    }


PARTS = {
    "engine": engine_part,
    "server": server_part,
    "cold_start": cold_start_part,
    "accuracy": accuracy_part,
}


def cores() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def summary(folder: Path) -> str:
    """Markdown of every part that has been measured; each names its own run where they differ."""
    parts = {
        part: json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
        for part in PARTS
        if (folder / f"{part}.json").is_file()
    }
    return report.summary(parts)


if __name__ == "__main__":
    main()
