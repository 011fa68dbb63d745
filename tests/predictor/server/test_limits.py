"""Bodies are refused early, counted where no length is declared, and budgeted together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from predictor.engine.errors import Overloaded, SpeechError
from predictor.server import limits
from predictor.server.errors import Stalled
from predictor.server.limits import BodyLimit, ByteBudget, ExtraHeaders


async def size(request: Request) -> Response:
    return Response(str(len(await request.body())))


async def refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, SpeechError)
    return Response(str(error), error.http_status)


def client(budget: ByteBudget) -> httpx.AsyncClient:
    app = Starlette(
        routes=[Route("/", size, methods=["POST"])],
        middleware=[
            Middleware(ExtraHeaders, headers={"x-model-name": "m"}),
            Middleware(BodyLimit, max_bytes=100, budget=budget),
        ],
        exception_handlers={SpeechError: refuse},
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def pieces(n_pieces: int) -> AsyncIterator[bytes]:
    for _ in range(n_pieces):
        yield bytes(30)


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (bytes(100), 200, "100"),
        (bytes(101), 413, "body: 101 bytes or more, the limit is 100 bytes"),
        (pieces(3), 200, "90"),
        (pieces(4), 413, "body: 120 bytes or more"),
    ],
)
async def test_limits(content: Any, status: int, text: str) -> None:
    answer = await client(ByteBudget(1000)).post("/", content=content)
    assert answer.status_code == status
    assert text in answer.text
    assert answer.headers["x-model-name"] == "m"


async def test_a_length_that_is_no_number() -> None:
    headers = {"content-length": "-1"}
    answer = await client(ByteBudget(1000)).post("/", content=pieces(1), headers=headers)
    assert answer.status_code == 400
    assert "Content-Length" in answer.text


async def test_a_spent_budget_refuses_and_is_given_back() -> None:
    budget = ByteBudget(100)
    with budget.share() as other:
        other.add(60)
        answer = await client(budget).post("/", content=bytes(50))
        assert answer.status_code == 429
    assert (await client(budget).post("/", content=bytes(50))).status_code == 200
    with budget.share() as all_of_it:
        all_of_it.add(100)


def test_one_request_alone_may_exceed_the_budget() -> None:
    budget = ByteBudget(10)
    with budget.share() as share:
        share.add(50)
        with pytest.raises(Overloaded, match="limit is 10"):
            share.add(1)


async def test_a_body_that_stops_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.05)
    budget = ByteBudget(100)
    caught: list[Exception] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            await receive()
        except Stalled as error:
            caught.append(error)

    messages = [{"type": "http.request", "body": b"half", "more_body": True}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        return await asyncio.Event().wait()

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "POST", "headers": []}
    await BodyLimit(application, 100, budget)(scope, receive, send)
    assert "4 bytes came and then none for 0.05 seconds" in str(caught[0])
    with budget.share() as share:
        share.add(100)


async def test_a_whole_body_waits_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is received after it is the client's leaving, which has no limit."""
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.01)
    left = asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == b"all"
        asyncio.get_running_loop().call_later(0.1, left.set)
        assert (await receive())["type"] == "http.disconnect"

    messages = [{"type": "http.request", "body": b"all", "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None: ...

    scope = {"type": "http", "method": "POST", "headers": []}
    await BodyLimit(application, 100, ByteBudget(100))(scope, receive, send)
    assert left.is_set()
