"""Routes over a fake data plane: what becomes of errors, of overload, and of clients that hang up."""

import asyncio
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from predictor.engine.errors import Overloaded
from predictor.server.errors import NotReady
from predictor.server.limits import ByteBudget
from predictor.server.rest import add_routes

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v2/models/m/infer",
    "query_string": b"",
    "headers": [],
}


class FakeDataPlane:
    """Answers what it is told to, raises if that is an exception, or never answers."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.headers: Mapping[str, str] = {}
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def infer(self, name: str, payload: Any, headers: Mapping[str, str]) -> tuple[Any, Any]:
        self.headers = headers
        self.started.set()
        try:
            while self.answer is None:
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer, {"server-timing": "queue;dur=0.1"}


def application(data_plane: Any, seen: Any) -> FastAPI:
    app = FastAPI()
    add_routes(
        app,
        data_plane,
        headers={},
        max_body_bytes=1000,
        budget=ByteBudget(10_000),
        observer=seen,
        enable_docs=True,
    )
    return app


def client(data_plane: Any, seen: Any) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(application(data_plane, seen))
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def test_every_request_has_an_id(seen: Any) -> None:
    data_plane = FakeDataPlane({"predictions": []})
    await client(data_plane, seen).post("/v1/models/m:predict")
    assert data_plane.headers["x-request-id"]
    await client(data_plane, seen).post("/v1/models/m:predict", headers={"X-Request-Id": "r1"})
    assert data_plane.headers["x-request-id"] == "r1"
    assert seen.requests == [("rest_v1", "")] * 2


async def test_an_answer_carries_its_times(seen: Any) -> None:
    answer = await client(FakeDataPlane({"predictions": []}), seen).post("/v1/models/m:predict")
    assert answer.headers["server-timing"] == "queue;dur=0.1"


async def test_overload_says_when_to_come_back(seen: Any) -> None:
    data_plane = FakeDataPlane(Overloaded("full", retry_after_seconds=7))
    answer = await client(data_plane, seen).post("/v2/models/m/infer")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json() == {"error": "full"}
    assert seen.requests == [("rest_v2", "overloaded")]


async def test_a_server_that_stops_says_when_to_come_back(seen: Any) -> None:
    answer = await client(FakeDataPlane(NotReady("stopping")), seen).post("/v2/models/m/infer")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_what_nobody_foresaw_is_answered_without_its_message(
    caplog: pytest.LogCaptureFixture, seen: Any
) -> None:
    data_plane = FakeDataPlane(RuntimeError("secret audio"))
    answer = await client(data_plane, seen).post(
        "/v2/models/m/infer", headers={"x-request-id": "r2"}
    )
    assert answer.status_code == 500
    assert "r2" in answer.json()["error"]
    assert "secret" not in answer.text
    assert "request r2 failed: RuntimeError" in caplog.text
    assert "secret" not in caplog.text
    assert seen.requests == [("rest_v2", "internal")]


async def test_a_client_that_hangs_up_cancels_its_work(seen: Any) -> None:
    data_plane = FakeDataPlane()
    hung_up = asyncio.Event()
    body = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive() -> Any:
        if body:
            return body.pop()
        await hung_up.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    running = asyncio.ensure_future(application(data_plane, seen)(SCOPE, receive, send))
    await data_plane.started.wait()
    hung_up.set()
    await running
    assert data_plane.cancelled.is_set()
    assert seen.requests == [("rest_v2", "cancelled")]


async def test_a_client_that_hangs_up_while_sending_is_no_error(
    caplog: pytest.LogCaptureFixture, seen: Any
) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await application(FakeDataPlane(), seen)(SCOPE, receive, send)
    assert caplog.text == ""


async def test_the_page_of_the_protocol(seen: Any) -> None:
    answer = await client(FakeDataPlane(), seen).get("/docs")
    assert "/openapi.json" in answer.text
