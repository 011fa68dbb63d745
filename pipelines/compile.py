"""``python -m pipelines.compile [DIRECTORY]``: the pipelines as YAML that Kubeflow runs.

The files of ``pipelines/compiled`` name the image by the version alone; compile with
``SENSEVOICE_PIPELINES_IMAGE`` for a cluster's own.
"""

import argparse
from pathlib import Path

from kfp import compiler
from kfp.dsl.base_component import BaseComponent

from pipelines.evaluate import evaluate
from pipelines.release import release
from pipelines.rollback import rollback

COMPILED = Path(__file__).parent / "compiled"

PIPELINES: dict[str, BaseComponent] = {
    "release": release,
    "evaluate": evaluate,
    "rollback": rollback,
}


def compile_all(directory: Path) -> list[Path]:
    """Write ``<name>.yaml`` of every pipeline; the same sources give the same bytes."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, pipeline in PIPELINES.items():
        path = directory / f"{name}.yaml"
        compiler.Compiler().compile(pipeline, str(path))
        written.append(path)
    return written


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=COMPILED)
    for path in compile_all(parser.parse_args().directory):
        print(path)  # noqa: T201


if __name__ == "__main__":
    main()
