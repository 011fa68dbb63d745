"""A process that recognises one clip and says, to the second, how it got there.

Times are CLOCK_MONOTONIC, which the parent that started the process shares.
"""

import time

BEGUN = time.monotonic()

import argparse  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from collections.abc import Callable  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

Mark = Callable[[str], None]
"""Call it at the end of a phase."""


def ours(arguments: argparse.Namespace, mark: Mark) -> str:
    """The engine in process, on the file's bytes."""
    wav = arguments.clip.read_bytes()
    from predictor.engine import checkpoint
    from predictor.engine.transcribe import Engine

    # The engine imports the library that computes when it knows which: here its turn is known.
    import_module(
        f"predictor.engine.{'int8' if arguments.precision == 'int8' else 'torch_network'}"
    )
    mark("import")
    verify = checkpoint.verify

    def verify_and_mark(*given: Any, **named: Any) -> None:
        mark("load")
        verify(*given, **named)
        mark("verify")

    checkpoint.verify = verify_and_mark
    engine = Engine(
        arguments.model, device="cpu", precision=arguments.precision, threads=arguments.threads
    )
    mark("load")
    text = engine.transcribe(wav).text
    mark("first answer")
    return text


def funasr(arguments: argparse.Namespace, mark: Mark) -> str:
    """FunASR's AutoModel."""
    from funasr import AutoModel

    mark("import")
    model = AutoModel(
        model=str(arguments.model),
        device="cpu",
        ncpu=arguments.threads,
        disable_update=True,
        disable_pbar=True,
        log_level="ERROR",
    )
    mark("load")
    text: str = model.generate(str(arguments.clip), language="auto", use_itn=True)[0]["text"]
    mark("first answer")
    return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("who", choices=("ours", "funasr"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--precision", required=True)
    parser.add_argument("--clip", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--started", type=float, required=True)
    arguments = parser.parse_args()
    phases = {"start": BEGUN - arguments.started}
    last = BEGUN

    def mark(phase: str) -> None:
        nonlocal last
        now = time.monotonic()
        phases[phase] = phases.get(phase, 0.0) + now - last
        last = now

    text = {"ours": ours, "funasr": funasr}[arguments.who](arguments, mark)
    answer = {
        "phases": phases,
        "total_s": last - arguments.started,
        "cpu_s": time.process_time(),
        "text": text,
    }
    sys.stdout.write("\n" + json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
