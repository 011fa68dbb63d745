"""Best paths → tokens with frames and confidences; tag logits → the three tags with probabilities.

Decoding is greedy CTC (Graves et al. 2006): the best token of each frame, repeats collapsed, blanks
dropped.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from predictor.engine.network import BestPath
from predictor.engine.tokenizer import BLANK_ID, Tokenizer
from predictor.engine.types import Tag

LANGUAGE_FRAME, EMOTION_FRAME, EVENT_FRAME = 0, 1, 2

SEAM_FRAMES = 3
"""How far apart two windows may place the same token: CTC paths waver by a frame or two."""


@dataclass(frozen=True, slots=True)
class Token:
    """One emitted token.

    Attributes:
        id: vocabulary id.
        start: first frame of its run on the best path, counted from the clip's first speech frame.
        end: the frame after its run.
        confidence: mean softmax probability over the run, in [0, 1].
    """

    id: int
    start: int
    end: int
    confidence: float

    @property
    def middle(self) -> float:
        return (self.start + self.end) / 2

    def shifted(self, frames: int) -> "Token":
        return replace(self, start=self.start + frames, end=self.end + frames)


@dataclass(frozen=True, slots=True)
class Tags:
    """The three tags of one clip, each with its full distribution."""

    language: Tag
    emotion: Tag
    event: Tag


def collapse(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """Best path → (token id, first frame, frame after the last) of each run that is not blank."""
    runs: list[tuple[int, int, int]] = []
    start = 0
    for frame in range(1, len(path) + 1):
        if frame == len(path) or path[frame] != path[start]:
            if path[start] != BLANK_ID:
                runs.append((path[start], start, frame))
            start = frame
    return runs


def decode_tokens(path: BestPath) -> list[Token]:
    """Best path over one clip's speech frames → its tokens."""
    return [
        Token(token_id, start, end, float(np.exp(path.log_probabilities[start:end]).mean()))
        for token_id, start, end in collapse(path.ids.tolist())
    ]


def decode_tags(
    logits: NDArray[np.float32],
    tokenizer: Tokenizer,
    languages: Collection[str],
    excluded_emotions: Collection[str] = (),
) -> Tags:
    """The tags of one clip.

    Args:
        logits: float32 [4, vocab_size], of the four query frames.
        tokenizer: gives the ids of the labels.
        languages: language labels to choose among.
        excluded_emotions: emotion labels never to choose.
    """
    emotions = {k: v for k, v in tokenizer.emotions.items() if k not in excluded_emotions}
    return Tags(
        _choose(logits[LANGUAGE_FRAME], {label: tokenizer.languages[label] for label in languages}),
        _choose(logits[EMOTION_FRAME], emotions),
        _choose(logits[EVENT_FRAME], tokenizer.events),
    )


def _choose(logits: NDArray[np.float32], labels: Mapping[str, int]) -> Tag:
    """Softmax of one frame's logits [vocab] over the labels' ids."""
    chosen = logits[list(labels.values())].astype(np.float64)
    exponentials = np.exp(chosen - chosen.max())
    probabilities = dict(zip(labels, (exponentials / exponentials.sum()).tolist(), strict=True))
    label = max(probabilities, key=probabilities.__getitem__)
    return Tag(label, probabilities[label], probabilities)


def join(
    left: Sequence[Token],
    right: Sequence[Token],
    start: int,
    end: int,
    starts_word: Callable[[int], bool],
) -> tuple[list[Token], list[Token]]:
    """Share the tokens of two overlapping windows out between them.

    Both windows heard frames ``start`` to ``end``. Their tokens there are aligned, and the seam is put
    behind the agreeing token nearest the middle, before a new word where there is one, so that no
    token is lost or doubled. Where they agree on nothing, each window keeps its own half.

    Args:
        left: tokens of the earlier window.
        right: tokens of the later window, frames counted as ``left``'s are.
        start: first shared frame.
        end: frame after the last shared one.
        starts_word: whether a token id begins a new word.

    Returns:
        What the left window keeps, and what the right window keeps.
    """
    middle = (start + end) / 2
    agreeing = [
        (i, j)
        for i, one in enumerate(left)
        for j, other in enumerate(right)
        if one.end > start and other.start < end
        # By time too: the same word may be said twice in the overlap.
        if one.id == other.id and abs(one.middle - other.middle) <= SEAM_FRAMES
    ]

    def preference(pair: tuple[int, int]) -> tuple[bool, float, float]:
        one, other = left[pair[0]], right[pair[1]]
        whole_word = pair[1] + 1 == len(right) or starts_word(right[pair[1] + 1].id)
        apart = int(abs(one.middle - other.middle))
        return not whole_word, apart, abs(one.middle - middle)

    if agreeing:
        at, right_at = min(agreeing, key=preference)
        return list(left[: at + 1]), list(right[right_at + 1 :])
    return (
        [token for token in left if token.middle < middle],
        [token for token in right if token.middle >= middle],
    )
