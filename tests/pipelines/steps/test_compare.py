import pytest

from pipelines.data.manifest import Utterance
from pipelines.evaluation.hypothesis import Hypothesis, write_hypotheses
from pipelines.steps.compare import compare


@pytest.fixture
def tables(tmp_path):
    """Of the candidate, the champion, and a champion that heard another clip."""
    for name, clip, text in [("new", "a", "你"), ("old", "a", "你好"), ("other", "b", "你好")]:
        utterance = Utterance(id=clip, audio="clip.wav", text="你好", language="zh")
        rows = [Hypothesis(utterance=utterance, text=text, duration=1.0)]
        write_hypotheses(tmp_path / name, rows)
    return tmp_path


def test_the_first_table_is_the_candidates(tables):
    difference = compare(tables / "new", tables / "old").error_rates["zh"]
    assert (difference.candidate, difference.champion, difference.delta.value) == (0.5, 0, 0.5)


def test_tables_of_different_sets_are_refused(tables):
    with pytest.raises(ValueError, match="only the candidate's table holds 1 utterance: 'a'"):
        compare(tables / "new", tables / "other")
