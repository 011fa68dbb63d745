"""The client for event loops."""

import asyncio
from collections.abc import Sequence
from typing import Any, Self, Unpack

import httpx
from tqdm import tqdm

from predictor.client import defaults
from predictor.client.errors import ServiceError
from predictor.client.patience import Attempts, Patience
from predictor.client.wire import Audio, Message, Options, Outcome, message, transcript
from predictor.engine.types import SAMPLE_RATE, Transcript


class AsyncClient:
    """:class:`~predictor.client.client.Client`, awaited. Tasks of one event loop may share it;
    ``async with`` or :meth:`close` ends it.

    Args:
        url, model_name, patience, timeout: as there.
        http: what :class:`httpx.AsyncClient` takes.
    """

    def __init__(
        self,
        url: str = defaults.URL,
        *,
        model_name: str = defaults.MODEL_NAME,
        patience: Patience = Patience(),  # noqa: B008  # frozen
        timeout: float = defaults.TIMEOUT_SECONDS,
        **http: Any,
    ) -> None:
        self._model = f"{url.rstrip('/')}/v2/models/{model_name}"
        self._patience = patience
        self._http = httpx.AsyncClient(timeout=defaults.timeouts(timeout), **http)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def ready(self, timeout: float = defaults.READY_SECONDS) -> bool:  # noqa: ASYNC109
        """As :meth:`Client.ready <predictor.client.client.Client.ready>`."""
        try:
            return (await self._http.get(f"{self._model}/ready", timeout=timeout)).is_success
        except httpx.TransportError:
            return False

    async def transcribe(
        self, audio: Audio, *, sample_rate: int = SAMPLE_RATE, **options: Unpack[Options]
    ) -> Transcript:
        """As :meth:`Client.transcribe <predictor.client.client.Client.transcribe>`."""
        # A large file is read and joined to its head outside the event loop.
        sent = await asyncio.to_thread(message, audio, options, sample_rate)
        attempts = Attempts(self._patience)
        while True:
            next_step = attempts.next_step(await self._send(sent))
            if isinstance(next_step, httpx.Response):
                return transcript(next_step)
            await asyncio.sleep(next_step)

    async def transcribe_all(
        self,
        audios: Sequence[Audio],
        *,
        concurrency: int = defaults.CONCURRENCY,
        progress: bool = False,
        sample_rate: int = SAMPLE_RATE,
        **options: Unpack[Options],
    ) -> list[Outcome]:
        """As :meth:`Client.transcribe_all <predictor.client.client.Client.transcribe_all>`."""
        turn = asyncio.Semaphore(concurrency)

        async def outcome(audio: Audio) -> Outcome:
            async with turn:
                try:
                    return await self.transcribe(audio, sample_rate=sample_rate, **options)
                except (ServiceError, OSError) as error:
                    return error
                finally:
                    bar.update()

        with tqdm(total=len(audios), unit="file", disable=not progress) as bar:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(outcome(audio)) for audio in audios]
        return [task.result() for task in tasks]

    async def _send(self, sent: Message) -> httpx.Response | httpx.TransportError:
        try:
            return await self._http.post(
                f"{self._model}/infer", content=sent.content, headers=sent.headers
            )
        except httpx.TransportError as error:
            return error
