"""The parent's end of a worker process."""

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.benchmarks.models import REPOSITORY
from tests.benchmarks.variants import Variant

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def environment(threads: int) -> dict[str, str]:
    """Of a process whose numeric libraries may use ``threads`` threads, and that looks nothing up."""
    fixed = {"HF_HUB_OFFLINE": "1", "MODELSCOPE_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)}
    # OpenMP's threads spin while they wait for each other. Where a core is shared that multiplies
    # torch's CPU time, FunASR's most of all, and says nothing of the work done.
    fixed["OMP_WAIT_POLICY"] = "PASSIVE"
    return {**os.environ, **fixed, **dict.fromkeys(THREAD_VARIABLES, str(threads))}


def cores(threads: int) -> set[int]:
    """The CPUs a process of ``threads`` threads is pinned to: the last ones it may use."""
    return set(sorted(os.sched_getaffinity(0))[-threads:])


class Worker:
    """A recogniser in a process of its own, loading from the start; leave the context to end it.

    Attributes:
        hello: its versions and memory, once :meth:`wait` has returned.
    """

    def __init__(self, variant: Variant, threads: int, log: Path) -> None:
        self.variant = variant
        self.hello: dict[str, Any] = {}
        self._log = log
        self._stack = ExitStack()
        command = [variant.python, "-m", f"tests.benchmarks.workers.{variant.module}"]
        command += ["--model", variant.model, "--precision", variant.precision]
        self._process = self._stack.enter_context(
            subprocess.Popen(
                [*command, "--threads", str(threads)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stack.enter_context(log.open("w")),
                text=True,
                cwd=REPOSITORY,
                env=environment(threads),
                preexec_fn=lambda: os.sched_setaffinity(0, cores(threads)),
            )
        )

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._stack.close()

    def wait(self) -> None:
        """Until the model is loaded."""
        self.hello = self._read()

    def ask(self, paths: Sequence[Path]) -> dict[str, Any]:
        """Recognise WAV files in one batch → ``cpu_s``, ``wall_s``, ``rss_mb`` and ``texts``."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.variant.label} ended:\n{self._log.read_text()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer
