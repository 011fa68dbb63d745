"""An evaluation with everything in it, through the real measures."""

from typing import Any

import pytest

from pipelines.data.manifest import Utterance
from pipelines.evaluation import accuracy, comparison, tags
from pipelines.evaluation.hypothesis import Choice, Hypothesis
from pipelines.evaluation.results import (
    Evaluation,
    Gated,
    ParityResult,
    Speed,
    SpeedComparison,
    Verdict,
)

TEXTS = {
    "zh": ("打开客厅的灯", "打开客厅灯"),
    "yue": ("訂單號碼係零九", "訂單號碼係零九"),
    "ja": ("電気をつけて", "電気をけして"),
    "ko": ("불을켜주세요", "불을켜주세요"),
    "en": ("turn on the light", "turn the the lights"),
}
"""Language → what is said, and what the candidate hears."""

EMOTIONS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL")


def chosen(label: str, *others: str) -> Choice:
    rest = {other: 0.2 / len(others) for other in others if other != label}
    return Choice(label=label, confidence=0.8, distribution={**rest, label: 0.8})


def heard(utterance: Utterance, text: str, emotion: str) -> Hypothesis:
    return Hypothesis(
        utterance=utterance,
        text=text,
        language=chosen(str(utterance.language), "nospeech"),
        emotion=chosen(emotion, *EMOTIONS, "EMO_UNKNOWN"),
        event=chosen("Speech", "BGM"),
        duration=2.5,
        seconds=0.1,
    )


def hypotheses() -> tuple[list[Hypothesis], list[Hypothesis]]:
    """The candidate's and the champion's; the champion hears every word."""
    ours, theirs = [], []
    for language, (said, misheard) in TEXTS.items():
        for number, emotion in enumerate(EMOTIONS):
            utterance = Utterance(
                id=f"{language}-{number}",
                audio="a.wav",
                text=said,
                language=language,
                emotion=emotion,
                event="Speech",
                noise="clean" if number % 2 else "other",
            )
            text = misheard if number else said
            ours.append(heard(utterance, text, "SAD" if number == 2 else emotion))
            theirs.append(heard(utterance, said, emotion))
    ours[0] = Hypothesis(utterance=ours[0].utterance, error="InvalidAudio: <truncated> & damaged")
    return ours, theirs


def speed(**changes: float) -> Speed:
    values = {"real_time_factor": 0.04, "p50_s": 0.12, "p95_s": 0.2, "cold_start_s": 2.1}
    return Speed.model_validate({**values, "memory_mb": 412.0, **changes})


@pytest.fixture(scope="session")
def evaluation() -> Evaluation:
    """With champion, speed and parity."""
    ours, theirs = hypotheses()
    ratios: dict[str, Any] = dict.fromkeys(Speed.model_fields, 1.0)
    return Evaluation(
        model="a" * 64,
        data="b" * 64,
        champion="c" * 64,
        accuracy=accuracy.measure(ours),
        tags=tags.measure(ours),
        comparison=comparison.compare(ours, theirs),
        speed=SpeedComparison(
            machine="two CPUs",
            clips=20,
            audio_s=60.0,
            candidate=speed(p95_s=0.22),
            champion=speed(),
            ratios={**ratios, "p95_s": 1.1},
        ),
        parity=ParityResult(
            n_clips=33,
            seconds=170.0,
            parameters=1_234_567,
            features=4e-4,
            features_beyond=0.0,
            logits=2e-6,
            token_mismatches=0,
            batch_mismatches=0,
            held=True,
        ),
    )


@pytest.fixture(scope="session")
def bare_evaluation() -> Evaluation:
    """Of a set that nobody labelled, with nothing to compare."""
    silent = [Hypothesis(utterance=Utterance(id="a", audio="a.wav"), text="x", duration=1.0)]
    return Evaluation(
        model="a" * 64,
        data="b" * 64,
        champion="",
        accuracy=accuracy.measure(silent),
        tags=tags.measure(silent),
    )


@pytest.fixture(scope="session")
def gated() -> Gated:
    """Refused, with one verdict of each kind."""
    return Gated(
        verdicts=[
            Verdict(rule="cer zh", outcome="pass", reason="CER 2.10 % ≤ 8 %", refuses=False),
            Verdict(
                rule="speed", outcome="inconclusive", reason="× 1.10, bound 1.10", refuses=False
            ),
            Verdict(
                rule="wer en", outcome="fail", reason="WER +2.10 pp, at most +0.50 pp", refuses=True
            ),
        ],
    )
