"""Audio by URL from a server of our own: what is fetched, and how the rest is refused.

What an attacker may try stands in tests/reliability/test_fetch_attacks.py.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from predictor.engine.errors import AudioTooLarge, InvalidRequest, Overloaded
from predictor.server import fetch
from predictor.server.allowlist import Allowlist
from predictor.server.fetch import Fetcher
from predictor.server.limits import ByteBudget

MAX_BYTES = 20


def file(body: bytes = b"audio") -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def moved(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()


ANSWERS = {
    "/audio": file(),
    "/large": file(b"x" * 50),
    "/open-ended": b"HTTP/1.1 200 OK\r\n\r\naudio",
    "/moved": moved("/audio"),
    "/moved/3": moved("/moved/2"),
    "/moved/2": moved("/moved/1"),
    "/moved/1": moved("audio"),
    "/moved/audio": file(),
    "/moved/4": moved("/moved/3"),
    "/elsewhere": moved("http://secret.internal/?token=secret"),
    "/missing": b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
    "/part": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 1\r\n\r\na",
    "/gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\na",
    "/broken": b"nonsense\r\n\r\n",
}


@pytest.fixture
async def asked() -> list[str]:
    """Heads of the requests that the server got, in order."""
    return []


@pytest.fixture
async def port(asked: list[str]) -> AsyncIterator[int]:
    """A server that answers from ANSWERS, and never where there is none."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.append(head)
        path = head.split()[1]
        if path in ANSWERS:
            writer.write(ANSWERS[path])
            await writer.drain()
        else:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
def fetched(port: int) -> Callable[..., object]:
    """The function that fetches a path of the server."""

    async def get(path: str, seconds: float = 30, host: str = "127.0.0.1") -> bytes:
        allowlist = Allowlist((f"127.0.0.1:{port}", f"localhost:{port}"))
        fetcher = Fetcher(allowlist, MAX_BYTES, seconds, ByteBudget(1000))
        async with fetcher.fetched(f"http://{host}:{port}{path}") as data:
            return data

    return get


async def test_a_file_of_an_allowed_host(port: int, fetched, asked: list[str]) -> None:
    assert await fetched("/audio") == b"audio"
    assert await fetched("/audio", host="LOCALHOST") == b"audio"
    assert await fetched("/open-ended") == b"audio"
    assert f"Host: 127.0.0.1:{port}\r\n" in asked[0]
    assert f"Host: localhost:{port}\r\n" in asked[1]
    assert all("Accept-Encoding: identity\r\n" in head for head in asked)


@pytest.mark.parametrize("path", ["/moved", "/moved/3"])
async def test_redirects_within_the_allowed_hosts(fetched, path: str) -> None:
    assert await fetched(path) == b"audio"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/moved/4", "127.0.0.1 redirects more than 3 times; give the last URL"),
        ("/elsewhere", "127.0.0.1 redirects to a URL that is not allowed$"),
        ("/missing", "127.0.0.1 answered 404, not 200"),
        ("/part", "127.0.0.1 answered 206, not 200"),
        ("/gzip", "127.0.0.1 compresses its answer"),
        ("/broken", r"127.0.0.1 gave no valid answer \(RemoteProtocolError\)"),
    ],
)
async def test_answers_that_are_no_file(fetched, path: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        await fetched(path)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://other.example/a", "'other.example' with port 80 is not allowed; the setting"),
        ("http://127.0.0.1@other.example/", "user name"),
        ("ftp://127.0.0.1/a", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("/a", "http or https"),
        ("http://[::1/", "not a URL"),
    ],
)
async def test_what_is_not_allowed(url: str, sentence: str) -> None:
    fetcher = Fetcher(Allowlist(("127.0.0.1",)), MAX_BYTES, 1, ByteBudget(1000))
    with pytest.raises(InvalidRequest, match=sentence):
        async with fetcher.fetched(url):
            pass


async def test_a_file_that_is_too_large(fetched) -> None:
    with pytest.raises(AudioTooLarge, match="50 bytes or more, the limit is 20 bytes"):
        await fetched("/large")


async def test_a_host_that_keeps_silent(fetched) -> None:
    with pytest.raises(InvalidRequest, match=r"did not answer within 0\.1 seconds"):
        await fetched("/silence", seconds=0.1)


async def test_a_port_that_nobody_listens_on(new_port: Callable[[], int]) -> None:
    closed = new_port()
    fetcher = Fetcher(Allowlist((f"localhost:{closed}",)), MAX_BYTES, 5, ByteBudget(1000))
    with pytest.raises(InvalidRequest, match=r"localhost gave no valid answer \(ConnectError\)"):
        async with fetcher.fetched(f"http://localhost:{closed}/a"):
            pass


async def test_fetched_bytes_are_counted_while_they_are_held(port: int) -> None:
    budget = ByteBudget(8)
    fetcher = Fetcher(Allowlist((f"127.0.0.1:{port}",)), MAX_BYTES, 30, budget)
    url = f"http://127.0.0.1:{port}/audio"
    async with fetcher.fetched(url):
        with pytest.raises(Overloaded, match="requests of 5 bytes"):
            async with fetcher.fetched(url):
                pass
    async with fetcher.fetched(url) as data:
        assert data == b"audio"


async def test_no_flood_of_fetches(
    port: int, asked: list[str], until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "MAX_FETCHES", 2)
    fetcher = Fetcher(Allowlist((f"127.0.0.1:{port}",)), MAX_BYTES, 0.3, ByteBudget(1000))

    async def get() -> None:
        async with fetcher.fetched(f"http://127.0.0.1:{port}/silence"):
            pass

    outcomes = asyncio.gather(*(get() for _ in range(6)), return_exceptions=True)
    await until(lambda: len(asked) >= 2)
    assert len(asked) == 2
    refused = [type(error) for error in await outcomes]
    assert refused.count(Overloaded) + refused.count(InvalidRequest) == 6
    assert refused.count(Overloaded) >= 2
