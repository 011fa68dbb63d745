"""``python -m predictor.server.openapi``: the OpenAPI document, from the application.

Which routes there are, the application says; what they take and give, the types of the code say, and
``openapi.yaml`` where a body is read by hand. The server gives the same document at ``/openapi.json``.
"""

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import RouteContext, iter_route_contexts
from pydantic import TypeAdapter
from pydantic.json_schema import models_json_schema

from predictor.engine.types import LANGUAGES, TranscribeOptions, Transcript
from predictor.server.sdk import InferenceRequest, InferenceResponse

DOCUMENT = Path(__file__).resolve().parent.parent / "openapi.json"
DESCRIPTIONS = Path(__file__).with_name("openapi.yaml")
COMPONENT = "#/components/schemas/{model}"

NOT_SERVED = (":explain", "/load", "/unload")
"""Ends of kserve's routes that refuse whatever they are sent."""


def install(app: FastAPI) -> None:
    """Let an application with all its routes give this document as its own."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(document(app))
        return made

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to do this


def document(app: FastAPI) -> dict[str, Any]:
    """The document of an application with all its routes."""
    made = get_openapi(
        title="SenseVoice on KServe",
        version=metadata.version("sensevoice-kserve"),
        description="Speech to text with language, emotion and audio events.",
        routes=_reachable(app),
    )
    described = yaml.safe_load(DESCRIPTIONS.read_text(encoding="utf-8"))
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas |= _schemas() | described["schemas"]
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            # FastAPI's error of a body that it parsed itself; here none is.
            operation["responses"].pop("422", None)
            operation.update(described["operations"].get(f"{method.upper()} {path}", {}))
    made["paths"] |= described["paths"]
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return made


def _reachable(app: FastAPI) -> list[RouteContext]:
    """Of two routes with the same path and method, the first answers."""
    first: dict[tuple[str, str], RouteContext] = {}
    for route in iter_route_contexts(app.routes):
        path = route.path or ""
        if not path.endswith(NOT_SERVED):
            for method in route.methods or ():
                first.setdefault((path, method), route)
    return list({id(route): route for route in first.values()}.values())


def _schemas() -> dict[str, Any]:
    """Of values that have a type: transcripts, options, and kserve's tensors."""
    transcript = TypeAdapter(Transcript).json_schema(ref_template=COMPONENT)
    models = [(InferenceRequest, "validation"), (InferenceResponse, "serialization")]
    _, tensors = models_json_schema(models, ref_template=COMPONENT)  # type: ignore[arg-type]
    options = TranscribeOptions.model_json_schema(ref_template=COMPONENT)
    # It takes more than the tuple that it becomes.
    code = {"type": "string", "enum": list(LANGUAGES)}
    options["properties"]["language"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": code}],
        "default": "auto",
        "description": f"One or more of {', '.join(LANGUAGES)}: a list, or text with commas.",
    }
    # In an instance they stand beside its audio.
    audio = {"$ref": COMPONENT.format(model="Audio")}
    instance = {
        **options,
        "description": "An audio, with options of its own.",
        "properties": {"audio": audio, **options["properties"]},
        "required": ["audio"],
        "title": "Instance",
    }
    return {
        **tensors["$defs"],
        **transcript.pop("$defs"),
        "Transcript": transcript,
        "TranscribeOptions": options,
        "Instance": instance,
    }


def application() -> FastAPI:
    """The application with all its routes and no model behind them."""
    from predictor.server.kserve_model import FixedRepository, SpeechDataPlane
    from predictor.server.limits import ByteBudget
    from predictor.server.openai_api import OpenAiApi
    from predictor.server.realtime_api import RealtimeApi
    from predictor.server.rest import add_routes
    from predictor.server.sdk import ModelServer, RESTServer, app

    nobody: Any = None
    registry = ModelServer().registered_models
    data_plane = SpeechDataPlane(model_registry=registry)
    add_routes(
        app,
        data_plane,
        headers={},
        max_body_bytes=0,
        budget=ByteBudget(0),
        observer=nobody,
        enable_docs=False,
    )
    openai_api = OpenAiApi(data_plane, nobody, nobody)
    openai_api.add_routes(app)
    RealtimeApi(nobody, openai_api.check_model, nobody, 0, 0).add_routes(app)
    repository = FixedRepository(model_registry=registry)
    RESTServer("kserve.model_server:app", data_plane, repository, http_port=0).create_application()
    return app  # type: ignore[no-any-return]


def as_text(made: dict[str, Any]) -> str:
    return json.dumps(made, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(as_text(document(application())), encoding="utf-8")
