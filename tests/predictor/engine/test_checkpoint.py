"""A prepared model directory is loaded whole and unaltered, or refused with the file's name."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from predictor.engine import checkpoint as module
from predictor.engine.checkpoint import (
    CMVN,
    COMPILED_ENCODER,
    COMPILED_HEAD,
    CONFIG,
    INT8_WEIGHTS,
    MANIFEST,
    WEIGHTS,
    Checkpoint,
    read_manifest,
    write_manifest,
)
from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel
from predictor.engine.network import Queries
from predictor.engine.transcribe import Engine

needs_int8 = pytest.mark.skipif(not multiplies_int8(), reason="this CPU has neither AVX2 nor VNNI")
ELSEWHERE = "openvino 0 of another CPU"

SERVED = [
    pytest.param("fp32", WEIGHTS, id="weights"),
    pytest.param("fp32", CONFIG, id="config"),
    pytest.param("fp32", CMVN, id="cmvn"),
    pytest.param("fp32", "tokenizer", id="tokenizer"),
    pytest.param("int8", INT8_WEIGHTS, id="int8 weights"),
    pytest.param("int8", COMPILED_ENCODER, id="compiled encoder", marks=needs_int8),
    pytest.param("int8", COMPILED_HEAD, id="compiled head", marks=needs_int8),
]
"""Every file that is read, and the precision that reads it."""


@pytest.fixture
def model(random_model_dir, tmp_path):
    """A copy to damage."""
    return shutil.copytree(random_model_dir, tmp_path / "model")


def edit_manifest(directory, **changes):
    """As if the manifest had been written so."""
    path = directory / MANIFEST
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    manifest["checksum"] = module.checksum(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def redigest(directory):
    """As if the damage had been done before the digests were taken."""
    write_manifest(directory, read_manifest(directory).tokenizer, "changed")


def edit_config(directory, **sections):
    path = directory / CONFIG
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, value in sections.items():
        config[name] = {**config[name], **value} if isinstance(value, dict) else value
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    redigest(directory)


def load(directory, precision="fp32"):
    return Checkpoint(directory).network("cpu", precision, 1)


def served(directory, file):
    """A file, with the int8 weights read instead of the graphs where it is they."""
    if file == INT8_WEIGHTS:
        edit_manifest(directory, compiled_for="")
    return directory / (read_manifest(directory).tokenizer if file == "tokenizer" else file)


@pytest.mark.parametrize(("precision", "file"), SERVED)
def test_a_flipped_bit_is_found(model, precision, file):
    path = served(model, file)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=f"^{path.name}: sha256 is"):
        load(model, precision)


@pytest.mark.parametrize(("precision", "file"), SERVED)
def test_a_missing_file_is_named(model, precision, file):
    path = served(model, file)
    path.unlink()
    with pytest.raises(InvalidModel, match=f"^{path.name}: missing"):
        load(model, precision)


def test_what_is_not_served_need_not_be_there(model):
    """A volume for CPUs may leave the trained weights out, and one for GPUs the int8 ones."""
    (model / WEIGHTS).rename(model / "aside")
    assert load(model, "int8")
    (model / "aside").rename(model / WEIGHTS)
    (model / INT8_WEIGHTS).unlink()
    assert load(model, "fp32")


def encoded(network):
    rng = np.random.default_rng(0)
    clips = [rng.normal(0, 0.1, n).astype(np.float32) for n in (3_000, 16_000)]
    queries = [Queries(language=0, textnorm=14)] * len(clips)
    return network.encode([network.features(clip) for clip in clips], queries)


@needs_int8
def test_graphs_compiled_for_another_cpu_are_compiled_again(model):
    here = load(model, "int8")
    edit_manifest(model, compiled_for=ELSEWHERE)
    for file in (COMPILED_ENCODER, COMPILED_HEAD):
        # A graph in use is mapped: its file must not change under it.
        (model / file).unlink()
        (model / file).write_bytes(b"of another CPU")
    again = load(model, "int8")
    for one, other in zip(encoded(here), encoded(again), strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(here.tag_logits(one), again.tag_logits(other))


def test_a_model_without_int8_weights_says_what_to_do(model):
    (model / INT8_WEIGHTS).unlink()
    redigest(model)
    with pytest.raises(InvalidModel, match=f"no {INT8_WEIGHTS}: prepare the model again"):
        load(model, "int8")
    assert Checkpoint(model).best_precision("cpu") == "fp32"


def test_the_best_precision_is_that_of_the_device(model, monkeypatch):
    for exact, best in ((True, "int8"), (False, "fp32")):
        monkeypatch.setattr(module, "multiplies_int8", lambda exact=exact: exact)
        checkpoint = Checkpoint(model)
        assert checkpoint.best_precision("cpu") == best
        assert checkpoint.best_precision("cuda") == checkpoint.best_precision("cuda:1") == "bf16"


def test_int8_is_for_the_cpu_alone(model):
    with pytest.raises(InvalidModel, match="int8 runs on the CPU, not on cuda:0"):
        Checkpoint(model).network("cuda:0", "int8", 1)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_weights_are_loaded_in_the_precision_asked_for(random_model_dir, precision, dtype):
    state = load(random_model_dir, precision).module.state_dict()
    assert {tensor.dtype for tensor in state.values()} == {dtype}


def test_a_directory_without_a_manifest_says_how_to_make_one(model):
    (model / MANIFEST).unlink()
    with pytest.raises(InvalidModel, match=f"no {MANIFEST}.*prepare SRC DST"):
        Checkpoint(model)


@pytest.mark.parametrize(
    "name", ["../config.yaml", "/etc/passwd", "a/b", "..", ".", "", "sub/../config.yaml"]
)
def test_a_manifest_cannot_name_files_elsewhere(model, name):
    files = read_manifest(model).files
    edit_manifest(model, files={**files, name: "0" * 64})
    with pytest.raises(InvalidModel, match="is not a plain file name"):
        Checkpoint(model)
    edit_manifest(model, files=files, tokenizer=name)
    with pytest.raises(InvalidModel, match="is not a plain file name"):
        Checkpoint(model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format"),
        ({"format": 0}, "format"),
        ({"unknown": 1}, "unknown"),
        ({"files": ["a"]}, "files"),
        ({"files": {}}, f"no digest of {WEIGHTS}"),
        ({"tokenizer": "other.bpe.model"}, "no digest of other.bpe.model"),
        ({"tokenizer": None}, "tokenizer"),
    ],
)
def test_a_manifest_of_another_form_is_refused(model, changes, message):
    edit_manifest(model, **changes)
    with pytest.raises(InvalidModel, match=f"^{MANIFEST}: .*{message}"):
        Checkpoint(model)


@pytest.mark.parametrize("field", ["name", "source", "revision", "licence", "notice"])
def test_a_manifest_that_was_altered_is_refused(model, field):
    path = model / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**manifest, field: manifest[field] + "."}), encoding="utf-8")
    with pytest.raises(InvalidModel, match=f"^{MANIFEST}: was altered"):
        Checkpoint(model)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert Checkpoint(model)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe\x00"])
def test_a_manifest_that_is_no_json_object_is_refused(model, content):
    (model / MANIFEST).write_bytes(content)
    with pytest.raises(InvalidModel, match=MANIFEST):
        Checkpoint(model)


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG, CMVN, COMPILED_ENCODER, COMPILED_HEAD])
def test_every_file_needs_a_digest(model, file):
    known = (COMPILED_ENCODER, COMPILED_HEAD)
    files = {**dict.fromkeys(known, "0" * 64), **read_manifest(model).files}
    del files[file]
    edit_manifest(model, files=files, compiled_for=ELSEWHERE)
    with pytest.raises(InvalidModel, match=f"no digest of {file}"):
        Checkpoint(model)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": "Paraformer"}, "model must be SenseVoiceSmall"),
        ({"encoder": "ConformerEncoder"}, "encoder must be SenseVoiceEncoderSmall"),
        ({"encoder_conf": {"output_size": 10**9}}, "output_size must be at most 8192"),
        ({"encoder_conf": {"linear_units": 10**12}}, "linear_units must be at most 65536"),
        ({"encoder_conf": {"num_blocks": 10**9}}, "num_blocks must be at most 1024"),
        ({"encoder_conf": {"num_blocks": 0}}, "num_blocks must be at least 1"),
        ({"encoder_conf": {"num_blocks": "many"}}, CONFIG),
        ({"encoder_conf": {"num_blocks": None}}, CONFIG),
        ({"encoder_conf": {"num_blocks": 2.5}}, CONFIG),
        ({"encoder_conf": {"output_size": 32.0}}, CONFIG),
        ({"encoder_conf": {"attention_heads": 7}}, "not a multiple"),
        ({"encoder_conf": []}, "must be mappings"),
        ({"encoder_conf": None}, "must be mappings"),
        ({"frontend_conf": {"window": "hanning"}}, "window must be 'hamming'"),
        ({"frontend_conf": {"frame_shift": 0}}, "frame_shift must be at least 1"),
        ({"frontend_conf": {"n_mels": 10**7}}, "n_mels must be at most 512"),
        ({"frontend_conf": {"fs": 8000}}, "fs"),
    ],
)
def test_configs_of_other_models_or_absurd_sizes_are_refused(model, sections, message):
    edit_config(model, **sections)
    with pytest.raises(InvalidModel, match=message) as caught:
        load(model)
    assert CONFIG in caught.value.message


@pytest.mark.parametrize(
    "content", [b"", b"- a\n- b\n", b"a: [1", b"\xff\xfe", b"!!python/name:os"]
)
def test_a_config_that_is_no_mapping_is_refused(model, content):
    (model / CONFIG).write_bytes(content)
    redigest(model)
    with pytest.raises(InvalidModel, match=f"^{CONFIG}: "):
        Checkpoint(model)


def test_a_config_without_an_encoder_section_is_refused(model):
    config = yaml.safe_load((model / CONFIG).read_text())
    del config["encoder_conf"]
    (model / CONFIG).write_text(yaml.safe_dump(config))
    redigest(model)
    with pytest.raises(InvalidModel, match=f"^{CONFIG}: .*encoder_conf"):
        Checkpoint(model)


@pytest.mark.parametrize("sizes", [{"num_blocks": 3}, {"linear_units": 65}, {"tp_blocks": 0}])
def test_weights_that_do_not_fit_the_config_are_refused(model, sizes):
    edit_config(model, encoder_conf=sizes)
    with pytest.raises(InvalidModel, match=f"weights do not fit {CONFIG}"):
        load(model)


@pytest.mark.parametrize(
    "sizes", [{"num_blocks": 3}, {"tp_blocks": 2}, {"tp_blocks": 0}, {"output_size": 64}]
)
def test_int8_weights_that_do_not_fit_the_config_are_refused(model, sizes):
    edit_config(model, encoder_conf=sizes)
    with pytest.raises(InvalidModel, match=f"{INT8_WEIGHTS} does not fit {CONFIG}"):
        load(model, "int8")


@pytest.mark.parametrize(("precision", "file"), [("fp32", WEIGHTS), ("int8", INT8_WEIGHTS)])
@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"\xff" * 16])
def test_weights_that_are_no_safetensors_are_refused(model, precision, file, content):
    (model / file).write_bytes(content)
    redigest(model)
    with pytest.raises(InvalidModel, match=f"^{file}: "):
        load(model, precision)


def test_cmvn_of_another_size_is_refused(model):
    (model / CMVN).write_text("<AddShift> 2 2 [ 1 2 ] <Rescale> 2 2 [ 1 2 ]")
    redigest(model)
    with pytest.raises(InvalidModel, match=r"CMVN must be \[2, 560\]"):
        load(model)


def test_a_damaged_cmvn_is_refused(model):
    (model / CMVN).write_bytes(b"\xff\xfe\x00")
    redigest(model)
    with pytest.raises(InvalidModel):
        load(model)


def test_the_digest_tells_content_and_not_place(random_model_dir, tmp_path):
    one, other = (shutil.copytree(random_model_dir, tmp_path / name) for name in ("a", "b/c"))
    digest = read_manifest(one).digest
    assert digest == read_manifest(other).digest == read_manifest(random_model_dir).digest
    edit_config(other, encoder_conf={"dropout_rate": 0.3})
    assert read_manifest(other).digest != digest


def test_the_digest_does_not_tell_the_cpu(random_model_dir, model):
    """Replicas on two kinds of CPU serve the same model."""
    files = read_manifest(model).files
    for file in (COMPILED_ENCODER, COMPILED_HEAD):
        files[file] = "0" * 64
    edit_manifest(model, files=files, compiled_for=ELSEWHERE)
    assert read_manifest(model).digest == read_manifest(random_model_dir).digest
    files[INT8_WEIGHTS] = "0" * 64
    edit_manifest(model, files=files)
    assert read_manifest(model).digest != read_manifest(random_model_dir).digest


def test_the_version_is_the_revision_or_the_digest(model):
    assert read_manifest(model).version == read_manifest(model).digest[:12]
    edit_manifest(model, revision="v2.0.4")
    assert read_manifest(model).version == "v2.0.4"


def test_what_is_served_is_told(model):
    edit_manifest(model, name="my-model", notice="A toy.", revision="r1")
    info = Engine(model).model
    assert (info.name, info.version, info.notice) == ("my-model", "r1", "A toy.")
    assert info.digest == read_manifest(model).digest


def test_half_precision_weights_are_loaded_as_single_precision(model):
    state = load_file(model / WEIGHTS)
    save_file({name: tensor.half() for name, tensor in state.items()}, model / WEIGHTS)
    redigest(model)
    loaded = load(model).module
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, state[name].half().float())


def test_a_loaded_network_is_for_inference(random_model_dir):
    loaded = load(random_model_dir).module
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
