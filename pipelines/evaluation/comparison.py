"""Is the candidate better than the champion, or is it noise? Both on the same utterances."""

from collections.abc import Sequence
from itertools import groupby
from typing import get_args

from pipelines.evaluation.accuracy import Alignment, align
from pipelines.evaluation.bootstrap import ratio
from pipelines.evaluation.hypothesis import Hypothesis
from pipelines.evaluation.normalization import normalize
from pipelines.evaluation.results import Comparison, Difference, Flip
from pipelines.evaluation.tags import Kind, Protocol, answers, label

PROTOCOLS: tuple[Protocol, ...] = ("language", "emotion_four", "event")
"""What accuracies are compared in."""

NAMED = 5
"""Utterances that an error names."""


def compare(candidate: Sequence[Hypothesis], champion: Sequence[Hypothesis]) -> Comparison:
    """Differences with paired bootstrap intervals: an utterance is drawn for both models at once.

    Args:
        candidate, champion: tables over the same utterances, in any order.

    Raises:
        ValueError: the tables are empty, hold different utterances, or label them differently; names
            them.
    """
    champion = _in_order(candidate, champion)
    return Comparison(
        error_rates=_error_rates(align(candidate), align(champion)),
        tags={
            protocol: difference
            for protocol in PROTOCOLS
            if (difference := _tag_difference(candidate, champion, protocol))
        },
        flips=[
            flip
            for ours, theirs in zip(candidate, champion, strict=True)
            for flip in _flips(ours, theirs)
        ],
        changed_texts=sum(map(_text_differs, candidate, champion)) / len(candidate),
    )


def _in_order(candidate: Sequence[Hypothesis], champion: Sequence[Hypothesis]) -> list[Hypothesis]:
    """The champion's rows in the candidate's order."""
    ours = {one.utterance.id: one for one in candidate}
    theirs = {one.utterance.id: one for one in champion}
    if not ours:
        raise ValueError("the candidate's table holds no utterances")
    for owner, alone in (("candidate", ours.keys() - theirs), ("champion", theirs.keys() - ours)):
        if alone:
            raise ValueError(f"only the {owner}'s table holds {_names(alone)}")
    relabelled = {key for key in ours if ours[key].utterance != theirs[key].utterance}
    if relabelled:
        raise ValueError(f"candidate's and champion's labels differ for {_names(relabelled)}")
    return [theirs[key] for key in ours]


def _names(ids: set[str]) -> str:
    named = ", ".join(map(repr, sorted(ids)[:NAMED]))
    more = f" and {len(ids) - NAMED} more" if len(ids) > NAMED else ""
    return f"{len(ids)} utterance{'s' if len(ids) > 1 else ''}: {named}{more}"


def _error_rates(
    candidate: Sequence[Alignment], champion: Sequence[Alignment]
) -> dict[str, Difference]:
    pairs = sorted(zip(candidate, champion, strict=True), key=lambda pair: pair[0].language)
    return {
        language: _difference(
            [ours.errors for ours, _ in members],
            [theirs.errors for _, theirs in members],
            [ours.units for ours, _ in members],
        )
        for language, group in groupby(pairs, key=lambda pair: pair[0].language)
        if (members := list(group))
    }


def _tag_difference(
    candidate: Sequence[Hypothesis], champion: Sequence[Hypothesis], protocol: Protocol
) -> Difference | None:
    ours = [one.correct for one in answers(candidate, protocol)]
    theirs = [one.correct for one in answers(champion, protocol)]
    return _difference(ours, theirs, [1] * len(ours)) if ours else None


def _difference(ours: Sequence[int], theirs: Sequence[int], weights: Sequence[int]) -> Difference:
    total = sum(weights)
    return Difference(
        candidate=sum(ours) / total,
        champion=sum(theirs) / total,
        delta=ratio([a - b for a, b in zip(ours, theirs, strict=True)], weights),
        utterances=len(weights),
    )


def _flips(ours: Hypothesis, theirs: Hypothesis) -> list[Flip]:
    kinds: tuple[Kind, ...] = get_args(Kind)
    return [
        Flip(
            id=ours.utterance.id,
            kind=kind,
            reference=getattr(ours.utterance, kind),
            champion=label(theirs, kind),
            candidate=label(ours, kind),
        )
        for kind in kinds
        if label(ours, kind) != label(theirs, kind)
    ]


def _text_differs(ours: Hypothesis, theirs: Hypothesis) -> bool:
    language = ours.utterance.language
    return normalize(ours.text, language) != normalize(theirs.text, language)
