"""An HTTP server in the tests' own process, whose answers are a function."""

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def listening(
    answer: Callable[[BaseHTTPRequestHandler], None], poll_seconds: float
) -> ThreadingHTTPServer:
    """Serves on a port of its own until it is shut down; each request has a thread.

    Args:
        answer: reads a request and writes what is answered.
        poll_seconds: after which a shutdown is noticed.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *args: Any) -> None: ...

        def do_GET(self) -> None:
            answer(self)

        do_PATCH = do_POST = do_GET  # noqa: N815  # as http.server calls them

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(poll_seconds,), daemon=True).start()
    return server
