"""Transcript → SubRip or WebVTT subtitles."""

import html
from collections.abc import Iterator

from predictor.engine.rich_text import join_texts
from predictor.engine.types import Segment, Transcript, Word

CUE_SECONDS = 7.0
"""Longest time a cue should stay on the screen, a common guideline of subtitle editors."""

PAUSE_SECONDS = 0.6
"""A gap between words at which a new cue begins."""


def srt(transcript: Transcript) -> str:
    """SubRip text; empty where nobody speaks. Needs a transcript with segments; segments with words
    are cut into cues of readable length."""
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(transcript), start=1)
    )


def vtt(transcript: Transcript) -> str:
    """WebVTT text of the same cues; the header alone where nobody speaks."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{html.escape(text, quote=False)}\n"
        for start, end, text in _cues(transcript)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(transcript: Transcript) -> Iterator[tuple[float, float, str]]:
    for segment in transcript.segments or ():
        if segment.text:
            yield from _cues_of(segment)


def _cues_of(segment: Segment) -> Iterator[tuple[float, float, str]]:
    timed = [word for word in segment.words or () if word.start is not None]
    if not timed or segment.end - segment.start <= CUE_SECONDS:
        yield segment.start, segment.end, segment.text
        return
    cue: list[Word] = []
    start: float | None = None
    end = segment.start
    for word in segment.words or ():
        # A word without times, a lone sign, goes with what is around it.
        pause = word.start is not None and word.start - end > PAUSE_SECONDS
        long = word.end is not None and start is not None and word.end - start > CUE_SECONDS
        if start is not None and (pause or long):
            yield start, end, join_texts(item.text for item in cue)
            cue, start = [], None
        cue.append(word)
        start = word.start if start is None else start
        end = end if word.end is None else word.end
    yield segment.start if start is None else start, end, join_texts(item.text for item in cue)


def _clock(seconds: float, point: str) -> str:
    """``HH:MM:SS,mmm`` as SubRip writes it, or with WebVTT's decimal point."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"
