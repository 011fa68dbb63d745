"""``python -m pipelines.data NAME ROOT OUT.jsonl``: a public data set's own layout → a manifest."""

import argparse
import sys
from pathlib import Path

from pipelines.data.adapter import InvalidDataset
from pipelines.data.convert import convert
from pipelines.data.registry import ADAPTERS, find


def _parser() -> argparse.ArgumentParser:
    sets = "\n".join(
        f"  {one.name:13} {', '.join(one.languages)}: {', '.join(one.labels)}\n"
        f"{'':16}{one.source}\n{'':16}{one.terms}"
        for one in ADAPTERS.values()
    )
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.data",
        description="Turn a public data set, as its archive unpacks, into a manifest for evaluation.",
        epilog=f"data sets, where to get them, and their terms:\n{sets}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="one of the sets below")
    parser.add_argument("root", metavar="ROOT", type=Path, help="the folder it unpacked to")
    parser.add_argument("manifest", metavar="OUT.jsonl", type=Path, help="the manifest to write")
    parser.add_argument(
        "--limit",
        metavar="N",
        type=int,
        default=0,
        help="utterances, evenly spread over the set; default: all",
    )
    return parser


def main() -> None:
    parser = _parser()
    if len(sys.argv) == 1:
        parser.print_help()
        return
    arguments = parser.parse_args()
    try:
        adapter = find(arguments.name)
        written = convert(adapter, arguments.root, arguments.manifest, arguments.limit)
    except (InvalidDataset, OSError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{len(written)} utterances of {adapter.title} in {arguments.manifest}")  # noqa: T201


if __name__ == "__main__":
    main()
