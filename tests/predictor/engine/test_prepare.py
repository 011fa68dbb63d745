"""A hub's directory → a model directory: all or nothing, and never running what a pickle says."""

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from predictor.engine import int8
from predictor.engine import prepare as module
from predictor.engine.checkpoint import (
    CMVN,
    COMPILED_ENCODER,
    COMPILED_HEAD,
    CONFIG,
    INT8_WEIGHTS,
    MANIFEST,
    PICKLED_WEIGHTS,
    WEIGHTS,
    Checkpoint,
    read_manifest,
    verify,
)
from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel
from predictor.engine.prepare import prepare
from predictor.engine.quantize import quantize

COMPILED = {COMPILED_ENCODER, COMPILED_HEAD} if multiplies_int8() else set()
needs_int8 = pytest.mark.skipif(not multiplies_int8(), reason="this CPU has neither AVX2 nor VNNI")


@pytest.fixture
def source(random_source_dir, tmp_path):
    """A copy to damage."""
    return shutil.copytree(random_source_dir, tmp_path / "source")


@pytest.fixture
def models(tmp_path):
    """Where models go: what lies in it afterwards is all that a run left behind."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_result_loads_and_holds_the_same_weights(source, models):
    manifest = prepare(source, models / "m", origin="hub://x", revision="v1", licence="MIT")
    assert (manifest.source, manifest.revision, manifest.licence) == ("hub://x", "v1", "MIT")
    assert read_manifest(models / "m") == manifest
    state = Checkpoint(models / "m").network("cpu", "fp32", 1).module.state_dict()
    original = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    assert state.keys() == original.keys()
    assert all(torch.equal(state[name], original[name]) for name in state)


def test_nothing_but_the_model_is_left(source, models):
    manifest = prepare(source, models / "m")
    assert [path.name for path in models.iterdir()] == ["m"]
    tokenizer = next(source.glob("*.bpe.model")).name
    files = {WEIGHTS, INT8_WEIGHTS, CONFIG, CMVN, tokenizer} | COMPILED
    assert set(contents(models / "m")) == {*files, MANIFEST}
    assert set(manifest.files) == files
    verify(models / "m", manifest, manifest.files)


def test_every_user_may_read_the_result(source, models):
    """The server runs as another user than the one who prepares."""
    for compiled in (True, False):
        prepare(source, models / str(compiled), compiled=compiled)
        for path in (models / str(compiled)).iterdir():
            assert path.stat().st_mode & 0o777 == 0o644, path.name


def test_the_int8_weights_are_those_of_the_model(source, models):
    prepare(source, models / "m", compiled=False)
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    expected = quantize({name: tensor.numpy() for name, tensor in state.items()})
    written = load_file(models / "m" / INT8_WEIGHTS)
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], expected[name]) for name in written)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_checkpoints_are_prepared(source, models, dtype):
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    torch.save({name: tensor.to(dtype) for name, tensor in state.items()}, source / PICKLED_WEIGHTS)
    prepare(source, models / "m")
    for precision in ("fp32", "int8"):
        assert Checkpoint(models / "m").network("cpu", precision, 1)


@needs_int8
def test_graphs_are_compiled_for_this_cpu_unless_declined(source, models):
    compiled = prepare(source, models / "compiled")
    plain = prepare(source, models / "plain", compiled=False)
    assert compiled.compiled_for == int8.target()
    assert plain.compiled_for == ""
    assert set(compiled.files) - set(plain.files) == {COMPILED_ENCODER, COMPILED_HEAD}
    assert compiled.digest == plain.digest


def test_nothing_is_compiled_for_a_cpu_that_does_not_multiply_int8(source, models, monkeypatch):
    monkeypatch.setattr(module, "multiplies_int8", lambda: False)
    manifest = prepare(source, models / "m")
    assert manifest.compiled_for == ""
    assert set(manifest.files).isdisjoint({COMPILED_ENCODER, COMPILED_HEAD})
    assert INT8_WEIGHTS in manifest.files


def test_a_model_compiled_or_not_is_the_same_model_and_left_as_it_is(source, models):
    before = prepare(source, models / "m", compiled=False)
    assert prepare(source, models / "m", compiled=True) == before
    assert read_manifest(models / "m") == before


def test_parent_directories_are_made(source, tmp_path):
    prepare(source, tmp_path / "a" / "b" / "m")
    assert read_manifest(tmp_path / "a" / "b" / "m")


def test_the_same_source_gives_the_same_bytes(source, models):
    """But for compiled graphs, whose bytes OpenVINO does not promise."""
    prepare(source, models / "one", compiled=False)
    prepare(source, models / "other", compiled=False)
    assert contents(models / "one") == contents(models / "other")


def test_preparing_twice_changes_nothing(source, models):
    first = prepare(source, models / "m")
    before = {path.name: path.stat().st_mtime_ns for path in (models / "m").iterdir()}
    assert prepare(source, models / "m") == first
    assert before == {path.name: path.stat().st_mtime_ns for path in (models / "m").iterdir()}


def test_a_damaged_copy_of_the_same_model_is_not_taken_for_it(source, models):
    prepare(source, models / "m")
    (models / "m" / WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(InvalidModel, match=WEIGHTS):
        prepare(source, models / "m")


def test_another_model_is_never_overwritten(source, models):
    prepare(source, models / "m")
    before = contents(models / "m")
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    torch.save({name: tensor + 1 for name, tensor in state.items()}, source / PICKLED_WEIGHTS)
    with pytest.raises(FileExistsError, match="holds another model"):
        prepare(source, models / "m")
    assert contents(models / "m") == before
    assert [path.name for path in models.iterdir()] == ["m"]


def test_what_is_not_a_model_is_never_overwritten(source, models):
    (models / "m").mkdir()
    (models / "m" / "letter.txt").write_text("dear")
    (models / "file").write_text("dear")
    for name in ("m", "file"):
        with pytest.raises(FileExistsError, match="is not a model"):
            prepare(source, models / name)
    assert contents(models / "m") == {"letter.txt": b"dear"}
    assert (models / "file").read_text() == "dear"


def test_an_empty_directory_is_filled(source, models):
    """Volumes are mounted as empty directories."""
    (models / "m").mkdir()
    prepare(source, models / "m")
    assert read_manifest(models / "m")


@pytest.mark.parametrize(
    "step", ["save_file", "save_arrays", "write_int8", "write_manifest", "_sync"]
)
def test_a_crash_leaves_nothing_behind(source, models, monkeypatch, step):
    def crash(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(module, step, crash)
    with pytest.raises(OSError, match="disk full"):
        prepare(source, models / "m")
    assert list(models.iterdir()) == []


@needs_int8
def test_a_crash_while_compiling_leaves_nothing_behind(source, models, monkeypatch):
    def crash(*args, **kwargs):
        raise RuntimeError("no kernel")

    monkeypatch.setattr(int8, "compile_graph", crash)
    with pytest.raises(RuntimeError, match="no kernel"):
        prepare(source, models / "m")
    assert list(models.iterdir()) == []


class Payload:
    """A pickle that makes a file when it is opened."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return os.mkdir, (str(self._path),)


@pytest.mark.parametrize("nested", [False, True])
def test_a_pickle_that_would_run_code_is_refused_unrun(source, models, tmp_path, nested):
    payload = Payload(tmp_path / "executed")
    torch.save({"x": payload} if nested else payload, source / PICKLED_WEIGHTS)
    with pytest.raises(InvalidModel, match=f"^{PICKLED_WEIGHTS}: not a plain state dict"):
        prepare(source, models / "m")
    assert not (tmp_path / "executed").exists()
    assert list(models.iterdir()) == []


def test_a_state_dict_may_be_nested(source, models):
    plain = prepare(source, models / "plain")
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    torch.save({"state_dict": state}, source / PICKLED_WEIGHTS)
    assert prepare(source, models / "nested").digest == plain.digest


def test_tensors_may_share_memory_or_be_transposed(source, models):
    """As in checkpoints cut out of larger ones."""
    plain = prepare(source, models / "plain")
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    name = "encoder.encoders0.0.feed_forward.w_1.weight"
    state[name] = state[name].t().contiguous().t()
    biases = [key for key in state if key.endswith("norm1.bias")][1:]
    together = torch.cat([state[key] for key in biases])
    for key, part in zip(biases, together.split(len(together) // len(biases)), strict=True):
        state[key] = part
    torch.save(state, source / PICKLED_WEIGHTS)
    assert prepare(source, models / "views").digest == plain.digest


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"a": "b"}, torch.zeros(3), {}])
def test_pickles_without_the_weights_are_refused(source, models, content):
    torch.save(content, source / PICKLED_WEIGHTS)
    with pytest.raises(InvalidModel):
        prepare(source, models / "m")
    assert list(models.iterdir()) == []


def test_weights_that_are_no_pickle_are_refused(source, models):
    (source / PICKLED_WEIGHTS).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InvalidModel, match=PICKLED_WEIGHTS):
        prepare(source, models / "m")


def test_weights_that_do_not_fit_are_refused(source, models):
    state = torch.load(source / PICKLED_WEIGHTS, weights_only=True)
    state["extra.weight"] = torch.zeros(2)
    torch.save(state, source / PICKLED_WEIGHTS)
    with pytest.raises(InvalidModel, match=r"extra\.weight"):
        prepare(source, models / "m")


@pytest.mark.parametrize("file", [PICKLED_WEIGHTS, CONFIG, "am.mvn"])
def test_a_missing_file_of_the_source_is_named(source, models, file):
    (source / file).unlink()
    with pytest.raises(InvalidModel, match=f"no {file}"):
        prepare(source, models / "m")


@pytest.mark.parametrize("n", [0, 2])
def test_there_must_be_one_tokenizer(source, models, n):
    tokenizer = next(source.glob("*.bpe.model"))
    if n:
        shutil.copyfile(tokenizer, source / "second.bpe.model")
    else:
        tokenizer.unlink()
    with pytest.raises(InvalidModel, match=rf"one \*\.bpe\.model, found {n}"):
        prepare(source, models / "m")


def test_two_at_once_both_succeed(source, models):
    outcomes = []

    def run():
        try:
            outcomes.append(prepare(source, models / "m").digest)
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [read_manifest(models / "m").digest] * 4
    assert [path.name for path in models.iterdir()] == ["m"]
