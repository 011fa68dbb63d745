import pytest

from pipelines.data.manifest import Utterance
from pipelines.evaluation.hypothesis import Hypothesis, write_hypotheses
from pipelines.steps.accuracy import accuracy


def test_error_rates_are_of_the_table_in_the_file(tmp_path):
    table = tmp_path / "table.jsonl"
    utterance = Utterance(id="a", audio="a.wav", text="你好", language="zh")
    write_hypotheses(table, [Hypothesis(utterance=utterance, text="你", duration=1.0)])
    rate = accuracy(table).languages["zh"]
    assert (rate.units, rate.deletions, rate.rate.value) == (2, 1, 0.5)


def test_a_row_that_is_no_hypothesis_is_refused(tmp_path):
    (tmp_path / "table.jsonl").write_text('{"text": "hello"}\n')
    with pytest.raises(ValueError, match="utterance"):
        accuracy(tmp_path / "table.jsonl")
