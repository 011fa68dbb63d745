"""Heads of requests, on a real server of one small application."""

import asyncio
import json

import pytest
import uvicorn

from predictor.server import http_connection
from predictor.server.http_connection import MAX_HEAD_BYTES, MAX_HEADERS, HttpConnection

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"Connection: close\r\n\r\n"


async def echo(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]}
    await send(start)
    await send({"type": "http.response.body", "body": b"%d" % (len(body) % 10)})


@pytest.fixture
async def port(new_port):
    config = uvicorn.Config(
        echo, port=new_port(), http=HttpConnection, log_config=None, lifespan="off"
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
        await asyncio.sleep(0.01)
    yield config.port
    server.should_exit = True
    await task


async def exchange(port, *pieces):
    """What is answered until the connection is closed; nothing more is sent then, which would take the
    answer away."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.create_task(reader.read())
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            for _ in range(5):  # The server has its turn in the same loop.
                await asyncio.sleep(0)
            if answer.done():
                break
        return await asyncio.wait_for(answer, 60)
    finally:
        writer.close()


def error_of(answer, status):
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    return json.loads(body)["error"]


async def test_heads_within_the_bounds_are_served(port):
    header = b"X: " + b"y" * (MAX_HEAD_BYTES // MAX_HEADERS - 20) + b"\r\n"
    assert (await exchange(port, GET + header * (MAX_HEADERS - 2) + CLOSE)).startswith(
        b"HTTP/1.1 200"
    )


async def test_a_connection_serves_many_requests(port):
    """What has been sent on a connection before counts for none of them."""
    answer = await exchange(port, *[GET + b"X: " + b"y" * 50_000 + b"\r\n\r\n"] * 20, GET + CLOSE)
    assert answer.count(b"HTTP/1.1 200") == 21


async def test_a_body_of_small_chunks_is_no_head(port):
    answer = await exchange(port, POST, *[b"1\r\nx\r\n" * 500] * 100, b"0\r\n\r\n" + GET + CLOSE)
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    "pieces",
    [
        [GET + b"X: y\r\n" * (MAX_HEADERS + 1) + CLOSE],
        [GET + b"X: " + b"y" * MAX_HEAD_BYTES + b"\r\n" + CLOSE],
        [GET, b"X: ", *[b"y" * 4096] * 40],
        [b"GET /", *[b"y" * 4096] * 10, *[b"z" * 4096] * 30],
    ],
    ids=["too many headers", "too long", "no end", "a path without an end"],
)
async def test_larger_heads_are_refused(port, pieces):
    answer = await exchange(port, *pieces)
    assert f"{MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes" in error_of(answer, 431)


@pytest.mark.parametrize("more", [[b"X: y\r\n" * 200], [b"X: ", *[b"y" * 4096] * 40]])
async def test_trailers_have_the_same_bounds(port, more):
    answer = await exchange(port, POST, b"1\r\nx\r\n", b"0\r\n", *more)
    assert b"HTTP/1.1 431" in answer


async def test_what_is_no_http(port):
    assert "not valid HTTP" in error_of(await exchange(port, b"\x16\x03\x01\r\n\r\n"), 400)


@pytest.mark.parametrize("begun", [b"", b"GET / HT", GET])
async def test_a_head_has_limited_time(port, begun, monkeypatch):
    monkeypatch.setattr(http_connection, "HEAD_SECONDS", 0.2)
    assert "no end of its headers" in error_of(await exchange(port, begun), 408)
