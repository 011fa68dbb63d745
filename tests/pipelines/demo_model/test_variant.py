"""Noise on the weights: another digest, and words that are as right or as wrong as asked for."""

import json

import pytest

from pipelines.demo_model.evaluate import evaluate
from pipelines.demo_model.variant import write_variant
from predictor.engine.checkpoint import read_manifest, verify
from predictor.engine.transcribe import Engine


@pytest.fixture(scope="module")
def variants(demo_model_dir, tmp_path_factory):
    """noise → directory."""
    folder = tmp_path_factory.mktemp("variants")
    return {n: write_variant(demo_model_dir, folder / str(n), n) for n in (0.01, 0.7)}


def test_a_variant_is_whole_and_has_a_digest_of_its_own(variants, demo_model_dir):
    digests = {read_manifest(demo_model_dir).digest}
    for directory in variants.values():
        manifest = read_manifest(directory)
        verify(directory, manifest, manifest.files)
        digests.add(manifest.digest)
    assert len(digests) == 3


def test_the_same_seed_makes_the_same_variant(variants, demo_model_dir, tmp_path):
    again = write_variant(demo_model_dir, tmp_path / "again", 0.01)
    assert read_manifest(again).digest == read_manifest(variants[0.01]).digest
    other = write_variant(demo_model_dir, tmp_path / "other", 0.01, seed=1)
    assert read_manifest(other).digest != read_manifest(again).digest


def test_little_noise_changes_few_words_and_much_noise_most(variants, demo_model_dir, tmp_path):
    evaluation = demo_model_dir / "evaluation"
    rows = (evaluation / "manifest.jsonl").read_text().splitlines()
    for row in (spoken := [json.loads(row) for row in rows if json.loads(row)["text"]][::6]):
        (tmp_path / row["audio"]).symlink_to(evaluation / row["audio"])
    (tmp_path / "manifest.jsonl").write_text("\n".join(map(json.dumps, spoken)))
    error_rates = [evaluate(Engine(one), tmp_path)["all"].cer for one in variants.values()]
    assert error_rates[0] < 0.05
    assert error_rates[1] > 0.3
