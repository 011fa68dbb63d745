"""Transcript → OpenAI's five formats, and segments → its stream of events.

What SenseVoice hears beside words stands next to OpenAI's own fields: ``emotion`` and ``event`` as
``{"label", "confidence"}``, ``language_confidence``, and each word's ``confidence``.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from predictor.engine.rich_text import join_texts
from predictor.engine.subtitles import srt, vtt
from predictor.engine.types import NO_SPEECH, Segment, Tag, Transcript, Word

SEEK_PER_SECOND = 100
"""Whisper counts ``seek`` in frames of 10 ms."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The form of an answer.

    Attributes:
        response_format: json, text, srt, vtt or verbose_json.
        granularities: which of ``segment`` and ``word`` verbose_json lists.
        logprobs: whether json lists the words' log probabilities.
    """

    response_format: str
    granularities: tuple[str, ...] = ("segment",)
    logprobs: bool = False

    @property
    def needs_words(self) -> bool:
        """Subtitles are cut at words, and a segment's log probability is that of its words."""
        return self.logprobs or self.response_format in ("srt", "vtt", "verbose_json")

    @property
    def needs_distributions(self) -> bool:
        """The probability of no speech stands in the distribution of languages."""
        return self.response_format == "verbose_json"

    def whole(self, transcript: Transcript) -> dict[str, Any] | str:
        """The answer to a request that does not stream."""
        match self.response_format:
            case "text":
                return f"{transcript.text}\n"
            case "srt":
                return srt(transcript)
            case "vtt":
                return vtt(transcript)
            case "verbose_json":
                return self._verbose(transcript)
        segments = transcript.segments or ()
        return {
            "text": transcript.text,
            **({"logprobs": logprobs(words_of(segments))} if self.logprobs else {}),
            "languages": languages(transcript),
            "usage": usage(transcript),
        }

    def _verbose(self, transcript: Transcript) -> dict[str, Any]:
        segments = transcript.segments or ()
        out: dict[str, Any] = {
            "task": "transcribe",
            "duration": rounded(transcript.duration),
            "text": transcript.text,
            **tags(transcript),
        }
        if "segment" in self.granularities:
            out["segments"] = [_segment(index, segment) for index, segment in enumerate(segments)]
        if "word" in self.granularities:
            out["words"] = words(words_of(segments))
        return {**out, "usage": usage(transcript)}


@dataclass(slots=True)
class Events:
    """The events of one stream, in order. Deltas joined together are the text at the end."""

    answer: Answer
    text: str = ""
    n_segments: int = 0
    logprobs: list[dict[str, Any]] = field(default_factory=list)

    def on_segment(self, segment: Segment) -> Iterator[dict[str, Any]]:
        """A delta, where somebody speaks, and the segment."""
        text = join_texts([self.text, segment.text])
        if delta := text[len(self.text) :]:
            yield {"type": "transcript.text.delta", "delta": delta, **self._logprobs(segment)}
        yield {
            "type": "transcript.text.segment",
            "id": f"seg_{self.n_segments}",
            "start": rounded(segment.start),
            "end": rounded(segment.end),
            "text": segment.text,
            # OpenAI's name for who speaks, which this model does not tell.
            "speaker": "",
            **tags(segment),
        }
        self.text, self.n_segments = text, self.n_segments + 1

    def on_end(self, transcript: Transcript) -> dict[str, Any]:
        return {
            "type": "transcript.text.done",
            "text": transcript.text,
            **tags(transcript),
            "duration": rounded(transcript.duration),
            "languages": languages(transcript),
            **({"logprobs": self.logprobs} if self.answer.logprobs else {}),
            "usage": usage(transcript),
        }

    def _logprobs(self, segment: Segment) -> dict[str, Any]:
        if not self.answer.logprobs:
            return {}
        added = logprobs(segment.words or ())
        self.logprobs += added
        return {"logprobs": added}


def tags(of: Transcript | Segment) -> dict[str, Any]:
    """Language as OpenAI has it, a code, and what it has no fields for."""
    return {
        "language": of.language.label,
        "language_confidence": rounded(of.language.confidence),
        "emotion": _tag(of.emotion),
        "event": _tag(of.event),
    }


def languages(of: Transcript) -> list[dict[str, str]]:
    return [] if of.language.label == NO_SPEECH else [{"code": of.language.label}]


def usage(transcript: Transcript) -> dict[str, Any]:
    return {"type": "duration", "seconds": rounded(transcript.duration)}


def words(of: Sequence[Word], offset: float = 0.0) -> list[dict[str, Any]]:
    """Words with times; a sign that stands alone has none and is in the text only.

    Args:
        of: words of a transcript.
        offset: seconds at which its audio starts.
    """
    return [
        {
            "word": word.text,
            "start": rounded(word.start + offset),
            "end": rounded(word.end + offset),
            "confidence": rounded(word.confidence),
        }
        for word in of
        if word.start is not None and word.end is not None
    ]


def _segment(index: int, segment: Segment) -> dict[str, Any]:
    """Whisper's fields of a segment. ``avg_logprob`` is the mean over its words; nothing is sampled, so
    the temperature is 0; token ids are another vocabulary's and left out."""
    spoken = [math.log(word.confidence) for word in segment.words or () if word.confidence]
    encoded = segment.text.encode()
    no_speech = (segment.language.distribution or {}).get(NO_SPEECH, 0.0)
    return {
        "id": index,
        "seek": round(segment.start * SEEK_PER_SECOND),
        "start": rounded(segment.start),
        "end": rounded(segment.end),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": rounded(sum(spoken) / len(spoken)) if spoken else 0.0,
        "compression_ratio": rounded(len(encoded) / len(zlib.compress(encoded))),
        "no_speech_prob": rounded(no_speech),
        **tags(segment),
    }


def words_of(segments: Sequence[Segment]) -> list[Word]:
    return [word for segment in segments for word in segment.words or ()]


def logprobs(of: Sequence[Word]) -> list[dict[str, Any]]:
    """One entry a word: what OpenAI gives for each of its tokens."""
    return [
        {
            "token": word.text,
            "bytes": list(word.text.encode()),
            "logprob": rounded(math.log(word.confidence)) if word.confidence else None,
        }
        for word in of
    ]


def _tag(tag: Tag) -> dict[str, Any]:
    return {"label": tag.label, "confidence": rounded(tag.confidence)}


def rounded(number: float) -> float:
    return round(number, 4)
