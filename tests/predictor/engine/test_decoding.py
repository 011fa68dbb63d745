"""Best paths → tokens, tag logits → tags; neighbouring windows → one sequence of tokens."""

from itertools import groupby

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from predictor.engine.decoding import (
    Token,
    collapse,
    decode_tags,
    decode_tokens,
    join,
)
from predictor.engine.network import BestPath
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS


def softmax(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def best_path(logits):
    """As a network gives it: the log-probabilities of blanks are nobody's concern."""
    ids = logits.argmax(axis=1)
    log_probabilities = np.log(softmax(logits).max(axis=1))
    log_probabilities[ids == 0] = np.nan
    return BestPath(ids, log_probabilities.astype(np.float32))


def logits_of(path, vocabulary=4, peak=3.0):
    logits = np.zeros((len(path), vocabulary))
    logits[np.arange(len(path)), path] = peak
    return logits


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_collapse_drops_blanks_and_repeats(path):
    runs = [(token, len(list(run))) for token, run in groupby(path)]
    starts = [sum(length for _, length in runs[:i]) for i in range(len(runs))]
    expected = [
        (token, start, start + length)
        for (token, length), start in zip(runs, starts, strict=True)
        if token
    ]
    assert collapse(path) == expected


def test_nothing_collapses_to_nothing():
    assert collapse([]) == []


def test_the_same_token_twice_is_kept_when_a_blank_parts_it():
    assert [run[0] for run in collapse([2, 2, 0, 2])] == [2, 2]


def test_tokens_have_their_runs_and_the_mean_softmax_over_them():
    logits = np.array([[9.0, 0, 0], [0, 2, 1], [0, 3, 1], [5, 0, 0], [0, 0, 1.5], [0, 4, 0]])
    first, second, third = decode_tokens(best_path(logits))
    probabilities = softmax(logits)
    assert (first.id, first.start, first.end) == (1, 1, 3)
    assert (second.id, second.start, second.end) == (2, 4, 5)
    assert (third.id, third.start, third.end) == (1, 5, 6)
    assert first.confidence == pytest.approx(probabilities[1:3, 1].mean())
    assert second.confidence == pytest.approx(probabilities[4, 2])
    assert third.confidence == pytest.approx(probabilities[5, 1])


@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.floats(0.1, 30))
def test_confidences_are_probabilities(path, peak):
    tokens = decode_tokens(best_path(logits_of(path, peak=peak)))
    assert [(t.id, t.start, t.end) for t in tokens] == collapse(path)
    assert all(0 < token.confidence <= 1 for token in tokens)


def test_blanks_alone_give_no_tokens():
    assert decode_tokens(best_path(logits_of([0] * 5))) == []


def test_a_clip_without_a_frame_has_no_tokens():
    assert decode_tokens(BestPath(np.empty(0, np.int64), np.empty(0, np.float32))) == []


def tag_frames(tokenizer, seed=0):
    logits = np.random.default_rng(seed).normal(0, 3, (4, tokenizer.vocab_size))
    return logits.astype(np.float32)


def test_tags_are_softmaxes_over_their_own_labels(demo_tokenizer):
    logits = tag_frames(demo_tokenizer)
    tags = decode_tags(logits, demo_tokenizer, LANGUAGE_LABELS)
    for frame, tag, ids in (
        (0, tags.language, demo_tokenizer.languages),
        (1, tags.emotion, demo_tokenizer.emotions),
        (2, tags.event, demo_tokenizer.events),
    ):
        expected = softmax(logits[frame, list(ids.values())].astype(np.float64))
        assert tag.distribution == pytest.approx(dict(zip(ids, expected, strict=True)))
        assert sum(tag.distribution.values()) == pytest.approx(1)
        assert tag.confidence == max(tag.distribution.values()) == tag.distribution[tag.label]
    assert set(tags.emotion.distribution) == set(EMOTION_LABELS)
    assert set(tags.event.distribution) == set(EVENT_LABELS)


@pytest.mark.parametrize("allowed", [("zh",), ("en", "nospeech"), ("ja", "ko", "yue")])
def test_a_language_is_chosen_among_the_allowed_ones(demo_tokenizer, allowed):
    for seed in range(10):
        language = decode_tags(tag_frames(demo_tokenizer, seed), demo_tokenizer, allowed).language
        assert set(language.distribution) == set(allowed)
        assert sum(language.distribution.values()) == pytest.approx(1)


@pytest.mark.parametrize("level", [1e4, -1e4])
def test_logits_of_any_level_give_probabilities(demo_tokenizer, level):
    tags = decode_tags(tag_frames(demo_tokenizer) + level, demo_tokenizer, LANGUAGE_LABELS)
    assert sum(tags.language.distribution.values()) == pytest.approx(1)


def test_an_excluded_emotion_is_never_chosen(demo_tokenizer):
    logits = tag_frames(demo_tokenizer)
    logits[1, demo_tokenizer.emotions["EMO_UNKNOWN"]] = 100
    free = decode_tags(logits, demo_tokenizer, LANGUAGE_LABELS)
    assert free.emotion.label == "EMO_UNKNOWN"
    banned = decode_tags(logits, demo_tokenizer, LANGUAGE_LABELS, ("EMO_UNKNOWN",))
    assert "EMO_UNKNOWN" not in banned.emotion.distribution
    assert sum(banned.emotion.distribution.values()) == pytest.approx(1)


# Two windows of 100 frames hear frames 60 to 100 both; tokens last at most 4 frames.
START, END, TOTAL = 60, 100, 160


@st.composite
def recordings(draw, ids):
    """Tokens of a recording of TOTAL frames, some of them in the shared stretch."""
    tokens, at = [], 0
    while True:
        at += draw(st.integers(0, 12))
        length = draw(st.integers(1, 4))
        if at + length > TOTAL:
            return tokens
        tokens.append(Token(ids(draw, tokens), at, at + length, 0.9))
        at += length


def distinct(draw, tokens):
    return len(tokens) + 1


def repetitive(draw, tokens):
    return draw(st.integers(1, 3))


def heard(tokens):
    """What each window hears: the tokens that lie wholly within it."""
    return [t for t in tokens if t.end <= END], [t for t in tokens if t.start >= START]


def joined(left, right, starts_word=lambda token_id: True):
    kept_left, kept_right = join(left, right, START, END, starts_word)
    return kept_left + kept_right


@given(recordings(distinct))
def test_joining_loses_and_doubles_nothing(tokens):
    assert joined(*heard(tokens)) == tokens


@settings(max_examples=400)
@given(recordings(repetitive))
def test_joining_loses_and_doubles_nothing_of_repeated_words(tokens):
    """As in numbers, "bye bye", or a counted "one two one two"."""
    assert joined(*heard(tokens)) == tokens


def test_words_repeated_at_a_steady_pace_are_neither_lost_nor_doubled():
    """Each window mishears the token at its edge."""
    tokens = [Token(1 + i % 2, 4 + 8 * i, 6 + 8 * i, 0.9) for i in range(19)]
    left, right = heard(tokens)
    left[-1] = Token(8, left[-1].start, left[-1].end, 0.3)
    right[0] = Token(9, right[0].start, right[0].end, 0.3)
    assert [t.id for t in joined(left, right)] == [t.id for t in tokens]


@given(recordings(distinct), st.booleans(), st.booleans())
def test_a_token_misheard_at_a_windows_edge_does_not_survive(tokens, left_errs, right_errs):
    left, right = heard(tokens)
    shared = [token for token in tokens if token in left and token in right]
    assume(len(shared) >= 3)
    if left_errs:
        left[-1] = Token(1001, left[-1].start, left[-1].end, 0.3)
    if right_errs:
        right[0] = Token(1002, right[0].start, right[0].end, 0.3)
    assert [t.id for t in joined(left, right)] == [t.id for t in tokens]


@given(recordings(distinct), st.integers(-2, 2))
def test_windows_need_not_agree_on_frames(tokens, drift):
    left, right = heard(tokens)
    assume(any(token in left for token in right))
    moved = [token.shifted(drift) for token in right]
    assert [t.id for t in joined(left, moved)] == [t.id for t in tokens]


def test_the_seam_is_put_before_a_word_where_there_is_one():
    """Ids from 100 on begin a word: the seam nearest the middle would cut the word 101 5 6."""
    tokens = [
        Token(token_id, start, start + 2, 0.9)
        for token_id, start in ((100, 62), (101, 70), (5, 78), (6, 82), (102, 92))
    ]
    left, right = join(tokens, tokens, START, END, lambda token_id: token_id >= 100)
    assert [t.id for t in left + right] == [100, 101, 5, 6, 102]
    assert not right or right[0].id >= 100


def test_windows_that_agree_on_nothing_keep_their_halves():
    left = [Token(1, 10, 12, 0.9), Token(2, 70, 72, 0.9), Token(3, 90, 92, 0.9)]
    right = [Token(4, 65, 67, 0.9), Token(5, 85, 87, 0.9), Token(6, 120, 122, 0.9)]
    assert join(left, right, START, END, lambda _: True) == (left[:2], right[1:])


@pytest.mark.parametrize(("left", "right"), [([], []), ([Token(1, 5, 6, 0.9)], [])])
def test_windows_without_tokens_join(left, right):
    assert join(left, right, START, END, lambda _: True) == (left, right)
    assert join(right, left, START, END, lambda _: True) == (right, [])


def test_a_token_knows_its_middle_and_moves_as_a_whole():
    token = Token(7, 10, 14, 0.5)
    assert token.middle == 12
    assert token.shifted(5) == Token(7, 15, 19, 0.5)
