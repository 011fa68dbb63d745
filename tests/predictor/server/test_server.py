"""The real server process, over real sockets, with kserve's own clients."""

import asyncio
import base64
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferOutput,
    InferRequest,
    InferResponse,
    RESTConfig,
)

from predictor.engine.checkpoint import read_manifest
from predictor.server.sdk import messages

NAME = "sensevoice"
MODEL_HEADERS = ("x-model-name", "x-model-version", "x-model-digest")


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def v1(files: Sequence[bytes], **options: Any) -> dict[str, Any]:
    return {"instances": [{"audio": {"b64": b64(file)}, **options} for file in files]}


def v2(data: Sequence[str], **parameters: Any) -> dict[str, Any]:
    tensor = {"name": "audio", "shape": [len(data)], "datatype": "BYTES", "data": list(data)}
    return {"inputs": [tensor], "parameters": parameters}


def values(response: InferResponse, name: str) -> list[str]:
    output: InferOutput = response.get_output_by_name(name)
    elements = output.as_numpy().ravel()
    return [e.decode() if isinstance(e, bytes) else e for e in elements]


def bytes_request(files: Sequence[bytes], binary: bool, **parameters: Any) -> InferRequest:
    tensor = InferInput("audio", [len(files)], "BYTES")
    if binary:
        tensor.set_data_from_numpy(np.array(files, dtype=np.object_), binary_data=True)
    else:
        tensor.data = list(files)
    return InferRequest(NAME, [tensor], parameters=parameters or None)


@pytest.fixture
async def rest_v1() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as client:
        yield client


@pytest.fixture
async def rest_v2() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v2", retries=0)) as client:
        yield client


@pytest.fixture
async def grpc_v2(served) -> AsyncIterator[InferenceGRPCClient]:
    async with InferenceGRPCClient(served.grpc, retries=0) as client:
        yield client


# Answers


async def test_v1_with_the_kserve_client(served, rest_v1, clips, expected):
    answer = await rest_v1.infer(served.http, v1(clips[:1]), model_name=NAME)
    (prediction,) = answer["predictions"]
    assert prediction["text"] == expected[0]
    assert 0 <= prediction["emotion"]["confidence"] <= 1
    assert set(prediction["times"]) >= {"decode", "queue", "encoder"}


async def test_v1_options_of_an_instance_win_over_the_defaults(rest, clips):
    request = v1(clips[:2])
    request["parameters"] = {"timestamps": "none", "language": ["zh", "en"]}
    request["instances"][1]["timestamps"] = "word"
    answer = (await rest.post(f"/v1/models/{NAME}:predict", json=request)).json()
    first, second = answer["predictions"]
    assert "segments" not in first
    assert "words" in second["segments"][0]
    assert {first["language"]["label"], second["language"]["label"]} <= {"zh", "en", "nospeech"}


@pytest.mark.parametrize("shape", [[3], [3, 1]])
async def test_v2_json(served, rest_v2, clips, expected, shape):
    tensor = InferInput("audio", shape, "BYTES", data=[b64(clip) for clip in clips[:3]])
    response = await rest_v2.infer(served.http, InferRequest(NAME, [tensor]), model_name=NAME)
    assert values(response, "text") == expected[:3]
    assert [o.name for o in response.outputs] == [
        "text",
        "language",
        "emotion",
        "event",
        "transcript",
    ]
    transcripts = [json.loads(text) for text in values(response, "transcript")]
    assert [t["text"] for t in transcripts] == expected[:3]
    assert [t["event"]["label"] for t in transcripts] == values(response, "event")


async def test_v2_binary_extension(served, rest_v2, clips, expected):
    request = bytes_request(clips[:3], binary=True, language="en")
    response = await rest_v2.infer(served.http, request, model_name=NAME)
    assert len(values(response, "text")) == 3
    request = bytes_request(clips[:3], binary=True)
    response = await rest_v2.infer(served.http, request, model_name=NAME)
    assert values(response, "text") == expected[:3]


async def test_v2_binary_extension_with_a_json_content_type(rest, clips, expected):
    body, json_length = bytes_request(clips[:1], binary=True).to_rest()
    headers = {
        "content-type": "application/json",
        "inference-header-content-length": str(json_length),
    }
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=body, headers=headers)
    assert answer.json()["outputs"][0]["data"] == expected[:1]


async def test_v2_binary_outputs(served, rest_v2, rest, clips, expected):
    request = v2([b64(clips[0])], binary_data_output=True)
    answer = await rest.post(f"/v2/models/{NAME}/infer", json=request)
    length = int(answer.headers["inference-header-content-length"])
    response = InferResponse.from_bytes(answer.content, length)
    assert values(response, "text") == expected[:1]

    wanted = [{"name": "event"}, {"name": "text", "parameters": {"binary_data": False}}]
    answer = await rest.post(f"/v2/models/{NAME}/infer", json={**request, "outputs": wanted})
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert [("data" in output, output["name"]) for output in head["outputs"]] == [
        (False, "event"),
        (True, "text"),
    ]


async def test_v2_one_file_as_the_whole_body(rest, clips, expected):
    headers = {"inference-header-content-length": "0"}
    answer = await rest.post(f"/v2/models/{NAME}/infer", content=clips[4], headers=headers)
    assert answer.json()["outputs"][0]["data"] == [expected[4]]


async def test_v2_uint8(served, rest_v2, grpc_v2, clips, expected):
    data = np.frombuffer(clips[5], dtype=np.uint8)
    for binary in (True, False):
        tensor = InferInput("audio", [1, len(data)], "UINT8")
        tensor.set_data_from_numpy(data[np.newaxis], binary_data=binary)
        request = InferRequest(NAME, [tensor])
        response = await rest_v2.infer(served.http, request, model_name=NAME)
        assert values(response, "text") == [expected[5]]
        assert values(await grpc_v2.infer(request), "text") == [expected[5]]


async def test_v2_waveform(served, rest_v2, grpc_v2, clips, expected):
    import io

    import soundfile

    samples, rate = soundfile.read(io.BytesIO(clips[6]), dtype="float32")
    for shape in ((len(samples),), (1, len(samples)), (2, len(samples))):
        batch = np.broadcast_to(samples, shape).copy()
        for binary in (True, False):
            tensor = InferInput("waveform", list(shape), "FP32", parameters={"sample_rate": rate})
            tensor.set_data_from_numpy(batch, binary_data=binary)
            request = InferRequest(NAME, [tensor])
            response = await rest_v2.infer(served.http, request, model_name=NAME)
            n = shape[0] if len(shape) == 2 else 1
            assert values(response, "text") == [expected[6]] * n
            assert values(await grpc_v2.infer(request), "text") == [expected[6]] * n


@pytest.mark.parametrize("binary", [False, True], ids=["bytes_contents", "raw_input_contents"])
async def test_grpc(grpc_v2, clips, expected, binary):
    request = bytes_request(clips[:3], binary)
    response = await grpc_v2.infer(request)
    assert values(response, "text") == expected[:3]
    assert response.model_name == NAME
    assert response.model_version


async def test_grpc_parameters_and_requested_outputs(stub, clips):
    request = bytes_request(clips[:1], True, language="ja,ko", use_itn=False).to_grpc()
    request.id = "42"
    request.outputs.add(name="language")
    response = await stub.ModelInfer(request)
    assert response.id == "42"
    assert [output.name for output in response.outputs] == ["language"]
    assert response.raw_output_contents[0][4:].decode() in ("ja", "ko", "nospeech")


async def test_a_bad_item_fails_alone(served, rest_v2, grpc_v2, rest, clips, expected):
    wanted = [expected[0], "", expected[2]]
    files = [clips[0], b"no audio at all", clips[2]]

    answer = await rest.post(f"/v1/models/{NAME}:predict", json=v1(files))
    first, second, third = answer.json()["predictions"]
    assert [first["text"], third["text"]] == [expected[0], expected[2]]
    assert second["error"]["code"] == "invalid_audio"

    for response in (
        await rest_v2.infer(served.http, bytes_request(files, binary=True), model_name=NAME),
        await grpc_v2.infer(bytes_request(files, binary=False)),
        await grpc_v2.infer(bytes_request(files, binary=True)),
    ):
        assert values(response, "text") == wanted
        ok, error, fine = values(response, "error")
        assert ok == fine == ""
        assert "audio" in error
        assert json.loads(values(response, "transcript")[1])["error"]["code"] == "invalid_audio"


async def test_concurrent_requests_never_mix(served, rest, grpc_v2, rest_v2, clips, expected):
    async def over_v1(i: int) -> str:
        answer = await rest.post(f"/v1/models/{NAME}:predict", json=v1([clips[i]]))
        return str(answer.json()["predictions"][0]["text"])

    async def over_v2(i: int) -> str:
        request = bytes_request([clips[i]], binary=True)
        return values(await rest_v2.infer(served.http, request, model_name=NAME), "text")[0]

    async def over_grpc(i: int) -> str:
        return values(await grpc_v2.infer(bytes_request([clips[i]], binary=True)), "text")[0]

    ways = (over_v1, over_v2, over_grpc)
    texts = await asyncio.gather(*(ways[i % 3](i) for i in range(len(clips))))
    assert texts == expected


# What the server says of itself


async def test_every_answer_carries_the_model(rest, clips):
    answers = [
        await rest.post(f"/v1/models/{NAME}:predict", json=v1(clips[:1])),
        await rest.post(f"/v2/models/{NAME}/infer", json=v2([b64(clips[0])])),
        await rest.post(f"/v2/models/{NAME}/infer", json=v2(["?"])),
        await rest.get(f"/v2/models/{NAME}/ready"),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 400, 200]
    for answer in answers:
        assert answer.headers["x-model-name"] == NAME
        assert len(answer.headers["x-model-digest"]) == 64
        assert answer.headers["x-model-version"]


async def test_grpc_calls_carry_the_model(stub, clips):
    call = stub.ModelInfer(bytes_request(clips[:1], True).to_grpc())
    await call
    assert {key for key, _ in await call.initial_metadata()} >= set(MODEL_HEADERS)


async def test_metadata_names_the_real_tensors(rest, stub):
    described = (await rest.get(f"/v2/models/{NAME}")).json()
    assert described["inputs"] == [
        {"name": "audio", "datatype": "BYTES", "shape": [-1]},
        {"name": "waveform", "datatype": "FP32", "shape": [-1, -1]},
    ]
    names = [output["name"] for output in described["outputs"]]
    assert names == ["text", "language", "emotion", "event", "transcript"]
    over_grpc = await stub.ModelMetadata(messages.ModelMetadataRequest(name=NAME))
    assert list(over_grpc.versions) == described["versions"]
    assert [tensor.name for tensor in over_grpc.inputs] == ["audio", "waveform"]
    (version,) = described["versions"]
    headers = {"inference-header-content-length": "0"}
    for given, status in ((version, 400), ("other", 404)):
        url = f"/v2/models/{NAME}/versions/{given}/infer"
        assert (await rest.post(url, content=b"x", headers=headers)).status_code == status
    assert "binary_tensor_data" in (await rest.get("/v2")).json()["extensions"]


async def test_ready(served, rest_v1, rest_v2, grpc_v2):
    assert await rest_v1.is_model_ready(served.http, NAME)
    assert await rest_v2.is_model_ready(served.http, NAME)
    assert await grpc_v2.is_model_ready(NAME)
    assert await rest_v2.is_server_live(served.http)
    assert await rest_v2.is_server_ready(served.http)
    assert await grpc_v2.is_server_ready()
    assert served.ready_lines[0].startswith("ready: http://localhost:")


async def test_no_client_can_take_the_model_away(served, rest, stub, rest_v2):
    answer = await rest.post(f"/v2/repository/models/{NAME}/unload")
    assert answer.status_code == 400
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name=NAME))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert await rest_v2.is_model_ready(served.http, NAME)


# While something long runs


async def test_probes_and_short_requests_pass_a_long_one(rest, stub, tone_file, clips, expected):
    headers = {"inference-header-content-length": "0"}
    long = asyncio.ensure_future(
        rest.post(f"/v2/models/{NAME}/infer", content=tone_file, headers=headers)
    )
    passed = 0
    while passed < 5 and not long.done():
        assert (await rest.get(f"/v2/models/{NAME}/ready")).is_success
        assert (await stub.ModelReady(messages.ModelReadyRequest(name=NAME))).ready
        answer = await rest.post(f"/v1/models/{NAME}:predict", json=v1(clips[:1]))
        assert answer.json()["predictions"][0]["text"] == expected[0]
        passed += 1
    assert not long.done()
    assert (await long).is_success


async def test_a_client_that_hangs_up_leaves_the_server_working(rest, tone_file, clips, expected):
    headers = {"inference-header-content-length": "0"}
    with pytest.raises(httpx.ReadTimeout):
        await rest.post(
            f"/v2/models/{NAME}/infer",
            content=tone_file,
            headers=headers,
            timeout=httpx.Timeout(60, read=0.2),
        )
    answer = await rest.post(f"/v1/models/{NAME}:predict", json=v1(clips[:1]))
    assert answer.json()["predictions"][0]["text"] == expected[0]


# Starting


def test_a_port_that_is_taken_is_told(served):
    port = served.http.rpartition(":")[2]
    command = [sys.executable, "-m", "predictor", "serve", f"--http_port={port}"]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=served.folder)
    assert ended.returncode == 1
    assert f"http_port {port}: Address already in use" in ended.stderr
    assert "Traceback" not in ended.stderr


# The first thing a newcomer pastes


def test_the_printed_command_works(demo_served):
    _, command = demo_served.ready_lines
    answer = subprocess.run(
        ["bash", "-c", command.removeprefix("try:")],
        capture_output=True,
        check=True,
        cwd=demo_served.folder,
    )
    outputs = {o["name"]: o["data"] for o in json.loads(answer.stdout)["outputs"]}
    assert outputs["language"] == ["en"]
    assert outputs["text"] != [""]


def test_metadata_says_what_the_embedded_model_is(demo_served, demo_model_dir):
    answer = httpx.get(f"{demo_served.http}/v2/models/sensevoice")
    properties = answer.json()["properties"]
    assert "not for production" in properties["notice"].lower()
    assert properties["notice"] == answer.headers["x-model-notice"]
    assert properties["digest"] == read_manifest(demo_model_dir).digest


def test_the_log_says_what_the_embedded_model_is(demo_served):
    assert "not for production" in demo_served.log.read_text().lower()
