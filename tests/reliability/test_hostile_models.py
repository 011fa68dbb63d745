"""A model directory whose digests fit what somebody put into it: no crash, no hang, no endless memory."""

import json
import resource
import struct
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from predictor.engine.checkpoint import (
    CMVN,
    COMPILED_ENCODER,
    COMPILED_HEAD,
    CONFIG,
    INT8_WEIGHTS,
    WEIGHTS,
    read_manifest,
    write_manifest,
)
from predictor.engine.config import LARGEST, read_config
from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel
from tests.reliability.model_copies import copies, redigest, refused

REPOSITORY = Path(__file__).resolve().parents[2]
needs_int8 = pytest.mark.skipif(not multiplies_int8(), reason="this CPU has neither AVX2 nor VNNI")


@pytest.fixture
def forms(random_model_dir, tmp_path) -> dict[str, Path]:
    return copies(random_model_dir, tmp_path)


LETTERS = "abcdefghijklmnopqrstuvwx"
BOMBS = {
    "laughs": "a: &a [x,x]\n" + "".join(f"k{y}: &{y} [*{x},*{x}]\n" for x, y in pairwise(LETTERS)),
    "merges": "a: &a {x: 1}\n"
    + "".join(f"k{y}: &{y}\n  <<: [*{x},*{x}]\n" for x, y in pairwise(LETTERS)),
    "window is a laugh": "a: &a [x]\nfrontend_conf: {window: *a}",
    "deep lists": "a: " + "[" * 30_000,
    "deep mappings": "a: " + "{a: " * 10_000,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(300)),
    "sexagesimal": "a: 1" + ":59" * 20_000,
    "long number": "a: " + "9" * 60_000,
    "long hexadecimal number": "encoder_conf: {num_blocks: 0x" + "f" * 60_000 + "}",
    "no date": "a: 2001-99-99",
    "no number": "a: 0x_",
    "binary": "a: !!binary '@@'",
    "object": "a: !!python/object/apply:os.system [true]",
    "unhashable": "? [a]\n: b",
    "too long": "#" * 70_000,
    "control characters": "a: \x07",
    "recursive": "a: &a [*a]",
}


@pytest.mark.promise(
    "A config cannot ask for more than a model of its kind has: no crash, no gigabytes"
)
def test_bombs_in_configs(tmp_path, tried):
    path = tmp_path / CONFIG
    before = resource.getrusage(resource.RUSAGE_SELF)
    for name, text in BOMBS.items():
        path.write_text("model: SenseVoiceSmall\nencoder: SenseVoiceEncoderSmall\n" + text)
        with pytest.raises(InvalidModel, match=f"^{CONFIG}: .{{1,200}}$") as caught:
            read_config(path, 100)
        assert caught.value, name
        tried["bombs"] += 1
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 200 << 10, "kibibytes"
    assert after.ru_utime - before.ru_utime < 30, "seconds"


SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.dates()
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3), max_leaves=4)
SIZES = st.fixed_dictionaries(
    {},
    optional={
        name: VALUES | st.integers(0, 10**6)
        for name in (*LARGEST, "window", "dropout_rate", "vocab_size")
    },
)


@pytest.mark.promise(
    "A config cannot ask for more than a model of its kind has: no crash, no gigabytes"
)
def test_random_configs(tmp_path, effort, tried):
    path = tmp_path / CONFIG

    @settings(
        max_examples=effort(150, 20_000),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(SIZES | VALUES, SIZES | VALUES)
    def attempt(frontend, encoder):
        sections = {"frontend_conf": frontend, "encoder_conf": encoder}
        path.write_text(
            yaml.safe_dump(
                {"model": "SenseVoiceSmall", "encoder": "SenseVoiceEncoderSmall", **sections}
            )
        )
        tried["random configs"] += 1
        said = ""
        try:
            sizes = read_config(path, 100)
        except InvalidModel as error:
            said, sizes = error.message, ()
        assert said.startswith(f"{CONFIG}: ") or sizes
        assert len(said) < 200
        for section in sizes:
            for name in set(LARGEST) & set(section.__slots__):
                assert type(getattr(section, name)) is int
                assert getattr(section, name) <= LARGEST[name]

    attempt()


def hostile_headers(content: bytes) -> dict[str, bytes]:
    """A safetensors file with headers that its writer never wrote."""
    (length,) = struct.unpack("<Q", content[:8])
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    names = [name for name in header if name != "__metadata__"]
    first, second = names[0], names[1]

    def changed(**fields: object) -> bytes:
        altered = {**header, first: {**header[first], **fields}}
        text = json.dumps(altered).encode()
        return struct.pack("<Q", len(text)) + text + data

    begin, end = header[first]["data_offsets"]
    renamed = json.dumps({f"x.{name}": value for name, value in header.items()}).encode()
    return {
        "endless header": struct.pack("<Q", 1 << 63) + content[8:],
        "header beyond the file": struct.pack("<Q", len(content)) + content[8:],
        "overlap": changed(data_offsets=header[second]["data_offsets"]),
        "beyond the end": changed(data_offsets=[begin, 1 << 60]),
        "backwards": changed(data_offsets=[end, begin]),
        "negative": changed(data_offsets=[-4, 0]),
        "unknown type": changed(dtype="F7"),
        "other type": changed(dtype="BF16"),
        "huge shape": changed(shape=[1 << 40, 1 << 40]),
        "no shape": changed(shape=[]),
        "no text": struct.pack("<Q", 8) + b"\xff" * 8,
        "deep": struct.pack("<Q", 200_000) + b"[" * 200_000,
        "other names": struct.pack("<Q", len(renamed)) + renamed + data,
    }


FITTING = (WEIGHTS, "other names")
"""Safetensors like any other, but of another network."""


@pytest.mark.promise(
    "Hostile weights, shifts or graphs with fitting digests are refused, and named"
)
def test_hostile_weights(forms, tried):
    directory = forms["plain"]
    for file in (WEIGHTS, INT8_WEIGHTS):
        path = directory / file
        content = path.read_bytes()
        for name, hostile in hostile_headers(content).items():
            path.write_bytes(hostile)
            redigest(directory)
            refused(directory, "weights do not fit" if (file, name) == FITTING else file)
            tried["hostile files"] += 1
        path.write_bytes(content)
    for values in ("nan", "inf", "1e300", "0x10", "", "1 " * 600_000):
        (directory / CMVN).write_text(f"<AddShift> [ {values} ] <Rescale> [ {values} ]")
        redigest(directory)
        refused(directory, CMVN)
        tried["hostile files"] += 1


@needs_int8
@pytest.mark.promise(
    "Hostile weights, shifts or graphs with fitting digests are refused, and named"
)
def test_hostile_graphs(forms, tried):
    directory = forms["compiled"]
    manifest = read_manifest(directory)
    for file in (COMPILED_ENCODER, COMPILED_HEAD):
        content = (directory / file).read_bytes()
        for hostile in (b"", b"junk" * 1000, content[: len(content) // 2], content[100:]):
            (directory / file).write_bytes(hostile)
            write_manifest(
                directory, manifest.tokenizer, "changed", compiled_for=manifest.compiled_for
            )
            refused(directory, file)
            tried["hostile files"] += 1
        (directory / file).write_bytes(content)


TOKENIZERS = """
import random, sys
from pathlib import Path
from predictor.engine.errors import InvalidModel
from predictor.engine.tokenizer import Tokenizer

path, content = Path(sys.argv[1]), Path(sys.argv[1]).read_bytes()
chance = random.Random(int(sys.argv[3]))
for _ in range(int(sys.argv[2])):
    hostile = bytearray(content)
    for _ in range(chance.choice((1, 4, 64))):
        hostile[chance.randrange(len(hostile))] = chance.randrange(256)
    if chance.random() < 0.3:
        del hostile[chance.randrange(len(hostile)) :]
    path.write_bytes(hostile)
    try:
        made = Tokenizer(path)
        made.decode(range(made.vocab_size))
        print("loaded")
    except InvalidModel:
        print("refused")
"""


@pytest.mark.promise("A hostile tokenizer with a fitting digest is refused, or is only a tokenizer")
def test_hostile_tokenizers(forms, effort, tried):
    directory = forms["plain"]
    path = directory / read_manifest(directory).tokenizer
    command = [sys.executable, "-c", TOKENIZERS, str(path), str(effort(40, 4_000)), "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr[-2000:]
    tried["hostile tokenizers"] += len(done.stdout.split())
