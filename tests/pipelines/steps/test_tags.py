import pytest

from pipelines.data.manifest import Utterance
from pipelines.evaluation.hypothesis import Choice, Hypothesis, write_hypotheses
from pipelines.steps.tags import tags


def test_tags_are_of_the_table_in_the_file(tmp_path):
    table = tmp_path / "table.jsonl"
    heard = Choice(label="BGM", confidence=0.75, distribution={"BGM": 0.75, "Speech": 0.25})
    rows = [
        Hypothesis(utterance=Utterance(id=name, audio="a", event=name), event=heard)
        for name in ("BGM", "Speech")
    ]
    write_hypotheses(table, rows)
    measured = tags(table)
    assert measured.language is None
    assert measured.event.confusion == [[1, 0], [1, 0]]
    assert measured.event.calibration_error == pytest.approx(0.25)


def test_a_row_that_is_no_hypothesis_is_refused(tmp_path):
    (tmp_path / "table.jsonl").write_text('{"text": "hello"}\n')
    with pytest.raises(ValueError, match="utterance"):
        tags(tmp_path / "table.jsonl")
