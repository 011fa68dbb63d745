"""``python -m pipelines.rollout.local DIRECTORY``: keep a service here that rollouts can change."""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from pipelines.rollout.local.daemon import keep


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise argparse.ArgumentTypeError(f"must be more than 0 seconds, not {text}")
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.rollout.local",
        description="Keep a service on this machine: one predictor process for each revision, and a "
        "proxy that shares the users' requests out among them. Rollouts change it.",
    )
    parser.add_argument(
        "directory", metavar="DIRECTORY", type=Path, help="holds all of the service"
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="for users; 0: any free one (default: %(default)s)"
    )
    parser.add_argument(
        "--model-name", default="sensevoice", help="the model's name in URLs (default: %(default)s)"
    )
    parser.add_argument(
        "--progress-deadline",
        type=_seconds,
        default=600,
        metavar="SECONDS",
        help="longest time for a predictor to become ready (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # It tells of every probe.
    keep(
        options.directory,
        port=options.port,
        model_name=options.model_name,
        progress_seconds=options.progress_deadline,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
