"""HTTP connections on which a request's head has bounds, in bytes, headers and time.

uvicorn bounds none of them with its fast parser: a head that never ends would grow in memory, and
thousands of headers take the event loop a second to read.
"""

import asyncio
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Most bytes of a request line with its headers, or of a chunked body's trailers. Envoy, which KServe's
ingresses are made of, takes 60 KiB."""

MAX_HEADERS = 100
"""Most headers, as Envoy has it."""

HEAD_SECONDS = 30
"""Longest time from the first byte of a request, or from connecting, to the end of its head."""


class HttpConnection(HttpToolsProtocol):
    """As uvicorn's own, with bounds, and errors in the form of all others. For one event loop."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._in_head = False
        self._too_large = False
        self._n_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        goes_on = self._in_head
        super().data_received(data)
        # What has no end yet is kept by the parser, which tells nobody of it.
        if goes_on and self._in_head and not self.transport.is_closing():
            self._n_bytes += len(data)
            if self._n_bytes > MAX_HEAD_BYTES:
                self._refuse(431, _TOO_LARGE)

    def on_message_begin(self) -> None:
        self._begin_head()
        self._await_head()
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._n_bytes += len(name) + len(value)
        if len(self.headers) > MAX_HEADERS or self._n_bytes > MAX_HEAD_BYTES:
            self._too_large = True
            raise httptools.HttpParserError(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._cancel_timer()
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A chunk of the body comes next, or what may follow the last one: headers again."""
        self._begin_head()

    def on_body(self, body: bytes) -> None:
        self._in_head = False
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_head = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Of what is no HTTP, or whose head is too large; ``msg`` is uvicorn's word for both."""
        if self._too_large:
            self._refuse(431, _TOO_LARGE)
        else:
            self._refuse(400, "request: not valid HTTP/1.1, or its length is given twice")

    def _begin_head(self) -> None:
        self._in_head, self._n_bytes = True, 0

    def _await_head(self) -> None:
        self._cancel_timer()
        self._timer = self.loop.call_later(HEAD_SECONDS, self._on_timeout)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timeout(self) -> None:
        if not self.transport.is_closing():
            message = (
                f"request: no end of its headers for {HEAD_SECONDS} seconds, which is the limit"
            )
            self._refuse(408, message)

    def _refuse(self, status: int, message: str) -> None:
        """Answer and close, for which there need not be a request."""
        body = orjson.dumps({"error": message})
        head = f"content-type: application/json\r\ncontent-length: {len(body)}\r\nconnection: close"
        self.transport.write(STATUS_LINE[status] + head.encode() + b"\r\n\r\n" + body)
        self.transport.close()


_TOO_LARGE = (
    f"request: its line and headers have more than {MAX_HEADERS} headers or {MAX_HEAD_BYTES} bytes, "
    "which is the limit"
)
