"""The proxy, between real sockets: what it passes on, whom it tries next, and what it counts."""

import asyncio
import contextlib
import json
from collections.abc import Collection
from dataclasses import dataclass, field

import httpx
import pytest

from pipelines.rollout.local.body import MEMORY_BYTES
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.local.proxy import Proxy

LARGE = bytes(range(256)) * (3 * MEMORY_BYTES // 256)


@dataclass
class Backend:
    """``running``, ``most``: requests within ``serving`` now, and at most."""

    name: str
    url: str
    running: int = 0
    most: int = 0

    @contextlib.contextmanager
    def serving(self):
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield
        finally:
            self.running -= 1


@dataclass
class Service:
    """Revisions in the order in which they are chosen."""

    backends: list[Backend] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)
    url: str = ""

    async def choose(self, without: Collection[str]) -> Backend | None:
        return next((each for each in self.backends if each.name not in without), None)

    def counted(self, name: str) -> tuple[int, int]:
        """Requests, errors."""
        traffic = self.meter.measure(name, 600)
        return traffic.requests, traffic.errors


@pytest.fixture
async def service(listen):
    """A proxy for revisions that the test adds."""
    service = Service()
    proxy = Proxy(service.choose, service.meter)
    service.url = await listen(proxy)
    yield service
    await proxy.close()
    assert not any(each.running for each in service.backends)


@pytest.fixture
def add(listen, service):
    """The function that adds a revision which answers with an ASGI application."""

    async def start(name: str, app) -> Backend:
        service.backends.append(Backend(name, await listen(app)))
        return service.backends[-1]

    return start


@pytest.fixture
async def add_raw(service):
    """The function that adds a revision which handles connections by itself."""
    servers = []

    async def start(name: str, handle) -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        service.backends.append(Backend(name, f"http://127.0.0.1:{port}"))

    yield start
    for server in servers:
        server.close()


async def body_of(receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


async def answer(send, status: int, body: bytes = b"", headers=()) -> None:
    head = [(b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def echo(scope, receive, send) -> None:
    """Tells what it was asked."""
    body = await body_of(receive)
    told = {
        "method": scope["method"],
        "target": (scope["raw_path"] + b"?" + scope["query_string"]).decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "port": scope["client"][1],
        "bytes": len(body),
        "same": body == LARGE,
    }
    await answer(send, 200, json.dumps(told).encode(), [(b"x-revision", b"one")])


async def break_at_once(reader, writer) -> None:
    """Reads some of a request and closes the connection."""
    await reader.read(100)
    writer.transport.abort()


async def refused(service) -> None:
    """Adds a revision where nobody listens."""
    server = await asyncio.start_server(break_at_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    service.backends.append(Backend("gone", f"http://127.0.0.1:{port}"))


async def test_a_request_is_passed_on_as_it_is(service, add, client) -> None:
    await add("one", echo)
    headers = [
        ("Inference-Header-Content-Length", "0"),
        ("x-twice", "a"),
        ("x-twice", "b"),
        ("connection", "x-mine"),
        ("x-mine", "for the neighbour"),
        ("te", "trailers"),
    ]
    url = f"{service.url}/v2/models/a%2Fb/infer?x=%20y&z"
    answered = await client.post(url, content=LARGE, headers=headers)
    told = answered.json()
    assert (told["method"], told["same"]) == ("POST", True)
    assert told["target"] == "/v2/models/a%2Fb/infer?x=%20y&z"
    sent = [[name, value] for name, value in told["headers"]]
    assert [value for name, value in sent if name == "x-twice"] == ["a", "b"]
    assert ["inference-header-content-length", "0"] in sent
    assert ["host", service.url.removeprefix("http://")] in sent
    assert ["content-length", str(len(LARGE))] in sent
    assert not {"x-mine", "te", "transfer-encoding"} & {name for name, _ in sent}
    assert service.counted("one") == (1, 0)


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
async def test_a_request_without_a_body_has_none_behind_it(service, add, client, method) -> None:
    await add("one", echo)
    told = (await client.request(method, service.url)).json()
    assert (told["method"], told["bytes"]) == (method, 0)
    assert "transfer-encoding" not in dict(told["headers"])


async def test_the_head_alone_is_answered(service, add, client) -> None:
    async def app(scope, receive, send) -> None:
        await answer(send, 200, b"" if scope["method"] == "HEAD" else b"x")

    await add("one", app)
    assert (await client.head(service.url)).status_code == 200


async def test_an_answer_is_passed_on_as_it_is(service, add, client) -> None:
    headers = [
        (b"x-revision", b"one"),
        (b"x-model-digest", b"abc"),
        (b"server-timing", b"decode;dur=1"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
        (b"connection", b"x-hop"),
        (b"x-hop", b"1"),
        (b"keep-alive", b"timeout=5"),
    ]

    async def app(scope, receive, send) -> None:
        await body_of(receive)
        await answer(send, 418, LARGE, headers)

    await add("one", app)
    answered = await client.get(service.url)
    assert (answered.status_code, answered.content == LARGE) == (418, True)
    assert answered.headers["x-model-digest"] == "abc"
    assert answered.headers["server-timing"] == "decode;dur=1"
    assert answered.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert not {"x-hop", "keep-alive"} & set(answered.headers)


async def test_both_directions_stream(service, add, client) -> None:
    arrived, sent = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:
        assert (await receive())["body"] == b"first"
        arrived.set()
        await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})
        await sent.wait()
        await send({"type": "http.response.body", "body": b"end"})

    async def body():
        yield b"first"
        await arrived.wait()
        yield b"last"

    await add("one", app)
    async with client.stream("POST", service.url, content=body()) as answered:
        blocks = answered.aiter_raw()
        assert await anext(blocks) == b"begin"
        sent.set()
        assert b"".join([block async for block in blocks]) == b"end"


async def test_a_revision_that_refuses_is_passed_over(service, add, client) -> None:
    await refused(service)
    await add("one", echo)
    answered = await client.post(service.url, content=LARGE)
    assert answered.json()["same"]
    assert (service.counted("gone"), service.counted("one")) == ((1, 1), (1, 0))


@pytest.mark.parametrize("after", [100, 2 * MEMORY_BYTES, len(LARGE)])
async def test_one_that_breaks_off_before_it_answers_is_passed_over(
    service, add, add_raw, client, after
) -> None:
    async def handle(reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(after)
        writer.transport.abort()

    await add_raw("breaks", handle)
    await add("one", echo)
    answered = await client.post(service.url, content=LARGE)
    assert answered.json()["same"]
    assert (service.counted("breaks"), service.counted("one")) == ((1, 1), (1, 0))


async def test_an_answer_that_breaks_off_is_an_error_that_its_reader_sees(
    service, add, client
) -> None:
    async def app(scope, receive, send) -> None:
        await body_of(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begin", "more_body": True})

    await add("one", app)
    await add("two", echo)
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post(service.url, content=b"audio")
    assert (service.counted("one"), service.counted("two")) == ((1, 1), (0, 0))


@pytest.mark.parametrize(("status", "errors"), [(200, 0), (429, 0), (500, 1), (503, 1)])
async def test_server_errors_are_passed_on_and_counted(
    service, add, client, status, errors
) -> None:
    async def app(scope, receive, send) -> None:
        await body_of(receive)
        await answer(send, status, b"told")

    await add("one", app)
    await add("two", echo)
    answered = await client.post(service.url, content=b"audio")
    assert (answered.status_code, answered.content) == (status, b"told")
    assert (service.counted("one"), service.counted("two")) == ((1, errors), (0, 0))


async def test_latencies_are_the_revisions_own(service, add, client) -> None:
    async def slow(scope, receive, send) -> None:
        await body_of(receive)
        await asyncio.sleep(0.2)
        await answer(send, 200)

    await refused(service)
    await add("slow", slow)
    await client.get(service.url)
    assert service.meter.measure("slow", 600).p99_s >= 0.2
    assert service.meter.measure("gone", 600).p99_s < service.meter.measure("slow", 600).p99_s


async def test_where_all_break_off_the_first_one_is_named(service, add_raw, client) -> None:
    await add_raw("one", break_at_once)
    await add_raw("two", break_at_once)
    answered = await client.post(service.url, content=LARGE)
    assert (answered.status_code, answered.headers["x-revision"]) == (502, "one")
    assert answered.json()["error"].startswith("revision one gave no answer: ")
    assert (service.counted("one"), service.counted("two")) == ((1, 1), (1, 1))


async def test_where_nothing_serves_clients_are_told_to_come_back(service, client) -> None:
    answered = await client.post(service.url, content=LARGE)
    assert (answered.status_code, answered.headers["retry-after"]) == (503, "5")
    assert "no revision is ready" in answered.json()["error"]


async def test_a_client_that_leaves_takes_its_request_along(service, add, until) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def app(scope, receive, send) -> None:
        await body_of(receive)
        asked.set()
        assert (await receive())["type"] == "http.disconnect"
        left.set()

    backend = await add("one", app)
    async with httpx.AsyncClient(trust_env=False) as impatient:
        request = asyncio.create_task(impatient.post(service.url, content=b"audio", timeout=60))
        await asked.wait()
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    await left.wait()
    await until(lambda: not backend.running)
    assert service.counted("one") == (1, 0)


async def test_a_client_that_leaves_within_its_body_is_nobodys_error(service, add, until) -> None:
    backend = await add("one", echo)
    await add("two", echo)
    _, port = service.url.rsplit(":", 1)
    _, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nhalf")
    await until(lambda: backend.running)
    writer.close()
    await until(lambda: not backend.running)
    assert (service.counted("one"), service.counted("two")) == ((1, 0), (0, 0))


async def test_a_refusal_before_the_body_is_read_reaches_the_client(service, add, client) -> None:
    async def too_large(scope, receive, send) -> None:
        """As the predictor does it: answers first, then reads what it does not want."""
        headers = [(b"connection", b"close"), (b"content-length", b"9")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": b"too large", "more_body": True})
        await body_of(receive)
        await send({"type": "http.response.body"})

    await add("one", too_large)
    for _ in range(5):
        answered = await client.post(service.url, content=LARGE * 4)
        assert (answered.status_code, answered.content) == (413, b"too large")
    assert service.counted("one") == (5, 0)


async def test_each_request_has_a_connection_of_its_own(service, add, client) -> None:
    """So that none is sent on one which the revision is just closing."""
    await add("one", echo)
    ports = [(await client.get(service.url)).json()["port"] for _ in range(5)]
    assert len(set(ports)) == 5


async def test_a_revision_is_serving_until_the_answer_is_out(service, add, client) -> None:
    backend = await add("one", echo)
    await asyncio.gather(*(client.post(service.url, content=LARGE) for _ in range(3)))
    assert (backend.running, service.counted("one")) == (0, (3, 0))
    assert backend.most >= 1


async def test_a_target_that_is_no_path_is_the_clients_fault(service, add) -> None:
    await add("one", echo)
    _, port = service.url.rsplit(":", 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
    writer.write(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 400 Bad Request\r\n"
    writer.close()
    assert service.counted("one") == (0, 0)
