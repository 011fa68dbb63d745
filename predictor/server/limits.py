"""Middleware around every REST request: how much it may send, and what every answer carries."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from predictor.engine.errors import AudioTooLarge, InvalidRequest, Overloaded
from predictor.server.errors import Stalled

STALL_SECONDS = 30
"""Longest time without a byte of a body that is not at its end: what came of it is held meanwhile."""

LINGER_SECONDS = 10
"""Longest time to go on reading a refused body."""

BROWSER_HEADERS: Mapping[str, str] = {
    # Transcripts may be personal data: no cache on the way keeps them.
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
}
"""Of every REST answer. There is no ``access-control-allow-origin`` (CORS): pages of other sites can read
none of them."""


class ByteBudget:
    """How many bytes of requests are held at once, over all requests. For one event loop.

    Args:
        max_bytes: most bytes held; one request alone is always let in.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held = 0

    @contextmanager
    def share(self) -> Iterator["Share"]:
        """One request's share, given back at the end."""
        share = Share(self)
        try:
            yield share
        finally:
            self._held -= share.n_bytes

    def _add(self, n_bytes: int) -> None:
        if self._held and self._held + n_bytes > self._max_bytes:
            raise Overloaded(
                f"requests of {self._held} bytes are being worked on, the limit is "
                f"{self._max_bytes}; come back later"
            )
        self._held += n_bytes


class Share:
    """Bytes that one request holds."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.n_bytes = 0

    def add(self, n_bytes: int) -> None:
        """Raises:
        Overloaded: the budget is spent.
        """
        self._budget._add(n_bytes)
        self.n_bytes += n_bytes


class BodyLimit:
    """Refuses bodies that are too large: by their Content-Length before reading a byte, else by
    counting. What the wrapped application's ``receive`` raises becomes its answer."""

    def __init__(self, app: ASGIApp, max_bytes: int, budget: ByteBudget) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._budget = budget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        n_received = 0
        unread = True

        def check(n_bytes: int) -> None:
            if n_bytes > self._max_bytes:
                raise AudioTooLarge(
                    f"body: {n_bytes} bytes or more, the limit is {self._max_bytes} bytes"
                )

        async def counted() -> Message:
            nonlocal n_received, unread
            if not declared.isdecimal():
                raise InvalidRequest("Content-Length: must be a number")
            check(int(declared))
            try:
                # Once all is read, this waits for the client to leave, however long that takes.
                async with asyncio.timeout(STALL_SECONDS if unread else None):
                    message = await receive()
            except TimeoutError:
                raise Stalled(
                    f"body: {n_received} bytes came and then none for {STALL_SECONDS} seconds, "
                    "which is the limit"
                ) from None
            if message["type"] == "http.request":
                unread = message.get("more_body", False)
                n_bytes = len(message.get("body", b""))
                n_received += n_bytes
                check(n_received)
                share.add(n_bytes)
            return message

        async def lingering(message: Message) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body")
            if last and unread and scope["method"] == "POST":
                await send({**message, "more_body": True})
                await _discard(receive)
                message = {"type": "http.response.body"}
            await send(message)

        with self._budget.share() as share:
            await self._app(scope, counted, lingering)


async def _discard(receive: Receive) -> None:
    """Read the rest of a refused body: closing the connection on it would take the answer away from
    a client that sends all before it reads."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            while (message := await receive())["type"] == "http.request":
                if not message.get("more_body"):
                    break


class ExtraHeaders:
    """Adds headers to every answer: those that the mapping has at the time."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app = app
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        await self._app(scope, receive, with_headers)
