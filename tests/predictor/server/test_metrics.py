"""What a scrape of a real server shows after real requests, and the times each answer carries."""

import base64
import re
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest
from prometheus_client import CollectorRegistry

from predictor.engine.types import StageTimes
from predictor.server.batching import Batch
from predictor.server.metrics import Metrics

NAME = "sensevoice"
RAW = {"inference-header-content-length": "0"}


@pytest.fixture
def scrape(rest: httpx.AsyncClient, samples: Any) -> Callable[[], Awaitable[dict[str, float]]]:
    async def read() -> dict[str, float]:
        read_samples: dict[str, float] = samples((await rest.get("/metrics")).text)
        return read_samples

    return read


def grown(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What has grown, without buckets."""
    return {
        name: value - before.get(name, 0)
        for name, value in after.items()
        if value != before.get(name, 0) and "_bucket" not in name and "_created" not in name
    }


async def test_a_request_is_counted_and_timed(rest, scrape, clips):
    before = await scrape()
    instance = {"audio": {"b64": base64.b64encode(clips[3]).decode()}}
    answer = await rest.post(f"/v1/models/{NAME}:predict", json={"instances": [instance] * 2})
    predictions = answer.json()["predictions"]
    new = grown(before, await scrape())
    assert new["sensevoice_requests_total outcome=ok protocol=rest_v1 reason="] == 1
    assert new["sensevoice_request_seconds_count protocol=rest_v1"] == 1
    assert new["sensevoice_audio_seconds_total"] == pytest.approx(2 * 1.0)
    assert new["sensevoice_batch_audio_seconds_sum"] == pytest.approx(2 * 1.0)
    assert new["sensevoice_batch_clips_sum"] == 2
    for stage, keys in {
        "decode": ("decode", "segment"),
        "queue": ("queue",),
        "batch": ("batch",),
        "inference": ("features", "encoder", "decoding"),
    }.items():
        assert new[f"sensevoice_request_{stage}_seconds_count"] == 1
        told = sum(prediction["times"][key] for prediction in predictions for key in keys)
        assert new[f"sensevoice_request_{stage}_seconds_sum"] == pytest.approx(told, abs=1e-3)
    after = await scrape()
    assert after["sensevoice_queue_audio_seconds"] == 0
    assert after["sensevoice_requests_running"] == 0
    assert 0 < after["sensevoice_batch_fill"] <= 1


async def test_what_went_wrong_is_counted_by_its_reason(rest, stub, scrape):
    before = await scrape()
    await rest.post(f"/v2/models/{NAME}/infer", content=b"no audio", headers=RAW)
    await rest.post(f"/v1/models/{NAME}:predict", content=b"no JSON")
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"no audio"], dtype=np.object_), binary_data=True)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ModelInfer(InferRequest("other", [tensor]).to_grpc())
    counted = {k: v for k, v in (grown(before, await scrape())).items() if "requests_total" in k}
    assert counted == {
        "sensevoice_requests_total outcome=error protocol=rest_v2 reason=invalid_audio": 1,
        "sensevoice_requests_total outcome=error protocol=rest_v1 reason=invalid_request": 1,
        "sensevoice_requests_total outcome=error protocol=grpc_v2 reason=unknown_model": 1,
    }


async def test_every_protocol_tells_the_stages_of_its_request(rest, stub, clips):
    instance = {"audio": {"b64": base64.b64encode(clips[3]).decode()}}
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([clips[3]], dtype=np.object_), binary_data=True)
    call = stub.ModelInfer(InferRequest(NAME, [tensor]).to_grpc())
    await call
    timings = [
        (await rest.post(f"/v1/models/{NAME}:predict", json={"instances": [instance]})).headers[
            "server-timing"
        ],
        (await rest.post(f"/v2/models/{NAME}/infer", content=clips[3], headers=RAW)).headers[
            "server-timing"
        ],
        dict(await call.trailing_metadata())["server-timing"],
    ]
    for timing in timings:
        found = re.findall(r"(\w+);dur=([0-9.]+)", timing)
        assert [stage for stage, _ in found] == ["decode", "queue", "batch", "inference"]
        assert all(float(milliseconds) >= 0 for _, milliseconds in found)
        assert float(dict(found)["batch"]) > 0


def test_values_are_what_was_told() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(max_batch_seconds=60, registry=registry)
    waiting: list[Any] = []
    metrics.follow(lambda: 12.5, lambda: len(waiting))
    metrics.on_batch(Batch(3, 24.0, 30.0))
    metrics.on_transcribed(
        StageTimes(decode=1, segment=2, queue=3, batch=4, features=5, encoder=6, decoding=7), 8
    )
    for reason in ("", "overloaded", "cancelled", "invalid_audio"):
        metrics.on_request("grpc_v2", reason, 0.5)
    waiting.append(None)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sensevoice_{name}", labels)

    assert value("batch_fill") == 0.5
    assert value("batch_fill_ratio_sum") == 0.5
    assert value("batch_audio_seconds_sum") == 24
    assert value("batch_clips_bucket", le="2.0") == 0
    assert value("batch_clips_bucket", le="4.0") == 1
    assert value("queue_audio_seconds") == 12.5
    assert value("requests_running") == 1
    assert [
        value(f"request_{stage}_seconds_sum") for stage in ("decode", "queue", "batch", "inference")
    ] == [3, 3, 4, 18]
    assert value("audio_seconds_total") == 8
    for outcome, reason in (
        ("ok", ""),
        ("rejected", "overloaded"),
        ("cancelled", "cancelled"),
        ("error", "invalid_audio"),
    ):
        labels = {"protocol": "grpc_v2", "outcome": outcome, "reason": reason}
        assert value("requests_total", **labels) == 1


def test_every_metric_has_a_help_text() -> None:
    registry = CollectorRegistry()
    Metrics(max_batch_seconds=60, registry=registry)
    assert all(family.documentation.strip() for family in registry.collect())
