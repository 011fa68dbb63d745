"""The demo model's vocabulary: single characters for zh, ja, ko and yue, byte-pair merges for English,
and SenseVoiceSmall's special tokens in its own order at the end."""

import io
import random
import struct
from pathlib import Path

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from pipelines.demo_model.grammar import characters, grammar

ENGLISH_MERGES = 650
"""Enough to make most words one token: there must be fewer tokens than 60 ms frames."""

_SPECIAL_TOKENS = Path(__file__).with_name("special_tokens.txt")
_USER_DEFINED = 4
"""``SentencePiece.Type.USER_DEFINED`` of ``sentencepiece_model.proto``."""


def special_tokens() -> list[str]:
    """Names of SenseVoiceSmall's last 171 tokens, in order (languages, events, emotions, ...)."""
    return _SPECIAL_TOKENS.read_text(encoding="utf-8").split()


def train(path: Path) -> None:
    """Write the sentencepiece model: <unk> 0 (the CTC blank), <s> 1, </s> 2."""
    rng = random.Random("tokenizer")
    sentences = [grammar("en").sample(rng, "train") for _ in range(6000)]
    lines = [form for sentence in sentences for form in (sentence.text, sentence.itn)]
    required = sorted(characters())
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type="bpe",
        vocab_size=3 + len(required) + ENGLISH_MERGES,
        hard_vocab_limit=False,
        required_chars="".join(required),
        character_coverage=1.0,
        normalization_rule_name="identity",
        split_digits=True,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue() + b"".join(_serialised(token) for token in special_tokens()))


def _serialised(token: str) -> bytes:
    """``token`` as one more entry of ``ModelProto.pieces``.

    A repeated field of a protocol buffer grows by appending entries to the serialised message, so the
    generated protobuf classes, which are bound to one protobuf version, are not needed.
    """
    name = token.encode()
    piece = b"\x0a" + bytes([len(name)]) + name  # field 1: piece
    piece += b"\x15" + struct.pack("<f", 0.0)  # field 2: score
    piece += b"\x18" + bytes([_USER_DEFINED])  # field 3: type
    return b"\x0a" + bytes([len(piece)]) + piece


def load(path: Path) -> SentencePieceProcessor:
    return SentencePieceProcessor(model_file=str(path))
