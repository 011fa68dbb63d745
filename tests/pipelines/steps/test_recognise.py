import pytest

from pipelines.data.manifest import InvalidManifest, read_manifest, sample, write_manifest
from pipelines.evaluation.hypothesis import read_hypotheses
from pipelines.steps.accuracy import accuracy
from pipelines.steps.compare import compare
from pipelines.steps.recognise import recognise
from pipelines.steps.tags import tags
from predictor.engine.errors import InvalidModel


@pytest.fixture(scope="module")
def few_clips(demo_model_dir, tmp_path_factory):
    """The manifest of 20 clips of the embedded set, all languages and some silence among them."""
    evaluation = demo_model_dir / "evaluation"
    manifest = tmp_path_factory.mktemp("few") / "manifest.jsonl"
    clips = sample(read_manifest(evaluation), 20)
    absolute = [clip.model_copy(update={"audio": str(evaluation / clip.audio)}) for clip in clips]
    write_manifest(manifest, absolute)
    return manifest


@pytest.fixture(scope="module")
def table(demo_model_dir, few_clips):
    path = few_clips.parent / "candidate.jsonl"
    recognise(demo_model_dir, few_clips, path)
    return path


def test_the_table_has_a_row_for_every_clip(table, few_clips):
    hypotheses = read_hypotheses(table)
    assert [one.utterance for one in hypotheses] == read_manifest(few_clips)
    assert not any(one.error for one in hypotheses)


def test_the_embedded_model_hears_the_words(table):
    measured = accuracy(table)
    assert set(measured.languages) == {"zh", "yue", "ja", "ko", "en"}
    errors = sum(
        rate.substitutions + rate.deletions + rate.insertions
        for rate in measured.languages.values()
    )
    assert errors / sum(rate.units for rate in measured.languages.values()) < 0.05
    assert measured.failures == []
    assert measured.silent_utterances == 20 - sum(
        rate.utterances for rate in measured.languages.values()
    )
    assert measured.silent_utterances > 0
    assert type(measured).model_validate_json(measured.model_dump_json()) == measured


def test_the_embedded_model_recognises_the_tags(table):
    measured = tags(table)
    assert measured.language.utterances == measured.event.utterances == 20
    assert measured.language.weighted_accuracy.value == 1
    assert measured.event.unweighted_accuracy.value > 0.9
    assert set(measured.emotion_four.f1) == {"HAPPY", "SAD", "ANGRY", "NEUTRAL"}
    assert measured.emotion_four.weighted_accuracy.value > 0.75
    assert measured.language.calibration_error < 0.05
    assert type(measured).model_validate_json(measured.model_dump_json()) == measured


def test_a_model_with_random_weights_is_significantly_worse(
    table, few_clips, random_model_dir, demo_model_dir, tmp_path
):
    worse = tmp_path / "random.jsonl"
    recognise(random_model_dir, few_clips, worse)
    compared = compare(worse, table)
    assert {"zh", "yue", "ja", "ko", "en"} == set(compared.error_rates)
    assert all(difference.delta.low > 0.3 for difference in compared.error_rates.values())
    assert compared.tags["language"].delta.high < 0
    assert {flip.kind for flip in compared.flips} >= {"language", "event"}
    assert compared.changed_texts > 0.5
    assert type(compared).model_validate_json(compared.model_dump_json()) == compared


def test_a_model_beside_itself_differs_in_nothing(table):
    compared = compare(table, table)
    assert compared.flips == []
    assert compared.changed_texts == 0
    assert all(one.delta.low == one.delta.high == 0 for one in compared.error_rates.values())


def test_a_folder_that_is_no_model_is_refused(few_clips, tmp_path):
    with pytest.raises(InvalidModel):
        recognise(tmp_path, few_clips, tmp_path / "table.jsonl")


def test_a_set_that_is_not_there_is_refused(random_model_dir, tmp_path):
    with pytest.raises(InvalidManifest, match=str(tmp_path)):
        recognise(random_model_dir, tmp_path, tmp_path / "table.jsonl")
