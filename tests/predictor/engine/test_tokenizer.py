"""Token ids ⇄ text."""

import pytest

from predictor.engine.errors import InvalidModel
from predictor.engine.tokenizer import (
    BLANK_ID,
    EMOTION_LABELS,
    EVENT_LABELS,
    LANGUAGE_LABELS,
    Tokenizer,
    is_unspaced,
)

SENTENCES = {
    "zh": "今天天气很好，我们去公园吧。",
    "en": "The weather is nice today, let's go to the park.",
    "yue": "今日天氣好好，我哋去公園啦。",
    "ja": "今日は天気がいいので、公園へ行きましょう。",
    "ko": "오늘은 날씨가 좋으니 공원에 가요.",
}


@pytest.fixture(scope="module")
def published_tokenizer(reference_files):
    return Tokenizer(next(reference_files.glob("*.bpe.model")))


@pytest.fixture(params=["demo_tokenizer", "published_tokenizer"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("language", ["zh", "en", "yue", "ja", "ko"])
def test_shipped_texts_survive_the_round_trip(demo_tokenizer, spoken, language):
    for clip in spoken[language]:
        assert demo_tokenizer.decode(demo_tokenizer.encode(clip.text)) == clip.text


@pytest.mark.parametrize("language", SENTENCES)
def test_sentences_survive_the_round_trip_of_the_published_tokenizer(published_tokenizer, language):
    text = SENTENCES[language]
    assert published_tokenizer.decode(published_tokenizer.encode(text)) == text


def test_special_tokens_never_appear_in_text(tokenizer):
    special = [i for i in range(tokenizer.vocab_size) if tokenizer.piece(i).startswith("<|")]
    assert len(special) >= len(LANGUAGE_LABELS) + len(EMOTION_LABELS) + len(EVENT_LABELS)
    assert not any(tokenizer.is_text(i) for i in [*special, BLANK_ID, 1, 2])
    text = tokenizer.encode("hello")
    assert all(tokenizer.is_text(i) for i in text)
    assert tokenizer.decode([*special, BLANK_ID, 1, 2]) == ""
    assert tokenizer.decode([special[0], BLANK_ID, *text, 2, special[-1]]) == "hello"


def test_text_has_no_space_around_it(demo_tokenizer):
    assert demo_tokenizer.decode(demo_tokenizer.encode(" hello ")) == "hello"


def test_every_label_has_its_own_token(tokenizer):
    ids = [*tokenizer.languages.values(), *tokenizer.emotions.values(), *tokenizer.events.values()]
    assert len(set(ids)) == len(ids)
    assert tuple(tokenizer.languages) == LANGUAGE_LABELS
    assert tuple(tokenizer.emotions) == EMOTION_LABELS
    assert tuple(tokenizer.events) == EVENT_LABELS
    assert tokenizer.piece(tokenizer.emotions["HAPPY"]) == "<|HAPPY|>"


def test_ids_of_the_published_tags(published_tokenizer):
    assert published_tokenizer.vocab_size == 25055
    assert published_tokenizer.languages["zh"] == 24884
    assert published_tokenizer.languages["nospeech"] == 24992
    assert published_tokenizer.emotions["HAPPY"] == 25001
    assert published_tokenizer.emotions["EMO_UNKNOWN"] == 25009
    assert published_tokenizer.events["Speech"] == 24993
    assert published_tokenizer.events["GBG"] == 25018


def test_words_begin_at_spaces_and_at_characters_of_scripts_without_spaces(demo_tokenizer):
    english = demo_tokenizer.encode("hello please")
    assert demo_tokenizer.starts_word(english[0])
    words = [i for i in english if demo_tokenizer.starts_word(i)]
    assert len(words) == 2
    for character in "好は":
        (*_, token_id) = demo_tokenizer.encode(character)
        assert demo_tokenizer.starts_word(token_id)


@pytest.mark.parametrize("content", [b"", b"not sentencepiece", bytes(1000), b"\x80\x02}q\x00."])
def test_a_file_that_is_no_sentencepiece_model_is_refused(tmp_path, content):
    path = tmp_path / "x.bpe.model"
    path.write_bytes(content)
    with pytest.raises(InvalidModel, match=r"x\.bpe\.model|not a SenseVoice vocabulary"):
        Tokenizer(path)


def test_a_missing_tokenizer_is_refused(tmp_path):
    with pytest.raises(InvalidModel, match=r"x\.bpe\.model"):
        Tokenizer(tmp_path / "x.bpe.model")


def test_a_vocabulary_without_the_tags_is_refused(demo_model_dir, tmp_path):
    """The special tokens lie at the end of the demo model's file; the name of one is altered."""
    content = next(demo_model_dir.glob("*.bpe.model")).read_bytes()
    path = tmp_path / "x.bpe.model"
    path.write_bytes(content.replace(b"<|HAPPY|>", b"<|happy|>"))
    with pytest.raises(InvalidModel, match=r"no token <\|HAPPY\|>; not a SenseVoice vocabulary"):
        Tokenizer(path)


@pytest.mark.parametrize("character", "好はカｶ々。〇")
def test_scripts_without_spaces(character):
    assert is_unspaced(character)


@pytest.mark.parametrize("character", "a한7.é ")
def test_scripts_with_spaces(character):
    assert not is_unspaced(character)
