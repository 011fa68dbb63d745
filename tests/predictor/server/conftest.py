"""A server on tiny random weights, and clips with known answers."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import soundfile
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as otlp_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from predictor.engine.transcribe import Engine
from predictor.server.observer import Observer, RequestRecord
from predictor.server.sdk import services
from tests.reliability import servers

RATE = 16_000

DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""


def tone(seed: int, seconds: float) -> np.ndarray:
    """Float32 [n_samples] of sound that no other seed gives."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch, wobble = generator.uniform(100, 1000), generator.uniform(2, 9)
    sound = 0.3 * np.sin(2 * np.pi * pitch * time + 3 * np.sin(2 * np.pi * wobble * time))
    return (sound + generator.normal(0, 0.05, len(time))).astype(np.float32)


def encode(samples: np.ndarray, container: str = "FLAC", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, format=container)
    return file.getvalue()


class Seen(Observer):
    """Remembers what became of requests, as (protocol, reason)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.records: list[RequestRecord] = []

    def on_end(self, record: RequestRecord) -> None:
        assert record.seconds >= 0
        self.requests.append((record.protocol, record.reason))
        self.records.append(record)


@dataclass(frozen=True)
class Received:
    """A span with the attributes of its resource."""

    span: Span
    resource: dict[str, Any]

    @property
    def trace_id(self) -> str:
        return str(self.span.trace_id.hex())

    @property
    def id(self) -> str:
        return str(self.span.span_id.hex())

    @property
    def parent(self) -> str:
        return str(self.span.parent_span_id.hex())

    @property
    def attributes(self) -> dict[str, Any]:
        return values(self.span.attributes)


def values(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Collector(otlp_grpc.TraceServiceServicer):
    """An OTLP receiver that remembers."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self.received: list[Received] = []
        self._server = grpc.server(ThreadPoolExecutor(2))
        otlp_grpc.add_TraceServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802
        for resource_spans in request.resource_spans:
            resource = values(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                self.received += [Received(span, resource) for span in scope_spans.spans]
        return otlp.ExportTraceServiceResponse()

    def named(self, name: str, trace_id: str = "") -> list[Received]:
        return [
            each
            for each in list(self.received)
            if each.span.name == name and trace_id in ("", each.trace_id)
        ]

    async def until(self, condition: Callable[[], Any]) -> Any:
        """What ``condition`` returns, once it is true."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, [each.span.name for each in self.received]
            await asyncio.sleep(0.02)
        return found

    def close(self) -> None:
        self._server.stop(None).wait()


@pytest.fixture(scope="session")
def collector(new_port: Callable[[], int]) -> Iterator[Collector]:
    made = Collector(new_port())
    yield made
    made.close()


@pytest.fixture(scope="session")
def samples() -> Callable[[str], dict[str, float]]:
    """The function that reads a scrape."""
    return servers.samples


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="session")
def served(
    random_model_dir: Path, start_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A server on tiny random weights: every clip has an answer of its own, quickly."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = ("--max_audio_bytes=30000000", "--max_audio_seconds=1200", "--max_request_items=40")
    yield from start_server(random_model_dir, log, *flags)


@pytest.fixture(scope="session")
def clips() -> list[bytes]:
    """FLAC files of 0.4 to 6.6 seconds."""
    return [encode(tone(seed, 0.4 + 0.2 * seed)) for seed in range(32)]


@pytest.fixture(scope="session")
def expected(random_model_dir: Path, clips: list[bytes]) -> list[str]:
    """Text of each clip, as the engine gives it by itself."""
    engine = Engine(random_model_dir)
    texts = [engine.transcribe(clip).text for clip in clips]
    assert len(set(texts)) > 20, "the clips cannot be told apart by their texts"
    return texts


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """The function that lets everything else run until a condition holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # conditions are of threads, not of the loop
            await asyncio.sleep(0)

    return wait


@pytest.fixture(scope="session")
def tone_file() -> bytes:
    """Ten minutes as one file."""
    return encode(np.concatenate([tone(seed, 30) for seed in range(20)]))


@pytest.fixture
async def rest(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.http, timeout=120) as client:
        yield client


@pytest.fixture
async def stub(served: Any) -> AsyncIterator[Any]:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(served.grpc, options=options) as channel:
        yield services.GRPCInferenceServiceStub(channel)
