"""How fast is a model on this machine, and how fast beside the champion?

A shared machine's speed drifts from minute to minute, so that two models measured one after the other
differ by chance. Here they take turns: in every round each has a fresh process, both go over the same
clips, and what is compared is the ratio within a round.
"""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import IO, Any, cast

import numpy as np

from pipelines.data.manifest import read_audio, read_manifest, sample
from pipelines.evaluation.results import Speed, SpeedComparison
from predictor.engine.cpu import CPU_INFO, available_cpus

ANSWER_SECONDS = 900.0
"""A worker that has not answered by then hangs, and is killed."""

LOG_TAIL = 2000
"""Characters of a failed worker's log that its error shows."""

Times = list[tuple[float, float] | None]
"""For each clip wall seconds and seconds of audio; None where it could not be transcribed."""


class WorkerFailed(RuntimeError):
    """A model's process ended or hung; names the model and the end of its log."""


class Worker:
    """A process of :mod:`pipelines.steps.speed_worker`; ``with`` starts it, waits for its first transcript
    and ends it.

    Args:
        model: prepared model directory.
        device: torch's name of it, such as ``cpu`` or ``cuda``.
        threads: CPU threads of the network.
        clip: audio file of the first transcript.

    Attributes:
        cold_start_s: process start to first transcript, in seconds.
    """

    def __init__(self, model: Path, device: str, threads: int, clip: Path) -> None:
        self.cold_start_s = 0.0
        self._model = model
        self._command = [sys.executable, "-m", "pipelines.steps.speed_worker"]
        self._command += [f"--model={model}", f"--device={device}"]
        self._command += [f"--threads={threads}", f"--clip={clip}"]

    def __enter__(self) -> "Worker":
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(  # noqa: S603
            [*self._command, f"--started={time.monotonic()!r}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        try:
            self.cold_start_s = float(self._answer()["cold_start_s"])
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def run(self, clips: Sequence[Path]) -> tuple[Times, float]:
        """One clip after the other → their times, and the process's peak memory in MiB.

        Raises:
            WorkerFailed: see the class.
        """
        questions = cast(IO[str], self._process.stdin)
        # A process that is gone is told of below, with its log.
        with suppress(BrokenPipeError):
            questions.write(json.dumps([str(clip) for clip in clips]) + "\n")
            questions.flush()
        answer = self._answer()
        return [tuple(pair) if pair else None for pair in answer["times"]], answer["memory_mb"]

    def _answer(self) -> dict[str, Any]:
        watchdog = threading.Timer(ANSWER_SECONDS, self._process.kill)
        watchdog.start()
        try:
            line = cast(IO[str], self._process.stdout).readline()
        finally:
            watchdog.cancel()
        if not line:
            status = self._process.wait()
            self._log.seek(0)
            raise WorkerFailed(
                f"{self._model}: its process ended with status {status}, or was ended after "
                f"{ANSWER_SECONDS:.0f} s without an answer: {self._log.read()[-LOG_TAIL:].strip()}"
            )
        answer: dict[str, Any] = json.loads(line)
        return answer


def speed(
    candidate: Path,
    champion: Path | None,
    manifest: Path,
    clips: int = 20,
    rounds: int = 3,
    *,
    device: str = "cpu",
) -> SpeedComparison:
    """Time both models over clips spread over a data set. Figures are medians of the rounds, and ratios
    medians of the rounds' ratios.

    Args:
        candidate, champion: prepared model directories.
        manifest: of the data set.
        clips: how many; those that cannot be transcribed are left out.
        rounds: at least 1.
        device: what both run on: torch's name of it, such as ``cpu`` or ``cuda``.

    Raises:
        InvalidManifest: see :func:`~pipelines.data.manifest.read_manifest`.
        ValueError: no clips or rounds asked for, or no clip can be transcribed.
        WorkerFailed: a model does not load, or its process ended.
    """
    if rounds < 1 or clips < 1:
        raise ValueError(f"clips {clips} and rounds {rounds} must be at least 1")
    models = [candidate] if champion is None else [candidate, champion]
    with tempfile.TemporaryDirectory(prefix="speed-") as folder:
        files, audio_s = _usable(models, device, _fetch(manifest, clips, Path(folder)))
        measured = [_round(models, device, files, number) for number in range(rounds)]
    ours = [one[0] for one in measured]
    ratios = [_ratios(*one) for one in measured if champion is not None]
    return SpeedComparison(
        machine=_machine(),
        clips=len(files),
        audio_s=audio_s,
        candidate=_median(ours),
        champion=_median([one[1] for one in measured]) if champion is not None else None,
        ratios={name: median(one[name] for one in ratios) for name in Speed.model_fields if ratios},
    )


def _fetch(manifest: Path, clips: int, folder: Path) -> list[Path]:
    """Audio files on this disk, wherever the data set is; what cannot be read is left out."""
    files = []
    for number, utterance in enumerate(sample(read_manifest(manifest), clips)):
        file = folder / str(number)
        with suppress(OSError):
            file.write_bytes(read_audio(manifest, utterance))
            files.append(file)
    if not files:
        raise ValueError(f"{manifest}: no clip of {clips} can be read")
    return files


def _usable(models: Sequence[Path], device: str, files: Sequence[Path]) -> tuple[list[Path], float]:
    """The clips that every model transcribes, and their seconds of audio.

    These first starts also read programs and weights from the disk, so that no later one has to.
    """
    usable = dict.fromkeys(files, 0.0)
    for model in models:
        with Worker(model, device, available_cpus(), files[0]) as worker:
            times, _ = worker.run(list(usable))
        pairs = zip(list(usable), times, strict=True)
        usable = {file: pair[1] for file, pair in pairs if pair is not None}
        if not usable:
            raise ValueError(f"{model} can transcribe no clip of {len(files)}")
    return list(usable), sum(usable.values())


def _round(models: Sequence[Path], device: str, files: Sequence[Path], number: int) -> list[Speed]:
    """A fresh process for each model, over the same clips; who is first changes from round to round."""
    order = list(enumerate(models))[:: -1 if number % 2 else 1]
    found: dict[int, Speed] = {}
    with ExitStack() as stack:
        workers = {
            index: stack.enter_context(Worker(model, device, available_cpus(), files[0]))
            for index, model in order
        }
        for worker in workers.values():
            # The network prepares itself for every length that it has not met.
            worker.run(files)
        for index, worker in workers.items():
            found[index] = _speed(worker, *worker.run(files))
    return [found[index] for index in range(len(models))]


def _speed(worker: Worker, times: Times, memory_mb: float) -> Speed:
    seconds, audio = zip(*(pair for pair in times if pair is not None), strict=True)
    return Speed(
        real_time_factor=sum(seconds) / sum(audio),
        p50_s=float(np.percentile(seconds, 50)),
        p95_s=float(np.percentile(seconds, 95)),
        cold_start_s=worker.cold_start_s,
        memory_mb=memory_mb,
    )


def _ratios(candidate: Speed, champion: Speed) -> dict[str, float]:
    return {name: getattr(candidate, name) / getattr(champion, name) for name in Speed.model_fields}


def _median(speeds: Sequence[Speed]) -> Speed:
    return Speed(
        **{name: median(getattr(one, name) for one in speeds) for name in Speed.model_fields}
    )


def _machine() -> str:
    """Such as ``Intel(R) Xeon(R) Processor, 2 CPUs, 7.6 GiB``."""
    try:
        found = re.search(r"^model name\s*: (.+)$", CPU_INFO.read_text(), re.MULTILINE)
    except OSError:
        found = None
    name = found[1] if found else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {available_cpus()} CPUs, {memory:.1f} GiB"
