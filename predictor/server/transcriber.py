"""Items → transcripts: the engine's stages, joined so that nothing blocks the event loop.

Decoding and segmenting run in a small pool of threads, which queue clips as they find them; the network
runs in the batcher's own. Of each recording only a window of clips exists at a time, so memory does not
grow with its length. A short audio costs one trip to the pool and one wake-up for its result.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from predictor.engine.errors import SpeechError
from predictor.engine.types import StageTimes, TranscribeOptions, Transcript, Waveform
from predictor.server.batching import Batcher
from predictor.server.errors import as_speech_error
from predictor.server.fetch import Fetcher
from predictor.server.lane import Done, Lane
from predictor.server.protocol import AudioUrl, Item, Outcome

MAX_OPEN = 16
"""Most recordings of one request that are open at once."""

TURN_SECONDS = 0.05
"""A recording's turn in the pool ends with the step in which so much time is over."""

SHORT_SECONDS = 30.0
"""Results of so much audio are put together in the event loop, in less than a millisecond: a trip to
another thread costs as much."""

BYTES_PER_SECOND = {b"RIFF": 32_000, b"fLaC": 16_000}
"""First bytes of a file → bytes a second it usually has, for a guess at its length before it is decoded:
16-bit PCM at 16 kHz, and half of that."""

OTHER_BYTES_PER_SECOND = 8_000
"""The same of lossy codecs, which range from 2,000 (Opus, speech) to 24,000 (MP3, music)."""

T = TypeVar("T")


class OpenRecording(Protocol):
    """What the server needs of ``predictor.engine.recording.Recording``."""

    def advance(self) -> Sequence[Any] | None: ...


class SpeechEngine(Protocol):
    """What the server needs of ``predictor.engine.transcribe.Engine``."""

    def open(self, audio: bytes | Waveform, options: TranscribeOptions) -> OpenRecording: ...

    def recognize(self, clips: Sequence[Any]) -> list[Any]: ...

    def assemble(self, recording: Any, hypotheses: Sequence[Any]) -> Transcript: ...


def expected_seconds(item: Item) -> float:
    """A guess at an item's audio, before a byte of it is decoded; 0 while it is to be fetched."""
    audio = item.audio
    if isinstance(audio, AudioUrl):
        return 0.0
    if isinstance(audio, Waveform):
        return audio.duration
    return len(audio) / BYTES_PER_SECOND.get(audio[:4], OTHER_BYTES_PER_SECOND)


@dataclass(slots=True)
class _Work:
    """One item on its way. Decoded in one thread at a time."""

    engine: SpeechEngine
    lane: Lane[Any, Any]
    audio: bytes | Waveform
    options: TranscribeOptions
    expected_seconds: float
    recording: OpenRecording | None = None
    clip_seconds: float = 0.0
    results: list[asyncio.Future[Done[Any]]] = field(default_factory=list)

    def decode(self) -> bool:
        """Open, decode and queue clips until the turn is over or the lane is full. True at the end."""
        until = time.monotonic() + TURN_SECONDS
        if self.recording is None:
            self.recording = self.engine.open(self.audio, self.options)
        while (clips := self.recording.advance()) is not None:
            if clips:
                # Before they are put: no batch is to wait for what it already holds.
                self.expect_no_more()
            self.results += [self.lane.put(clip) for clip in clips]
            self.clip_seconds += sum(clip.duration for clip in clips)
            if not self.lane.has_room or time.monotonic() > until:
                return False
        return True

    def expect_no_more(self) -> None:
        """From now on the clips themselves are counted."""
        self.lane.arrived(self.expected_seconds)
        self.expected_seconds = 0.0


class Transcriber:
    """Transcribes the items of requests.

    Args:
        engine: opens recordings and assembles transcripts.
        batcher: recognises clips.
        pool: threads for CPU-bound work outside the network.
        fetcher: fetches audio by URL.
    """

    def __init__(
        self,
        engine: SpeechEngine,
        batcher: Batcher[Any, Any],
        pool: ThreadPoolExecutor,
        fetcher: Fetcher,
    ) -> None:
        self._engine = engine
        self._batcher = batcher
        self._pool = pool
        self._fetcher = fetcher

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function(*arguments)``, in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def transcribe(
        self, items: Sequence[Item | SpeechError], request_id: str
    ) -> list[Outcome]:
        """Outcomes of one request's items, in order; none fails because of another.

        Raises:
            Overloaded: too much is waiting already.
            NotReady: the server is stopping.
        """
        expected = sum(expected_seconds(item) for item in items if isinstance(item, Item))
        open_ones = asyncio.Semaphore(MAX_OPEN)

        async def outcome(item: Item | SpeechError) -> Outcome:
            if isinstance(item, SpeechError):
                return item
            async with open_ones:
                try:
                    return await self._one(item, lane)
                except Exception as error:
                    return as_speech_error(error, request_id)

        with self._batcher.lane(expected) as lane:
            if len(items) == 1:
                return [await outcome(items[0])]
            # A task group, because a cancelled request must take all its items with it.
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(outcome(item)) for item in items]
            return [task.result() for task in tasks]

    async def _one(self, item: Item, lane: Lane[Any, Any]) -> Transcript:
        audio = item.audio
        if isinstance(audio, AudioUrl):
            audio = await self._fetcher.fetch(audio.url)
        work = _Work(self._engine, lane, audio, item.options, expected_seconds(item))
        try:
            finished = False
            while not finished:
                await lane.room()
                finished = await self.in_thread(work.decode)
                for result in work.results:
                    if result.done():
                        result.result()  # Raises where a clip has failed: the rest is in vain.
            work.expect_no_more()
            done = [await result for result in work.results]
        finally:
            work.expect_no_more()
            lane.withdraw(work.results)
        hypotheses = [each.result for each in done]
        if work.clip_seconds <= SHORT_SECONDS:
            transcript = self._engine.assemble(work.recording, hypotheses)
        else:
            transcript = await self.in_thread(self._engine.assemble, work.recording, hypotheses)
        waited = StageTimes(
            queue=sum(each.queue_seconds for each in done),
            batch=sum(each.batch_seconds for each in done),
        )
        return replace(transcript, times=transcript.times + waited)
