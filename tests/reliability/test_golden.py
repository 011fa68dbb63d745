"""What clients rely on: an answer of each protocol, held against the one that was accepted.

Golden answers are ``golden/*.json``. Where an answer is meant to change, accept it with
``GOLDEN=accept python -m pytest tests/reliability/test_golden.py`` and say in the commit what changes for
clients. What differs from machine to machine or from call to call stands there as ``<name>``.
"""

import difflib
import json
import math
import os
import re
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import av
import grpc
import httpx
import pytest
from google.protobuf import json_format
from websockets.sync.client import connect

from predictor.server.sdk import messages, services

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "predictor" / "examples"
CLIPS = REPOSITORY / "predictor" / "demo_model" / "evaluation"
GOLDEN = Path(__file__).with_name("golden")
ACCEPT = os.environ.get("GOLDEN") == "accept"

HEADERS = (
    "content-type",
    "allow",
    "cache-control",
    "connection",
    "inference-header-content-length",
    "retry-after",
    "server-timing",
    "upgrade",
    "x-model-digest",
    "x-model-name",
    "x-model-notice",
    "x-model-version",
    "x-request-id",
)
PROBABILITIES = {"confidence", "language_confidence", "no_speech_prob"}
SECONDS = {"start", "end", "duration", "seconds", "audio_start_ms", "audio_end_ms"}
OTHERS = {
    "binary_data_size": "<bytes>",
    "avg_logprob": "<log probability>",
    "logprob": "<log probability>",
    "compression_ratio": "<ratio>",
    "created": "<time>",
    "digest": "<digest>",
    "version": "<version>",
}
IN_TEXT = {
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<id>",
    r"\b(event|item|sess)_[0-9a-f]{32}\b": r"<\1>",
    r"\b(\d\d:)?\d\d:\d\d[.,]\d{3}\b": "<time>",
    r"dur=[0-9.]+": "dur=<milliseconds>",
    r"\b(sha256:)?[0-9a-f]{64}\b": "<digest>",
}
RATE = 16_000


def stable(value, key=""):
    """A value without what is of one machine or one call, which is checked here."""
    if key in OTHERS and value is not None:
        return OTHERS[key]
    if isinstance(value, dict):
        if key == "distribution":
            assert math.isclose(sum(value.values()), 1, abs_tol=0.01)
            return dict.fromkeys(sorted(value), "<probability>")
        if key == "times":
            assert min(value.values()) >= 0
            return dict.fromkeys(value, "<seconds>")
        return {name: stable(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [stable(each) for each in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if key in PROBABILITIES:
            assert 0 <= value <= 1
            return "<probability>"
        if key in SECONDS:
            assert value >= 0
            return "<seconds>"
    if isinstance(value, str):
        if value.startswith('{"'):
            return stable(json.loads(value))
        for pattern, name in IN_TEXT.items():
            value = re.sub(pattern, name, value)
    return value


def body_of(answer):
    kind = answer.headers.get("content-type", "")
    if kind.startswith("application/json"):
        return answer.json()
    if kind.startswith("text/event-stream"):
        events = answer.text.split("\n\n")
        assert events.pop() == ""
        return [json.loads(event.removeprefix("data: ")) for event in events]
    if kind == "application/octet-stream":
        return binary(answer)
    return answer.text.splitlines()


def binary(answer):
    """An answer of the binary extension, with each tensor's data in its place."""
    size = int(answer.headers["inference-header-content-length"])
    head, rest = json.loads(answer.content[:size]), answer.content[size:]
    for output in head["outputs"]:
        n_bytes = output["parameters"].pop("binary_data_size")
        output["parameters"]["binary_data_size"] = n_bytes
        output["data"], rest = elements(rest[:n_bytes]), rest[n_bytes:]
    assert not rest
    return head


def elements(data):
    found = []
    while data:
        n_bytes = int.from_bytes(data[:4], "little")
        found.append(data[4 : 4 + n_bytes].decode())
        data = data[4 + n_bytes :]
    return found


def described(answer):
    headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
    if "inference-header-content-length" in headers:
        headers["inference-header-content-length"] = "<bytes>"
    return {"status": answer.status_code, "headers": headers, "body": body_of(answer)}


@pytest.fixture
def golden(demo_served, tried):
    """The function that holds answers, by name, against a golden file."""
    version = httpx.get(f"{demo_served.http}/v2/models/sensevoice").json()["versions"][0]

    def held(name, answers):
        tried["golden answers"] += len(answers)
        text = json.dumps(stable(answers), indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        text = text.replace(version, "<version>")
        file = GOLDEN / f"{name}.json"
        if ACCEPT:
            file.write_text(text, encoding="utf-8")
        before = file.read_text(encoding="utf-8")
        lines = difflib.unified_diff(
            before.splitlines(), text.splitlines(), str(file), "the answer now", lineterm="", n=6
        )
        assert before == text, "\n".join(
            [
                "an answer that clients rely on has changed; if it is meant to, see this file's head",
                *lines,
            ]
        )

    return held


@pytest.fixture
def client(demo_served):
    with httpx.Client(base_url=demo_served.http, timeout=60) as opened:
        yield opened


def announced(client, path, n_bytes):
    """The answer to a body that is announced and not sent."""
    connection = HTTPConnection(client.base_url.host, client.base_url.port, timeout=60)
    with closing(connection):
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(n_bytes))
        connection.endheaders()
        answer = connection.getresponse()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


def example(name):
    return (EXAMPLES / name).read_bytes()


STABLE = pytest.mark.promise("Answers of every protocol are those that clients were built for")
JSON = {"content-type": "application/json"}
CLIP = (CLIPS / "en-001.opus").read_bytes()


@STABLE
def test_v1(client, golden):
    url = "/v1/models/sensevoice:predict"
    asked = json.loads(example("v1.json"))
    audio = asked["instances"][0]["audio"]
    every = {"timestamps": "word", "distributions": True, "rich": True, "language": ["en", "zh"]}
    answers = {
        "the example": client.post(url, content=example("v1.json"), headers=JSON),
        "one of two fails": client.post(
            url, json={"instances": [{"audio": audio}, {"audio": {"b64": "QUJD"}}]}
        ),
        "every option": client.post(url, json={"instances": [{"audio": audio, **every}]}),
        "no JSON": client.post(url, content=b"{"),
        "no instances": client.post(url, json={}),
        "unknown option": client.post(url, json={"instances": [{"audio": audio, "speed": 2}]}),
        "no audio": client.post(url, json={"instances": [{"audio": {"b64": "QUJD"}}]}),
        "a URL": client.post(
            url, json={"instances": [{"audio": {"url": "http://a.example/b.wav"}}]}
        ),
        "unknown model": client.post("/v1/models/nix:predict", content=example("v1.json")),
        "another method": client.get(url),
        "too large": announced(client, url, 10**10),
        "ready": client.get("/v1/models/sensevoice"),
        "ready, unknown model": client.get("/v1/models/nix"),
    }
    golden("v1", {name: described(answer) for name, answer in answers.items()})


@STABLE
def test_v2(client, golden):
    url = "/v2/models/sensevoice"
    infer = f"{url}/infer"
    asked = json.loads(example("v2.json"))
    length = {"inference-header-content-length": example("v2.bin.length").decode().strip()}
    octets = {"content-type": "application/octet-stream"}
    version = client.get(url).json()["versions"][0]
    wrong = json.loads(example("v2.json"))
    wrong["inputs"][0]["datatype"] = "FP16"
    in_binary = {**asked, "outputs": [{"name": "text", "parameters": {"binary_data": True}}]}
    answers = {
        "the example": client.post(infer, content=example("v2.json"), headers=JSON),
        "the example in binary": client.post(
            infer, content=example("v2.bin"), headers={**length, **octets}
        ),
        "answered in binary": client.post(infer, json=in_binary),
        "one file": client.post(
            infer, content=CLIP, headers={"inference-header-content-length": "0"}
        ),
        "one version": client.post(f"{url}/versions/{version}/infer", content=example("v2.json")),
        "no such version": client.post(f"{url}/versions/x/infer", content=example("v2.json")),
        "wrong datatype": client.post(infer, json=wrong),
        "no inputs": client.post(infer, json={"inputs": []}),
        "unknown output": client.post(infer, json={**asked, "outputs": [{"name": "x"}]}),
        "no length": client.post(infer, content=example("v2.bin"), headers=octets),
        "no audio": client.post(
            infer, content=b"x", headers={"inference-header-content-length": "0"}
        ),
        "unknown model": client.post("/v2/models/nix/infer", content=example("v2.json")),
        "another method": client.get(infer),
        "metadata": client.get(url),
        "metadata of no such version": client.get(f"{url}/versions/x"),
        "ready": client.get(f"{url}/ready"),
        "ready, one version": client.get(f"{url}/versions/{version}/ready"),
        "ready, unknown model": client.get("/v2/models/nix/ready"),
        "load": client.post("/v2/repository/models/sensevoice/load"),
    }
    golden("v2", {name: described(answer) for name, answer in answers.items()})


@STABLE
def test_operations(client, golden):
    paths = (
        "/",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models",
        "/nix",
        "/v1/realtime",
    )
    golden("operations", {f"GET {path}": described(client.get(path)) for path in paths})


@STABLE
def test_openai(client, golden):
    def post(prefix="/v1", file=CLIP, **fields):
        form = {"model": "sensevoice", **fields}
        return client.post(f"{prefix}/audio/transcriptions", data=form, files={"file": file})

    both = {"timestamp_granularities[]": ["word", "segment"]}
    answers = {
        "json": post(),
        "json with log probabilities": post(**{"include[]": "logprobs"}),
        "text": post(response_format="text"),
        "srt": post(response_format="srt"),
        "vtt": post(response_format="vtt"),
        "verbose_json": post(response_format="verbose_json", **both),
        "stream": post(stream="true"),
        "whisper-1": post(model="whisper-1"),
        "under /openai/v1": post(prefix="/openai/v1"),
        "unknown model": post(model="gpt-9"),
        "unknown language": post(language="xx"),
        "unknown field": post(voice="x"),
        "unknown format": post(response_format="xml"),
        "no audio": post(file=b"x"),
        "no audio, streamed": post(file=b"x", stream="true"),
        "no form": client.post("/v1/audio/transcriptions", json={}),
        "another method": client.get("/v1/audio/transcriptions"),
        "models": client.get("/v1/models"),
        "models under /openai/v1": client.get("/openai/v1/models"),
        "model": client.get("/openai/v1/models/whisper-1"),
        "model that is not": client.get("/openai/v1/models/gpt-9"),
    }
    golden("openai", {name: described(answer) for name, answer in answers.items()})


@STABLE
def test_grpc(demo_served, golden):
    asked = json_format.Parse(example("grpc.json").decode(), messages.ModelInferRequest())
    raw = messages.ModelInferRequest(model_name="sensevoice", id="raw")
    raw.inputs.add(name="audio", datatype="BYTES", shape=[1])
    raw.raw_input_contents.append(len(CLIP).to_bytes(4, "little") + CLIP)
    wrong = messages.ModelInferRequest(model_name="sensevoice")
    wrong.inputs.add(name="audio", datatype="FP16", shape=[1])
    calls = {
        "the example": ("ModelInfer", asked),
        "raw": ("ModelInfer", raw),
        "wrong datatype": ("ModelInfer", wrong),
        "no such version": (
            "ModelInfer",
            messages.ModelInferRequest(model_name="sensevoice", model_version="x"),
        ),
        "unknown model": ("ModelInfer", messages.ModelInferRequest(model_name="nix")),
        "live": ("ServerLive", messages.ServerLiveRequest()),
        "ready": ("ServerReady", messages.ServerReadyRequest()),
        "model ready": ("ModelReady", messages.ModelReadyRequest(name="sensevoice")),
        "unknown model ready": ("ModelReady", messages.ModelReadyRequest(name="nix")),
        "server metadata": ("ServerMetadata", messages.ServerMetadataRequest()),
        "model metadata": ("ModelMetadata", messages.ModelMetadataRequest(name="sensevoice")),
        "load": (
            "RepositoryModelLoad",
            messages.RepositoryModelLoadRequest(model_name="sensevoice"),
        ),
    }
    with grpc.insecure_channel(demo_served.grpc) as channel:
        stub = services.GRPCInferenceServiceStub(channel)
        golden("grpc", {name: called(stub, *call) for name, call in calls.items()})


def called(stub, method, message):
    try:
        answer, call = getattr(stub, method).with_call(message, timeout=60)
    except grpc.RpcError as error:
        return {"code": error.code().name, "message": error.details()}
    body = json_format.MessageToDict(answer, preserving_proto_field_name=True)
    for output in body.get("outputs", []) if method == "ModelInfer" else []:
        if "contents" in output:
            index = [each.name for each in answer.outputs].index(output["name"])
            contents = answer.outputs[index].contents.bytes_contents
            output["contents"] = {"bytes_contents": [each.decode() for each in contents]}
    if "raw_output_contents" in body:
        body["raw_output_contents"] = [elements(each) for each in answer.raw_output_contents]
    metadata = dict(call.initial_metadata()) | dict(call.trailing_metadata())
    return {
        "code": "OK",
        "metadata": {name: metadata[name] for name in HEADERS if name in metadata},
        "body": body,
    }


def pcm():
    """16-bit PCM of the clip with a second of silence behind it."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with av.open(str(CLIPS / "en-001.opus")) as container:
        frames = [*container.decode(audio=0), None]
        pieces = [out.to_ndarray().tobytes() for each in frames for out in resampler.resample(each)]
    return b"".join(pieces) + bytes(2 * RATE)


def session(detection):
    audio = {"format": {"type": "audio/pcm", "rate": RATE}, "turn_detection": detection}
    return json.dumps({"type": "session.update", "session": {"audio": {"input": audio}}})


def heard(served, *sent, until="completed", path="/v1/realtime"):
    """Events up to one. Partial texts depend on the machine's speed; here they are joined."""
    events, text = [], ""
    with connect(f"{served.http.replace('http', 'ws')}{path}", open_timeout=60) as socket:
        for message in sent:
            socket.send(message)
        while not events or not events[-1]["type"].endswith(until):
            event = json.loads(socket.recv(60))
            if event["type"].endswith(".delta"):
                text += event["delta"]
            else:
                events.append(event)
    return {"events": events, "deltas joined": text}


@STABLE
def test_realtime(demo_served, golden):
    commit = json.dumps({"type": "input_audio_buffer.commit", "event_id": "mine"})
    golden(
        "realtime",
        {
            "turns found by voice activity": heard(
                demo_served, session({"type": "server_vad"}), pcm()
            ),
            "turns committed": heard(demo_served, session(None), pcm(), commit),
            "nothing to commit": heard(demo_served, commit, until="error"),
            "unknown event": heard(demo_served, '{"type":"x"}', until="error"),
            "unknown setting": heard(
                demo_served, '{"type":"session.update","session":{"x":1}}', until="error"
            ),
            "no JSON": heard(demo_served, "{", until="error"),
            "under /openai/v1": heard(
                demo_served, commit, until="error", path="/openai/v1/realtime"
            ),
            "unknown model": heard(demo_served, until="error", path="/v1/realtime?model=gpt-9"),
            "another intent": heard(demo_served, until="error", path="/v1/realtime?intent=talk"),
        },
    )
