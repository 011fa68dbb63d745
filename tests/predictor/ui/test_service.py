"""Waiting for a service that comes and goes."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from predictor.ui import service as module
from predictor.ui.service import Service
from predictor.ui.settings import Settings


class Ready(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *arguments):
        """The tests' output is theirs."""


@contextmanager
def listening(port):
    with HTTPServer(("127.0.0.1", port), Ready) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def make(new_port, monkeypatch):
    monkeypatch.setattr(module, "TICK_SECONDS", 0.05)
    port = new_port()

    def service(**settings):
        return Service(Settings(service_url=f"http://127.0.0.1:{port}", **settings)), port

    return service


async def test_a_start_that_was_seen_is_what_users_are_told_next(make):
    service, port = make(start_seconds=30)
    states = service.wake()
    assert await anext(states) == {"state": "waking", "about": 30, "waited": 0}
    for _ in range(3):
        await anext(states)
    with listening(port):
        assert [state async for state in states][-1] == {"state": "ready"}
    assert (await anext(service.wake()))["about"] < 30


async def test_a_service_that_was_up_says_nothing_of_starts(make):
    service, port = make(start_seconds=30)
    with listening(port):
        assert [state async for state in service.wake()] == [{"state": "ready"}]
    assert (await anext(service.wake()))["about"] == 30


async def test_patience_ends(make):
    service, _ = make(patience_seconds=0)
    assert [state["state"] async for state in service.wake()][-1] == "unreachable"
