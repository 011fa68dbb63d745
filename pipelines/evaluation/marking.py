"""A reference and a hypothesis side by side, with what differs marked."""

from collections.abc import Sequence
from dataclasses import dataclass

import jiwer

MAX_UNITS = 300
"""Characters or words shown of one text; what differs further on is not marked."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a text.

    Attributes:
        change: what became of it: ``equal``, ``substitute``, ``delete`` (of the reference only) or
            ``insert`` (of the hypothesis only).
    """

    text: str
    change: str


@dataclass(frozen=True, slots=True)
class Marked:
    """Both texts in pieces.

    Attributes:
        separator: stands between pieces.
        hidden: units of the longer text that are not shown.
    """

    reference: list[Piece]
    hypothesis: list[Piece]
    separator: str
    hidden: int


def mark(reference: str, hypothesis: str, *, words: bool) -> Marked:
    """Align two normalised texts by words or else by characters, with the least edits."""
    align = jiwer.process_words if words else jiwer.process_characters
    units = [_units(reference, words), _units(hypothesis, words)]
    shown = [_joined(one[:MAX_UNITS], words) for one in units]
    aligned = align(shown[0], shown[1])
    (of_reference,), (of_hypothesis,) = aligned.references, aligned.hypotheses
    hidden = max(0, max(map(len, units)) - MAX_UNITS)
    marked = Marked([], [], " " if words else "", hidden)
    for chunk in aligned.alignments[0]:
        gone = of_reference[chunk.ref_start_idx : chunk.ref_end_idx]
        come = of_hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
        if gone:
            marked.reference.append(Piece(_joined(gone, words), chunk.type))
        if come:
            marked.hypothesis.append(Piece(_joined(come, words), chunk.type))
    return marked


def _units(text: str, words: bool) -> Sequence[str]:
    return text.split() if words else text.strip()


def _joined(units: Sequence[str], words: bool) -> str:
    return (" " if words else "").join(units)
