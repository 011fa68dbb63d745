"""Traces of real server processes, as a real OTLP collector receives them."""

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from predictor.server.sdk import services

NAME = "sensevoice"
RAW = {"inference-header-content-length": "0"}
DEADLINE_SECONDS = 60
"""For what takes a moment on an idle machine."""

NO_PARENT = ""


@pytest.fixture(scope="module")
def traced(
    collector: Any,
    random_model_dir: Path,
    start_server: Any,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Any]:
    """A server that exports at once, and lets requests that come together share a batch."""
    log = tmp_path_factory.mktemp("traced") / "log"
    flags = [f"--otlp_endpoint={collector.endpoint}", "--log_format=json", "--batch_wait_ms=500"]
    with pytest.MonkeyPatch.context() as variables:
        variables.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        variables.setenv("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=pod-1")
        yield from start_server(random_model_dir, log, *flags, "--network_passes=1")


def parent(number: int, sampled: bool = True) -> tuple[str, str, dict[str, str]]:
    """Trace id, span id and headers of a caller's span."""
    trace_id, span_id = f"{number:032x}", f"{number:016x}"
    traceparent = f"00-{trace_id}-{span_id}-{int(sampled):02x}"
    return trace_id, span_id, {"traceparent": traceparent, "tracestate": "vendor=1"}


def tensor(clip: bytes) -> Any:
    made = InferInput("audio", [1], "BYTES")
    made.set_data_from_numpy(np.array([clip], dtype=np.object_), binary_data=True)
    return InferRequest(NAME, [made]).to_grpc()


async def over_v1(server: Any, clip: bytes, headers: dict[str, str]) -> None:
    body = {"instances": [{"audio": {"b64": base64.b64encode(clip).decode()}}]}
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as client:
        answer = await client.post(f"/v1/models/{NAME}:predict", json=body, headers=headers)
        assert answer.is_success


async def over_v2(server: Any, clip: bytes, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=server.http, timeout=60) as client:
        url = f"/v2/models/{NAME}/infer"
        assert (await client.post(url, content=clip, headers={**RAW, **headers})).is_success


async def over_grpc(server: Any, clip: bytes, headers: dict[str, str]) -> None:
    async with grpc.aio.insecure_channel(server.grpc) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(tensor(clip), metadata=tuple(headers.items()))


HTTP_V1 = {
    "http.request.method": "POST",
    "http.route": "/v1/models/{model_name}:predict",
    "url.path": f"/v1/models/{NAME}:predict",
    "http.response.status_code": 200,
}
HTTP_V2 = {
    "http.request.method": "POST",
    "http.route": "/v2/models/{model_name}/infer",
    "url.path": f"/v2/models/{NAME}/infer",
    "http.response.status_code": 200,
}
RPC = {
    "rpc.system.name": "grpc",
    "rpc.method": "inference.GRPCInferenceService/ModelInfer",
    "rpc.response.status_code": "OK",
}


@pytest.mark.parametrize(
    ("number", "send", "name", "attributes"),
    [
        (1, over_v1, "POST /v1/models/{model_name}:predict", HTTP_V1),
        (2, over_v2, "POST /v2/models/{model_name}/infer", HTTP_V2),
        (3, over_grpc, "inference.GRPCInferenceService/ModelInfer", RPC),
    ],
    ids=["v1", "v2", "grpc"],
)
async def test_the_callers_trace_is_continued(
    collector, traced, clips, number, send, name, attributes
):
    trace_id, span_id, headers = parent(number)
    await send(traced, clips[3], {**headers, "x-request-id": f"request-{number}"})

    (request,) = await collector.until(lambda: collector.named(name, trace_id))
    assert request.parent == span_id
    assert request.span.kind == Span.SPAN_KIND_SERVER
    assert request.span.trace_state == "vendor=1"
    assert request.span.status.code == Status.STATUS_CODE_UNSET
    attributes = {
        **attributes,
        "sensevoice.model": NAME,
        "sensevoice.request.id": f"request-{number}",
        "sensevoice.items": 1,
        "sensevoice.outcome": "ok",
    }
    assert attributes.items() <= request.attributes.items()
    assert request.attributes["sensevoice.audio_seconds"] == pytest.approx(1.0)

    parts = [*collector.named("decode", trace_id), *collector.named("queue", trace_id)]
    parts += collector.named("inference", trace_id)
    assert [part.span.name for part in parts] == ["decode", "queue", "inference"]
    assert {part.parent for part in parts} == {request.id}
    times = [(part.span.start_time_unix_nano, part.span.end_time_unix_nano) for part in parts]
    assert all(start <= end for start, end in times)
    slack = 1_000_000
    """Nanoseconds by which two clocks read one after the other may differ."""
    assert times[1][1] <= times[2][0] + slack
    assert request.span.start_time_unix_nano <= times[0][0] + slack
    assert times[2][1] <= request.span.end_time_unix_nano + slack


async def test_the_resource_tells_what_is_served(collector, traced, clips, random_model_dir):
    trace_id, _, headers = parent(10)
    await over_v2(traced, clips[0], headers)
    (decode,) = await collector.until(lambda: collector.named("decode", trace_id))
    async with httpx.AsyncClient(base_url=traced.http) as client:
        described = (await client.get(f"/v2/models/{NAME}")).json()
    assert {
        "service.name": "sensevoice-predictor",
        "service.version": metadata.version("sensevoice-kserve"),
        "sensevoice.model.name": "random",
        "sensevoice.model.version": described["versions"][0],
        "sensevoice.model.digest": described["properties"]["digest"],
        "sensevoice.model.device": "cpu",
        "k8s.pod.name": "pod-1",
    }.items() <= decode.resource.items()


async def test_a_batch_is_linked_to_the_requests_that_shared_it(collector, traced, clips):
    """Each round sends some requests at once; that none of them meet in a batch is possible."""

    def shared(trace_ids: set[str]) -> list[Any]:
        return [
            batch
            for batch in collector.named("batch")
            if len({link.trace_id.hex() for link in batch.span.links} & trace_ids) > 1
        ]

    number, found = 100, []
    while not found:
        assert number < 1000, "no two requests met"
        callers = [parent(number + i) for i in range(6)]
        number += 6
        ways = (over_v1, over_v2, over_grpc)
        await asyncio.gather(
            *(ways[i % 3](traced, clips[i], headers) for i, (_, _, headers) in enumerate(callers))
        )
        trace_ids = {trace_id for trace_id, _, _ in callers}

        def all_inferred(wanted: set[str] = trace_ids) -> bool:
            return {each.trace_id for each in collector.named("inference")} >= wanted

        await collector.until(all_inferred)
        found = shared(trace_ids)

    batch = found[0]
    assert batch.parent == NO_PARENT
    assert batch.attributes["sensevoice.batch.clips"] == len(batch.span.links)
    assert (
        batch.attributes["sensevoice.batch.padded_seconds"]
        >= batch.attributes["sensevoice.batch.audio_seconds"]
        > 0
    )
    for link in batch.span.links:
        (inference,) = collector.named("inference", link.trace_id.hex())
        assert inference.parent == link.span_id.hex()
        assert inference.trace_id != batch.trace_id
        assert [(each.trace_id.hex(), each.span_id.hex()) for each in inference.span.links] == [
            (batch.trace_id, batch.id)
        ]
        assert inference.span.start_time_unix_nano >= batch.span.start_time_unix_nano - 1_000_000


async def test_errors_are_told_by_their_reason(collector, traced):
    trace_id, _, headers = parent(20)
    async with httpx.AsyncClient(base_url=traced.http) as client:
        url = f"/v2/models/{NAME}/infer"
        answer = await client.post(url, content=b"secret: no audio", headers={**RAW, **headers})
    assert answer.status_code == 400
    name = "POST /v2/models/{model_name}/infer"
    (request,) = await collector.until(lambda: collector.named(name, trace_id))
    assert request.attributes["error.type"] == "invalid_audio"
    assert request.attributes["http.response.status_code"] == 400
    # The semantic conventions leave a client's mistake without a status.
    assert request.span.status.code == Status.STATUS_CODE_UNSET
    (decode,) = collector.named("decode", trace_id)
    assert decode.attributes["error.type"] == "invalid_audio"
    assert decode.span.status.code == Status.STATUS_CODE_ERROR
    assert not any("secret" in str(each.span) for each in collector.received)


async def test_a_caller_that_does_not_sample_is_followed(collector, traced, clips):
    unsampled, _, headers = parent(30, sampled=False)
    await over_v2(traced, clips[0], headers)
    sampled, _, headers = parent(31)
    await over_v2(traced, clips[0], headers)
    await collector.until(lambda: collector.named("POST /v2/models/{model_name}/infer", sampled))
    assert not any(each.trace_id == unsampled for each in collector.received)
    assert not any(
        link.trace_id.hex() == unsampled
        for batch in collector.named("batch")
        for link in batch.span.links
    )


async def test_a_request_without_a_trace_begins_one_that_the_log_names(collector, traced, clips):
    await over_grpc(traced, clips[0], {"x-request-id": "begins"})
    (request,) = await collector.until(
        lambda: [
            each
            for each in collector.received
            if each.attributes.get("sensevoice.request.id") == "begins"
        ]
    )
    assert request.parent == NO_PARENT
    lines = map(json.loads, traced.log.read_text().splitlines())
    (line,) = (line for line in lines if line.get("http.request.id") == "begins")
    assert (line["trace.id"], line["span.id"]) == (request.trace_id, request.id)


async def test_the_last_spans_are_exported_before_the_server_ends(
    collector, start_server, random_model_dir, tmp_path, clips
):
    """The exporter waits for seconds, so these spans are still there when the server is told to stop."""
    trace_id, _, headers = parent(40)
    flags = (f"--otlp_endpoint={collector.endpoint}", "--trace_sample_ratio=0")
    server = start_server(random_model_dir, tmp_path / "log", *flags)
    served = next(server)
    await over_v2(served, clips[0], {"x-request-id": "not sampled"})
    await over_v2(served, clips[0], headers)
    await asyncio.to_thread(server.close)
    names = {each.span.name for each in collector.received if each.trace_id == trace_id}
    assert names == {"POST /v2/models/{model_name}/infer", "decode", "queue", "inference"}
    assert not any(
        each.attributes.get("sensevoice.request.id") == "not sampled" for each in collector.received
    )


async def test_a_collector_that_is_away_disturbs_nobody(
    start_server, random_model_dir, tmp_path, clips, new_port, monkeypatch
):
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    log = tmp_path / "log"
    flags = (f"--otlp_endpoint=http://127.0.0.1:{new_port()}", "--access_log=false")
    server = start_server(random_model_dir, log, *flags)
    served = next(server)
    for _ in range(20):
        await over_v2(served, clips[0], {})
        await over_grpc(served, clips[0], {})

    def told() -> list[str]:
        return [line for line in log.read_text().splitlines() if "exporting traces" in line]

    deadline = time.monotonic() + DEADLINE_SECONDS
    while not told():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    # Ends with status 0, though its last spans find nobody.
    await asyncio.to_thread(server.close)
    text = log.read_text()
    assert text.count("opentelemetry") == len(told()) == 1
    assert "Traceback" not in text
    assert "kserve.access" not in text
