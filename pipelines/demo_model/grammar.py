"""Sentences of five small languages: templates with slots, read from ``sentences/<language>.yaml``.

A slot's entry is ``written|spoken|itn``: the plain written form, what a synthesiser is given (default:
the written form) and the form with inverse text normalisation (digits; default: the written form).
``{written|spoken|itn}`` inside a template is the same for one word. Punctuation in a template belongs
to the normalised form only.
"""

import functools
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml
from pypinyin import Style, lazy_pinyin

LANGUAGES = ("zh", "en", "ja", "ko", "yue")

Split = Literal["train", "dev", "test"]

_SENTENCES = Path(__file__).parent / "sentences"
_PIECE = re.compile(r"<(?P<slot>\w+)>|\{(?P<word>[^}]*)\}|(?P<literal>[^<{]+)")
_PUNCTUATION = ",?，？、"
_FULL_STOP = {"zh": "。", "en": ".", "ja": "。", "ko": ".", "yue": "。"}
_DIGITS_PER_NUMBER = (3, 6)
_HASH_BUCKETS = 20
_TEST_BUCKETS = frozenset({0, 1})
_DEV_BUCKETS = frozenset({2})


@dataclass(frozen=True, slots=True)
class Unit:
    """A stretch of a sentence whose three forms belong together in time."""

    text: str
    spoken: str
    itn: str


@dataclass(frozen=True, slots=True)
class Sentence:
    language: str
    units: tuple[Unit, ...]

    @property
    def text(self) -> str:
        """Plain form: no punctuation, numbers as words, lower case."""
        return "".join(unit.text for unit in self.units)

    @property
    def spoken(self) -> str:
        """What the synthesiser reads: pinyin for zh, kana for ja, else the plain words."""
        return "".join(unit.spoken for unit in self.units)

    @property
    def itn(self) -> str:
        """Normalised form: digits, punctuation, capitals."""
        return "".join(unit.itn for unit in self.units)

    @property
    def split(self) -> Split:
        """Which split the sentence belongs to, by a hash of its text: no text is in two splits."""
        digest = hashlib.sha256(f"{self.language}:{self.text}".encode()).digest()
        bucket = int.from_bytes(digest[:4], "big") % _HASH_BUCKETS
        if bucket in _TEST_BUCKETS:
            return "test"
        return "dev" if bucket in _DEV_BUCKETS else "train"


@dataclass(frozen=True, slots=True)
class Grammar:
    language: str
    slots: dict[str, list[str]]
    templates: list[tuple[float, str]]

    def sample(self, rng: random.Random, split: Split | None = None) -> Sentence:
        """A random sentence, of ``split`` if one is given."""
        weights = [weight for weight, _ in self.templates]
        while True:
            (_, template) = rng.choices(self.templates, weights)[0]
            sentence = self._fill(template, rng)
            if split is None or sentence.split == split:
                return sentence

    def _fill(self, template: str, rng: random.Random) -> Sentence:
        units: list[Unit] = []
        for match in _PIECE.finditer(template):
            if match["slot"] == "digits":
                units += self._digits(rng)
            elif match["slot"]:
                units.append(self._unit(rng.choice(self.slots[match["slot"]])))
            elif match["word"]:
                units.append(self._unit(match["word"]))
            else:
                units += self._literal(match["literal"])
        ended = template[-1] in _PUNCTUATION
        stop = "" if ended else _FULL_STOP[self.language]
        units.append(Unit("", "", stop))
        return Sentence(self.language, tuple(_capitalised(units)))

    def _digits(self, rng: random.Random) -> list[Unit]:
        """Random digits: apart in speech, one number in the normalised form."""
        units = [
            self._unit(rng.choice(self.slots["digit"]))
            for _ in range(rng.randint(*_DIGITS_PER_NUMBER))
        ]
        gap = " " if self.language == "en" else ""
        return [
            Unit(unit.text + (gap if i < len(units) - 1 else ""), unit.spoken + " ", unit.itn)
            for i, unit in enumerate(units)
        ]

    def _literal(self, literal: str) -> list[Unit]:
        """Words (with their space) and punctuation marks of a template's fixed text."""
        parts = re.findall(rf"[{_PUNCTUATION}]|[^{_PUNCTUATION} ]+ ?| ", literal)
        return [Unit("", "", part) if part in _PUNCTUATION else self._unit(part) for part in parts]

    def _unit(self, entry: str) -> Unit:
        written, spoken, itn = (*entry.split("|"), "", "")[:3]
        itn = itn or written
        if self.language == "zh":
            # One syllable a character, so that time can be shared out between characters.
            syllables = lazy_pinyin(written, style=Style.TONE3, neutral_tone_with_five=True)
            return Unit(written, spoken or "".join(f"{syllable} " for syllable in syllables), itn)
        spoken = spoken or written
        if self.language == "en":
            return Unit(written.lower(), written, itn)
        if self.language == "ja":
            # Spaces only part the phrases for the synthesiser.
            return Unit(written.replace(" ", ""), spoken, itn.replace(" ", ""))
        return Unit(written, spoken, itn)


def _capitalised(units: list[Unit]) -> list[Unit]:
    """The units with the first letter of the normalised form in upper case."""
    for i, unit in enumerate(units):
        if unit.itn:
            first = Unit(unit.text, unit.spoken, unit.itn[0].upper() + unit.itn[1:])
            return [*units[:i], first, *units[i + 1 :]]
    return units


@functools.cache
def grammar(language: str) -> Grammar:
    """The grammar of one of :data:`LANGUAGES`."""
    content = yaml.safe_load((_SENTENCES / f"{language}.yaml").read_text(encoding="utf-8"))
    slots = {name: [str(entry) for entry in entries] for name, entries in content["slots"].items()}
    templates = [(float(weight), str(template)) for weight, template in content["templates"]]
    return Grammar(language, slots, templates)


def characters() -> set[str]:
    """Every character that any form of any sentence can hold, the space left out."""
    found: set[str] = set(_FULL_STOP.values())
    for language in LANGUAGES:
        rng = random.Random(f"characters-{language}")
        for _ in range(4000):
            sentence = grammar(language).sample(rng)
            found.update(sentence.text, sentence.itn)
    return found - {" "}
