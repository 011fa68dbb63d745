"""Decoding in processes that may die: what came of each file, what it cost, and what killed one.

A crash or a hang of a decoder ends a process of the test, not the test; the file is kept.
"""

import multiprocessing
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import av
import numpy as np

from predictor.engine import audio
from predictor.engine.errors import SpeechError
from predictor.engine.types import SAMPLE_RATE

STRESS = os.environ.get("STRESS") == "1"
"""For files that a process of its own makes, where no fixture is."""

MAX_SECONDS = 60.0
"""Longest audio that the processes take."""

MEMORY_BYTES = 256 << 20
"""What decoding may take in a process before allocations fail. A server gives its decoders less."""

TIME_LIMIT = "ran out of CPU time"

KEPT = Path(__file__).resolve().parents[3] / "build" / "stress"
"""Where a file is kept that broke a promise."""

Files = Callable[[int], tuple[str, bytes]]
"""An index → a file's name and its bytes. A function of a module: each process makes its own files."""


@dataclass(frozen=True)
class Trial:
    """What came of one file.

    Attributes:
        name: the file's.
        ended: "decoded", the name of the error's class ("MemoryError" where more was wanted than may be
            had), or what broke a promise.
        held: no promise was broken.
        seconds: CPU time.
        grown: bytes by which the process's memory grew at its highest.
    """

    name: str
    ended: str
    held: bool = True
    seconds: float = 0.0
    grown: int = 0


@dataclass
class Outcome:
    """What came of many files."""

    trials: list[Trial] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return Counter(each.ended if each.held else "broken" for each in self.trials)

    @property
    def broken(self) -> list[Trial]:
        return [each for each in self.trials if not each.held]

    @property
    def slowest(self) -> Trial:
        return max(self.trials, key=lambda each: each.seconds)

    @property
    def largest(self) -> Trial:
        return max(self.trials, key=lambda each: each.grown)


def verdict(data: bytes, max_seconds: float) -> str:
    """How decoding ends.

    Raises:
        AssertionError: what decoding gave is not for a network.
    """
    n_samples = 0
    try:
        for block in audio.decode(data, max_seconds):
            assert block.dtype == np.float32, f"samples are {block.dtype}"
            assert len(block) == 1, f"a block has the shape {block.shape}"
            assert np.isfinite(block).all(), "samples are not finite"
            assert np.abs(block).max() <= audio.MAX_PEAK, "samples are too large"
            n_samples += block.shape[1]
            assert n_samples <= max_seconds * SAMPLE_RATE, "more samples than the limit"
    except SpeechError as error:
        return type(error).__name__
    assert n_samples, "no samples and no error"
    return "decoded"


def _memory() -> dict[str, int]:
    """Bytes that this process has (VmRSS), had at most since the last reset (VmHWM), and may write to
    (VmDat)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {line[:5]: int(line.split()[1]) * 1024 for line in lines if line.startswith("Vm")}


def _try(name: str, data: bytes) -> Trial:
    # "5" resets the peak.
    Path("/proc/self/clear_refs").write_text("5")
    before, started = _memory()["VmRSS"], time.process_time()
    held = True
    try:
        ended = verdict(data, MAX_SECONDS)
    except MemoryError:
        ended = "MemoryError"
    except BaseException as error:
        held, ended = False, f"{type(error).__name__}: {error}"
    seconds = time.process_time() - started
    return Trial(name, ended, held, seconds, _memory()["VmHWM"] - before)


def _work(files: Files, indices: Iterable[int], cpu_seconds: int, result: Connection) -> None:
    av.logging.set_level(av.logging.PANIC)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for index in indices:
        # For making the file there is as much of everything as it takes.
        resource.setrlimit(resource.RLIMIT_DATA, (-1, -1))
        resource.setrlimit(resource.RLIMIT_CPU, (-1, -1))
        name, data = files(index)
        resource.setrlimit(resource.RLIMIT_DATA, (_memory()["VmDat"] + MEMORY_BYTES, -1))
        # The kernel ends a process that computes for longer, however deep in a decoder it is.
        resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + cpu_seconds, -1))
        result.send(_try(name, data))


def _decode(files: Files, indices: list[int], cpu_seconds: int) -> Iterator[Trial]:
    context = multiprocessing.get_context("spawn")
    while indices:
        answers, result = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(files, indices, cpu_seconds, result))
        process.start()
        result.close()
        trials = []
        while len(trials) < len(indices):
            try:
                trials.append(answers.recv())
            except EOFError:
                break
            yield trials[-1]
        process.join()
        indices = indices[len(trials) :]
        if indices:
            name, _ = files(indices[0])
            late = process.exitcode == -signal.SIGXCPU
            ended = TIME_LIMIT if late else f"ended its process with {process.exitcode}"
            yield Trial(name, ended, held=False)
            indices = indices[1:]


def decode_all(files: Files, indices: range, cpu_seconds: int, processes: int = 2) -> Outcome:
    """Decode every file of ``indices``. Files that break a promise are kept in ``KEPT``.

    Args:
        cpu_seconds: what one file may take; its process is killed a second after.
    """
    shares = [list(indices[first::processes]) for first in range(processes)]
    with ThreadPoolExecutor(processes) as threads:
        results = threads.map(lambda share: list(_decode(files, share, cpu_seconds)), shares)
    outcome = Outcome([trial for trials in results for trial in trials])
    names = {each.name for each in outcome.broken}
    for index in indices if names else ():
        name, data = files(index)
        if name in names:
            KEPT.mkdir(parents=True, exist_ok=True)
            (KEPT / f"{name.replace(' ', '-').replace('/', '-')}.bin").write_bytes(data)
    return outcome
