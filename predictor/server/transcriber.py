"""Items → transcripts: the engine's stages, joined so that nothing blocks the event loop.

Decoding and segmenting run in a small pool of threads, the network in the batcher's own. Of each
recording only a window of clips exists at a time, so memory does not grow with its length.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from predictor.engine.errors import SpeechError
from predictor.engine.types import StageTimes, TranscribeOptions, Transcript, Waveform
from predictor.server.batching import Batcher, Done, Lane
from predictor.server.errors import as_speech_error
from predictor.server.fetch import Fetcher
from predictor.server.protocol import AudioUrl, Item, Outcome

T = TypeVar("T")


class OpenRecording(Protocol):
    """What the server needs of ``predictor.engine.recording.Recording``."""

    def advance(self) -> Sequence[Any] | None: ...


class SpeechEngine(Protocol):
    """What the server needs of ``predictor.engine.transcribe.Engine``."""

    def open(self, audio: bytes | Waveform, options: TranscribeOptions) -> OpenRecording: ...

    def recognize(self, clips: Sequence[Any]) -> list[Any]: ...

    def assemble(self, recording: Any, hypotheses: Sequence[Any]) -> Transcript: ...


class Transcriber:
    """Transcribes the items of requests.

    Args:
        engine: opens recordings and assembles transcripts.
        batcher: recognises clips.
        pool: threads for CPU-bound work outside the network.
        fetcher: fetches audio by URL.
        max_open: most recordings of one request that are open at once.
    """

    def __init__(
        self,
        engine: SpeechEngine,
        batcher: Batcher[Any, Any],
        pool: ThreadPoolExecutor,
        fetcher: Fetcher,
        max_open: int,
    ) -> None:
        self._engine = engine
        self._batcher = batcher
        self._pool = pool
        self._fetcher = fetcher
        self._max_open = max_open

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function(*arguments)``, in the pool."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)

    async def transcribe(
        self, items: Sequence[Item | SpeechError], request_id: str
    ) -> list[Outcome]:
        """Outcomes of one request's items, in order; none fails because of another.

        Raises:
            Overloaded: too much is waiting already.
        """
        self._batcher.check_room()
        lane: Lane[Any, Any] = self._batcher.lane()
        open_ones = asyncio.Semaphore(self._max_open)

        async def outcome(item: Item | SpeechError) -> Outcome:
            if isinstance(item, SpeechError):
                return item
            async with open_ones:
                try:
                    return await self._one(item, lane)
                except Exception as error:
                    return as_speech_error(error, request_id)

        # A task group, because a cancelled request must take all its items with it.
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(item)) for item in items]
        return [task.result() for task in tasks]

    async def _one(self, item: Item, lane: Lane[Any, Any]) -> Transcript:
        audio = item.audio
        if isinstance(audio, AudioUrl):
            audio = await self._fetcher.fetch(audio.url)
        recording = await self.in_thread(self._engine.open, audio, item.options)
        pending: list[asyncio.Future[Done[Any]]] = []
        try:
            while (clips := await self.in_thread(recording.advance)) is not None:
                for clip in clips:
                    # One by one: cancelled while it waits for room, each is known to the clean-up.
                    pending.append(await lane.submit(clip))  # noqa: PERF401
                for future in pending:
                    if future.done():
                        future.result()  # Raises where a clip has failed: the rest is in vain.
            done = [await future for future in pending]
        finally:
            for future in pending:
                future.cancel()
        transcript = await self.in_thread(
            self._engine.assemble, recording, [each.result for each in done]
        )
        waited = StageTimes(queue=sum(each.queue_seconds for each in done))
        return replace(transcript, times=transcript.times + waited)
