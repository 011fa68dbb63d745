"""Targets in time, normalisation, batches."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.demo_model.dataset import Cmvn, Target, frame_tokens, target
from predictor.engine.frontend import read_cmvn

SHIPPED = Path(__file__).parents[3] / "predictor" / "demo_model" / "demo.bpe.model"


@pytest.fixture(scope="module")
def processor():
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_file=str(SHIPPED))


def test_tokens_get_the_times_of_their_characters(processor):
    units = [("打开", 0.2, 0.6), ("门", 0.6, 0.9)]
    wanted = target(processor, ("zh", "NEUTRAL", "Speech", "woitn"), units)
    times = dict(zip([processor.id_to_piece(t) for t in wanted.tokens], wanted.times, strict=True))
    assert times["打"] == pytest.approx((0.2, 0.4))
    assert times["开"] == pytest.approx((0.4, 0.6))
    assert times["门"] == pytest.approx((0.6, 0.9))
    assert [processor.id_to_piece(tag) for tag in wanted.tags] == [
        "<|zh|>",
        "<|NEUTRAL|>",
        "<|Speech|>",
        "<|woitn|>",
    ]


def test_no_speech_has_no_tokens(processor):
    wanted = target(processor, ("nospeech", "EMO_UNKNOWN", "BGM", "withitn"), [])
    assert wanted.tokens == []
    assert frame_tokens(wanted, 5).tolist() == [0, 0, 0, 0, 0]


def test_repeated_tokens_are_parted_by_a_blank():
    wanted = Target([], [5, 5, 6], [(0.0, 0.3), (0.3, 0.6), (0.6, 0.72)])
    assert frame_tokens(wanted, 14).tolist() == [5, 5, 5, 5, 0, 5, 5, 5, 5, 5, 6, 6, 0, 0]


def test_every_token_gets_a_frame_inside_the_clip():
    wanted = Target([], [7, 8], [(0.1, 0.1), (9.0, 9.5)])
    labels = frame_tokens(wanted, 6).tolist()
    assert labels.count(7) == 1
    assert labels[-1] == 8


def test_cmvn_file_is_read_back_by_the_engine(tmp_path):
    features = np.random.default_rng(0).normal(4, 3, (5000, 80)).astype(np.float16)
    cmvn = Cmvn.of(features)
    cmvn.write(tmp_path / "am.mvn")
    shift, scale = read_cmvn(tmp_path / "am.mvn")
    log_mel = np.random.default_rng(1).normal(4, 3, (50, 80)).astype(np.float32)
    raw = Cmvn(np.zeros(80, np.float32), np.ones(80, np.float32)).stacked(log_mel)
    torch.testing.assert_close(cmvn.stacked(log_mel), (raw + shift) * scale, rtol=1e-3, atol=1e-3)


def test_batches_are_bounded_and_shared_out():
    from pipelines.demo_model.dataset import Item, TrainingSet

    data = TrainingSet.__new__(TrainingSet)
    rng = random.Random(0)
    data.items = [Item(i, rng.randint(60, 400), "zh", {}) for i in range(300)]
    shares = [list(data.batches(random.Random(5), rank, 2, 200)) for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    seen = [item.offset for share in shares for batch in share for item in batch]
    assert len(seen) == len(set(seen)) >= 290
    for batch in shares[0] + shares[1]:
        assert max(item.stacked for item in batch) * len(batch) <= 200 + 6 * len(batch)
