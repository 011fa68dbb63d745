"""What is loaded is what was prepared, file by file, and none of it is ever run."""

import ast
import json
import os
import pickle
import random
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from predictor.engine.checkpoint import (
    CMVN,
    CONFIG,
    MANIFEST,
    WEIGHTS,
    Checkpoint,
    checksum,
    read_manifest,
)
from predictor.engine.errors import InvalidModel
from predictor.engine.prepare import prepare
from tests.reliability.model_copies import copies, each_file, load, refused

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def forms(random_model_dir, tmp_path) -> dict[str, Path]:
    return copies(random_model_dir, tmp_path)


FLIPPED = (
    "A flipped bit, wherever in a prepared directory, is found before anything is loaded, and named"
)


@pytest.mark.promise(FLIPPED)
def test_flipped_bits(forms, effort, tried):
    chance = random.Random(0)
    for directory, file in each_file(forms):
        path = directory / file
        content = path.read_bytes()
        offsets = {0, len(content) - 1, *chance.choices(range(len(content)), k=effort(6, 400))}
        for at in offsets:
            flipped = bytearray(content)
            flipped[at] ^= 1 << chance.randrange(8)
            path.write_bytes(flipped)
            refused(directory, file)
            tried["flipped bits"] += 1
        path.write_bytes(content)
    for directory in forms.values():
        load(directory)


@pytest.mark.promise("A file that is cut short, or another model's, is found and named")
def test_truncated_and_swapped_files(forms, demo_model_dir, effort, tried):
    chance = random.Random(0)
    demo = read_manifest(demo_model_dir)
    for directory, file in each_file(forms):
        path = directory / file
        content = path.read_bytes()
        lengths = {
            0,
            1,
            len(content) - 2,
            *chance.choices(range(len(content) - 2), k=effort(1, 60)),
        }
        for length in lengths:
            path.write_bytes(content[:length])
            refused(directory, file)
            tried["truncations"] += 1
        other = demo_model_dir / (demo.tokenizer if file.endswith(".bpe.model") else file)
        if other.exists() and other.read_bytes() != content and file != MANIFEST:
            path.write_bytes(other.read_bytes())
            refused(directory, file)
            tried["swapped files"] += 1
        path.write_bytes(content)


def no_file(path: Path) -> dict[str, object]:
    """What may lie where a file should, by what makes it."""

    def terabyte() -> None:
        path.touch()
        os.truncate(path, 1 << 40)

    return {
        "pipe": lambda: os.mkfifo(path),
        "directory": path.mkdir,
        "device": lambda: path.symlink_to("/dev/zero"),
        "socket": lambda: os.mknod(path, stat.S_IFSOCK | 0o600),
        "sparse file of a terabyte": terabyte,
        "link to nothing": lambda: path.symlink_to("nowhere"),
        "link to itself": lambda: path.symlink_to(path.name),
        "other case": lambda: path.with_name(path.name.upper()).write_bytes(b""),
    }


@pytest.mark.promise("What is no file, or far too large for one, is refused at once and named")
def test_what_is_no_file(forms, tried):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for directory, file in each_file(forms):
        path, aside = directory / file, directory / "aside"
        path.rename(aside)
        for make in no_file(path).values():
            make()
            refused(directory, file)
            tried["no files"] += 1
            for made in (path, path.with_name(path.name.upper())):
                if made.is_dir() and not made.is_symlink():
                    made.rmdir()
                made.unlink(missing_ok=True)
        aside.rename(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10, "kibibytes"


@pytest.mark.promise("A manifest names plain files of its own directory, whoever wrote it")
def test_paths_in_manifests(forms, tried):
    directory = forms["plain"]
    path = directory / MANIFEST
    manifest = json.loads(path.read_text())
    outside = directory.parent / "outside"
    outside.write_bytes(b"{}")
    names = [
        "../outside",
        str(outside),
        "a/../../outside",
        "./x",
        "x/",
        "..",
        "",
        "a\0b",
        "a\nb",
        "//x",
    ]
    for name in names:
        for change in ({"files": {**manifest["files"], name: "0" * 64}}, {"tokenizer": name}):
            altered = {**manifest, **change}
            altered["checksum"] = checksum(altered)
            path.write_text(json.dumps(altered))
            refused(directory, MANIFEST)
            tried["names"] += 1
    # A backslash is a letter like any other here: such a file is looked for in the directory itself.
    altered = {**manifest, "tokenizer": "..\\outside"}
    altered["files"] = {**manifest["files"], "..\\outside": "0" * 64}
    altered["checksum"] = checksum(altered)
    path.write_text(json.dumps(altered))
    refused(directory, "..\\outside: missing")


class Malice:
    """Unpickling it makes a file."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self):
        return (Path.touch, (self._mark,))


SERVING = """
import sys

def watch(event, arguments):
    if event == "pickle.find_class" or (event == "open" and str(arguments[0]).endswith("model.pt")):
        print("PICKLE", event, arguments, flush=True)

sys.addaudithook(watch)
from pathlib import Path
import numpy as np
import predictor.server.app
from predictor.engine.transcribe import Engine
from predictor.engine.types import Waveform

for precision in ("int8", "fp32"):
    engine = Engine(Path(sys.argv[1]), precision=precision, threads=1)
    # Long enough for the voice activity detector to be loaded, too.
    print("SERVED", engine.transcribe(Waveform(np.zeros(40 * 16_000, np.float32))).duration)
"""


@pytest.mark.promise("No pickle is opened at serve time, and preparing runs none")
def test_pickles(random_source_dir, random_model_dir, tmp_path, tried):
    mark = tmp_path / "mark"
    model = shutil.copytree(random_model_dir, tmp_path / "model")
    source = shutil.copytree(random_source_dir, tmp_path / "source")
    for directory in (model, source):
        (directory / "model.pt").write_bytes(pickle.dumps({"state_dict": Malice(mark)}))
    command = [sys.executable, "-c", SERVING, str(model)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("SERVED 40.0") == 2
    assert "PICKLE" not in done.stdout
    with pytest.raises(InvalidModel, match="not a plain state dict"):
        prepare(source, tmp_path / "prepared")
    assert not mark.exists()
    # The bait is one: whoever unpickles it does run it.
    pickle.loads((model / "model.pt").read_bytes())  # noqa: S301
    assert mark.exists()
    tried["processes"] += 2


@pytest.mark.promise("No code of a model is trusted, no pickle loaded but as plain weights")
def test_sources(tried):
    for path in [*REPOSITORY.glob("predictor/**/*.py"), *REPOSITORY.glob("pipelines/**/*.py")]:
        tried["source files"] += 1
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not modules & {"pickle", "dill", "cloudpickle", "joblib", "shelve"}, path
            if isinstance(node, ast.keyword):
                assert node.arg not in ("trust_remote_code", "allow_pickle"), path
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(
                    each.arg == "weights_only" and ast.unparse(each.value) == "True"
                    for each in node.keywords
                ), path


@pytest.mark.promise("A model directory that vanishes while it is loaded is a clear error")
def test_files_that_vanish_while_loading(forms, tried):
    for directory, file in each_file(forms):
        if file in (MANIFEST, CONFIG, CMVN) or file.endswith(".bpe.model"):
            continue
        checkpoint = Checkpoint(directory)
        (directory / file).rename(directory / "aside")
        precision = "fp32" if file == WEIGHTS else "int8"
        with pytest.raises(InvalidModel, match=f"^{file}: missing from"):
            checkpoint.network("cpu", precision, 1)
        (directory / "aside").rename(directory / file)
        tried["files"] += 1
