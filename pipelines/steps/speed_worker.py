"""A process that loads one model and times its clips: ``python -m pipelines.steps.speed_worker``.

It writes a JSON line when the first transcript is there, then one for each line that it reads (a list of
audio files): wall seconds and seconds of audio of each, null where one cannot be transcribed.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.evaluation.hypothesis import OPTIONS
from predictor.engine.errors import SpeechError
from predictor.engine.transcribe import Engine


def peak_memory_mb() -> float:
    """Largest resident memory of this process, in MiB (``VmHWM``, proc(5))."""
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("/proc/self/status: no VmHWM")
    return int(found[1]) / 1024


def timed(engine: Engine, audio: bytes) -> tuple[float, float] | None:
    """Wall seconds and seconds of audio; None where it cannot be transcribed."""
    started = time.perf_counter()
    try:
        transcript = engine.transcribe(audio, OPTIONS)
    except SpeechError:
        return None
    return time.perf_counter() - started, transcript.duration


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clip", type=Path, required=True, help="the first clip")
    parser.add_argument("--started", type=float, required=True, help="monotonic clock, seconds")
    arguments = parser.parse_args()
    # Libraries print to standard output; answers go to a descriptor that they do not know.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(answer: Mapping[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")

    engine = Engine(arguments.model, arguments.device, threads=arguments.threads)
    timed(engine, arguments.clip.read_bytes())
    say({"cold_start_s": time.monotonic() - arguments.started})
    for line in sys.stdin:
        clips = [Path(name).read_bytes() for name in json.loads(line)]
        times = [timed(engine, clip) for clip in clips]
        say({"times": times, "memory_mb": peak_memory_mb()})


if __name__ == "__main__":
    main()
