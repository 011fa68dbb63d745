"""Files → samples, decoded in processes apart: what crashes or hangs FFmpeg fails alone.

A worker decodes one file at a time, a few seconds ahead of who takes the samples: what is between them is
in a socket's buffer. After a file that ended well it is used again; after any other it is ended, because
damage may have been done to it. Nobody but the event loop ever waits for a worker for more than a moment.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeAlias

from predictor.engine.errors import InvalidAudio, Overloaded, SpeechError
from predictor.engine.types import SAMPLE_RATE, Samples
from predictor.server.decoder_worker import PAUSE, DecoderFault, Worker
from predictor.server.errors import NotReady
from predictor.server.fork_server import ForkServer

logger = logging.getLogger("kserve.predictor")

Cause: TypeAlias = Literal["crash", "timeout"]
"""Why a worker was lost."""

MAX_SHORT, MAX_LONG = 16, 48
"""Most short and most long files that are decoded at once: none of the first ever waits for one of the
second. As much long audio as is let in is less: ten requests fill the queue, with four open files each."""

LONG_SECONDS = 30.0
"""Expected audio from which on a file counts as long."""

MAX_IDLE = 8
"""Workers kept for the next files, of some megabytes each: as many short requests come at once, when a
batch has been answered."""

MAX_JOBS = 1000
"""Audios that a worker decodes: a bound for whatever FFmpeg may leak."""


class Decoders:
    """The workers.

    Args:
        forks: makes them.
        timeout_seconds: longest time for a second of audio.
        on_lost: told of each worker that was lost in the middle of a file. From any thread.
    """

    def __init__(
        self,
        forks: ForkServer,
        timeout_seconds: float,
        on_lost: Callable[[Cause], None],
    ) -> None:
        self.forks = forks
        self.timeout_seconds = timeout_seconds
        self._on_lost = on_lost
        self._idle: list[Worker] = []
        self._thread = ThreadPoolExecutor(1, "fork")
        self._short, self._long = asyncio.Semaphore(MAX_SHORT), asyncio.Semaphore(MAX_LONG)

    def decoding(self, expected_seconds: float) -> "Decoding":
        """Of one file, which is thought to last so long."""
        return Decoding(self, self._long if expected_seconds > LONG_SECONDS else self._short)

    def start(self) -> None:
        """Have the first worker.

        Raises:
            OSError, EOFError: none can be made.
        """
        self._idle.append(self.forks.fork())

    async def take(self) -> Worker:
        """A worker that waits for a file.

        Raises:
            Overloaded: none can be made.
        """
        while self._idle:
            worker = self._idle.pop()
            if worker.is_idle:
                return worker
            self.end(worker)
        made = self._thread.submit(self.forks.fork)
        try:
            return await asyncio.wrap_future(made)
        except asyncio.CancelledError:
            made.add_done_callback(self._end_made)
            raise
        except (OSError, EOFError) as error:
            logger.error("no process for decoding can be made: %s", error)
            raise Overloaded("no process for decoding can be made now; come back later") from None

    def _end_made(self, made: "Future[Worker]") -> None:
        if not made.cancelled() and made.exception() is None:
            self.forks.end(made.result())

    def give_back(self, worker: Worker) -> None:
        """A worker has decoded a file to its end."""
        if len(self._idle) < MAX_IDLE and worker.n_jobs < MAX_JOBS:
            self._idle.append(worker)
        else:
            self.end(worker)

    def end(self, worker: Worker) -> None:
        """Soon; whoever reads from it sees the end of it now."""
        worker.shut()
        self._thread.submit(self.forks.end, worker)

    def lost(self, worker: Worker, n_bytes: int) -> SpeechError | None:
        """What to say of an audio of so many bytes that a worker has ended on; None where that was not
        the audio's fault. In any thread."""
        status = self.forks.end(worker)
        if status is None:
            return None
        code = os.waitstatus_to_exitcode(status)
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        logger.warning("a decoder ended by %s with %d bytes of audio", how, n_bytes)
        self._on_lost("crash")
        return InvalidAudio("audio: cannot be decoded, the decoder crashed on it")

    def too_slow(self, worker: Worker, n_bytes: int) -> SpeechError:
        """The same, where the time was over. In any thread."""
        self.forks.end(worker)
        seconds = self.timeout_seconds
        logger.warning("decoding %d bytes of audio was stopped after %g seconds", n_bytes, seconds)
        self._on_lost("timeout")
        return InvalidAudio(
            f"audio: cannot be decoded, one second of it took longer than {seconds:g} seconds"
        )

    def close(self) -> None:
        """End all workers, those that decode, too."""
        self._thread.shutdown(cancel_futures=True)
        for worker in self._idle:
            worker.close()
        self.forks.close()


class Decoding:
    """One file on its way through a worker: opened, and then by turns waited for in the event loop and read
    in a thread.

    Attributes:
        waited_seconds: how long :meth:`ready` took, in all.
    """

    def __init__(self, decoders: Decoders, places: asyncio.Semaphore) -> None:
        self.waited_seconds = 0.0
        self._decoders = decoders
        self._places = places
        self._job: tuple[bytes, float, bool] | None = None
        self._worker: Worker | None = None
        self._has_place = False
        self._late = self._ended = self._closed = False
        self._n_taken = self._n_known = 0

    def decode(self, data: bytes, max_seconds: float, split: bool) -> Iterator[Samples]:
        """As ``predictor.engine.audio.decode``, but that an empty block says: nothing more for now.

        Raises:
            InvalidAudio, AudioTooLong: as there; and where decoding crashes, or takes too long or too much
                memory.
            NotReady: nobody waits for it any more.
        """
        self._job = data, max_seconds, split
        return self._blocks(max_seconds, split)

    async def ready(self) -> None:
        """Until the next samples are there, or the time for them is over.

        Raises:
            Overloaded: there is no worker.
        """
        if self._job is None or self._ended:
            return
        started = time.perf_counter()
        self._late = False
        try:
            async with asyncio.timeout(None) as limit:
                if not self._has_place:
                    await self._places.acquire()
                    self._has_place = True
                if self._worker is None:
                    self._worker = await self._decoders.take()
                    limit.reschedule(_from_now(self._decoders.timeout_seconds))
                    await self._worker.send(*self._job)
                limit.reschedule(_from_now(self._decoders.timeout_seconds))
                await self._worker.speaks()
        except TimeoutError:
            self._late = True
        except OSError:
            logger.debug("a decoder has ended before it had the whole file")
        self.waited_seconds += time.perf_counter() - started

    def close(self) -> None:
        """The file has ended, or nobody wants more of it."""
        self._closed = True
        self._job = None
        if self._worker is not None:
            if self._ended:
                self._decoders.give_back(self._worker)
            else:
                self._decoders.end(self._worker)
            self._worker = None
        if self._has_place:
            self._has_place = False
            self._places.release()

    def _blocks(self, max_seconds: float, split: bool) -> Iterator[Samples]:
        max_samples = round(max_seconds * SAMPLE_RATE) + 1
        shapes = set[int]()
        while (block := self._block()) is not None:
            if block.size:
                shapes.add(len(block))
                if len(shapes) > 1 or not (split or shapes == {1}):
                    raise DecoderFault
                # Of what is decoded again.
                n_known = min(self._n_known, block.shape[1])
                self._n_known -= n_known
                block = block[:, n_known:]
                self._n_taken += block.shape[1]
                if self._n_taken > max_samples:
                    raise DecoderFault
            yield block
        self._ended = True

    def _block(self) -> Samples | None:
        worker, job = self._worker, self._job
        if self._closed or worker is None or job is None:
            raise NotReady("the request was ended")
        try:
            block = worker.block()
        except EOFError:
            if self._closed:
                raise NotReady("the request was ended") from None
            if error := self._decoders.lost(worker, len(job[0])):
                raise error from None
            # All workers have died with the fork server. Another begins again.
            self._worker, self._n_known = None, self._n_taken
            return PAUSE
        if block is not None and not block.size and self._late:
            raise self._decoders.too_slow(worker, len(job[0]))
        return block


def _from_now(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds
