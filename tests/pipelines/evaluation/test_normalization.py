import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.normalization import METRICS, normalize, units

CHARACTER_LANGUAGES = [language for language, metric in METRICS.items() if metric == "CER"]


def test_only_english_is_counted_in_words():
    assert {language for language, metric in METRICS.items() if metric == "WER"} == {"en"}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("zh", "你好，世界！ ＡＢＣ　１２３。", "你好世界abc123"),
        ("zh", "《三体》——刘慈欣", "三体刘慈欣"),
        ("zh", "一百二十三", "一百二十三"),
        ("yue", "佢哋喺邊度呀？", "佢哋喺邊度呀"),
        ("ja", "「ｶﾞｯｺｳ」、パン・データ!", "ガッコウパンデータ"),
        ("ja", "か\u3099き\u3099 は\u309a", "がぎぱ"),
        ("ja", "人々、ヶ月〜々", "人々ヶ月々"),
        ("ko", "안녕하세요, 세계!", "안녕하세요세계"),
        ("ko", unicodedata.normalize("NFD", "한국어"), "한국어"),
        ("en", "It’s Mr. Smith's colour TV!", "it is mister smith is color tv"),
        ("en", "Twenty-one GUNS, uh, [noise] fired", "21 guns fired"),
        ("en", "ｆｕｌｌ　width", "full width"),
        (None, "Wait... what?", "waitwhat"),
        ("nospeech", " 。… ", ""),
    ],
)
def test_text_is_brought_to_its_compared_form(language, text, expected):
    assert normalize(text, language) == expected


def test_dakuten_and_handakuten_still_tell_words_apart():
    for plain, marked in [("か", "が"), ("は", "ば"), ("は", "ぱ"), ("ﾊ", "ﾊﾟ")]:
        assert normalize(plain, "ja") != normalize(marked, "ja")


def test_simplified_and_traditional_are_different_characters():
    assert normalize("电话", "zh") != normalize("電話", "zh")


def test_digits_are_not_what_was_spoken_except_in_english():
    assert normalize("21", "zh") != normalize("二十一", "zh")
    assert normalize("21", "en") == normalize("twenty one", "en")


def test_units_are_characters_or_words():
    assert units("我要 iPad。", "zh") == ["我", "要", "i", "p", "a", "d"]
    assert units("안녕 하세요", "ko") == ["안", "녕", "하", "세", "요"]
    assert units("Hello,  big world.", "en") == ["hello", "big", "world"]
    assert units("", "en") == units("…", "ja") == []


@given(st.text(), st.sampled_from(CHARACTER_LANGUAGES))
def test_characters_of_any_text_are_letters_and_numbers(text, language):
    normal = normalize(text, language)
    assert all(unicodedata.category(character)[0] in "LN" for character in normal)
    assert "".join(units(text, language)) == normal


@given(st.text(), st.text("，。！？ 、　…「」,.!?\t\n"), st.sampled_from(CHARACTER_LANGUAGES))
def test_punctuation_and_spaces_around_any_text_change_nothing(text, around, language):
    assert normalize(f"{around}{text}{around}", language) == normalize(text, language)


@given(st.text())
def test_english_words_hold_no_space_and_join_to_the_text(text):
    words = units(text, "en")
    assert all(word and not any(map(str.isspace, word)) for word in words)
    assert " ".join(words) == " ".join(normalize(text, "en").split())
