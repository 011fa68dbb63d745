"""The relay, between real websockets."""

import json

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

pytestmark = pytest.mark.asyncio(loop_scope="package")


def live_url(url):
    return url.replace("http", "ws", 1) + "live"


@pytest.fixture
def origin():
    return lambda url: url.rstrip("/")


async def test_messages_go_both_ways_as_they_are(page_of, new_port, origin):
    asked = []

    async def answer(service):
        asked.append(service.request.path)
        async for message in service:
            await service.send(json.dumps({"type": "echo", "bytes": isinstance(message, bytes)}))
            if message == "bye":
                return

    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        where = {"service_url": f"http://127.0.0.1:{port}", "http_port": new_port()}
        with page_of(model_name="mine", **where) as url:
            async with connect(live_url(url), origin=origin(url)) as browser:
                for message, binary in (("{}", False), (b"\x00\x01", True), ("bye", False)):
                    await browser.send(message)
                    assert json.loads(await browser.recv()) == {"type": "echo", "bytes": binary}
                with pytest.raises(ConnectionClosed):
                    await browser.recv()
    assert asked == ["/v1/realtime?model=mine"]


async def test_when_the_browser_leaves_the_service_hears_of_it(page_of, new_port, origin):
    left = []

    async def answer(service):
        await service.send("{}")
        try:
            await service.recv()
        except ConnectionClosed:
            left.append(True)

    async with serve(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        where = {"service_url": f"http://127.0.0.1:{port}", "http_port": new_port()}
        with page_of(**where) as url:
            async with connect(live_url(url), origin=origin(url)) as browser:
                await browser.recv()
        server.close(close_connections=False)
        await server.wait_closed()
    assert left == [True]


@pytest.mark.parametrize("foreign", ["http://elsewhere.example", None])
async def test_other_sites_are_turned_away(page_url, foreign):
    with pytest.raises(Exception, match="403"):
        async with connect(live_url(page_url), origin=foreign):
            pass


async def test_a_service_that_does_not_come_is_told_of(page_of, new_port, origin):
    where = {"service_url": f"http://127.0.0.1:{new_port()}", "http_port": new_port()}
    with page_of(patience_seconds=0.5, start_seconds=9, **where) as url:
        async with connect(live_url(url), origin=origin(url)) as browser:
            states = [json.loads(await browser.recv()) for _ in range(2)]
            with pytest.raises(ConnectionClosed, match="1013"):
                await browser.recv()
    assert [state["state"] for state in states] == ["waking", "failed"]
    assert states[0]["about"] == 9
