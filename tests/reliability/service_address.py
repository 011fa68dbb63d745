"""One address for several servers, as a Service of Kubernetes is one for its pods."""

import asyncio
import random
from collections.abc import Sequence
from typing import Self

BLOCK = 65_536


class ServiceAddress:
    """Takes connections, and hands each to one of the servers in rotation, as kube-proxy does: those that
    are there stay with theirs when the rotation changes. ``async with`` opens and closes it.

    Attributes:
        rotation: ports of the servers that new connections go to.
        n_refused: connections that a server in rotation did not take.
    """

    def __init__(self, rotation: Sequence[int]) -> None:
        self.rotation = list(rotation)
        self.n_refused = 0
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        writers = [writer]
        try:
            to_server = await asyncio.open_connection("127.0.0.1", random.choice(self.rotation))
            writers.append(to_server[1])
            await asyncio.gather(_copy(reader, to_server[1]), _copy(to_server[0], writer))
        except ConnectionRefusedError:
            self.n_refused += 1
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """All bytes, then the end, or the abort."""
    try:
        while block := await reader.read(BLOCK):
            writer.write(block)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
