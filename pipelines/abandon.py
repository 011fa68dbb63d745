"""``python -m pipelines.abandon [--service kserve://NAMESPACE/NAME] [--tracking-uri URI]``: end what a
rollout left half done, by whichever run: all users back, or promoted where that was decided.

It talks to the cluster that the kubeconfig names. A rollout whose process lives is left alone.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from pipelines.pod import MLFLOW, SERVICE
from pipelines.rollout.drive import NotSettled
from pipelines.rollout.lease import ChangedElsewhere, Superseded
from pipelines.rollout.state import InvalidState
from pipelines.rollout.target import Refused, Unavailable
from pipelines.steps.rollout import InvalidService, abandon

ERRORS = (
    ChangedElsewhere,
    InvalidService,
    InvalidState,
    NotSettled,
    Refused,
    Superseded,
    Unavailable,
)


def main(words: Sequence[str] | None = None) -> int:
    """Print what was done; 1 where the rollout could not be ended."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.abandon",
        description="End a rollout that its process left half done.",
    )
    parser.add_argument("--service", default=SERVICE, help="default: %(default)s")
    parser.add_argument("--tracking-uri", default=MLFLOW, help="MLflow; default: %(default)s")
    options = parser.parse_args(words)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        outcome = abandon(
            None, options.service, prometheus="", plan={}, tracking_uri=options.tracking_uri
        )
    except ERRORS as error:
        said = [str(error), *getattr(error, "__notes__", [])]
        print("error: " + "\n".join(said), file=sys.stderr)  # noqa: T201
        return 1
    if outcome is None:
        print(f"{options.service}: no rollout was left half done")  # noqa: T201
    else:
        print(f"version {outcome.version} {outcome.outcome}: {outcome.reason}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
