"""Tokens → words, segments → text with emoji."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predictor.engine.decoding import Token
from predictor.engine.rich_text import is_punctuation, join_texts, rich, words
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS
from predictor.engine.types import Segment, Tag

FRAME, DELAY = 0.06, 0.0125


class Pieces:
    """As much of a tokenizer as words need: ids are places in a list of pieces."""

    def __init__(self, pieces):
        self._pieces = pieces

    def is_text(self, token_id):
        return not self._pieces[token_id].startswith("<|")

    def piece(self, token_id):
        return self._pieces[token_id]


def words_of(*pieces, start=0.0, at=None, confidences=None):
    """Pieces, two frames each and two apart unless ``at`` places them → words."""
    at = at or [(4 * i, 4 * i + 2) for i in range(len(pieces))]
    confidences = confidences or [0.5] * len(pieces)
    tokens = [
        Token(i, first, last, confidence)
        for i, ((first, last), confidence) in enumerate(zip(at, confidences, strict=True))
    ]
    return words(tokens, Pieces(pieces), start, FRAME, DELAY)


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["▁hello", "▁world"], ["hello", "world"]),
        (["▁hel", "lo", "▁wor", "ld"], ["hello", "world"]),
        (["hello", "▁world"], ["hello", "world"]),
        (["▁", "hello", "▁", "world"], ["hello", "world"]),
        (["▁hello", ",", "▁world", "."], ["hello,", "world."]),
        (["▁don", "'", "t", "▁go"], ["don't", "go"]),
        (["▁well", "-", "known"], ["well-known"]),
        (["▁3", ".", "5", "▁percent"], ["3.5", "percent"]),
        (["今", "天", "好"], ["今", "天", "好"]),
        (["▁", "今", "天", "。"], ["今", "天。"]),
        (["今", "天", "，", "好"], ["今", "天，", "好"]),
        (["は", "い"], ["は", "い"]),
        (["▁안녕", "하", "세요", "▁네"], ["안녕하세요", "네"]),
        (["我", "用", "▁i", "phone", "打"], ["我", "用", "iphone", "打"]),
        (["我", "用", "i", "phone", "打"], ["我", "用", "iphone", "打"]),
        (["<|zh|>", "好", "<|HAPPY|>"], ["好"]),
        (["<|en|>"], []),
        ([], []),
    ],
)
def test_pieces_are_grouped_into_words(pieces, expected):
    assert [word.text for word in words_of(*pieces)] == expected


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["▁it", "▁costs", "▁", "$", "5"], ["it", "costs", "$5"]),
        (["▁he", "▁said", '▁"', "yes", '"'], ["he", "said", '"yes"']),
        (["▁minus", "▁", "-", "5"], ["minus", "-5"]),
    ],
)
def test_a_sign_behind_a_space_belongs_to_the_word_after_it(pieces, expected):
    """Words joined by spaces are the text."""
    assert [word.text for word in words_of(*pieces)] == expected


@given(st.lists(st.sampled_from(["▁he", "▁a", "llo", "▁", "x", ",", ".", "7"]), max_size=12))
def test_words_hold_every_character_of_the_text_in_order(pieces):
    text = "".join(pieces).replace("▁", "")
    assert "".join(word.text for word in words_of(*pieces)) == text


def test_times_are_those_of_the_runs_on_the_path():
    (word,) = words_of("▁hel", "lo", start=10.0, at=[(5, 7), (9, 12)])
    assert word.start == pytest.approx(10 + 4.5 * FRAME + DELAY)
    assert word.end == pytest.approx(10 + 11.5 * FRAME + DELAY)


def test_no_word_starts_before_its_clip():
    (word,) = words_of("▁oh", start=3.0, at=[(0, 1)])
    assert word.start == 3.0
    assert word.end == pytest.approx(3 + 0.5 * FRAME + DELAY)


def test_punctuation_does_not_move_the_times_of_its_word():
    bare, _ = words_of("▁yes", "▁no", at=[(5, 7), (20, 22)])
    with_comma, _ = words_of("▁yes", ",", "▁no", at=[(5, 7), (15, 18), (20, 22)])
    assert (with_comma.start, with_comma.end) == (bare.start, bare.end)
    assert with_comma.confidence == bare.confidence


def test_punctuation_that_stands_alone_has_no_times():
    first, second = words_of("…", "▁yes")
    assert (first.text, first.start, first.end) == ("…", None, None)
    assert second.start is not None


def test_times_never_go_back():
    spoken = words_of("▁a", "b", "好", "▁c", ",", "▁d", start=1.0)
    times = [time for word in spoken for time in (word.start, word.end)]
    assert times == sorted(times)


def test_confidence_is_the_geometric_mean_of_the_tokens():
    (word,) = words_of("▁hel", "lo", confidences=[0.9, 0.4])
    assert word.confidence == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("text", "expected"), [(",", True), ("?!", True), ("€", True), ("a.", False)]
)
def test_punctuation_and_signs(text, expected):
    assert is_punctuation(text) is expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([], ""),
        (["", ""], ""),
        (["hello", "world"], "hello world"),
        (["hello.", "", "World"], "hello. World"),
        (["你好", "世界"], "你好世界"),
        (["你好。", "hello"], "你好。hello"),
        (["你好，", "hello"], "你好，hello"),
        (["hello", "你好"], "hello你好"),
        (["はい", "そう"], "はいそう"),
        (["네", "안녕"], "네 안녕"),
        (["one", "", "two", "三"], "one two三"),
    ],
)
def test_texts_are_joined_as_their_script_is_written(texts, expected):
    assert join_texts(texts) == expected


def segment(text, emotion, event, language="zh"):
    return Segment(
        0.0, 1.0, text, Tag(language, 1.0), Tag(emotion, 1.0), Tag(event, 1.0), words=None
    )


@pytest.mark.parametrize(
    ("segments", "expected"),
    [
        ([], ""),
        ([("hi", "NEUTRAL", "Speech")], "hi"),
        ([("hi", "HAPPY", "BGM")], "🎼hi😊"),
        ([("", "EMO_UNKNOWN", "Applause")], "👏"),
        ([("one", "SAD", "BGM"), ("two", "SAD", "BGM")], "🎼onetwo😔"),
        ([("one", "SAD", "Speech"), ("two", "ANGRY", "Cough")], "one😔🤧two😡"),
    ],
)
def test_emoji_stand_around_the_text(segments, expected):
    assert rich([segment(*one) for one in segments]) == expected


PARTS = st.tuples(
    st.sampled_from(LANGUAGE_LABELS),
    st.sampled_from(EMOTION_LABELS),
    st.sampled_from(EVENT_LABELS),
    st.sampled_from(["", "你好", "hello there", " hello.", "好 ", "네, 그래요", "1 2 3?"]),
)


@pytest.fixture(scope="module")
def funasr_rich():
    return pytest.importorskip("funasr.utils.postprocess_utils").rich_transcription_postprocess


@settings(max_examples=500)
@given(parts=st.lists(PARTS, min_size=1, max_size=4))
def test_rich_text_is_that_of_funasr(funasr_rich, parts):
    """But for OTHER, which FunASR leaves in the text as a tag: it is written as another mute one."""
    tagged = "".join(
        f"<|{language}|><|{emotion}|><|{event}|><|withitn|>{text}"
        for language, emotion, event, text in parts
    ).replace("<|OTHER|>", "<|EMO_UNKNOWN|>")
    segments = [segment(text, emotion, event, lang) for lang, emotion, event, text in parts]
    assert rich(segments) == funasr_rich(tagged)
