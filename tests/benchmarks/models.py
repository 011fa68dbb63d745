"""Full-size models with seeded random weights for every recogniser, made once and cached.

A cached directory's name holds a digest of all it is made from, so a stale one is made again, and its
predecessor removed.
"""

import hashlib
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import yaml

from pipelines.random_model import write_random_model
from predictor.engine.checkpoint import CONFIG
from predictor.engine.int8 import target
from predictor.engine.prepare import prepare

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_MODEL = REPOSITORY / "predictor" / "demo_model"
REFERENCE_FILES = "SENSEVOICE_REFERENCE_FILES"

FULL_SIZE = {
    "output_size": 512,
    "attention_heads": 4,
    "linear_units": 2048,
    "num_blocks": 50,
    "tp_blocks": 20,
    "kernel_size": 11,
}
"""``encoder_conf`` of SenseVoiceSmall."""

CONFIGURATION = "configuration.json"


@dataclass(frozen=True, slots=True)
class Models:
    """Directories with one set of weights.

    Attributes:
        like: whose tokenizer they have, in words.
        hub: as a model hub gives it, for FunASR.
        prepared: for the predictor.
        funasr_onnx: for funasr-onnx.
        sherpa_onnx: for sherpa-onnx.
    """

    like: str
    hub: Path
    prepared: Path
    funasr_onnx: Path
    sherpa_onnx: Path


def make_models(cache: Path, rivals_python: Path) -> Models:
    """All models, from the cache where they are there.

    Args:
        cache: folder to keep them in, about 6 GB.
        rivals_python: interpreter of the rivals' environment.
    """
    reference = os.environ.get(REFERENCE_FILES)
    like = Path(reference) if reference else DEMO_MODEL
    kind = "SenseVoiceSmall" if reference else "embedded"
    ours = [
        REPOSITORY / "pipelines" / "random_model.py",
        *sorted((REPOSITORY / "predictor" / "engine").glob("*.py")),
    ]
    exporters = sorted((REPOSITORY / "tests" / "benchmarks" / "exporters").glob("*.py"))
    tokenizer = next(like.glob("*.bpe.model"))
    hub_key = digest([like / CONFIG, like / "am.mvn", tokenizer, ours[0], Path(__file__)])
    hub = cached(cache, f"{kind}-hub", hub_key, lambda folder: _make_hub(like, folder))
    prepared = cached(
        cache,
        f"{kind}-prepared",
        digest(ours, [hub_key, target()]),
        lambda folder: _prepare(hub, folder),
    )
    requirements = REPOSITORY / "tests" / "benchmarks" / "requirements.txt"
    versions = [version("funasr"), version("torch"), hub_key]
    onnx = cached(
        cache,
        f"{kind}-onnx",
        digest([*exporters, requirements], versions),
        lambda folder: _export(hub, folder, rivals_python),
    )
    return Models(
        "SenseVoiceSmall" if reference else "the embedded model, whose vocabulary is smaller",
        hub,
        prepared,
        onnx / "funasr-onnx",
        onnx / "sherpa-onnx",
    )


def digest(files: Iterable[Path], words: Iterable[str] = ()) -> str:
    """Twelve hexadecimal digits over the names and content of files, and further words."""
    total = hashlib.sha256("\n".join(words).encode())
    for file in files:
        total.update(f"\n{file.name}\n".encode() + file.read_bytes())
    return total.hexdigest()[:12]


def cached(cache: Path, name: str, key: str, make: Callable[[Path], None]) -> Path:
    """``cache/name-key``, filled by ``make`` unless it is there; whole or not at all."""
    folder = cache / f"{name}-{key}"
    if folder.is_dir():
        return folder
    logging.info("making %s, once", folder.name)
    for stale in cache.glob(f"{name}-*"):
        shutil.rmtree(stale)
    partial = cache / f"partial-{name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    make(partial)
    return partial.rename(folder)


def _make_hub(like: Path, folder: Path) -> None:
    sizes = FULL_SIZE if like == DEMO_MODEL else None
    write_random_model(like, folder, sizes, pickled=True)
    without_dither(folder)
    files = {
        "init_param": "model.pt",
        "config": CONFIG,
        "tokenizer_conf": {"bpemodel": next(folder.glob("*.bpe.model")).name},
        "frontend_conf": {"cmvn_file": "am.mvn"},
    }
    (folder / CONFIGURATION).write_text(json.dumps({"file_path_metas": files}))


def without_dither(folder: Path, **settings: int) -> None:
    """Set FunASR's dither to 0 in a config, and further top-level settings."""
    path = folder / CONFIG
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    config["frontend_conf"]["dither"] = 0.0
    path.write_text(yaml.safe_dump({**config, **settings}), encoding="utf-8")


def _prepare(hub: Path, folder: Path) -> None:
    prepare(hub, folder, name="SenseVoiceSmall-random", origin="seeded random weights")


def _export(hub: Path, folder: Path, rivals_python: Path) -> None:
    folder.mkdir()
    graph = folder / "graph.onnx"
    packages = subprocess.run(
        [rivals_python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    run_module(Path(sys.executable), "exporters.graph", hub, graph, packages)
    run_module(rivals_python, "exporters.rivals", graph, hub, folder)
    graph.unlink()


def run_module(python: Path, module: str, *arguments: Path | str) -> None:
    """Run a module of this package to its end; its output is shown only where it fails."""
    command = [python, "-m", f"tests.benchmarks.{module}", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} failed:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")


def funasr_home(models: Models, folder: Path, threads: int) -> Path:
    """The hub directory again, for FunASR's server: it takes its threads from the config alone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in models.hub.iterdir():
        if file.name == CONFIG:
            shutil.copyfile(file, folder / file.name)
        else:
            (folder / file.name).symlink_to(file.resolve())
    without_dither(folder, ncpu=threads)
    return folder
