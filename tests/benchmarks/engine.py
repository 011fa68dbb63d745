"""CPU time, wall time and memory of each recogniser in process, in interleaved rounds.

All recognisers of one thread count are loaded at once, and each round asks every one of them for the
same clips, starting with another one each time: drift of a shared machine hits all alike.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.clips import write_clips
from tests.benchmarks.spread import paired_ratio, spread
from tests.benchmarks.variants import OURS, Variant
from tests.benchmarks.worker import Worker

Calls = Mapping[Variant, Sequence[Mapping[str, Any]]]
"""The timed answers of each variant's worker, round by round."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One batch: ``batch`` different clips of ``clip_s`` seconds, asked for in ``rounds`` rounds."""

    clip_s: float
    batch: int
    rounds: int

    @property
    def audio_s(self) -> float:
        return self.clip_s * self.batch


FULL = [
    *(Shape(clip_s, 1, 4) for clip_s in (2, 5, 10, 30)),
    *(Shape(clip_s, 8, 3) for clip_s in (2, 5, 10)),
    Shape(30, 8, 1),
]
QUICK = [Shape(5, 1, 2), Shape(10, 1, 1), Shape(2, 8, 1)]


def measure(
    variants: Sequence[Variant], shapes: Sequence[Shape], threads: Sequence[int], folder: Path
) -> dict[str, Any]:
    """Rows, ratios of ours to each rival, versions, and memory after loading.

    Args:
        variants: who is measured.
        shapes: what is asked for.
        threads: thread counts, one after the other.
        folder: for clips and the workers' logs.
    """
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    loaded: list[dict[str, Any]] = []
    for count in threads:
        with ExitStack() as stack:
            workers = [
                stack.enter_context(
                    Worker(each, count, folder / f"{each.name}-{each.precision}-{count}.log")
                )
                for each in variants
            ]
            for worker in workers:
                worker.wait()
                loaded.append(_about(worker.variant) | {"threads": count} | worker.hello)
            for shape in shapes:
                logging.info("engine: %g s x %d, threads %d", shape.clip_s, shape.batch, count)
                clips = write_clips(folder / "clips", shape.clip_s, shape.batch)
                calls = run_rounds(workers, clips, shape.rounds)
                rows += [row(variant, shape, count, calls[variant]) for variant in calls]
                ratios += shape_ratios(calls, shape, count)
    return {"rows": rows, "ratios": ratios, "loaded": loaded}


def run_rounds(workers: Sequence[Worker], clips: Sequence[Path], rounds: int) -> Calls:
    """Ask every worker in turn, ``rounds`` times after one warm call each."""
    calls: dict[Variant, list[Mapping[str, Any]]] = {worker.variant: [] for worker in workers}
    for worker in workers:
        worker.ask(clips)
    for index in range(rounds):
        first = index % len(workers)
        for worker in (*workers[first:], *workers[:first]):
            calls[worker.variant].append(worker.ask(clips))
    return calls


def row(
    variant: Variant, shape: Shape, threads: int, calls: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A row of ``engine.json``: medians, with the spread over rounds beside them."""
    cpu = spread([call["cpu_s"] / shape.audio_s for call in calls])
    wall = spread([call["wall_s"] / shape.audio_s for call in calls])
    return {
        **_about(variant),
        "clip_s": shape.clip_s,
        "batch": shape.batch,
        "threads": threads,
        "cpu_s_per_audio_s": cpu["median"],
        "wall_s_per_audio_s": wall["median"],
        "rss_mb": max(call["rss_mb"] for call in calls),
        "cpu_spread": cpu,
        "wall_spread": wall,
    }


def shape_ratios(calls: Calls, shape: Shape, threads: int) -> list[dict[str, Any]]:
    """Each of ours against each rival: medians over rounds of the ratio within a round."""
    return [
        {
            "ours": ours.precision,
            "rival": rival.name,
            "rival_precision": rival.precision,
            "clip_s": shape.clip_s,
            "batch": shape.batch,
            "threads": threads,
            "cpu": _ratio(calls[ours], calls[rival], "cpu_s"),
            "wall": _ratio(calls[ours], calls[rival], "wall_s"),
            "rss": max(call["rss_mb"] for call in calls[ours])
            / max(call["rss_mb"] for call in calls[rival]),
        }
        for ours in calls
        if ours.name == OURS
        for rival in calls
        if rival.name != OURS
    ]


def _ratio(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], field: str
) -> dict[str, Any]:
    return dict(paired_ratio([call[field] for call in ours], [call[field] for call in theirs]))


def _about(variant: Variant) -> dict[str, Any]:
    return {"variant": variant.name, "precision": variant.precision}
