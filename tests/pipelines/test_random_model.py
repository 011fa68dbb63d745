"""Random weights in the form of a real model."""

import numpy as np
import pytest
import yaml

from pipelines.random_model import write_random_model
from predictor.engine.checkpoint import CONFIG, PICKLED_WEIGHTS, WEIGHTS, Checkpoint, read_manifest
from predictor.engine.errors import InvalidModel
from predictor.engine.prepare import prepare
from predictor.engine.transcribe import Engine
from predictor.engine.types import Waveform

SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 2, "tp_blocks": 1}


def test_a_random_model_loads_and_says_what_it_is(demo_model_dir, tmp_path):
    checkpoint = Checkpoint(write_random_model(demo_model_dir, tmp_path / "m", SMALL))
    assert checkpoint.network_config.output_size == 16
    assert "Random weights" in checkpoint.manifest.notice
    module = checkpoint.module("cpu", "fp32")
    assert all(tensor.isfinite().all() for tensor in module.state_dict().values())


def test_a_random_model_runs_in_every_precision_of_a_cpu(demo_model_dir, tmp_path):
    directory = write_random_model(demo_model_dir, tmp_path / "m", SMALL)
    for precision in ("fp32", "bf16", "int8"):
        engine = Engine(directory, precision=precision, threads=1)
        assert engine.transcribe(Waveform(np.zeros(1_600, np.float32))).duration == 0.1


def test_sizes_not_named_are_those_of_the_original(demo_model_dir, tmp_path):
    config = yaml.safe_load((demo_model_dir / CONFIG).read_text(encoding="utf-8"))
    directory = write_random_model(demo_model_dir, tmp_path / "m", {"num_blocks": 2})
    changed = yaml.safe_load((directory / CONFIG).read_text(encoding="utf-8"))
    assert changed["encoder_conf"] == {**config["encoder_conf"], "num_blocks": 2}
    assert {**changed, "encoder_conf": 0} == {**config, "encoder_conf": 0}


def test_the_seed_decides_the_weights(demo_model_dir, tmp_path):
    digests = [
        read_manifest(
            write_random_model(demo_model_dir, tmp_path / str(index), SMALL, seed=seed)
        ).digest
        for index, seed in enumerate((0, 0, 1))
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_form_of_a_hub_can_be_prepared(demo_model_dir, tmp_path):
    source = write_random_model(demo_model_dir, tmp_path / "hub", SMALL, pickled=True)
    assert (source / PICKLED_WEIGHTS).is_file()
    assert not (source / WEIGHTS).exists()
    prepared = write_random_model(demo_model_dir, tmp_path / "plain", SMALL)
    assert prepare(source, tmp_path / "m").digest == read_manifest(prepared).digest


def test_nothing_is_overwritten_and_sizes_are_checked(demo_model_dir, tmp_path):
    (tmp_path / "m").mkdir()
    with pytest.raises(FileExistsError):
        write_random_model(demo_model_dir, tmp_path / "m", SMALL)
    with pytest.raises(InvalidModel, match="not a multiple"):
        write_random_model(demo_model_dir, tmp_path / "n", {"attention_heads": 7})
