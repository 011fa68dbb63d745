"""What the network heard in a recording's clips → its transcript."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from predictor.engine import rich_text
from predictor.engine.decoding import Tags, Token, join
from predictor.engine.recording import Recording
from predictor.engine.tokenizer import UNKNOWN_EMOTION, UNKNOWN_EVENT, Tokenizer
from predictor.engine.types import (
    NO_SPEECH,
    Segment,
    StageTimes,
    Tag,
    TranscribeOptions,
    Transcript,
    Word,
)

HALF_WINDOW_SECONDS = 0.0125
"""Middle of the first 25 ms analysis window, where frame 0 is centred."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What the network heard in one clip; holds no audio.

    Attributes:
        origin: seconds in the file at which frame 0 of the tokens starts.
        start: seconds in the file from which the text counts.
        end: seconds in the file up to which it counts.
        speech: False where the voice activity detector heard nobody: text is not to be trusted.
        channel: as the clip's.
        tokens: emitted tokens, frames counted from the clip's start.
        tags: language, emotion and event with their distributions.
        times: the clip's share of its batch's seconds in features, encoder and decoding.
    """

    origin: float
    start: float
    end: float
    speech: bool
    channel: int | None
    tokens: tuple[Token, ...]
    tags: Tags
    times: StageTimes


def assemble(
    recording: Recording,
    hypotheses: Sequence[Hypothesis],
    tokenizer: Tokenizer,
    frame_seconds: float,
) -> Transcript:
    """The hypotheses of a recording's clips, in the clips' order → its transcript.

    Args:
        recording: exhausted.
        hypotheses: one for each of its clips.
        tokenizer: gives text and pieces.
        frame_seconds: seconds from one frame to the next.
    """
    options = recording.options
    if options.segmentation == "overlap":
        hypotheses = _joined(hypotheses, tokenizer, frame_seconds)
    segments = sorted(
        (
            _whole_segment(hypothesis, options, tokenizer, frame_seconds)
            for hypothesis in hypotheses
        ),
        key=lambda segment: segment.start,
    )
    return Transcript(
        text=rich_text.join_texts(segment.text for segment in segments),
        language=_overall([s.language for s in segments], segments, NO_SPEECH, options),
        emotion=_overall([s.emotion for s in segments], segments, UNKNOWN_EMOTION, options),
        event=_overall([s.event for s in segments], segments, UNKNOWN_EVENT, options),
        duration=recording.duration,
        segments=(
            None
            if options.timestamps == "none"
            else tuple(_as_asked(segment, options) for segment in segments)
        ),
        rich=rich_text.rich(segments) if options.rich else None,
        times=sum((hypothesis.times for hypothesis in hypotheses), recording.times),
    )


def segment(
    hypothesis: Hypothesis, options: TranscribeOptions, tokenizer: Tokenizer, frame_seconds: float
) -> Segment:
    """One hypothesis by itself → its segment, as :func:`assemble` gives it. Not for overlapping windows,
    whose tokens depend on their neighbours."""
    return _as_asked(_whole_segment(hypothesis, options, tokenizer, frame_seconds), options)


def _joined(
    hypotheses: Sequence[Hypothesis], tokenizer: Tokenizer, frame_seconds: float
) -> list[Hypothesis]:
    """Neighbouring windows of a channel share the tokens of their overlap out among them."""
    out: list[Hypothesis] = []
    last: dict[int | None, int] = {}
    for right in hypotheses:
        index = last.get(right.channel)
        last[right.channel] = len(out)
        if index is not None and out[index].end > right.start:
            left = out[index]
            offset = round((right.origin - left.origin) / frame_seconds)
            shared_end = round((left.end - left.origin) / frame_seconds)
            moved = [token.shifted(offset) for token in right.tokens]
            left_tokens, right_tokens = join(
                left.tokens, moved, offset, shared_end, tokenizer.starts_word
            )
            seam = (left.end + right.start) / 2
            if left_tokens:
                seam = max(seam, left.origin + left_tokens[-1].end * frame_seconds)
            if right_tokens:
                seam = min(seam, left.origin + right_tokens[0].start * frame_seconds)
            out[index] = replace(left, tokens=tuple(left_tokens), end=seam)
            right = replace(
                right,
                tokens=tuple(token.shifted(-offset) for token in right_tokens),
                start=seam,
            )
        out.append(right)
    return out


def _whole_segment(
    hypothesis: Hypothesis, options: TranscribeOptions, tokenizer: Tokenizer, frame_seconds: float
) -> Segment:
    tokens = hypothesis.tokens if hypothesis.speech else ()
    words: tuple[Word, ...] | None = None
    if options.timestamps == "word":
        words = rich_text.words(
            tokens, tokenizer, hypothesis.origin, frame_seconds, HALF_WINDOW_SECONDS
        )
        # The last frame reaches past the audio's end, which it was padded to.
        words = tuple(
            word if word.end is None else replace(word, end=min(word.end, hypothesis.end))
            for word in words
        )
    return Segment(
        start=hypothesis.start,
        end=hypothesis.end,
        text=tokenizer.decode([token.id for token in tokens]),
        language=hypothesis.tags.language if hypothesis.speech else _certain(NO_SPEECH),
        emotion=hypothesis.tags.emotion,
        event=hypothesis.tags.event,
        words=words,
        channel=hypothesis.channel,
    )


def _certain(label: str) -> Tag:
    return Tag(label, 1.0, {label: 1.0})


def _overall(
    tags: Sequence[Tag], segments: Sequence[Segment], default: str, options: TranscribeOptions
) -> Tag:
    """One tag for the whole audio: the segments' distributions averaged by duration."""
    seconds = [segment.end - segment.start for segment in segments]
    total = sum(seconds)
    if not total:
        return _as_asked_tag(_certain(default), options)
    mean: dict[str, float] = {}
    for tag, weight in zip(tags, seconds, strict=True):
        for label, probability in (tag.distribution or {}).items():
            mean[label] = mean.get(label, 0.0) + probability * weight / total
    label = max(mean, key=mean.__getitem__)
    return _as_asked_tag(Tag(label, mean[label], mean), options)


def _as_asked(segment: Segment, options: TranscribeOptions) -> Segment:
    return replace(
        segment,
        language=_as_asked_tag(segment.language, options),
        emotion=_as_asked_tag(segment.emotion, options),
        event=_as_asked_tag(segment.event, options),
    )


def _as_asked_tag(tag: Tag, options: TranscribeOptions) -> Tag:
    return tag if options.distributions else replace(tag, distribution=None)
