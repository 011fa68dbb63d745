"""Bad input over real sockets: one clear sentence, the right status, and never a byte of the audio."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import numpy as np
import pytest

from predictor.server.sdk import messages

NAME = "sensevoice"

MARK = "dGhlIGF1ZGlvIG9mIHNvbWVib2R5"
"""Stands for audio that no answer and no log may quote."""

BAD_V1 = {
    "not JSON": (b"{" + MARK.encode(), 400, "JSON"),
    "no object": (b"[]", 400, "body"),
    "no instances": ({}, 400, "instances"),
    "instances no list": ({"instances": {}}, 400, "instances"),
    "no audio": ({"instances": [{}]}, 400, "instances[0].audio"),
    "unknown field": ({"instances": [{"audio": {"b65": MARK}}]}, 400, "b65"),
    "not base64": ({"instances": [{"audio": {"b64": MARK + "?"}}]}, 400, "base64"),
    "not audio": ({"instances": [{"audio": {"b64": MARK}}]}, 400, "audio"),
    "empty": ({"instances": [{"audio": {"b64": ""}}]}, 400, "empty"),
    "data URL": ({"instances": [{"audio": {"b64": "data:audio/wav;base64," + MARK}}]}, 400, "data"),
    "unknown option": ({"instances": [{"audio": {"b64": MARK}, "speed": 2}]}, 400, "speed"),
    "unknown language": ({"instances": [{"audio": {"b64": MARK}, "language": "xx"}]}, 400, "yue"),
    "URL": ({"instances": [{"audio": {"url": "http://localhost/x"}}]}, 400, "allowed_url_hosts"),
    "too many": ({"instances": [{}] * 41}, 400, "41"),
    "too large": ({"instances": [{"audio": {"b64": "A" * 40_000_004}}]}, 413, "30000000"),
    "far too large": (b"x" * 50_000_000, 413, "limit"),
}


@pytest.mark.parametrize("case", BAD_V1)
async def test_bad_v1(served, rest, case):
    body, status, names = BAD_V1[case]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await rest.post(f"/v1/models/{NAME}:predict", content=content)
    assert answer.status_code == status
    assert names in answer.json()["error"]
    assert MARK not in answer.text
    assert MARK not in served.log.read_text()


TENSOR = {"name": "audio", "shape": [1], "datatype": "BYTES", "data": [MARK]}
WAVE = {"name": "waveform", "shape": [2], "datatype": "FP32", "data": [0.5, 0.5]}

BAD_V2 = {
    "no inputs": ({}, "inputs"),
    "no tensor": ({"inputs": []}, "inputs"),
    "two tensors": ({"inputs": [TENSOR, TENSOR]}, "2 tensors"),
    "unknown tensor": ({"inputs": [{**TENSOR, "name": "sound"}]}, "sound"),
    "wrong datatype": ({"inputs": [{**TENSOR, "datatype": "INT8"}]}, "audio: datatype"),
    "wrong shape": ({"inputs": [{**TENSOR, "shape": [2]}]}, "audio: shape"),
    "too many dimensions": ({"inputs": [{**TENSOR, "shape": [1, 1, 1]}]}, "audio: shape"),
    "no data": ({"inputs": [{**TENSOR, "data": None}]}, "audio: data"),
    "not base64": ({"inputs": [{**TENSOR, "data": [MARK + "?"]}]}, "base64"),
    "not audio": ({"inputs": [TENSOR]}, "audio"),
    "unknown option": ({"inputs": [TENSOR], "parameters": {"speed": 2}}, "speed"),
    "unknown language": ({"inputs": [TENSOR], "parameters": {"language": "xx"}}, "yue"),
    "unknown output": ({"inputs": [TENSOR], "outputs": [{"name": "tex"}]}, "tex"),
    "no sample rate": ({"inputs": [WAVE]}, "sample_rate"),
    "bad sample rate": ({"inputs": [WAVE], "parameters": {"sample_rate": 5}}, "sample_rate"),
    "numbers in audio": ({"inputs": [{**TENSOR, "data": [5]}]}, "base64 string"),
    "words in waveform": ({"inputs": [{**WAVE, "data": ["a", "b"]}]}, "number"),
}


@pytest.mark.parametrize("case", BAD_V2)
async def test_bad_v2(served, rest, case):
    body, names = BAD_V2[case]
    answer = await rest.post(f"/v2/models/{NAME}/infer", json=body)
    assert answer.status_code == 400
    assert names in answer.json()["error"]
    assert MARK not in answer.text
    assert MARK not in served.log.read_text()


@pytest.mark.parametrize(
    ("header", "content", "names"),
    [
        ("zero", b"x", "number"),
        ("99", b"x", "99"),
        ("0", b"", "empty"),
        ("0", b"RIFF" + bytes(2000), "audio"),
        (None, b"x", "Inference-Header-Content-Length"),
        ("-1", b"x", "number"),
    ],
)
async def test_bad_binary_bodies(rest, header, content, names):
    headers = {"content-type": "application/octet-stream"}
    headers |= {"inference-header-content-length": header} if header else {}
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=content, headers=headers)
    assert answer.status_code == 400
    assert names in answer.json()["error"]


@pytest.mark.parametrize("size", [-1, 3, 10**9, "5"])
async def test_binary_sizes_that_do_not_fit(rest, size):
    head = {"inputs": [{**TENSOR, "data": None, "parameters": {"binary_data_size": size}}]}
    body = json.dumps(head).encode()
    headers = {"inference-header-content-length": str(len(body))}
    content = body + b"\x02\0\0\0ab"
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=content, headers=headers)
    assert answer.status_code == 400
    assert "binary" in answer.json()["error"]


async def test_truncated_audio(rest, clips):
    headers = {"inference-header-content-length": "0"}
    half = clips[10][: len(clips[10]) // 2]
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=half, headers=headers)
    assert answer.status_code == 400
    assert "audio" in answer.json()["error"]


async def test_audio_that_is_too_long(rest):
    samples = np.zeros(1000 * 1201, dtype=np.float32).tobytes()
    parameters = {"sample_rate": 1000, "binary_data_size": len(samples)}
    tensor = {"name": "waveform", "shape": [1000 * 1201], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": parameters}]}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=head + samples, headers=headers)
    assert answer.status_code == 400
    assert "1200" in answer.json()["error"]


async def test_a_streamed_body_is_counted(rest):
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1_000_000)

    answer = await rest.post(f"/v1/models/{NAME}:predict", content=endless())
    assert answer.status_code == 413


async def test_unknown_model(rest, stub):
    assert (await rest.post("/v1/models/other:predict", json={})).status_code == 404
    assert (await rest.post("/v2/models/other/infer", json={})).status_code == 404
    assert (await rest.get("/v2/models/other")).status_code == 404
    request = messages.ModelInferRequest(model_name="other")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def message(datatype: str = "BYTES", name: str = "audio", **fields: Any) -> Any:
    request = messages.ModelInferRequest(model_name=NAME, **fields)
    tensor = request.inputs.add(name=name, datatype=datatype, shape=[1])
    if not fields.get("raw_input_contents"):
        tensor.contents.bytes_contents.append(MARK.encode())
    return request


@pytest.mark.parametrize(
    ("request_message", "names"),
    [
        (messages.ModelInferRequest(model_name=NAME), "inputs"),
        (message("SOUND"), "audio: datatype"),
        (message(name="sound"), "sound"),
        (message(), "audio"),
        (message(raw_input_contents=[b"\1\0"]), "audio: binary data"),
        (message(raw_input_contents=[b"\0\0\0\0", b""]), "raw_input_contents"),
        (message(raw_input_contents=[b"\0\0\0\0"]), "empty"),
        (message(raw_input_contents=[b"\x50\0\0\0" + b"A" * 80]), "bytes as they are"),
    ],
)
async def test_bad_grpc(served, stub, request_message, names):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request_message)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert names in caught.value.details()
    assert MARK not in caught.value.details()
    assert MARK not in served.log.read_text()


async def test_grpc_messages_that_are_too_large(stub):
    request = message(raw_input_contents=[bytes(40_000_000)])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.ModelInfer(request)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
