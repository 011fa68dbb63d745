"""The client for threads and scripts."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Self, Unpack

import httpx
from tqdm import tqdm

from predictor.client import defaults
from predictor.client.errors import ServiceError
from predictor.client.patience import Attempts, Patience
from predictor.client.wire import Audio, Message, Options, Outcome, message, transcript
from predictor.engine.types import SAMPLE_RATE, Transcript


class Client:
    """Asks one service. Threads may share it; ``with`` or :meth:`close` ends it.

    Args:
        url: of the service, without a path.
        model_name: the model's name in URLs.
        patience: with a service that is overloaded, starting or not reachable.
        timeout: seconds for one answer.
        http: what :class:`httpx.Client` takes: ``headers``, ``auth``, ``verify``, ``proxy``, …
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
        self._http = httpx.Client(timeout=defaults.timeouts(timeout), **http)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def ready(self, timeout: float = defaults.READY_SECONDS) -> bool:
        """Whether the model answers now. Asked once; a service at zero begins to start by it.

        Args:
            timeout: seconds.
        """
        try:
            return self._http.get(f"{self._model}/ready", timeout=timeout).is_success
        except httpx.TransportError:
            return False

    def transcribe(
        self, audio: Audio, *, sample_rate: int = SAMPLE_RATE, **options: Unpack[Options]
    ) -> Transcript:
        """One audio.

        Args:
            sample_rate: of samples, in hertz; a file has its own.

        Raises:
            Refused: the service's sentence says why.
            Unavailable: longer than ``patience``, or no answer within the timeout.
            InvalidAnswer: something else is at this address.
            ServiceError: the service failed.
            OSError, TypeError, ValueError: see :func:`~predictor.client.wire.message`.
        """
        sent = message(audio, options, sample_rate)
        attempts = Attempts(self._patience)
        while True:
            next_step = attempts.next_step(self._send(sent))
            if isinstance(next_step, httpx.Response):
                return transcript(next_step)
            time.sleep(next_step)

    def transcribe_all(
        self,
        audios: Sequence[Audio],
        *,
        concurrency: int = defaults.CONCURRENCY,
        progress: bool = False,
        sample_rate: int = SAMPLE_RATE,
        **options: Unpack[Options],
    ) -> list[Outcome]:
        """Many audios, each in a request of its own; one that fails has its error in its place.

        Args:
            concurrency: most requests, and most files in memory, at once.
            progress: show a bar on standard error.

        Raises:
            TypeError, ValueError: see :func:`~predictor.client.wire.message`.
        """

        def outcome(audio: Audio) -> Outcome:
            try:
                return self.transcribe(audio, sample_rate=sample_rate, **options)
            except (ServiceError, OSError) as error:
                return error

        bar = tqdm(total=len(audios), unit="file", disable=not progress)
        with bar, ThreadPoolExecutor(concurrency, "transcribe") as pool:
            futures = [pool.submit(outcome, audio) for audio in audios]
            try:
                for future in as_completed(futures):
                    future.result()
                    bar.update()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [future.result() for future in futures]

    def _send(self, sent: Message) -> httpx.Response | httpx.TransportError:
        try:
            return self._http.post(
                f"{self._model}/infer", content=sent.content, headers=sent.headers
            )
        except httpx.TransportError as error:
            return error
