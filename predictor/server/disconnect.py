"""Work for a client that may hang up before it is done."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request

CLIENT_CLOSED_REQUEST = 499
"""Status of an answer that nobody reads."""


async def unless_disconnected(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's result; None, and the work cancelled, if the client hangs up before."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)
