"""What counts as the same words: both sides of a comparison are normalised alike before errors are counted.

- Chinese, Cantonese, Japanese and Korean: compatibility forms are unified (NFKC: full and half width,
  combining dakuten, Korean jamo), case is folded, and all but letters and numbers is dropped: spaces,
  punctuation, symbols, marks left alone. A unit is a character; a Latin letter counts as one too.
- English: the rules of Whisper (Radford et al. 2022, appendix C) as ``whisper_normalizer`` keeps them:
  contractions, American spellings, fillers (``uh``) and bracketed annotations dropped. A unit is a word.
- Numerals stay as they are spoken, since hypotheses come without inverse text normalisation; a reference
  that writes digits where words were said counts as errors. English alone has both forms unified
  (``twenty one`` → ``21``; digits said one after another become one number, hence one unit).
- Simplified and traditional characters are different characters: references must be in the script that
  the model writes.
"""

import unicodedata
from functools import cache
from typing import Literal

from whisper_normalizer.english import EnglishTextNormalizer

METRICS: dict[str, Literal["CER", "WER"]] = {
    "zh": "CER",
    "yue": "CER",
    "ja": "CER",
    "ko": "CER",
    "en": "WER",
}
"""The customary error rate of each language."""

_APOSTROPHES = str.maketrans(dict.fromkeys("‘’ʼ", "'"))


def normalize(text: str, language: str | None) -> str:
    """Text in the form that is compared.

    Args:
        language: ``en`` takes the English rules; every other one, or none, those of characters.

    Returns:
        English words with single spaces between them; other languages without spaces. Empty where the
        text says nothing.
    """
    plain = unicodedata.normalize("NFKC", text)
    if language == "en":
        # Whisper's rules know contractions by the typewriter's apostrophe alone.
        return str(_english()(plain.translate(_APOSTROPHES))).strip()
    return "".join(
        character for character in plain.casefold() if unicodedata.category(character)[0] in "LN"
    )


def units(text: str, language: str | None) -> list[str]:
    """What errors are counted in: words of English, characters of other languages; see
    :func:`normalize`."""
    normal = normalize(text, language)
    return normal.split() if language == "en" else list(normal)


@cache
def _english() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()
