"""One audio on its way through the engine: decoded and cut by turns, until its clips are queued."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from predictor.engine.audio import Decode
from predictor.engine.errors import SpeechError
from predictor.engine.types import Segment, TranscribeOptions, Transcript, Waveform
from predictor.server.decoder import Decoding
from predictor.server.lane import Done, Lane
from predictor.server.observer import OK, Observer, RequestRecord

TURN_SECONDS = 0.05
"""A recording's turn in the pool ends with the step in which so much time is over."""


class OpenRecording(Protocol):
    """What the server needs of ``predictor.engine.recording.Recording``."""

    def advance(self) -> Sequence[Any] | None: ...


class SpeechEngine(Protocol):
    """What the server needs of ``predictor.engine.transcribe.Engine``."""

    def open(
        self, audio: bytes | Waveform, options: TranscribeOptions, decode: Decode
    ) -> OpenRecording: ...

    def recognize(self, clips: Sequence[Any]) -> list[Any]: ...

    def assemble(self, recording: Any, hypotheses: Sequence[Any]) -> Transcript: ...

    def segment(self, hypothesis: Any, options: TranscribeOptions) -> Segment: ...


@dataclass(slots=True)
class Work:
    """One item on its way. Decoded in one thread at a time."""

    engine: SpeechEngine
    decoding: Decoding
    lane: Lane[Any, Any]
    audio: bytes | Waveform
    options: TranscribeOptions
    expected_seconds: float
    record: RequestRecord | None
    observer: Observer
    since: float = 0.0
    recording: OpenRecording = field(init=False)
    clip_seconds: float = 0.0
    results: list[asyncio.Future[Done[Any]]] = field(default_factory=list)
    n_told: int = 0

    def open(self) -> None:
        """Takes no time: nothing is decoded yet."""
        self.since = time.monotonic()
        with self._reported():
            self.recording = self.engine.open(self.audio, self.options, self.decoding.decode)

    def decode(self) -> bool:
        """Decode and queue clips until the turn is over, the lane is full or there is nothing more for
        now. True at the end."""
        with self._reported():
            finished = self._decode_on()
        if finished:
            self._report(OK)
        return finished

    @contextmanager
    def _reported(self) -> Iterator[None]:
        try:
            yield
        except SpeechError as error:
            self._report(error.reason)
            raise

    def _report(self, reason: str) -> None:
        if self.record is not None:
            self.observer.on_decoded(self.record, self.since, reason)

    def _decode_on(self) -> bool:
        # No turn for what would be refused at its end: many wait for theirs when the server stops.
        self.lane.check_open()
        until = time.monotonic() + TURN_SECONDS
        while (clips := self.recording.advance()) is not None:
            if clips:
                # Before they are put: no batch is to wait for what it already holds.
                self.expect_no_more()
            self.results += [self.lane.put(clip) for clip in clips]
            self.clip_seconds += sum(clip.duration for clip in clips)
            if not clips or not self.lane.has_room or time.monotonic() > until:
                return False
        return True

    def tell(self, on_segment: Callable[[Segment], object]) -> None:
        """Pass on, in order, the segments of clips that are done and follow on what was told."""
        while self.n_told < len(self.results) and self.results[self.n_told].done():
            done = self.results[self.n_told].result()
            on_segment(self.engine.segment(done.result, self.options))
            self.n_told += 1

    def expect_no_more(self) -> None:
        """From now on the clips themselves are counted."""
        self.lane.arrived(self.expected_seconds)
        self.expected_seconds = 0.0
