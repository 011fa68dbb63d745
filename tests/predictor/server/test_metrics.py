"""What a scrape of a real server shows after real requests, and the times each answer carries."""

import base64
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from predictor.engine.errors import InvalidAudio
from predictor.engine.tokenizer import EMOTION_LABELS, EVENT_LABELS, LANGUAGE_LABELS
from predictor.engine.transcribe import ModelInfo
from predictor.engine.types import StageTimes, Tag, Transcript
from predictor.server.batching import Batch
from predictor.server.metrics import Metrics
from predictor.server.observer import RequestRecord

NAME = "sensevoice"
RAW = {"inference-header-content-length": "0"}

SERIES = {
    "sensevoice_requests": ("counter", {"protocol", "outcome", "reason"}),
    "sensevoice_request_seconds": ("histogram", {"protocol", "le"}),
    "sensevoice_request_decode_seconds": ("histogram", {"le"}),
    "sensevoice_request_queue_seconds": ("histogram", {"le"}),
    "sensevoice_request_batch_seconds": ("histogram", {"le"}),
    "sensevoice_request_inference_seconds": ("histogram", {"le"}),
    "sensevoice_audio_seconds": ("counter", set()),
    "sensevoice_realtime_factor": ("histogram", {"le"}),
    "sensevoice_tags": ("counter", {"kind", "tag"}),
    "sensevoice_model_info": ("gauge", {"name", "version", "digest", "precision", "device"}),
    "sensevoice_startup_seconds": ("gauge", {"phase"}),
    # A family without a series: there is no GPU.
    "sensevoice_gpu_memory_bytes": ("gauge", set()),
    "sensevoice_batch_audio_seconds": ("histogram", {"le"}),
    "sensevoice_batch_clips": ("histogram", {"le"}),
    "sensevoice_batch_fill_ratio": ("histogram", {"le"}),
    "sensevoice_batch_fill": ("gauge", set()),
    "sensevoice_queue_audio_seconds": ("gauge", set()),
    "sensevoice_queue_limit_seconds": ("gauge", set()),
    "sensevoice_batch_limit_seconds": ("gauge", set()),
    "sensevoice_requests_running": ("gauge", set()),
    "sensevoice_decoders_lost": ("counter", {"cause"}),
}


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
    await rest.post(f"/v2/models/{NAME}/versions/other/infer", content=b"", headers=RAW)
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"no audio"], dtype=np.object_), binary_data=True)
    with pytest.raises(grpc.aio.AioRpcError):
        await stub.ModelInfer(InferRequest("other", [tensor]).to_grpc())
    counted = {k: v for k, v in (grown(before, await scrape())).items() if "requests_total" in k}
    assert counted == {
        "sensevoice_requests_total outcome=error protocol=rest_v2 reason=invalid_audio": 1,
        "sensevoice_requests_total outcome=error protocol=rest_v1 reason=invalid_request": 1,
        "sensevoice_requests_total outcome=error protocol=rest_v2 reason=unknown_model": 1,
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


async def test_every_series_of_a_scrape(rest, clips):
    """Names and labels are what dashboards and alerts are built on."""
    await rest.post(f"/v2/models/{NAME}/infer", content=clips[3], headers=RAW)
    described = (await rest.get(f"/v2/models/{NAME}")).json()
    families = {
        family.name: family
        for family in text_string_to_metric_families((await rest.get("/metrics")).text)
        if family.name.startswith("sensevoice_")
    }
    assert {
        name: (family.type, {label for sample in family.samples for label in sample.labels})
        for name, family in families.items()
        if not name.endswith("_created")
    } == SERIES
    assert all(family.documentation for family in families.values())

    (model,) = families["sensevoice_model_info"].samples
    assert model.value == 1
    assert model.labels["version"] in described["versions"]
    assert model.labels["digest"] == described["properties"]["digest"]
    assert (model.labels["name"], model.labels["device"]) == ("random", "cpu")
    assert model.labels["precision"] in ("int8", "fp32")

    startup = {s.labels["phase"]: s.value for s in families["sensevoice_startup_seconds"].samples}
    assert list(startup) == ["import", "load", "warm_up", "total"]
    assert all(seconds > 0 for seconds in startup.values())
    assert startup.pop("total") > sum(startup.values())

    (limit,) = families["sensevoice_queue_limit_seconds"].samples
    assert limit.value == 600

    tags = {(s.labels["kind"], s.labels["tag"]) for s in families["sensevoice_tags"].samples}
    for kind, known in {
        "language": LANGUAGE_LABELS,
        "emotion": EMOTION_LABELS,
        "event": EVENT_LABELS,
    }.items():
        assert {tag for of, tag in tags if of == kind} == set(known)


async def test_the_tags_of_answers_are_counted(rest, scrape, clips):
    before = await scrape()
    instances = [{"audio": {"b64": base64.b64encode(clip).decode()}} for clip in clips[:4]]
    answer = await rest.post(f"/v1/models/{NAME}:predict", json={"instances": instances})
    new = grown(before, await scrape())
    given = Counter(
        f"sensevoice_tags_total kind={kind} tag={prediction[kind]['label']}"
        for prediction in answer.json()["predictions"]
        for kind in ("language", "emotion", "event")
    )
    assert {name: value for name, value in new.items() if "_tags_" in name} == given
    assert new["sensevoice_realtime_factor_count"] == 1
    seconds = new["sensevoice_request_seconds_sum protocol=rest_v1"]
    audio_seconds = new["sensevoice_audio_seconds_total"]
    assert new["sensevoice_realtime_factor_sum"] == pytest.approx(seconds / audio_seconds)


async def test_kserves_queue_proxy_can_read_all_of_it(rest):
    """It hands on Prometheus' Accept header, but parses the plain text format of these types alone
    (kserve's qpext): a family of another type would lose it every metric."""
    accept = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}
    text = (await rest.get("/metrics", headers=accept)).text
    assert text.endswith("# EOF\n")
    types = set(re.findall(r"^# TYPE \S+ (\S+)$", text, re.M))
    assert types <= {"counter", "gauge", "histogram", "summary", "untyped"}


def transcript(language: str = "zh", seconds: float = 4.0) -> Transcript:
    times = StageTimes(decode=1, segment=2, queue=3, batch=4, features=5, encoder=6, decoding=7)
    emotion, event = Tag("HAPPY", 1.0), Tag("Speech", 1.0)
    return Transcript("", Tag(language, 1.0), emotion, event, seconds, times=times)


def test_values_are_what_was_told() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(max_batch_seconds=60, registry=registry)
    waiting: list[Any] = []
    metrics.follow(lambda: 12.5, lambda: len(waiting), lambda: 30, 600)
    metrics.describe(ModelInfo("model", "1", "abc", ""), "int8", "cpu")
    metrics.on_startup({"import": 1.5, "load": 2})
    metrics.on_batch(Batch(3, 24.0, 30.0, started=0, ended=1, waits=[]))
    for reason in ("", "overloaded", "cancelled", "invalid_audio"):
        record = RequestRecord("grpc_v2", reason=reason, seconds=0.5)
        record.add([transcript(), InvalidAudio("damaged"), transcript("tlh")] if not reason else [])
        metrics.on_end(record)
    waiting.append(None)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"sensevoice_{name}", labels)

    assert value("batch_fill") == 0.5
    assert value("batch_fill_ratio_sum") == 0.5
    assert value("batch_audio_seconds_sum") == 24
    assert value("batch_clips_bucket", le="2.0") == 0
    assert value("batch_clips_bucket", le="4.0") == 1
    assert value("queue_audio_seconds") == 12.5
    assert value("queue_limit_seconds") == 600
    assert value("requests_running") == 1
    assert value("startup_seconds", phase="import") == 1.5
    assert [
        value(f"request_{stage}_seconds_sum") for stage in ("decode", "queue", "batch", "inference")
    ] == [6, 6, 8, 36]
    assert value("audio_seconds_total") == 8
    assert value("realtime_factor_sum") == 0.5 / 8
    assert value("tags_total", kind="language", tag="zh") == 1
    assert value("tags_total", kind="language", tag="en") == 0
    assert value("tags_total", kind="language", tag="other") == 1
    assert value("tags_total", kind="language", tag="tlh") is None
    assert value("tags_total", kind="emotion", tag="HAPPY") == 2
    for outcome, reason in (
        ("ok", ""),
        ("rejected", "overloaded"),
        ("cancelled", "cancelled"),
        ("error", "invalid_audio"),
    ):
        labels = {"protocol": "grpc_v2", "outcome": outcome, "reason": reason}
        assert value("requests_total", **labels) == 1


@pytest.mark.gpu
def test_the_memory_of_a_gpu() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    registry = CollectorRegistry()
    Metrics(max_batch_seconds=60, registry=registry).follow_gpu("cuda")
    held = torch.zeros(1 << 20, device="cuda")

    def value(kind: str) -> float:
        found = registry.get_sample_value("sensevoice_gpu_memory_bytes", {"kind": kind})
        assert found is not None
        return found

    assert held.nbytes <= value("allocated") <= value("reserved") <= value("total")
