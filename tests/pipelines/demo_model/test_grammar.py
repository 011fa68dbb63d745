"""The grammar: deterministic, split without leakage, every character known."""

import random

import pytest

pytest.importorskip("pypinyin", reason="pypinyin is needed by the recipe only")

from pipelines.demo_model.grammar import LANGUAGES, characters, grammar

SPLITS = ("train", "dev", "test")


@pytest.mark.parametrize("language", LANGUAGES)
def test_same_seed_gives_same_sentences(language):
    first, second = ([grammar(language).sample(random.Random(7)) for _ in range(20)] for _ in "ab")
    assert first == second


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_sentence_is_in_two_splits(language):
    rng = random.Random(1)
    drawn = {
        split: {grammar(language).sample(rng, split).text for _ in range(400)} for split in SPLITS
    }
    assert not drawn["train"] & drawn["test"]
    assert not drawn["train"] & drawn["dev"]
    assert not drawn["dev"] & drawn["test"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_held_out_sentences_are_made_of_training_words(language):
    rng = random.Random(2)
    trained = {
        unit.text.strip()
        for _ in range(3000)
        for unit in grammar(language).sample(rng, "train").units
    }
    for _ in range(500):
        units = grammar(language).sample(rng, "test").units
        assert {unit.text.strip() for unit in units} <= trained


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_character_is_in_the_inventory(language):
    known = characters() | {" "}
    rng = random.Random(3)
    for _ in range(500):
        sentence = grammar(language).sample(rng)
        assert set(sentence.text) | set(sentence.itn) <= known


@pytest.mark.parametrize("language", LANGUAGES)
def test_plain_form_has_no_punctuation_and_normalised_form_ends_with_it(language):
    rng = random.Random(4)
    for _ in range(300):
        sentence = grammar(language).sample(rng)
        assert not set(sentence.text) & set(".,?。？，、")
        assert not any(character.isdigit() for character in sentence.text)
        assert sentence.itn[-1] in ".?。？"
        assert sentence.text == sentence.text.lower().strip()


def test_forms_of_a_sentence_with_a_number():
    rng = random.Random(5)
    while True:
        sentence = grammar("zh").sample(rng)
        if sentence.text.startswith("房间号是"):
            break
    assert sentence.itn.removeprefix("房间号是").removesuffix("。").isdigit()
    assert sentence.spoken.startswith("fang2 jian1 hao4 shi4 ")
