"""``python -m pipelines.fetching SOURCE --cache DIR``: fill the cache, as a preload job does."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from pipelines.fetching.errors import FetchFailed
from pipelines.fetching.source import FORMS, SENSEVOICE_SMALL
from pipelines.steps.fetch import MOUNT_ROOT, fetch
from pipelines.steps.prepare import prepare


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the prepared model as a line of JSON; 1 if it cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.fetching",
        description="Fetch a model and prepare it for serving, unless the cache has it.",
        epilog=f"The published model is {SENSEVOICE_SMALL}.",
    )
    parser.add_argument("source", metavar="SOURCE", help=FORMS)
    parser.add_argument("--cache", type=Path, required=True, help="folder that runs share")
    parser.add_argument(
        "--mount-root",
        type=Path,
        default=MOUNT_ROOT,
        help="claims of pvc:// sources are mounted here, each under its name (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        fetched = fetch(options.source, options.cache, mount_root=options.mount_root)
        prepared = prepare(fetched, options.cache)
    except (FetchFailed, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    line = {"source": fetched.source, **prepared.model_dump(mode="json")}
    print(json.dumps(line))  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
