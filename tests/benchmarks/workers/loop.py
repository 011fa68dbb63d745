"""What every worker does: load, say so, then answer a line of JSON for each line it reads."""

import argparse
import json
import os
import re
import sys
import time
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

MEBIBYTE = 1 << 20


@dataclass(frozen=True)
class Job:
    """What a worker is to load.

    Attributes:
        model: directory of the recogniser's own files.
        precision: ``fp32``, ``bf16``, ``fp16`` or ``int8``.
        threads: CPU threads of one call.
    """

    model: Path
    precision: str
    threads: int


Recognize = Callable[[Sequence[Path]], list[str]]
"""Paths of WAV files → a text for each, computed in one batch."""


def read_wav(path: Path) -> np.ndarray:
    """Samples float32 [n_samples] in [-1, 1) of a 16-bit mono WAV file."""
    with wave.open(str(path)) as file:
        pcm = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    return pcm.astype(np.float32) / 32768


def cached(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
    """``read`` remembered by path, so that a timed call finds its samples in memory."""
    kept: dict[Path, Any] = {}

    def get(path: Path) -> Any:
        if path not in kept:
            kept[path] = read(path)
        return kept[path]

    return get


def peak_mb() -> float:
    """Largest resident memory since the last :func:`reset_peak`, in MiB."""
    return _status("VmHWM") * 1024 / MEBIBYTE


def resident_mb() -> float:
    """Resident memory now, in MiB."""
    return _status("VmRSS") * 1024 / MEBIBYTE


def reset_peak() -> None:
    """Start the peak again from what is resident now (``clear_refs`` in proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def measure(recognize: Recognize, paths: Sequence[Path]) -> dict[str, Any]:
    """CPU seconds of all threads, wall seconds and peak memory of one call."""
    reset_peak()
    cpu, wall = time.process_time(), time.perf_counter()
    texts = recognize(paths)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"cpu_s": cpu, "wall_s": wall, "rss_mb": peak_mb(), "texts": texts}


def main(load: Callable[[Job], Recognize], packages: Sequence[str]) -> None:
    """Load what the command line says and serve requests until the input ends.

    Args:
        load: makes the recogniser.
        packages: distributions whose versions are reported.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--threads", type=int, required=True)
    # Libraries print to standard output; answers go to a descriptor that they do not know.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    recognize = load(Job(**vars(parser.parse_args())))

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    versions = {package: version(package) for package in packages}
    say({"versions": versions, "load_peak_mb": peak_mb(), "resident_mb": resident_mb()})
    for line in sys.stdin:
        say(measure(recognize, [Path(path) for path in json.loads(line)]))
