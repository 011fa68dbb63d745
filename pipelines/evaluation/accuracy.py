"""Word and character error rates, by language and slice of the data."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import jiwer

from pipelines.evaluation.bootstrap import ratio
from pipelines.evaluation.hypothesis import Hypothesis
from pipelines.evaluation.normalization import METRICS, normalize, units
from pipelines.evaluation.results import Accuracy, ErrorRate, Failure, Worst

DURATIONS = ("0-2 s", "2-5 s", "5-10 s", "10-30 s", "30 s or more")
_EDGES = (2.0, 5.0, 10.0, 30.0)
"""Seconds; each slice holds its lower edge."""

WORST = 20
"""Utterances to look at."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """An utterance with words, its errors counted.

    Attributes:
        language: of the reference, a key of :data:`~pipelines.evaluation.normalization.METRICS`.
        units: of the reference, at least 1.
        substitutions, deletions, insertions: of the shortest edit (Levenshtein).
    """

    hypothesis: Hypothesis
    language: str
    units: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions


def align(hypotheses: Iterable[Hypothesis]) -> list[Alignment]:
    """Every utterance whose reference says anything, in order. One without a transcript has all its units
    deleted.

    Raises:
        ValueError: a reference with words in a language that has no error rate; names the utterance.
    """
    return list(_alignments(hypotheses))


def _alignments(hypotheses: Iterable[Hypothesis]) -> Iterator[Alignment]:
    for one in hypotheses:
        utterance, language = one.utterance, one.utterance.language
        reference = units(utterance.text or "", language)
        if not reference:
            continue
        if language not in METRICS:
            known = ", ".join(METRICS)
            raise ValueError(
                f"utterance {utterance.id!r}: text with language {language!r}, known are {known}"
            )
        # jiwer takes units with spaces between them.
        output = jiwer.process_words(" ".join(reference), " ".join(units(one.text, language)))
        yield Alignment(
            hypothesis=one,
            language=language,
            units=len(reference),
            substitutions=output.substitutions,
            deletions=output.deletions,
            insertions=output.insertions,
        )


def measure(hypotheses: Sequence[Hypothesis]) -> Accuracy:
    """Error rates of a table. Utterances whose text nobody knows are not counted.

    A reference that says nothing (empty, or fillers alone) is silent: it has no error rate, and it is told
    how often a text was made up. The duration of what could not be transcribed is unknown, so such an
    utterance counts in every slice but those of duration.

    Raises:
        ValueError: see :func:`align`.
    """
    aligned = align(hypotheses)
    silent = [
        one
        for one in hypotheses
        if one.utterance.text is not None and not _says(one, one.utterance.text)
    ]
    return Accuracy(
        languages=_rates((one.language, one) for one in aligned),
        slices={
            kind: _rates((f"{one.language} {value}", one) for one, value in members)
            for kind, members in _slices(aligned).items()
        },
        worst=_worst(aligned),
        failures=[Failure(id=one.utterance.id, error=one.error) for one in hypotheses if one.error],
        silent_utterances=len(silent),
        silent_with_text=sum(_says(one, one.text) for one in silent),
    )


def _says(one: Hypothesis, text: str) -> bool:
    return bool(normalize(text, one.utterance.language))


def _rates(members: Iterable[tuple[str, Alignment]]) -> dict[str, ErrorRate]:
    groups: dict[str, list[Alignment]] = defaultdict(list)
    for name, one in members:
        groups[name].append(one)
    return {name: error_rate(groups[name]) for name in sorted(groups)}


def error_rate(aligned: Sequence[Alignment]) -> ErrorRate:
    """The corpus-level rate of utterances in one language, at least one."""
    return ErrorRate(
        metric=METRICS[aligned[0].language],
        utterances=len(aligned),
        units=sum(one.units for one in aligned),
        substitutions=sum(one.substitutions for one in aligned),
        deletions=sum(one.deletions for one in aligned),
        insertions=sum(one.insertions for one in aligned),
        rate=ratio([one.errors for one in aligned], [one.units for one in aligned]),
    )


def _slices(aligned: Sequence[Alignment]) -> dict[str, list[tuple[Alignment, str]]]:
    """Kind → its utterances, each with its value; utterances without one are left out."""
    slices: dict[str, list[tuple[Alignment, str]]] = {"duration": [], "noise": [], "emotion": []}
    for one in aligned:
        hypothesis, utterance = one.hypothesis, one.hypothesis.utterance
        if not hypothesis.error:
            duration = DURATIONS[bisect_right(_EDGES, hypothesis.duration)]
            slices["duration"].append((one, duration))
        if utterance.noise:
            slices["noise"].append((one, utterance.noise))
        if utterance.emotion:
            slices["emotion"].append((one, utterance.emotion))
    return slices


def _worst(aligned: Sequence[Alignment]) -> list[Worst]:
    wrong = [one for one in aligned if one.errors]
    wrong.sort(key=lambda one: (-one.errors, one.units, one.hypothesis.utterance.id))
    return [
        Worst(
            id=one.hypothesis.utterance.id,
            language=one.language,
            reference=normalize(one.hypothesis.utterance.text or "", one.language),
            hypothesis=normalize(one.hypothesis.text, one.language),
            errors=one.errors,
            rate=one.errors / one.units,
        )
        for one in wrong[:WORST]
    ]
