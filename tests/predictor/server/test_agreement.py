"""Settled text only grows, and holds whole words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.server.agreement import Agreement


@pytest.mark.parametrize(
    ("partials", "deltas"),
    [
        (["I", "I want", "I want 8 blue", "I want 8 blue phones"], ["", "I", " want", " 8 blue"]),
        (["you", "your", "your book"], ["", "", "your"]),
        (["您好。", "您好，请", "您好，请不要挂"], ["", "您好", "，请"]),
        (["Hello.", "Hello. How", "Hello, how"], ["", "Hello", ""]),
        (["", ""], ["", ""]),
    ],
)
def test_two_in_a_row_settle_a_word(partials, deltas):
    agreement = Agreement()
    assert [agreement.hear(partial) for partial in partials] == deltas


@given(st.lists(st.text("ab 好。,", max_size=8), max_size=6), st.text("ab 好。,", max_size=8))
def test_deltas_add_up_to_what_is_settled(partials, last):
    agreement = Agreement()
    deltas = [agreement.hear(partial) for partial in partials]
    before = agreement.settled
    assert "".join(deltas) == before
    rest = agreement.end(last)
    assert before + rest == (last if last.startswith(before) else before)
