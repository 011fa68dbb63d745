"""Every example is sent to a live server, and its files are what the recipe makes."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from predictor.server.sdk import messages, services

EXAMPLES = Path(__file__).resolve().parents[2] / "predictor" / "examples"
CLIP = EXAMPLES.parent / "demo_model" / "evaluation" / "en-001.opus"
TEXT = "I want 8 blue phones."


def run(*command):
    environment = {**os.environ, "PYTHON": sys.executable}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_files_are_what_the_recipe_makes():
    for name, content in runpy.run_path(str(EXAMPLES / "make.py"))["files"]().items():
        assert (EXAMPLES / name).read_bytes() == content, "run predictor/examples/make.py"


def test_curl(demo_served):
    v1, v2, binary, one_file, verbose, *stream = run(
        "bash", str(EXAMPLES / "requests.sh"), demo_served.http
    )
    (prediction,) = json.loads(v1)["predictions"]
    assert prediction["text"] == TEXT
    assert prediction["segments"][0]["words"]
    for answer in (v2, binary, one_file):
        assert json.loads(answer)["outputs"][0]["data"] == [TEXT]
    assert json.loads(v2)["id"] == json.loads(binary)["id"] == "example"
    assert json.loads(verbose)["words"][0]["word"] == "I"
    events = [json.loads(line.removeprefix("data: ")) for line in stream if line]
    assert [event["type"].rpartition(".")[2] for event in events] == ["delta", "segment", "done"]


def test_grpc_with_python(demo_served):
    text, tags = run(sys.executable, EXAMPLES / "grpc_client.py", CLIP, demo_served.grpc)
    assert text == TEXT
    assert "NEUTRAL" in tags


def test_grpcurl(demo_served):
    if not shutil.which("grpcurl"):
        pytest.skip("grpcurl is not installed")
    answer = json.loads("\n".join(run("bash", EXAMPLES / "grpcurl.sh", demo_served.grpc)))
    assert answer["modelName"] == "sensevoice"


def test_the_request_for_grpcurl(demo_served):
    """What grpcurl would send, read as it reads it."""
    request = json_format.Parse(
        (EXAMPLES / "grpc.json").read_text(encoding="utf-8"), messages.ModelInferRequest()
    )
    with grpc.insecure_channel(demo_served.grpc) as channel:
        answer = services.GRPCInferenceServiceStub(channel).ModelInfer(request)
    assert answer.outputs[0].contents.bytes_contents[0].decode() == TEXT
    protoset = subprocess.run(
        [sys.executable, EXAMPLES / "protoset.py"], capture_output=True, check=True
    )
    (file,) = FileDescriptorSet.FromString(protoset.stdout).file
    (service,) = file.service
    assert (file.package, service.name) == ("inference", "GRPCInferenceService")


def test_openais_client(demo_served):
    whole, segment, streamed = run(
        sys.executable, EXAMPLES / "openai_client.py", CLIP, demo_served.http
    )
    assert whole == streamed == TEXT
    assert "NEUTRAL" in segment


def test_live_audio(demo_served):
    address = demo_served.http.replace("http", "ws")
    *partials, final = run(sys.executable, EXAMPLES / "realtime_client.py", CLIP, address)
    assert final.startswith(TEXT)
    assert partials
    assert all(line.startswith("... ") for line in partials)


def test_the_readme_names_every_file():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for file in EXAMPLES.iterdir():
        assert file.name in text or file.suffix == ".md" or file.is_dir()
