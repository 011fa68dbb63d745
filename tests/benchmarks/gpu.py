"""``python -m tests.benchmarks.gpu [--device cuda] [--tiny] [--out FILE] [network kernels engine ...]``.

Everything about a GPU in one run of at most ten minutes, without a network: ``build/bench/gpu.json``, and
``gpu.md`` beside it. A part that lacks something is skipped, and says what; what is done is written after
each part. ``--device cpu --tiny`` runs the same lines in seconds; its figures mean nothing.
"""

import argparse
import json
import logging
import os
import platform
import subprocess
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import gpu_kernels, gpu_network, gpu_report

REPOSITORY = Path(__file__).resolve().parents[2]
OUT = REPOSITORY / "build" / "bench" / "gpu.json"
LIMIT_S = 570.0
"""No part is begun after this; a lent machine may be taken back after ten minutes."""

PACKAGES = ("torch", "triton", "numpy", "funasr", "kserve")


@dataclass(frozen=True, slots=True)
class Run:
    """What all parts are given.

    Attributes:
        device: where it runs.
        plan: what is measured.
        tiny: on a tiny network.
        folder: for models, clips and logs.
        peak: operations per second of a large bf16 product on this device, in this run.
    """

    device: torch.device
    plan: gpu_network.Plan
    tiny: bool
    folder: Path
    peak: float


def network_part(run: Run) -> list[dict[str, Any]]:
    return list(gpu_network.throughput(run.plan, run.device, run.peak))


def latency_part(run: Run) -> list[dict[str, Any]]:
    return list(gpu_network.latency(run.plan, run.device))


def kernels_part(run: Run) -> list[dict[str, Any]]:
    shapes = [(2, 40)] if run.tiny else [(1, 192), (8, 512), (64, 504)]
    repeats = 2 if run.tiny else 10
    with torch.inference_mode():
        return list(gpu_kernels.measure(run.plan.config, shapes, run.device, repeats))


def engine_part(run: Run) -> list[dict[str, Any]]:
    from tests.benchmarks import gpu_rivals

    return list(gpu_rivals.engine(run.plan, run.device, run.folder, tiny=run.tiny))


def funasr_part(run: Run) -> list[dict[str, Any]]:
    from tests.benchmarks import gpu_rivals

    return list(gpu_rivals.funasr(run.plan, run.device, run.folder, tiny=run.tiny))


def server_part(run: Run) -> list[dict[str, Any]]:
    from tests.benchmarks import gpu_rivals

    return list(gpu_rivals.server(run.device, run.folder, tiny=run.tiny))


PARTS: dict[str, Callable[[Run], list[dict[str, Any]]]] = {
    "latency": latency_part,
    "network": network_part,
    "kernels": kernels_part,
    "engine": engine_part,
    "server": server_part,
    "funasr": funasr_part,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--tiny", action="store_true", help="a tiny network and few calls")
    parser.add_argument("--out", type=Path, default=OUT, help="the JSON file to write")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{' '.join(PARTS)}; default: all")
    given = parser.parse_args(arguments)
    if unknown := set(given.parts) - set(PARTS):
        parser.error(f"no such part: {' '.join(sorted(unknown))}")
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch finds no CUDA device; --device cpu --tiny covers the code path")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if given.tiny and device.type == "cpu":
        torch.set_num_threads(1)
    folder = given.out.parent / "work"
    folder.mkdir(parents=True, exist_ok=True)
    plan = gpu_network.QUICK if given.tiny else gpu_network.FULL
    began = time.perf_counter()
    peak = gpu_network.matmul_peak(device, plan.matrix)
    result: dict[str, Any] = {"about": about(device, tiny=given.tiny), "peak": peak}
    run = Run(device, plan, given.tiny, folder, peak["flop_per_s"])
    for part in given.parts or PARTS:
        logging.info("%s", part)
        result[part] = measured(part, run, began)
        result["about"]["took_s"] = time.perf_counter() - began
        text = json.dumps(result, indent=1, ensure_ascii=False)
        given.out.write_text(text + "\n", encoding="utf-8")
        given.out.with_suffix(".md").write_text(gpu_report.markdown(result), encoding="utf-8")
    logging.info("%s", given.out)


def measured(part: str, run: Run, began: float) -> dict[str, Any]:
    """Rows of a part, or why there are none: one that fails must not take the others' figures along."""
    started = time.perf_counter()
    if started - began > LIMIT_S:
        return {"skipped": "no time was left"}
    try:
        rows = PARTS[part](run)
    except ImportError as error:
        return {"skipped": f"not installed: {error}"}
    except Exception as error:
        logging.exception("%s", part)
        return {"skipped": f"failed: {error!r}", "traceback": traceback.format_exc()}
    return {"rows": rows, "took_s": time.perf_counter() - started}


def about(device: torch.device, *, tiny: bool) -> dict[str, Any]:
    """Device, driver and versions."""
    facts: dict[str, Any] = {
        "command": f"python -m tests.benchmarks.gpu --device {device}{' --tiny' if tiny else ''}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": "CPU: no CUDA graphs here, and no figure that means anything",
        "cores": len(os.sched_getaffinity(0)),
        "versions": {"python": platform.python_version()},
    }
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            facts["versions"][package] = version(package)
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        with suppress(OSError, subprocess.CalledProcessError):
            done = subprocess.run(driver, capture_output=True, text=True, check=True)
            facts["versions"]["driver"] = done.stdout.split("\n", 1)[0].strip()
        facts["device"] = properties.name
        facts["memory_gb"] = round(properties.total_memory / 2**30, 1)
        facts["versions"] |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    return facts


if __name__ == "__main__":
    main()
