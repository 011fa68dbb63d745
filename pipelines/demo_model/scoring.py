"""Scores of hypotheses against references: characters, language, emotion, event."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer


@dataclass(frozen=True, slots=True)
class Heard:
    """What a clip holds, as labelled or as recognised. Tags without their brackets."""

    text: str
    language: str
    emotion: str
    event: str


@dataclass(frozen=True, slots=True)
class Scores:
    """Shares between 0 and 1; None where no clip counts."""

    clips: int
    cer: float | None
    """Character error rate of clips with speech, spaces and case aside."""
    language: float | None
    emotion: float | None
    """Of clips with speech."""
    event: float | None
    empty: float | None
    """Share of clips without speech for which no text came out."""


def plain(text: str) -> str:
    return "".join(text.lower().split())


def score(references: Sequence[Heard], hypotheses: Sequence[Heard]) -> Scores:
    pairs = list(zip(references, hypotheses, strict=True))
    speech = [(wanted, got) for wanted, got in pairs if wanted.text]
    silent = [(wanted, got) for wanted, got in pairs if not wanted.text]
    cer = None
    if speech:
        cer = jiwer.cer(
            [plain(wanted.text) for wanted, _ in speech], [plain(got.text) for _, got in speech]
        )
    return Scores(
        clips=len(pairs),
        cer=cer,
        language=_share([wanted.language == got.language for wanted, got in pairs]),
        emotion=_share([wanted.emotion == got.emotion for wanted, got in speech]),
        event=_share([wanted.event == got.event for wanted, got in pairs]),
        empty=_share([not got.text for _, got in silent]),
    )


def _share(hits: Sequence[bool]) -> float | None:
    return sum(hits) / len(hits) if hits else None


def by_language(references: Sequence[Heard], hypotheses: Sequence[Heard]) -> dict[str, Scores]:
    """Scores of each reference language present, ``speech`` (all languages) and ``all``."""
    groups: dict[str, list[int]] = {}
    for i, wanted in enumerate(references):
        groups.setdefault(wanted.language, []).append(i)
        if wanted.text:
            groups.setdefault("speech", []).append(i)
        groups.setdefault("all", []).append(i)
    return {
        name: score([references[i] for i in members], [hypotheses[i] for i in members])
        for name, members in groups.items()
    }
