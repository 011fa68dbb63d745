"""Bodies are refused early, counted where no length is declared, and budgeted together."""

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
