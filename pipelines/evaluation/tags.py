"""How well language, emotion and event are recognised, and what their probabilities are worth."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from sklearn.metrics import confusion_matrix, f1_score

from pipelines.evaluation.bootstrap import mean_recall, ratio
from pipelines.evaluation.calibration import calibration_error, reliability
from pipelines.evaluation.hypothesis import Choice, Hypothesis
from pipelines.evaluation.results import Classification, Tags
from predictor.engine.tokenizer import UNKNOWN_EMOTION

FOUR_EMOTIONS = ("HAPPY", "SAD", "ANGRY", "NEUTRAL")
"""The classes of SenseVoice's published emotion table."""

FAILED = "ERROR"
"""Stands for the answer where there is no transcript: wrong, whatever the reference."""

Kind: TypeAlias = Literal["language", "emotion", "event"]
Protocol: TypeAlias = Literal["language", "emotion_four", "emotion_open", "event"]


@dataclass(frozen=True, slots=True)
class Answer:
    """A tag beside its reference; ``confidence`` is None where there is no transcript."""

    reference: str
    label: str
    confidence: float | None

    @property
    def correct(self) -> bool:
        return self.label == self.reference


def label(hypothesis: Hypothesis, kind: Kind) -> str:
    """The label that was recognised; ERROR where there is no transcript."""
    choice: Choice | None = getattr(hypothesis, kind)
    return choice.label if choice else FAILED


def answers(hypotheses: Sequence[Hypothesis], protocol: Protocol) -> list[Answer]:
    """The utterances that count under a protocol, in order.

    An utterance without a label does not count. EMO_UNKNOWN says that nobody can tell the emotion: as a
    reference it is no label, as an answer it is wrong.
    """
    counted = _COUNTED[protocol]
    return [answer for one in hypotheses if (answer := counted(one))]


def measure(hypotheses: Sequence[Hypothesis]) -> Tags:
    """Every kind of tag over a table. What could not be transcribed counts as wrong."""
    return Tags(
        language=classify(answers(hypotheses, "language")),
        emotion_four=classify(answers(hypotheses, "emotion_four")),
        emotion_open=classify(answers(hypotheses, "emotion_open")),
        event=classify(answers(hypotheses, "event")),
    )


def classify(answered: Sequence[Answer]) -> Classification | None:
    """All measures of one kind of tag; None where nothing counts. Calibration is that of the answers
    which have a confidence."""
    if not answered:
        return None
    references = [one.reference for one in answered]
    predictions = [one.label for one in answered]
    hits = [one.correct for one in answered]
    classes = sorted(set(references))
    labels = sorted({*references, *predictions})

    def f1(average: str | None) -> list[float]:
        scores = f1_score(
            references, predictions, labels=classes, average=average, zero_division=0.0
        )
        return [float(score) for score in (scores if average is None else [scores])]

    told = [(one.confidence, one.correct) for one in answered if one.confidence is not None]
    bins = reliability([confidence for confidence, _ in told], [correct for _, correct in told])
    return Classification(
        labels=labels,
        confusion=confusion_matrix(references, predictions, labels=labels).tolist(),
        utterances=len(answered),
        weighted_accuracy=ratio(hits, [1] * len(hits)),
        unweighted_accuracy=mean_recall([classes.index(one) for one in references], hits),
        macro_f1=f1("macro")[0],
        weighted_f1=f1("weighted")[0],
        f1=dict(zip(classes, f1(None), strict=True)),
        calibration_error=calibration_error(bins),
        reliability=bins,
    )


def _answer(reference: str | None, choice: Choice | None) -> Answer | None:
    if reference is None:
        return None
    if choice is None:
        return Answer(reference, FAILED, None)
    return Answer(reference, choice.label, choice.confidence)


def _language(one: Hypothesis) -> Answer | None:
    return _answer(one.utterance.language, one.language)


def _event(one: Hypothesis) -> Answer | None:
    return _answer(one.utterance.event, one.event)


def _emotion_open(one: Hypothesis) -> Answer | None:
    known = one.utterance.emotion != UNKNOWN_EMOTION
    return _answer(one.utterance.emotion, one.emotion) if known else None


def _emotion_four(one: Hypothesis) -> Answer | None:
    """SenseVoice issue 31: the most probable of the four classes, all others banned."""
    if one.utterance.emotion not in FOUR_EMOTIONS:
        return None
    return _answer(one.utterance.emotion, one.emotion and _among_four(one.emotion))


def _among_four(emotion: Choice) -> Choice:
    four = {name: emotion.distribution[name] for name in FOUR_EMOTIONS}
    total = sum(four.values())
    # Four zeros: the softmax left nothing for them, and all are alike.
    shares = {name: share / total if total else 0.25 for name, share in four.items()}
    best = max(shares, key=shares.__getitem__)
    return Choice(label=best, confidence=shares[best], distribution=shares)


_COUNTED: dict[Protocol, Callable[[Hypothesis], Answer | None]] = {
    "language": _language,
    "emotion_four": _emotion_four,
    "emotion_open": _emotion_open,
    "event": _event,
}
