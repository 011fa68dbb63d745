"""The service, as the page waits for it."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

from predictor.client import AsyncClient, Patience, ServiceError
from predictor.engine.types import Transcript
from predictor.ui import result, waveform
from predictor.ui.result import State
from predictor.ui.settings import Settings

TICK_SECONDS = 1.0
"""How often a user who waits is told how long already. A service that is up mostly answers before."""

READY_SECONDS = 2.0
"""For the question whether it is up: longer than a busy one takes, shorter than any start."""


class Service:
    """One service, and how long it takes to start.

    Args:
        settings: address, names and patience.
    """

    def __init__(self, settings: Settings) -> None:
        self._patience = settings.patience_seconds
        self._start_seconds = settings.start_seconds
        self._client = AsyncClient(
            settings.url,
            model_name=settings.model_name,
            patience=Patience(settings.patience_seconds),
            timeout=settings.timeout_seconds,
        )

    async def wake(self) -> AsyncIterator[State]:
        """States until the service is ready, or until patience ends. Asking is what starts it."""
        began = time.monotonic()
        while not await self._client.ready(READY_SECONDS):
            waited = time.monotonic() - began
            if waited > self._patience:
                yield {"state": "unreachable"}
                return
            yield result.waking(self._start_seconds, waited)
            await asyncio.sleep(TICK_SECONDS)
        self._observe(began)
        yield {"state": "ready"}

    async def transcribe(self, audio: Path, language: str, use_itn: bool) -> AsyncIterator[State]:
        """States of a request; the last one is ``done`` or ``failed``.

        Args:
            audio: the file.
            language: a code, or ``auto``.
            use_itn: inverse text normalisation.
        """
        began = time.monotonic()
        data = await asyncio.to_thread(audio.read_bytes)
        yield result.WORKING
        outline = asyncio.create_task(asyncio.to_thread(waveform.outline, data))
        answer = asyncio.create_task(
            self._client.transcribe(data, language=language, use_itn=use_itn, timestamps="word")
        )
        try:
            async for state in self._meanwhile(answer, began):
                yield state
            seconds = time.monotonic() - began
            yield result.done(await answer, audio, await outline, seconds)
        except ServiceError as error:
            yield result.refused(error)
        finally:
            answer.cancel()
            outline.cancel()

    async def _meanwhile(
        self, answer: asyncio.Task[Transcript], began: float
    ) -> AsyncIterator[State]:
        """What there is to say until the answer is there."""
        asleep = False
        while not (await asyncio.wait({answer}, timeout=TICK_SECONDS))[0]:
            asking = asyncio.create_task(self._client.ready(READY_SECONDS))
            await asyncio.wait({answer, asking}, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                asking.cancel()
            elif asking.result():
                yield result.WORKING
            else:
                asleep = True
                yield result.waking(self._start_seconds, time.monotonic() - began)
        if asleep and not answer.exception():
            self._observe(began)

    def _observe(self, began: float) -> None:
        """Remember how long a start took; an answer at once was none."""
        took = time.monotonic() - began
        if took > TICK_SECONDS:
            self._start_seconds = took
