"""Items → transcripts: the engine's stages, joined so that nothing blocks the event loop.

Files are decoded in processes apart. Segmenting runs in a small pool of threads, which queue clips as they
find them; the network runs in the batcher's own. Of each recording only a window of clips exists at a time,
so memory does not grow with its length. A short audio costs one trip to the pool and one wake-up for its
result.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from predictor.engine.errors import SpeechError
from predictor.engine.packets import Encoding
from predictor.engine.types import Segment, StageTimes, Transcript, Waveform
from predictor.server.batching import Batcher
from predictor.server.decoder import LONG_SECONDS, Decoders
from predictor.server.errors import as_speech_error
from predictor.server.fetch import Fetcher
from predictor.server.lane import Lane
from predictor.server.observer import Observer, current
from predictor.server.packet_decoding import PacketDecoding
from predictor.server.protocol import AudioUrl, Item, Outcome
from predictor.server.work import SpeechEngine, Work

MAX_OPEN, MAX_OPEN_LONG = 16, 4
"""Most short and most long recordings of one request that are open at once. A few long ones fill its lane,
and each holds a process that decodes."""

SHORT_SECONDS = 30.0
"""Results of so much audio are put together in the event loop, in less than a millisecond: a trip to
another thread costs as much."""

BYTES_PER_SECOND = {b"RIFF": 32_000, b"fLaC": 16_000}
"""First bytes of a file → bytes a second it usually has, for a guess at its length before it is decoded:
16-bit PCM at 16 kHz, and half of that."""

OTHER_BYTES_PER_SECOND = 8_000
"""The same of lossy codecs, which range from 2,000 (Opus, speech) to 24,000 (MP3, music)."""

T = TypeVar("T")


def expected_seconds(audio: bytes | Waveform | AudioUrl) -> float:
    """A guess at an audio's length, before a byte of it is decoded; 0 while it is to be fetched."""
    if isinstance(audio, AudioUrl):
        return 0.0
    if isinstance(audio, Waveform):
        return audio.duration
    return len(audio) / BYTES_PER_SECOND.get(audio[:4], OTHER_BYTES_PER_SECOND)


class Transcriber:
    """Transcribes the items of requests.

    Args:
        engine: opens recordings and assembles transcripts.
        batcher: recognises clips.
        pool: threads for CPU-bound work outside the network.
        decoders: decode files.
        fetcher: fetches audio by URL.
        observer: is told of each audio that has been decoded.
    """

    def __init__(
        self,
        engine: SpeechEngine,
        batcher: Batcher[Any, Any],
        pool: ThreadPoolExecutor,
        decoders: Decoders,
        fetcher: Fetcher,
        observer: Observer,
    ) -> None:
        self._engine = engine
        self._batcher = batcher
        self._pool = pool
        self._decoders = decoders
        self._fetcher = fetcher
        self._observer = observer

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
        expected = sum(expected_seconds(item.audio) for item in items if isinstance(item, Item))
        short, long = asyncio.Semaphore(MAX_OPEN), asyncio.Semaphore(MAX_OPEN_LONG)

        async def outcome(item: Item | SpeechError) -> Outcome:
            if isinstance(item, SpeechError):
                return item
            async with long if expected_seconds(item.audio) > LONG_SECONDS else short:
                try:
                    return await self._one(item, lane)
                except Exception as error:
                    return as_speech_error(error, request_id)

        record = current()
        with self._batcher.lane(expected, record) as lane:
            if len(items) == 1:
                outcomes = [await outcome(items[0])]
            else:
                # A task group, because a cancelled request must take all its items with it.
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(outcome(item)) for item in items]
                outcomes = [task.result() for task in tasks]
        if record is not None:
            record.add(outcomes)
        return outcomes

    async def stream(self, item: Item, on_segment: Callable[[Segment], object]) -> Transcript:
        """The transcript of one audio that is cut by voice activity.

        Args:
            item: the audio.
            on_segment: called in the event loop with each segment, in order, as soon as it is known.

        Raises:
            Overloaded: too much is waiting already.
            NotReady: the server is stopping.
            SpeechError: the audio cannot be transcribed.
        """
        record = current()
        with self._batcher.lane(expected_seconds(item.audio), record) as lane:
            transcript = await self._one(item, lane, on_segment)
        if record is not None:
            record.add([transcript])
        return transcript

    def packet_decoding(self, encoding: Encoding, rate: int) -> PacketDecoding:
        """Of one live stream. To be closed."""
        return PacketDecoding(self._decoders, encoding, rate)

    @property
    def is_busy(self) -> bool:
        """Whether audio waits for the network."""
        return self._batcher.queue_seconds > 0

    def check_room(self) -> None:
        """As :meth:`predictor.server.batching.Batcher.check_room`."""
        self._batcher.check_room()

    def lane(self) -> Lane[Any, Any]:
        """A place in the queue for one turn of a live session after the other. To be entered.

        Raises:
            Overloaded: too much is waiting already.
            NotReady: the server is stopping.
        """
        return self._batcher.lane()

    async def in_lane(self, item: Item, lane: Lane[Any, Any]) -> Transcript:
        """The transcript of one audio; in a lane that has been let in, nothing is refused.

        Raises:
            SpeechError: the audio cannot be transcribed.
        """
        return await self._one(item, lane)

    async def _one(
        self,
        item: Item,
        lane: Lane[Any, Any],
        on_segment: Callable[[Segment], object] | None = None,
    ) -> Transcript:
        if isinstance(item.audio, AudioUrl):
            async with self._fetcher.fetched(item.audio.url) as audio:
                return await self._at_hand(item, audio, lane, on_segment)
        return await self._at_hand(item, item.audio, lane, on_segment)

    async def _at_hand(
        self,
        item: Item,
        audio: bytes | Waveform,
        lane: Lane[Any, Any],
        on_segment: Callable[[Segment], object] | None,
    ) -> Transcript:
        decoding = self._decoders.decoding(expected_seconds(audio))
        work = Work(
            self._engine,
            decoding,
            lane,
            audio,
            item.options,
            expected_seconds(item.audio),
            current(),
            self._observer,
        )
        try:
            work.open()
            finished = False
            while not finished:
                await lane.room()
                await decoding.ready()
                finished = await self.in_thread(work.decode)
                for result in work.results:
                    if result.done():
                        result.result()  # Raises where a clip has failed: the rest is in vain.
                if on_segment:
                    work.tell(on_segment)
            decoding.close()
            work.expect_no_more()
            done = []
            for result in work.results:
                done.append(await result)
                if on_segment:
                    work.tell(on_segment)
        finally:
            decoding.close()
            work.expect_no_more()
            lane.withdraw(work.results)
        hypotheses = [each.result for each in done]
        if work.clip_seconds <= SHORT_SECONDS:
            transcript = self._engine.assemble(work.recording, hypotheses)
        else:
            transcript = await self.in_thread(self._engine.assemble, work.recording, hypotheses)
        waited = StageTimes(
            decode=decoding.waited_seconds,
            queue=sum(each.queue_seconds for each in done),
            batch=sum(each.batch_seconds for each in done),
        )
        return replace(transcript, times=transcript.times + waited)
