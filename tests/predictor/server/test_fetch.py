"""Audio by URL from a server of our own: what is allowed, and every way it is refused."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from predictor.engine.errors import AudioTooLarge, InvalidRequest
from predictor.server.fetch import Fetcher

ANSWERS = {
    "/audio": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\naudio",
    "/large": b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n" + b"x" * 50,
    "/moved": b"HTTP/1.1 302 Found\r\nLocation: /audio\r\nContent-Length: 0\r\n\r\n",
    "/broken": b"nonsense\r\n\r\n",
}


@pytest.fixture
async def port() -> AsyncIterator[int]:
    """A server that answers from ANSWERS, and never where there is none."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readline()).decode().split()[1]
        if path in ANSWERS:
            writer.write(ANSWERS[path])
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


def fetcher(*hosts: str, seconds: float = 30) -> Fetcher:
    return Fetcher(hosts, max_bytes=20, timeout_seconds=seconds)


async def test_a_file_of_an_allowed_host(port: int) -> None:
    allowed = fetcher("127.0.0.1", "localhost")
    assert await allowed.fetch(f"http://127.0.0.1:{port}/audio") == b"audio"
    assert await allowed.fetch(f"http://LOCALHOST:{port}/audio") == b"audio"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://other.example/a", "'other.example' is not allowed; the setting allowed_url_hosts"),
        ("http://127.0.0.1.other.example/", "is not allowed"),
        ("http://127.0.0.1@other.example/", "user name"),
        ("ftp://127.0.0.1/a", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("/a", "http or https"),
        ("http://[::1/", "not a URL"),
    ],
)
async def test_what_is_not_allowed(url: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence.replace("[", r"\[")):
        await fetcher("127.0.0.1").fetch(url)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [("/moved", "answered 302; redirects"), ("/broken", "127.0.0.1: RemoteProtocolError")],
)
async def test_answers_that_are_no_file(port: int, path: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await fetcher("127.0.0.1").fetch(f"http://127.0.0.1:{port}{path}")


async def test_a_file_that_is_too_large(port: int) -> None:
    with pytest.raises(AudioTooLarge, match="limit of 20 bytes"):
        await fetcher("127.0.0.1").fetch(f"http://127.0.0.1:{port}/large")


async def test_a_host_that_keeps_silent(port: int) -> None:
    with pytest.raises(InvalidRequest, match="did not answer within"):
        await fetcher("127.0.0.1", seconds=0.1).fetch(f"http://127.0.0.1:{port}/silence")


async def test_a_name_that_resolves_to_a_private_address(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", ("93.184.216.34", 80)), (2, 1, 6, "", ("169.254.169.254", 80))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    with pytest.raises(InvalidRequest, match=r"audio\.example is a private address"):
        await fetcher("audio.example").fetch("http://audio.example/a")
