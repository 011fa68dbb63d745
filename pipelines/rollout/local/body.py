"""A request's body on its way through the proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from tempfile import SpooledTemporaryFile
from types import TracebackType
from typing import Self

from starlette.types import Receive

MEMORY_BYTES = 1024 * 1024
"""Of a body, what is kept in memory; the rest is on disk."""

BLOCK_BYTES = 64 * 1024

LINGER_SECONDS = 10
"""Longest time to go on reading a body that no revision wants."""


class ClientGone(Exception):
    """The client has hung up."""


class Body:
    """Passed on as it arrives, and kept, so that another revision can be sent it from its beginning."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._kept = SpooledTemporaryFile(max_size=MEMORY_BYTES)  # noqa: SIM115  # closed by __exit__
        self._complete = asyncio.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kept.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """
        Raises:
            ClientGone: before the end.
        """
        self._kept.seek(0)
        while block := self._kept.read(BLOCK_BYTES):
            yield block
        while not self._complete.is_set():
            block = await self._next()
            self._kept.write(block)
            if block:
                yield block

    async def gone(self) -> None:
        """Returns when the client hangs up after the whole body was read; never before."""
        await self._complete.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def discard(self) -> None:
        """Read what nobody wants: closing the connection on it would take the answer away from a client
        that sends all before it reads."""
        with suppress(TimeoutError, ClientGone):
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._complete.is_set():
                    await self._next()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if not message.get("more_body", False):
            self._complete.set()
        return bytes(message.get("body", b""))
