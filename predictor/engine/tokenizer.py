"""Token ids ⇄ text, and the special tokens, by name.

The tokenizer is the checkpoint's sentencepiece model. Special tokens are looked up by piece name, never
by number: the numbers differ from one vocabulary to the next.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from sentencepiece import SentencePieceProcessor

from predictor.engine.errors import InvalidModel
from predictor.engine.types import NO_SPEECH, SPOKEN_LANGUAGES

BLANK_ID = 0
"""The CTC blank; the sentencepiece model's <unk> has the same id and is never emitted."""

WORD_START = "\u2581"
"""sentencepiece's mark of a space in front of a piece."""

LANGUAGE_LABELS = (*SPOKEN_LANGUAGES, NO_SPEECH)
UNKNOWN_EMOTION = "EMO_UNKNOWN"
EMOTION_LABELS = (
    "HAPPY",
    "SAD",
    "ANGRY",
    "NEUTRAL",
    "FEARFUL",
    "DISGUSTED",
    "SURPRISED",
    "OTHER",
    UNKNOWN_EMOTION,
)
UNKNOWN_EVENT = "Event_UNK"
EVENT_LABELS = (
    "Speech",
    "BGM",
    "Laughter",
    "Applause",
    "Cry",
    "Sneeze",
    "Breath",
    "Cough",
    "Sing",
    "Speech_Noise",
    "GBG",
    UNKNOWN_EVENT,
)


def is_unspaced(character: str) -> bool:
    """Whether a character belongs to a script written without spaces (Chinese, Japanese)."""
    name = unicodedata.name(character, "")
    return name.startswith(("CJK ", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "IDEOGRAPHIC"))


class Tokenizer:
    """A sentencepiece model with SenseVoice's special tokens.

    Raises:
        InvalidModel: the file is no sentencepiece model, or lacks a tag's token.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise InvalidModel(f"{path.name}: not a sentencepiece model") from error
        self.vocab_size: int = self._processor.get_piece_size()
        try:
            self._pieces: list[str] = [
                self._processor.id_to_piece(index) for index in range(self.vocab_size)
            ]
        except UnicodeDecodeError as error:
            raise InvalidModel(f"{path.name}: a piece is not UTF-8") from error
        self._special = {
            index
            for index, piece in enumerate(self._pieces)
            if (piece.startswith("<|") and piece.endswith("|>"))
            or self._processor.is_control(index)
            or index == BLANK_ID
        }
        self.languages = self._ids(LANGUAGE_LABELS)
        self.emotions = self._ids(EMOTION_LABELS)
        self.events = self._ids(EVENT_LABELS)

    def _ids(self, labels: Iterable[str]) -> dict[str, int]:
        ids = {}
        for label in labels:
            index: int = self._processor.piece_to_id(f"<|{label}|>")
            if index == self._processor.unk_id():
                raise InvalidModel(f"tokenizer: no token <|{label}|>; not a SenseVoice vocabulary")
            ids[label] = index
        return ids

    def is_text(self, token_id: int) -> bool:
        """Whether a token stands for text: not blank, not a tag, not a control symbol."""
        return token_id not in self._special

    def starts_word(self, token_id: int) -> bool:
        """Whether a token begins a word: a space in front of it, or a script without spaces."""
        piece = self._pieces[token_id]
        return piece.startswith(WORD_START) or is_unspaced(piece[0])

    def piece(self, token_id: int) -> str:
        """The piece as sentencepiece writes it, spaces as U+2581."""
        return self._pieces[token_id]

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._processor.encode(text)
        return ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of token ids; ids that are not text are left out."""
        text: str = self._processor.decode([index for index in token_ids if self.is_text(index)])
        return text.strip()
