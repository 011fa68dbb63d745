"""What a real server logs: one line a request, JSON where it is asked for, and nothing of its users."""

import base64
import json
import logging
import re
import sys
from contextlib import suppress
from datetime import datetime

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest

from predictor.server import logs
from predictor.server.logs import EcsFormatter
from predictor.server.sdk import services

NAME = "sensevoice"
RAW = {"inference-header-content-length": "0"}
SECRET = b"secret words in the place of audio"


@pytest.fixture(scope="module")
def json_log(random_model_dir, start_server, tmp_path_factory, clips):
    """All lines of a server that answered ten requests, and what it answered."""
    log = tmp_path_factory.mktemp("json_logs") / "log"
    server = start_server(random_model_dir, log, "--log_format=json", "--log_level=warning")
    served = next(server)
    v2 = f"{served.http}/v2/models/{NAME}/infer"
    traceparent = f"00-{7:032x}-{7:016x}-01"
    texts = []
    with httpx.Client(timeout=60) as client:
        for number in range(3):
            headers = {**RAW, "x-request-id": f"v2-{number}", "traceparent": traceparent}
            answer = client.post(v2, content=clips[number + 5], headers=headers)
            texts.append(answer.json()["outputs"][0]["data"][0])
        bodies = [base64.b64encode(audio).decode() for audio in (clips[8], SECRET)]
        body = {"instances": [{"audio": {"b64": text}} for text in bodies]}
        url = f"{served.http}/v1/models/{NAME}:predict"
        answer = client.post(url, json=body, headers={"x-request-id": "v1"})
        texts.append(answer.json()["predictions"][0]["text"])
        client.post(v2, content=SECRET, headers={**RAW, "x-request-id": "damaged"})
        client.post(v2, content=b"{", headers={"x-request-id": "malformed"})
        client.post(v2.replace(NAME, "other"), content=SECRET, headers={"x-request-id": "i" * 9999})
        client.get(f"{served.http}/v2/models/{NAME}/ready")
        client.get(f"{served.http}/metrics")
    tensor = InferInput("audio", [1], "BYTES")
    with grpc.insecure_channel(served.grpc) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        for audio, request_id in ((clips[9], "grpc"), (SECRET, "grpc-damaged")):
            tensor.set_data_from_numpy(np.array([audio], dtype=np.object_), binary_data=True)
            request = InferRequest(NAME, [tensor]).to_grpc()
            with suppress(grpc.RpcError):
                stub.ModelInfer(request, metadata=(("x-request-id", request_id),))
    server.close()
    assert all(len(text) > 3 for text in texts)
    return log.read_text(), served.ready_lines, texts


@pytest.fixture(scope="module")
def requests(json_log):
    """The access log's lines by request id."""
    lines = map(json.loads, json_log[0].splitlines())
    access = [line for line in lines if line["log.logger"] == "kserve.access"]
    by_id = {line["http.request.id"]: line for line in access}
    assert len(by_id) == len(access)
    return by_id


def test_every_line_is_json_in_ecs(json_log):
    text, ready_lines, _ = json_log
    for line in map(json.loads, [*text.splitlines(), *ready_lines]):
        assert set(line) >= {"@timestamp", "log.level", "message", "ecs.version", "log.logger"}
        assert datetime.fromisoformat(line["@timestamp"]).tzinfo is not None
        assert line["log.level"] in ("info", "warning")
        assert line["service.name"] == "sensevoice-predictor"
    assert json.loads(ready_lines[0])["message"].startswith("ready: http://localhost:")


def test_a_request_has_one_line_whatever_the_level(requests):
    """Probes and scrapes have none."""
    assert set(requests) == {
        "v2-0",
        "v2-1",
        "v2-2",
        "v1",
        "damaged",
        "malformed",
        "i" * 200,
        "grpc",
        "grpc-damaged",
    }


def test_a_line_tells_what_became_of_its_request(requests):
    ok = requests["v2-0"]
    assert {
        "event.outcome": "success",
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.path": f"/v2/models/{NAME}/infer",
        "sensevoice.protocol": "rest_v2",
        "sensevoice.model": NAME,
        "sensevoice.outcome": "ok",
        "sensevoice.reason": "",
        "sensevoice.items": 1,
        "sensevoice.failed_items": 0,
        "sensevoice.audio_seconds": pytest.approx(1.4),
        # The caller's own: nothing is exported here.
        "trace.id": f"{7:032x}",
    }.items() <= ok.items()
    stages = ("decode", "queue", "batch", "inference")
    spent = {stage: ok[f"sensevoice.{stage}_seconds"] for stage in stages}
    assert spent["batch"] > 0
    assert 0 < spent["decode"] + spent["queue"] + spent["batch"] <= ok["event.duration"] / 1e9

    mixed = requests["v1"]
    assert (mixed["sensevoice.items"], mixed["sensevoice.failed_items"]) == (2, 1)
    assert (mixed["sensevoice.protocol"], mixed["event.outcome"]) == ("rest_v1", "success")
    assert "trace.id" not in mixed

    for name, status, reason in (
        ("damaged", 400, "invalid_audio"),
        ("malformed", 400, "invalid_request"),
        ("i" * 200, 404, "unknown_model"),
    ):
        line = requests[name]
        assert line["http.response.status_code"] == status
        assert (line["event.outcome"], line["sensevoice.outcome"]) == ("failure", "error")
        assert line["sensevoice.reason"] == reason

    for name, status, outcome in (
        ("grpc", "OK", "success"),
        ("grpc-damaged", "INVALID_ARGUMENT", "failure"),
    ):
        line = requests[name]
        assert (line["sensevoice.grpc_status"], line["event.outcome"]) == (status, outcome)
        assert line["url.path"] == "/inference.GRPCInferenceService/ModelInfer"


def test_neither_audio_nor_transcripts_are_logged(json_log):
    text, _, texts = json_log
    escaped = [json.dumps(each)[1:-1] for each in texts]
    assert not any(each in text for each in (*texts, *escaped))
    assert SECRET.decode() not in text
    assert base64.b64encode(SECRET).decode()[:20] not in text
    assert "transcripts" not in text


def test_text_with_transcripts_and_no_tracing(
    random_model_dir, start_server, tmp_path, clips, expected, monkeypatch
):
    """Python itself tells all modules that the process imports. FastAPI needs OpenTelemetry's API; what
    would make and send spans must not be among them."""
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    log = tmp_path / "log"
    server = start_server(random_model_dir, log, "--log_transcripts=true")
    served = next(server)
    headers = {**RAW, "x-request-id": "r1"}
    url = f"{served.http}/v2/models/{NAME}/infer"
    assert httpx.post(url, content=clips[7], headers=headers, timeout=60).is_success
    unknown = f"{served.http}/v2/models/a%0Aforged%20line"
    assert httpx.get(unknown).status_code == 404
    assert httpx.post(f"{unknown}/infer").status_code == 404
    server.close()
    text = log.read_text()
    line, _ = (line for line in text.splitlines() if "kserve.access" in line)
    assert not re.search("^forged", text, re.M)
    assert re.search(rf" INFO .*POST /v2/models/{NAME}/infer 200 ok in [\d.]+ s: 1\.8 s of", line)
    assert "request r1" in line
    assert repr(expected[7]) in line
    assert '"POST /v2' not in text, "uvicorn's own line"
    imported = re.findall(r"^import time:.*\| +(\S+)$", text, re.M)
    assert "predictor.server.access_log" in imported
    costly = ("opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto")
    assert not [name for name in imported if name.startswith((*costly, "predictor.server.tracing"))]


def test_an_exception_has_fields_of_its_own():
    try:
        raise ValueError("wrong \udcff")
    except ValueError:
        record = logging.LogRecord("a.b", logging.ERROR, "f.py", 1, "%s", ("x",), sys.exc_info())
    line = EcsFormatter().format(record)
    assert line.isascii()
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["message"], fields["log.level"]) == ("x", "error")
    assert fields["error.type"] == "ValueError"
    assert fields["error.message"] == "wrong \udcff"
    assert "test_logs.py" in fields["error.stack_trace"]


def test_a_collector_that_stays_away_is_told_once_a_minute(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    rarely = logs._Rarely()
    record = logging.LogRecord("opentelemetry", logging.ERROR, "f.py", 1, "away", (), None)
    told = []
    for _ in range(130):
        told.append(rarely.filter(record))
        now[0] += 1
    assert [second for second, passed in enumerate(told) if passed] == [0, 60, 120]
