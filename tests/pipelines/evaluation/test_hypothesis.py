import json
import shutil

import pytest

from pipelines.data.manifest import InvalidManifest, read_manifest, sample
from pipelines.evaluation.hypothesis import read_hypotheses, recognise, write_hypotheses
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS
from predictor.engine.transcribe import Engine


@pytest.fixture(scope="module")
def engine(random_model_dir):
    return Engine(random_model_dir)


@pytest.fixture(scope="module")
def mixed_set(demo_model_dir, tmp_path_factory):
    """A set with two good clips, one that is no audio and one that is not there."""
    folder = tmp_path_factory.mktemp("mixed")
    clips = sample(read_manifest(demo_model_dir / "evaluation"), 2)
    for clip in clips:
        shutil.copy(demo_model_dir / "evaluation" / clip.audio, folder)
    (folder / "noise.opus").write_bytes(b"this is no audio")
    rows = [
        {"audio": "noise.opus", "text": "hello", "language": "en"},
        *(clip.model_dump(exclude_none=True) for clip in clips),
        {"audio": "missing.opus"},
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    (folder / "manifest.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def hypotheses(engine, mixed_set):
    return list(recognise(engine, mixed_set))


def test_every_utterance_has_a_row_in_the_sets_order(hypotheses, mixed_set):
    assert [one.utterance for one in hypotheses] == read_manifest(mixed_set)


def test_a_bad_file_costs_its_own_row_alone(hypotheses):
    broken, *good, missing = hypotheses
    assert broken.error.startswith("InvalidAudio: ")
    assert missing.error.startswith("FileNotFoundError: ")
    assert "missing.opus" in missing.error
    for one in (broken, missing):
        assert (one.text, one.language, one.emotion, one.event, one.duration) == (
            "",
            None,
            None,
            None,
            0,
        )
    assert all(not one.error and one.duration > 0 and one.seconds > 0 for one in good)


def test_every_tag_comes_with_the_probability_of_every_label(hypotheses):
    for one in hypotheses[1:-1]:
        for choice, labels in (
            (one.language, LANGUAGE_LABELS),
            (one.emotion, EMOTION_LABELS),
            (one.event, EVENT_LABELS),
        ):
            assert set(choice.distribution) == set(labels)
            assert sum(choice.distribution.values()) == pytest.approx(1, abs=1e-4)
            assert choice.confidence == max(choice.distribution.values())
            assert choice.distribution[choice.label] == choice.confidence


def test_text_holds_no_tags(hypotheses):
    assert not any("<|" in one.text for one in hypotheses)


def test_a_table_is_read_as_it_was_written(hypotheses, tmp_path):
    table = tmp_path / "table.jsonl"
    write_hypotheses(table, hypotheses)
    assert read_hypotheses(table) == hypotheses
    assert len(table.read_text(encoding="utf-8").splitlines()) == len(hypotheses)


def test_any_text_survives_the_table(row, tmp_path):
    text = "分\u2028行\n\u0085 “quote” \x0b\t你"
    hypotheses = [row("a", text, text, language="zh")]
    write_hypotheses(tmp_path / "table.jsonl", hypotheses)
    assert read_hypotheses(tmp_path / "table.jsonl") == hypotheses


def test_a_set_that_is_not_there_is_named(engine, tmp_path):
    with pytest.raises(InvalidManifest, match="manifest"):
        list(recognise(engine, tmp_path / "manifest.jsonl"))
