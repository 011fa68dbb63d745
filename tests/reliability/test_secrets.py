"""What clients entrust to the service goes nowhere else: not into logs, metrics, traces or errors.

A real server that tells all it can: log level debug, access log, traces. Every place of a request that may
hold a secret holds a word of its own, and everything that the server writes is searched for it.
"""

import asyncio
import base64
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import httpx
import psutil
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from predictor.server.sdk import messages, services

DEADLINE_SECONDS = 60
MARK = "canary"

QUOTED = {"wrong-value"}
"""What an answer tells again to the one who sent it: an option's value that is wrong."""


@dataclass
class Canaries:
    """Words that are nowhere else, by the place they are put in."""

    places: Counter[str] = field(default_factory=Counter)

    def __call__(self, place: str) -> str:
        self.places[place] += 1
        return f"{MARK}-{place}-{os.urandom(8).hex()}"


@dataclass
class Witnesses:
    """Everything that the server tells anybody."""

    pid: int
    http: str
    grpc: str
    log: Path
    files: str
    traces: list[bytes]
    answers: list[str] = field(default_factory=list)

    def answered(self, response: httpx.Response) -> httpx.Response:
        self.answers.append(f"{response.headers} {response.text}")
        return response


class Files(BaseHTTPRequestHandler):
    """A host of audio: any path is a clip, but for ``/missing`` and what ``/moved`` leads to."""

    clip = b""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/clip":
            self.send_response(200)
            self.send_header("Content-Length", str(len(self.clip)))
        elif path == "/moved":
            self.send_response(302)
            self.send_header("Location", f"http://elsewhere.example/?{query}")
            self.send_header("Content-Length", "0")
        else:
            self.send_response(404, f"no {query}")
            self.send_header("Content-Length", "0")
        self.end_headers()
        if path == "/clip":
            self.wfile.write(self.clip)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture(scope="module")
def clip(demo_model_dir: Path) -> bytes:
    """Speech, as a file."""
    return next((demo_model_dir / "evaluation").glob("en-001.*")).read_bytes()


@pytest.fixture(scope="module")
def files(clip: bytes) -> Iterator[str]:
    """``host:port`` of the host of audio."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("WithClip", (Files,), {"clip": clip}))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def traces() -> Iterator[tuple[str, list[bytes]]]:
    """A collector's address, and all that it is sent, metadata apart."""
    received: list[bytes] = []

    def export(request: bytes, _: grpc.ServicerContext) -> bytes:
        received.append(request)
        return b""

    # Without functions to read and write messages, gRPC hands over bytes.
    handler = grpc.method_handlers_generic_handler(
        "opentelemetry.proto.collector.trace.v1.TraceService",
        {"Export": grpc.unary_unary_rpc_method_handler(export)},
    )
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"http://127.0.0.1:{port}", received
    server.stop(None).wait()


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def server(
    demo_model_dir: Path,
    start_server: Callable[..., Iterator[Any]],
    files: str,
    traces: tuple[str, list[bytes]],
    canaries: Canaries,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Witnesses]:
    log = tmp_path_factory.mktemp("secrets") / "log"
    flags = ("--log_level=debug", f"--otlp_endpoint={traces[0]}", f"--allowed_url_hosts={files}")
    servers = start_server(demo_model_dir, log, *flags)
    with pytest.MonkeyPatch.context() as environment:
        headers = f"authorization=Bearer {canaries('collector-header')}"
        environment.setenv("OTEL_EXPORTER_OTLP_HEADERS", headers)
        environment.setenv("HTTPS_PROXY", f"http://user:{canaries('proxy-password')}@127.0.0.1:9")
        served = next(servers)
    yield Witnesses(served.process.pid, served.http, served.grpc, log, files, traces[1])
    servers.close()


def open_session(canaries: Canaries) -> dict[str, str]:
    """Headers in which clients, proxies and meshes carry secrets."""
    return {
        "authorization": f"Bearer {canaries('authorization')}",
        "proxy-authorization": f"Basic {canaries('proxy-authorization')}",
        "cookie": f"session={canaries('cookie')}",
        "x-api-key": canaries("api-key"),
        "x-forwarded-client-cert": canaries("client-certificate"),
        "referer": f"https://a.example/?token={canaries('referer')}",
        "tracestate": f"vendor={canaries('tracestate')}",
    }


def bodies(canaries: Canaries, files: str, clip: bytes) -> Iterator[tuple[str, Any]]:
    """Paths and JSON bodies, right and wrong in every way that quotes something."""
    predict, infer = "/v1/models/sensevoice:predict", "/v2/models/sensevoice/infer"
    b64 = base64.b64encode(clip).decode()

    def secret(place: str) -> str:
        return canaries(place)

    for url in (
        f"http://{files}/clip?X-Amz-Signature={secret('signed-url')}",
        f"http://{files}/missing?sig={secret('missing-url')}",
        f"http://{files}/moved?sig={secret('redirect')}",
        f"http://other.example/{secret('refused-path')}?sig={secret('refused-query')}",
        f"http://user:{secret('password')}@{files}/clip",
        f"http://{files}:x/?sig={secret('invalid-url')}",
        f"ftp://{files}/?sig={secret('ftp-url')}",
        f"data:audio/wav;base64,{secret('data-url')}",
    ):
        yield predict, {"instances": [{"audio": {"url": url}}]}
    yield predict, {"instances": [{"audio": {"b64": b64}}], "id": secret("unknown-field")}
    yield predict, {"instances": [{"audio": {"b64": secret("not-base64")}}]}
    yield predict, {"instances": [{"audio": {"b64": b64, "url": secret("both")}}]}
    yield predict, {"instances": [{"audio": secret("not-an-object")}]}
    yield infer, {"inputs": [{"name": "audio", "shape": [1], "datatype": "BYTES",
                              "data": [secret("tensor")]}]}  # fmt: skip
    yield infer, {"inputs": [{"name": "audio", "shape": [1], "datatype": "FP16",
                              "data": [secret("typed-tensor")]}]}  # fmt: skip
    not_audio = base64.b64encode(secret("audio-bytes").encode() * 20).decode()
    yield infer, {"inputs": [{"name": "audio", "shape": [1], "datatype": "BYTES",
                              "data": [not_audio]}]}  # fmt: skip


async def over_http(server: Witnesses, canaries: Canaries, clip: bytes) -> None:
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as client:
        for path, body in bodies(canaries, server.files, clip):
            query = {"api_key": canaries("query")}
            headers = open_session(canaries)
            server.answered(await client.post(path, json=body, params=query, headers=headers))
        broken = f'{{"instances": [{{"audio": "{canaries("broken-json")}'
        server.answered(await client.post("/v1/models/sensevoice:predict", content=broken))
        for fields in (
            {"prompt": canaries("prompt")},
            {"temperature": canaries("wrong-value")},
            {"user": canaries("unknown-value")},
        ):
            sent = {"file": (f"{canaries('file-name')}.flac", clip)}
            response = await client.post(
                "/v1/audio/transcriptions",
                files=sent,
                data={"model": "sensevoice", **fields},
                headers=open_session(canaries),
                params={"key": canaries("query")},
            )
            server.answered(response)
        # A path that leads nowhere, and the pages that tell about the server.
        for path in ("/nowhere", "/metrics", "/v2", "/openapi.json"):
            query = {"token": canaries("query")}
            server.answered(await client.get(path, params=query, headers=open_session(canaries)))


async def over_grpc(server: Witnesses, canaries: Canaries, clip: bytes) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        for content in (clip, canaries("grpc-bytes").encode() * 20):
            request = messages.ModelInferRequest(model_name="sensevoice")
            tensor = request.inputs.add(name="audio", datatype="BYTES", shape=[1])
            tensor.contents.bytes_contents.append(content)
            metadata = [(k, v) for k, v in open_session(canaries).items() if "cookie" not in k]
            try:
                await stub.ModelInfer(request, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                server.answers.append(f"{error.code()} {error.details()}")


async def over_a_websocket(server: Witnesses, canaries: Canaries) -> None:
    for query in (f"intent=transcription&key={canaries('socket-query')}", "intent=x"):
        address = f"{server.http.replace('http', 'ws')}/v1/realtime?{query}"
        with suppress(WebSocketException):
            async with connect(address, additional_headers=open_session(canaries)) as socket:
                server.answers.append(str(await socket.recv()))
                secret = {"type": "session.update", "session": {"prompt": canaries("event")}}
                for message in (json.dumps(secret), canaries("no-event")):
                    await socket.send(message)
                    server.answers.append(str(await socket.recv()))


async def until_told(server: Witnesses, n_requests: int) -> None:
    """Until the log and the traces know of all requests."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (
        server.log.read_text().count("/v1/audio/transcriptions") < n_requests or not server.traces
    ):
        assert time.monotonic() < deadline, "the server does not tell of its requests"
        await asyncio.sleep(0.05)


@pytest.mark.promise(
    "Secrets of clients and operators are in no log, metric, trace, error or answer"
)
async def test_secrets_stay_where_they_are_put(
    server: Witnesses, canaries: Canaries, clip: bytes, tried, measured, effort
) -> None:
    rounds = effort(1, 20)
    for _ in range(rounds):
        await over_http(server, canaries, clip)
        await over_grpc(server, canaries, clip)
        await over_a_websocket(server, canaries)
    await until_told(server, 3 * rounds)
    async with httpx.AsyncClient() as client:
        server.answered(await client.get(f"{server.http}/metrics"))
    # The witnesses have seen something: a search of nothing finds nothing.
    told = server.log.read_text()
    spans = b"".join(server.traces)
    assert "url.path" in told or "/v1/models/sensevoice:predict" in told
    assert b"sensevoice.request.id" in spans
    assert any('"predictions"' in each for each in server.answers)
    assert any("sensevoice_requests_total" in each for each in server.answers)
    # Nothing that a client sends as a value comes back.
    places = sorted(canaries.places)
    for where, text in {
        "the log": told,
        "the traces": spans.decode("latin-1"),
        "an answer": "\n".join(server.answers),
    }.items():
        found = {place for place in places if f"{MARK}-{place}-" in text}
        found -= QUOTED if where == "an answer" else set()
        assert not found, f"{where} tells the secrets of {found}"
    tried["secrets"] += sum(canaries.places.values())
    tried["places"] += len(places)
    measured["searched"] = f"{len(told) + len(spans):,} bytes of log and traces"


@pytest.mark.promise("What was said is in no log or trace unless log_transcripts asks for it")
async def test_transcripts_are_not_logged(server: Witnesses, clip: bytes, tried) -> None:
    body = {"instances": [{"audio": {"b64": base64.b64encode(clip).decode()}}]}
    async with httpx.AsyncClient(timeout=60) as client:
        url = f"{server.http}/v1/models/sensevoice:predict"
        [prediction] = (await client.post(url, json=body)).json()["predictions"]
    text = prediction["text"]
    assert len(text) > 10
    assert text not in server.log.read_text()
    assert text.encode() not in b"".join(server.traces)
    tried["transcripts"] += 1


@pytest.mark.promise("Pages of other sites can read nothing of the service, and no cache keeps it")
async def test_headers_for_browsers(server: Witnesses, clip: bytes, tried) -> None:
    origin = {"origin": "https://evil.example"}
    asking = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    body = {"instances": [{"audio": {"b64": base64.b64encode(clip).decode()}}]}
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as client:
        answers = [
            await client.post("/v1/models/sensevoice:predict", json=body, headers=origin),
            await client.post("/v1/models/sensevoice:predict", json={}, headers=origin),
            await client.options("/v1/models/sensevoice:predict", headers={**origin, **asking}),
            await client.get("/v2/health/live", headers=origin),
            await client.get("/metrics", headers=origin),
            await client.get("/nowhere", headers=origin),
            await client.get("/docs", headers=origin),
        ]
    for answer in answers:
        cors = [name for name in answer.headers if name.startswith("access-control-")]
        assert not cors, f"{answer.request.url}: {cors}"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        tried["answers"] += 1
    assert answers[0].status_code == 200
    assert answers[-1].status_code == 404, "the page with the API is on without being asked for"


@pytest.mark.promise("The server listens on its two ports and on nothing else")
def test_ports(server: Witnesses, tried) -> None:
    wanted = {int(server.http.rpartition(":")[2]), int(server.grpc.rpartition(":")[2])}
    sockets = psutil.Process(server.pid).connections(kind="all")
    listening = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listening == wanted
    tried["sockets"] += len(sockets)
