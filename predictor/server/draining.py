"""How the server stops: clients are let go, what has begun is answered, and its time is bounded."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from socket import socket
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import Server

SERVICE_RESTART = 1012
"""Code that uvicorn tells the application when the server stops."""

GOING_AWAY = 1001
"""Code that the client is told then."""

SHED_SECONDS = 6.0
"""Longest time for clients to leave connections that they keep open. Each is told to by its next answer: on
one that is closed without a word a request may be on its way, and would be lost. httpx, which KServe's,
OpenAI's and our clients are made of, does not use a connection again after 5 s (``httpx.Limits``)."""

SHED_SHARE = 0.2
"""Of the grace period, for the same at most."""

LAST_WORDS_SECONDS = 2.0
"""Before the end of the grace period: what still waits is told then that the server is stopping."""

POLL_SECONDS = 0.02


class DrainingWebSocket(WebSocketsSansIOProtocol):
    """As uvicorn's own, but leaves the closing to the application, which has final words to say.
    Uvicorn waits for it as long as for any request."""

    def shutdown(self) -> None:
        if self.handshake_complete and not self.close_sent:
            self.queue.put_nowait({"type": "websocket.disconnect", "code": SERVICE_RESTART})
        else:
            super().shutdown()


@dataclass(frozen=True)
class Steps:
    """What else stops, in order.

    Attributes:
        begin: at the signal: new answers tell their clients to leave, and readiness says no.
        stop_grpc: takes no new calls, and gives those that run so many seconds.
        refuse: shortly before the end: whatever waits for the network is answered with an error.
    """

    begin: Callable[[], None]
    stop_grpc: Callable[[float], Awaitable[None]]
    refuse: Callable[[], None]


class DrainingServer(Server):
    """As uvicorn's own, but goes on taking requests while clients leave, and is done in time.

    Args:
        config: uvicorn's.
        grace_seconds: from the signal to the end.
        steps: what else stops.
    """

    def __init__(self, config: Config, grace_seconds: float, steps: Steps) -> None:
        super().__init__(config)
        self._grace_seconds = grace_seconds
        self._steps = steps

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        ends = time.monotonic() + self._grace_seconds
        self._steps.begin()
        for connection in list(self.server_state.connections):
            if not _is_idle(connection):
                connection.shutdown()
        shed = time.monotonic() + min(SHED_SECONDS, SHED_SHARE * self._grace_seconds)
        while any(map(_is_idle, self.server_state.connections)):
            if self.force_exit or time.monotonic() > shed:
                break
            await asyncio.sleep(POLL_SECONDS)
        left = max(0.0, ends - time.monotonic())
        # Uvicorn only hands it to asyncio, which takes fractions.
        self.config.timeout_graceful_shutdown = left  # type: ignore[assignment]
        refusal = asyncio.get_running_loop().call_later(
            max(0.0, left - LAST_WORDS_SECONDS), self._steps.refuse
        )
        try:
            await asyncio.gather(self._steps.stop_grpc(left), super().shutdown(sockets))
        finally:
            refusal.cancel()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            yield
            # Uvicorn would raise them once more: they have done what they were sent for.
            self._captured_signals.clear()


def _is_idle(connection: Any) -> bool:
    """Whether no request is being answered on it, so that one may be on its way."""
    if isinstance(connection, WebSocketsSansIOProtocol):
        return not connection.handshake_complete
    return connection.cycle is None or connection.cycle.response_complete
