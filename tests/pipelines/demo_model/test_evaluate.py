"""Scores in the model card."""

import pytest

from pipelines.demo_model.evaluate import table, write_card
from pipelines.demo_model.scoring import Heard, by_language


def test_table_has_a_row_for_each_set_and_language():
    wanted = [Heard("a", "en", "SAD", "Speech"), Heard("", "nospeech", "EMO_UNKNOWN", "BGM")]
    lines = table({"demo": by_language(wanted, wanted)}).splitlines()
    assert lines[2] == "| demo | en | 1 | 0.0% | 100.0% | 100.0% | 100.0% |  |"
    assert [line.split(" | ")[1] for line in lines[2:]] == ["en", "speech", "nospeech", "all"]


def test_a_set_of_one_language_has_one_row():
    wanted = [Heard("a", "en", "SAD", "Speech")] * 2
    assert len(table({"demo": by_language(wanted, wanted)}).splitlines()) == 3


def test_card_keeps_everything_around_the_scores(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("before\n<!-- scores:begin -->\nold\n<!-- scores:end -->\nafter\n")
    write_card(card, "new")
    assert card.read_text() == "before\n<!-- scores:begin -->\nnew\n<!-- scores:end -->\nafter\n"


def test_card_without_markers_is_refused(tmp_path):
    card = tmp_path / "README.md"
    card.write_text("nothing")
    with pytest.raises(ValueError, match=r"README\.md"):
        write_card(card, "new")
