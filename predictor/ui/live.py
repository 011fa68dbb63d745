"""Live audio: a relay between the browser and the service's realtime endpoint.

Browsers reach this process, not always the service, which may live inside a cluster.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import orjson
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from predictor.client.wire import RETRIED
from predictor.ui import result
from predictor.ui.settings import Settings

REALTIME = "/v1/realtime"

MAX_MESSAGE_BYTES = 1024 * 1024
"""Of one event; what a browser sends holds a tenth of a second of audio."""

QUEUED_MESSAGES = 16
"""Of the service, while a slow browser takes them; beyond it the service is made to wait."""

PONG_SECONDS = 180.0
"""Longest time for the answer to a ping, on either side: it waits behind audio that a busy service is still
to take."""

TICK_SECONDS = 1.0

POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013
"""Close codes of RFC 6455 and of its registry."""


def live_route(settings: Settings) -> APIRouter:
    """``/live``: messages of the realtime endpoint as they are, both ways. Before them the browser may be
    told in events of type ``page.state`` that the service is waking up, or cannot be reached."""
    router = APIRouter()
    url = settings.url.replace("http", "ws", 1) + f"{REALTIME}?model={settings.model_name}"

    @router.websocket("/live")
    async def live(browser: WebSocket) -> None:
        # Any site may open a websocket to any other; only pages of this one are served.
        origin = urlsplit(browser.headers.get("origin", ""))
        if origin.netloc != browser.headers.get("host"):
            await browser.close(POLICY_VIOLATION)
            return
        await browser.accept()
        try:
            service = await _connected(url, browser, settings)
            if service is not None:
                async with service:
                    await _relay(browser, service)
        except (WebSocketDisconnect, ConnectionClosed, RuntimeError):
            return  # Either side may go at any time, and the other one has been told by then.

    return router


async def _connected(url: str, browser: WebSocket, settings: Settings) -> ClientConnection | None:
    """A connection to the service; None where there is none within the patience."""
    began = time.monotonic()
    while True:
        try:
            return await connect(
                url,
                max_size=MAX_MESSAGE_BYTES,
                max_queue=QUEUED_MESSAGES,
                ping_timeout=PONG_SECONDS,
            )
        except (OSError, WebSocketException) as error:
            waited = time.monotonic() - began
            final = isinstance(error, InvalidStatus) and error.response.status_code not in RETRIED
            if final or waited > settings.patience_seconds:
                await _tell(browser, {"state": "failed", "status": None, "message": str(error)})
                await browser.close(TRY_AGAIN_LATER)
                return None
        await _tell(browser, result.waking(settings.start_seconds, waited))
        await asyncio.sleep(TICK_SECONDS)


async def _tell(browser: WebSocket, state: result.State) -> None:
    await browser.send_text(orjson.dumps({"type": "page.state", **state}).decode())


async def _relay(browser: WebSocket, service: ClientConnection) -> None:
    """Until one side ends; then the other is ended too."""

    async def to_service() -> None:
        while True:
            message = await browser.receive()
            if message["type"] == "websocket.disconnect":
                return
            await service.send(
                message["text"] if message.get("bytes") is None else message["bytes"]
            )

    async def to_browser() -> None:
        async for message in service:
            await browser.send_text(message if isinstance(message, str) else message.decode())
        await browser.close()

    await _first(to_service, to_browser)


async def _first(*works: Callable[[], Awaitable[None]]) -> None:
    """Run all until one ends; raise what it raised."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
