"""Uvicorn's end, in this process, around an application that answers when it is let."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from uvicorn.config import Config

from predictor.server import draining
from predictor.server.draining import DrainingServer, Steps
from predictor.server.http_connection import HttpConnection

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
ANSWER = b"\r\n\r\nhi"


class Running:
    """A server with what it did at its end, in order."""

    def __init__(self, port: int, grace_seconds: float) -> None:
        self.port = port
        self.done: list[str] = []
        self.asked, self.answer = asyncio.Event(), asyncio.Event()
        self.answer.set()
        config = Config(
            self._app, port=port, http=HttpConnection, lifespan="off", interface="asgi3"
        )
        steps = Steps(
            lambda: self.done.append("begin"), self._stop_grpc, lambda: self.done.append("refuse")
        )
        self.server = DrainingServer(config, grace_seconds, steps)
        self.serving = asyncio.create_task(self.server.serve())

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.set()
        await self.answer.wait()
        headers = [(b"content-length", b"2")]
        if self.done:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"hi"})

    async def _stop_grpc(self, seconds: float) -> None:
        self.done.append("gRPC")
        self.grpc_seconds = seconds

    async def stop(self) -> None:
        """Returns once it has begun to stop."""
        self.server.should_exit = True
        while not self.done:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def takes_connections(self) -> bool:
        try:
            (await self.connect())[1].close()
        except ConnectionRefusedError:
            return False
        return True


@asynccontextmanager
async def running(new_port: Callable[[], int], grace_seconds: float) -> AsyncIterator[Running]:
    one = Running(new_port(), grace_seconds)
    while not one.server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield one
    finally:
        one.answer.set()
        one.server.should_exit = True
        await asyncio.wait_for(one.serving, 60)


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    connection[1].write(GET)
    return await connection[0].readuntil(ANSWER)


async def test_an_open_connection_may_send_one_more_request(
    new_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "SHED_SECONDS", 60)
    async with running(new_port, 120) as one:
        kept = await one.connect()
        assert b"connection: close" not in await ask(kept)
        await one.stop()
        # So may one that comes now.
        assert b"connection: close" in await ask(await one.connect())
        assert b"connection: close" in await ask(kept)
        assert await kept[0].read() == b""
    assert one.done == ["begin", "gRPC"]
    assert 0 < one.grpc_seconds < 120


async def test_who_stays_silent_is_left(
    new_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "SHED_SECONDS", 0.2)
    async with running(new_port, 120) as one:
        silent, kept = await one.connect(), await one.connect()
        await ask(kept)
        await one.stop()
        assert await silent[0].read() == await kept[0].read() == b""


async def test_the_silent_take_only_a_share_of_the_grace_period(
    new_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draining, "SHED_SECONDS", 60)
    async with running(new_port, 4) as one:
        kept = await one.connect()
        await ask(kept)
        await one.stop()
        assert await kept[0].read() == b""
    assert one.done == ["begin", "gRPC"]
    assert one.grpc_seconds > 0


async def test_a_running_request_is_answered(new_port: Callable[[], int]) -> None:
    async with running(new_port, 120) as one:
        one.answer.clear()
        busy = asyncio.create_task(ask(await one.connect()))
        await one.asked.wait()
        await one.stop()
        # Nobody can connect any more, and the request still runs.
        while await one.takes_connections():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert not busy.done()
        one.answer.set()
        assert b"connection: close" in await busy
    assert one.done == ["begin", "gRPC"]


async def test_the_grace_period_ends(new_port: Callable[[], int]) -> None:
    began = time.monotonic()
    async with running(new_port, 1.5) as one:
        one.answer.clear()
        stuck = await one.connect()
        stuck[1].write(GET)
        await one.asked.wait()
        await one.stop()
        await asyncio.wait_for(asyncio.shield(one.serving), 60)
    assert time.monotonic() - began > 1.5
    assert one.done == ["begin", "gRPC", "refuse"]
    assert b"500" in await stuck[0].read()
