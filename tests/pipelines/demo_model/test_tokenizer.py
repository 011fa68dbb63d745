"""The vocabulary: text survives it, and the special tokens stand as in SenseVoiceSmall."""

import random
from pathlib import Path

import pytest

pytest.importorskip("pypinyin", reason="pypinyin is needed by the recipe only")

from pipelines.demo_model import tokenizer
from pipelines.demo_model.grammar import LANGUAGES, grammar

SHIPPED = Path(__file__).parents[3] / "predictor" / "demo_model" / "demo.bpe.model"

ORIGINAL_VOCABULARY = 25_055
ORIGINAL_IDS = {
    "<|zh|>": 24884,
    "<|en|>": 24885,
    "<|yue|>": 24888,
    "<|ja|>": 24892,
    "<|ko|>": 24896,
    "<|nospeech|>": 24992,
    "<|Speech|>": 24993,
    "<|BGM|>": 24995,
    "<|HAPPY|>": 25001,
    "<|NEUTRAL|>": 25004,
    "<|EMO_UNKNOWN|>": 25009,
    "<|Cough|>": 25013,
    "<|withitn|>": 25016,
    "<|woitn|>": 25017,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "demo.bpe.model"
    tokenizer.train(path)
    return path


@pytest.fixture(scope="module")
def processor(trained):
    return tokenizer.load(trained)


def test_training_gives_the_shipped_model(trained):
    assert trained.read_bytes() == SHIPPED.read_bytes()


@pytest.mark.parametrize("language", LANGUAGES)
def test_round_trip(processor, language):
    rng = random.Random(11)
    for _ in range(500):
        sentence = grammar(language).sample(rng)
        for text in (sentence.text, sentence.itn):
            ids = processor.encode(text)
            assert processor.decode(ids) == text
            assert processor.unk_id() not in ids


def test_control_ids(processor):
    assert (processor.unk_id(), processor.bos_id(), processor.eos_id()) == (0, 1, 2)


def test_special_tokens_keep_their_distance_from_the_end(processor):
    size = processor.get_piece_size()
    for piece, original in ORIGINAL_IDS.items():
        assert processor.piece_to_id(piece) == original - ORIGINAL_VOCABULARY + size


def test_special_tokens_are_not_made_of_text(processor):
    size = processor.get_piece_size()
    specials = tokenizer.special_tokens()
    assert len(specials) == len(set(specials)) == 171
    assert [processor.id_to_piece(i) for i in range(size - 171, size)] == specials
