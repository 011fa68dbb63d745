"""A real HTTP server on a socket that answers from a script."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from predictor.client import patience

TAG = {"label": "en", "confidence": 1.0}


def transcript_answer(text: str) -> bytes:
    transcript = {"text": text, "language": TAG, "emotion": TAG, "event": TAG, "duration": 1.0}
    output = {"name": "transcript", "shape": [1], "datatype": "BYTES"}
    return json.dumps({"outputs": [{**output, "data": [json.dumps(transcript)]}]}).encode()


@dataclass(frozen=True)
class Reply:
    """One answer; ``hang_up``: the connection is closed instead."""

    status: int = 200
    body: bytes = transcript_answer("fine")
    headers: dict[str, str] = field(default_factory=dict)
    hang_up: bool = False


@dataclass
class Script:
    """Replies in order; the last one is given for ever.

    Attributes:
        url: of the server.
        requests: (headers, body) of what came.
        most_at_once: requests that were under way together.
        hold: a request is answered when this is set.
    """

    replies: list[Reply] = field(default_factory=lambda: [Reply()])
    url: str = ""
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    most_at_once: int = 0
    hold: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def script() -> Iterator[Script]:
    script = Script()
    script.hold.set()
    lock = threading.Lock()
    running = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def do_POST(self) -> None:
            nonlocal running
            with lock:
                running += 1
                script.most_at_once = max(script.most_at_once, running)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            script.hold.wait(30)
            with lock:
                running -= 1
                script.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                reply = script.replies.pop(0) if len(script.replies) > 1 else script.replies[0]
            if reply.hang_up:
                self.close_connection = True
                return
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, *arguments: object) -> None:
            """The tests' output is theirs."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        script.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield script
        script.hold.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def reply() -> type[Reply]:
    """The class of a scripted answer."""
    return Reply


@pytest.fixture
def answer() -> Callable[[str], bytes]:
    """The function that makes the body of a predictor's answer."""
    return transcript_answer


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pauses a thousandth as long."""
    monkeypatch.setattr(patience, "FIRST_PAUSE_SECONDS", 0.0005)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_SECONDS", 0.008)
