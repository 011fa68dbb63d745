"""The OpenAPI document: of the application as it is, and true of what the server answers."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
import yaml

from predictor.server import openai_request
from predictor.server.openapi import DESCRIPTIONS, DOCUMENT

NAME = "sensevoice"


@pytest.fixture(scope="module")
def document() -> Any:
    return json.loads(DOCUMENT.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def check(document):
    """The function that checks a value against one of the document's schemas."""

    def checked(name: str, value: Any) -> Any:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(value)
        return value

    return checked


def test_the_document_is_up_to_date():
    code = (
        "from predictor.server import openapi as o; print(o.as_text(o.document(o.application())))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    text = made.stdout[made.stdout.index("{\n") :].rstrip("\n") + "\n"
    assert text == DOCUMENT.read_text(encoding="utf-8"), "run `python -m predictor.server.openapi`"


def test_the_server_gives_the_same(demo_served, document):
    assert httpx.get(f"{demo_served.http}/openapi.json").json() == document


def test_every_description_is_of_a_route(document):
    described = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8"))
    for operation in described["operations"]:
        method, path = operation.split(" ")
        assert method.lower() in document["paths"][path]


def test_every_reference_leads_somewhere(document):
    references = {
        part.split('"')[0] for part in json.dumps(document).split('"#/components/schemas/')[1:]
    }
    assert references == set(document["components"]["schemas"])


def test_the_form_is_the_one_that_is_read(document):
    form = document["components"]["schemas"]["TranscriptionForm"]
    known = {openai_request.FILE, *openai_request.SINGLE, *openai_request.REPEATED}
    assert set(form["properties"]) == known
    assert form["properties"]["response_format"]["enum"] == list(openai_request.FORMATS)
    granularities = form["properties"]["timestamp_granularities"]["items"]["enum"]
    assert granularities == list(openai_request.GRANULARITIES)


def test_answers_of_kserves_protocols(demo_served, check):
    examples = Path(DOCUMENT).parent / "examples"
    request = check("V1Request", json.loads((examples / "v1.json").read_text()))
    bad = {"audio": {"b64": "bm8="}}
    request["instances"].append(bad)
    answer = httpx.post(f"{demo_served.http}/v1/models/{NAME}:predict", json=request)
    transcript, error = check("V1Response", answer.json())["predictions"]
    check("Transcript", transcript)
    check("ItemError", error)
    request = check("InferenceRequest", json.loads((examples / "v2.json").read_text()))
    answer = httpx.post(f"{demo_served.http}/v2/models/{NAME}/infer", json=request)
    check("InferenceResponse", answer.json())
    check("ModelMetadata", httpx.get(f"{demo_served.http}/v2/models/{NAME}").json())
    check("Error", httpx.post(f"{demo_served.http}/v1/models/{NAME}:predict", json={}).json())
    with pytest.raises(jsonschema.ValidationError):
        check("V1Request", {"instances": [{"audio": {"b64": ""}, "lang": "en"}]})


def test_answers_of_openais(demo_served, demo_model_dir, check):
    url = f"{demo_served.http}/v1/audio/transcriptions"
    audio = (demo_model_dir / "evaluation" / "en-001.opus").read_bytes()

    def post(**fields: Any) -> httpx.Response:
        return httpx.post(url, data={"model": NAME, **fields}, files={"file": audio})

    check("TranscriptionJson", post(**{"include[]": "logprobs"}).json())
    both = {"timestamp_granularities[]": ["word", "segment"]}
    verbose = check("TranscriptionVerboseJson", post(response_format="verbose_json", **both).json())
    assert verbose["words"]
    assert verbose["segments"]
    events = post(stream="true").text.split("\n\n")[:-1]
    for event in events:
        check("TranscriptionEvent", json.loads(event.removeprefix("data: ")))
    assert len(events) == 3
    check("OpenAiError", post(language="xx").json())
    check("ModelList", httpx.get(f"{demo_served.http}/v1/models").json())
    check("Model", httpx.get(f"{demo_served.http}/v1/models/{NAME}").json())
