"""Tokens → words and text; segments → text with emoji."""

import math
import unicodedata
from collections.abc import Iterable, Sequence

from predictor.engine.decoding import Token
from predictor.engine.tokenizer import WORD_START, Tokenizer, is_unspaced
from predictor.engine.types import Segment, Word

EMOTION_EMOJI = {
    "HAPPY": "😊",
    "SAD": "😔",
    "ANGRY": "😡",
    "FEARFUL": "😰",
    "DISGUSTED": "🤢",
    "SURPRISED": "😮",
}
EVENT_EMOJI = {
    "BGM": "🎼",
    "Applause": "👏",
    "Laughter": "😀",
    "Cry": "😭",
    "Sneeze": "🤧",
    "Cough": "🤧",
}


def is_punctuation(text: str) -> bool:
    return all(unicodedata.category(character)[0] in "PS" for character in text)


def words(
    tokens: Sequence[Token], tokenizer: Tokenizer, start: float, frame_seconds: float, delay: float
) -> tuple[Word, ...]:
    """Group text tokens into words; a token of Chinese or Japanese script is a word of its own.

    A word's times are those of its tokens' runs on the CTC path. Punctuation joins the word it touches
    and does not move its times; punctuation that stands alone has no times, for the path says nothing
    about them.

    Args:
        tokens: of one clip, frames counted from the clip's start.
        tokenizer: gives the pieces.
        start: seconds at which the clip starts in the file.
        frame_seconds: seconds from one frame to the next.
        delay: seconds from a clip's start to the middle of its first frame.
    """
    groups: list[tuple[str, list[Token]]] = []
    space = True
    for token in tokens:
        if not tokenizer.is_text(token.id):
            continue
        piece = tokenizer.piece(token.id)
        text = piece.replace(WORD_START, " ")
        space = space or text.startswith(" ")
        text = text.strip()
        if not text:
            continue
        apart = space and bool(groups) and not is_unspaced(groups[-1][0][-1])
        if groups and is_punctuation(text) and not apart:
            before, members = groups[-1]
            groups[-1] = (before + text, members)
        elif (
            groups and not space and not is_unspaced(text[0]) and not is_unspaced(groups[-1][0][-1])
        ):
            before, members = groups[-1]
            groups[-1] = (before + text, [*members, token])
        else:
            groups.append((text, [] if is_punctuation(text) else [token]))
        space = piece.endswith(WORD_START)

    def seconds(frame: float) -> float:
        return start + max(0.0, frame * frame_seconds + delay)

    return tuple(
        Word(
            text,
            seconds(members[0].start - 0.5) if members else None,
            seconds(members[-1].end - 0.5) if members else None,
            _geometric_mean(token.confidence for token in members),
        )
        for text, members in groups
    )


def _geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(max(value, 1e-12)) for value in values]
    return math.exp(sum(logs) / len(logs)) if logs else 0.0


def join_texts(texts: Iterable[str]) -> str:
    """Texts of consecutive segments as one text: a space between them unless a script without spaces
    meets at the joint."""
    joined = ""
    for text in filter(None, texts):
        spaced = joined and not is_unspaced(joined[-1]) and not is_unspaced(text[0])
        spaced = spaced and not _is_wide_punctuation(joined[-1])
        joined += (" " if spaced else "") + text
    return joined


def _is_wide_punctuation(character: str) -> bool:
    return is_punctuation(character) and unicodedata.east_asian_width(character) in "WF"


def rich(segments: Sequence[Segment]) -> str:
    """Text with the event's emoji in front and the emotion's behind, segment by segment.

    The form is that of FunASR's ``rich_transcription_postprocess``: an event is not repeated in the
    segment right after it, an emotion stands once behind the last of the segments that share it.
    """
    out = ""
    shown_event = ""
    for segment in segments:
        event = EVENT_EMOJI.get(segment.event.label, "")
        if event == shown_event:
            event = ""
        emotion = EMOTION_EMOJI.get(segment.emotion.label, "")
        text = event + segment.text.strip() + emotion
        if not text:
            continue
        shown_event = event
        if emotion and out.endswith(emotion):
            out = out.removesuffix(emotion)
        out += text
    return out
