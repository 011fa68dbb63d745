"""The users' way in: each request to one revision, by the shares, and to another where that one is gone."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Protocol

import httpx
from starlette.types import Receive, Scope, Send

from pipelines.rollout.local.body import Body, ClientGone
from pipelines.rollout.local.meter import Meter

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 5.0
TIMEOUTS = {"connect": CONNECT_SECONDS, "read": None, "write": None, "pool": None}
"""How long an answer may take is the client's to say: hours of audio take minutes."""

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    b"transfer-encoding upgrade expect".split()
)
"""Headers between two neighbours (RFC 9110, 7.6.1), and ``Expect``, which the proxy answers itself."""

Headers = list[tuple[bytes, bytes]]


class Backend(Protocol):
    """A revision as the proxy needs it.

    Attributes:
        name: the revision's.
        url: reaches it alone.
    """

    name: str
    url: str

    def serving(self) -> AbstractContextManager[None]:
        """Around each request, so that the revision is not ended under it."""


class Proxy:
    """An ASGI application.

    A revision that breaks off before the first byte of its answer is asked no more; the request, which
    does nothing but compute, goes to another one with a share of the traffic. It is an error of the first.

    Every request has a connection to the revision of its own: one that was kept open could be closed by
    the revision just as the request is sent, and nobody could tell whether that was an error.

    Args:
        choose: the revision for a request, without those named; None where there is none.
        meter: is told what became of each request.
    """

    def __init__(
        self, choose: Callable[[Collection[str]], Awaitable[Backend | None]], meter: Meter
    ) -> None:
        self._choose = choose
        self._meter = meter
        self._transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with Body(receive) as body:
            failures: dict[str, str] = {}
            try:
                while backend := await self._choose(failures):
                    with backend.serving():
                        failure = await self._exchange(backend, scope, body, send)
                    if not failure:
                        return
                    failures[backend.name] = failure
                await body.discard()
                await _refuse(send, failures)
            except ClientGone:
                return
            except (httpx.InvalidURL, httpx.LocalProtocolError) as error:
                await body.discard()
                await _answer(send, 400, {"error": f"path or headers: {error}"}, [])

    async def close(self) -> None:
        """Once no request runs any more."""
        await self._transport.aclose()

    async def _exchange(self, backend: Backend, scope: Scope, body: Body, send: Send) -> str:
        """One attempt; returns why it may be tried elsewhere, or nothing.

        Raises:
            ClientGone: before it was answered.
            httpx.InvalidURL, httpx.LocalProtocolError: the path is none, or a header.
        """
        request = await _request(backend, scope, body)
        started = time.perf_counter()
        is_error = False
        try:
            answer = await self._answered(request, body)
            is_error = answer.status_code >= 500
            await _pass_on(answer, body, send)
        except httpx.LocalProtocolError:  # Of the request; no revision is to blame.
            raise
        except httpx.TransportError as error:
            is_error = True
            failure = f"{type(error).__name__}: {error}"
            logger.warning("%s: no answer: %s", backend.name, failure)
            return failure
        except _BrokenOff as error:
            # The server closes the connection on an answer without an end: its client sees that.
            is_error = True
            logger.warning("%s: the answer broke off: %s", backend.name, error)
            return ""
        finally:
            seconds = time.perf_counter() - started
            self._meter.add(backend.name, seconds, is_error=is_error)
        await send({"type": "http.response.body"})
        return ""

    async def _answered(self, request: httpx.Request, body: Body) -> httpx.Response:
        """The answer's head.

        Raises:
            ClientGone: before it came.
            httpx.TransportError: there will be none.
        """
        answer = asyncio.ensure_future(self._transport.handle_async_request(request))
        gone = asyncio.ensure_future(body.gone())
        try:
            await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                raise ClientGone
            return answer.result()
        finally:
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)


class _BrokenOff(Exception):
    """After the answer had begun."""


async def _request(backend: Backend, scope: Scope, body: Body) -> httpx.Request:
    target = scope["raw_path"]
    if scope["query_string"]:
        target += b"?" + scope["query_string"]
    names = {name for name, _ in scope["headers"]}
    has_body = b"transfer-encoding" in names or b"content-length" in names
    if not has_body:
        async for _ in body:  # Nothing; but it is read, and the client is seen to leave.
            continue
    return httpx.Request(
        scope["method"],
        httpx.URL(backend.url).copy_with(raw_path=target),
        headers=_end_to_end(scope["headers"]),
        content=body if has_body else None,
        extensions={"timeout": TIMEOUTS},
    )


async def _pass_on(answer: httpx.Response, body: Body, send: Send) -> None:
    """All of the answer but its end.

    Raises:
        _BrokenOff: the revision is gone.
    """
    headers = _end_to_end(answer.headers.raw)
    start = {"type": "http.response.start", "status": answer.status_code, "headers": headers}
    try:
        await send(start)
        async for block in answer.aiter_raw():
            await send({"type": "http.response.body", "body": block, "more_body": True})
    except httpx.TransportError as error:
        raise _BrokenOff(f"{type(error).__name__}: {error}") from error
    finally:
        await answer.aclose()
    await body.discard()


def _end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Without the headers that belong to one connection."""
    lower = [(name.lower(), value) for name, value in headers]
    named = b",".join(value for name, value in lower if name == b"connection").lower()
    dropped = HOP_BY_HOP | {name.strip() for name in named.split(b",")}
    return [(name, value) for name, value in lower if name not in dropped]


async def _refuse(send: Send, failures: dict[str, str]) -> None:
    if not failures:
        text = "no revision is ready; a release that is starting, or the next one, will be"
        await _answer(send, 503, {"error": text}, [(b"retry-after", b"5")])
        return
    # As the first one would have told itself, had it answered.
    first, why = next(iter(failures.items()))
    error = {"error": f"revision {first} gave no answer: {why}"}
    await _answer(send, 502, error, [(b"x-revision", first.encode())])


async def _answer(send: Send, status: int, content: dict[str, str], headers: Headers) -> None:
    text = json.dumps(content).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(text)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
