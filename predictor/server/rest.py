"""REST routes for v1 predict and v2 infer, and errors as JSON.

kserve has both routes, but its v2 route lets FastAPI parse the body: a binary tensor must be UTF-8 there,
a wrong one is answered with the audio quoted in it, and all of it happens on the event loop. These come
first in the application, so kserve's are never reached; the data plane and the model behind are kserve's.
"""

import io
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from predictor.engine.errors import InvalidRequest, SpeechError
from predictor.server.disconnect import CLIENT_CLOSED_REQUEST, unless_disconnected
from predictor.server.errors import NotReady, answer_headers, as_speech_error, sentence
from predictor.server.kserve_model import ALIVE, SpeechDataPlane
from predictor.server.limits import BodyLimit, ByteBudget, ExtraHeaders
from predictor.server.observer import (
    CANCELLED,
    OK,
    Observer,
    ProtocolName,
    RequestRecord,
    observed,
)
from predictor.server.protocol import Payload, V1Body
from predictor.server.protocol_v2 import V2Body
from predictor.server.sdk import InferResponse

JSON_LENGTH = "inference-header-content-length"

DOCUMENT_PATH = "/openapi.json"

MAX_DIGITS = 18
"""Most digits of a length in bytes; Python refuses to read a number of thousands."""


def add_routes(
    app: FastAPI,
    data_plane: SpeechDataPlane,
    *,
    headers: Mapping[str, str],
    max_body_bytes: int,
    budget: ByteBudget,
    observer: Observer,
    enable_docs: bool,
) -> None:
    """Give kserve's application our routes, limits and errors.

    Args:
        headers: of every answer, as they are at the time.
        max_body_bytes: largest body.
        budget: for the bytes of all bodies.
        observer: watches all requests.
        enable_docs: serve a page at /docs.
    """
    app.include_router(_router(data_plane, observer))
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, budget=budget)
    app.add_middleware(ExtraHeaders, headers=headers)
    app.add_exception_handler(SpeechError, _on_error)
    app.add_exception_handler(HTTPException, _on_no_route)  # type: ignore[arg-type]
    if enable_docs:

        async def docs() -> Response:
            return get_swagger_ui_html(openapi_url=DOCUMENT_PATH, title=app.title)

        app.add_api_route("/docs", docs, include_in_schema=False)


def _router(data_plane: SpeechDataPlane, observer: Observer) -> APIRouter:
    router = APIRouter()

    async def answer(
        model_name: str,
        request: Request,
        protocol: ProtocolName,
        payload: Callable[[bytes], Payload],
        version: str | None = None,
    ) -> Response:
        with observed(observer, new_record(protocol, model_name, request)) as record:
            record.reason, response = await _infer(
                data_plane, model_name, version, request, record, payload
            )
            record.status = response.status_code
            return response

    @router.post("/v1/models/{model_name}:predict")
    async def predict(model_name: str, request: Request) -> Response:
        """Transcribe the instances of a v1 request."""
        return await answer(model_name, request, "rest_v1", V1Body)

    def v2_payload(request: Request) -> Callable[[bytes], Payload]:
        return lambda body: V2Body(body, _json_length(request))

    @router.post("/v2/models/{model_name}/infer")
    async def infer(model_name: str, request: Request) -> Response:
        """Transcribe the tensors of a v2 request, JSON or with binary data."""
        return await answer(model_name, request, "rest_v2", v2_payload(request))

    @router.post("/v2/models/{model_name}/versions/{version}/infer")
    async def infer_version(model_name: str, version: str, request: Request) -> Response:
        """The same, of one version of the model."""
        return await answer(model_name, request, "rest_v2", v2_payload(request), version)

    @router.get("/")
    async def live(response: Response) -> dict[str, str]:
        """Whether the server lives: status 503 if only a restart helps."""
        described = await data_plane.live()
        if described["status"] != ALIVE:
            response.status_code = 503
        return described

    @router.get("/v2/models/{model_name}")
    async def metadata(model_name: str) -> Response:
        """The model's inputs and outputs, its version, digest, and notice."""
        described = await data_plane.model_metadata(model_name)
        return _json({**described, "properties": data_plane.model_properties(model_name)})

    @router.get("/v2/models/{model_name}/versions/{model_version}")
    async def metadata_of_version(model_name: str, model_version: str) -> Response:
        """The same, of one version of the model."""
        data_plane.check_version(model_name, model_version)
        return await metadata(model_name)

    @router.get("/v2/models/{model_name}/ready")
    async def ready(model_name: str) -> dict[str, Any]:
        """Whether the model takes requests."""
        data_plane.get_model_from_registry(model_name)
        if not await data_plane.model_ready(model_name):
            raise NotReady(f"Model with name {model_name} is not ready.")
        return {"name": model_name, "ready": True}

    @router.get("/v2/models/{model_name}/versions/{model_version}/ready")
    async def ready_of_version(model_name: str, model_version: str) -> dict[str, Any]:
        """The same, of one version of the model."""
        data_plane.check_version(model_name, model_version)
        return await ready(model_name)

    return router


def new_record(protocol: ProtocolName, model_name: str, request: Request) -> RequestRecord:
    """What is known of a request to one of our routes when it begins. Its id is the client's, or new."""
    return RequestRecord(
        protocol,
        model_name,
        id=request.headers.get("x-request-id") or str(uuid.uuid4()),
        method=request.method,
        route=request.scope["route"].path,
        path=request.url.path,
        headers=dict(request.headers),
        status=CLIENT_CLOSED_REQUEST,
    )


async def _body(request: Request) -> bytes:
    """The request's body. Joining its blocks at the end would stop the event loop for as long as
    copying 100 MiB takes; this buffer grows in place and is not copied."""
    body = io.BytesIO()
    async for block in request.stream():
        body.write(block)
    return body.getvalue()


def _json_length(request: Request) -> int | None:
    """Raises:
    InvalidRequest: the header is no number, or is missing where binary data is declared.
    """
    given = request.headers.get(JSON_LENGTH)
    if given is not None:
        if not given.isdecimal() or len(given) > MAX_DIGITS:
            raise InvalidRequest(
                "Inference-Header-Content-Length: must be a number of bytes, 0 or more"
            )
        return int(given)
    if request.headers.get("content-type") == "application/octet-stream":
        raise InvalidRequest(
            "Inference-Header-Content-Length: missing; give the length of the JSON in front of the "
            "binary data, or 0 if the body is one audio file"
        )
    return None


async def _infer(
    data_plane: SpeechDataPlane,
    model_name: str,
    version: str | None,
    request: Request,
    record: RequestRecord,
    payload: Callable[[bytes], Payload],
) -> tuple[str, Response]:
    """What became of the request, as its record has it, and its answer."""
    headers = {**record.headers, "x-request-id": record.id}
    try:
        if version is not None:
            data_plane.check_version(model_name, version)
        body = payload(await _body(request))
        answer = await unless_disconnected(request, data_plane.infer(model_name, body, headers))
        if answer is None:
            return CANCELLED, Response(status_code=CLIENT_CLOSED_REQUEST)
        return OK, _encode(*answer)
    except ClientDisconnect:
        return CANCELLED, Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:
        known = as_speech_error(error, record.id)
        return known.reason, _answer(known)


def _encode(answer: dict[str, Any] | InferResponse, headers: Mapping[str, str]) -> Response:
    if not isinstance(answer, InferResponse):
        return _json(answer, headers=headers)
    body, json_length = answer.to_rest()
    if json_length is None:
        return _json(body, headers=headers)
    headers = {**headers, JSON_LENGTH: str(json_length)}
    return Response(body, media_type="application/octet-stream", headers=headers)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


async def _on_error(request: Request, error: Exception) -> Response:
    """Answers what middleware and kserve's own routes raise."""
    return _answer(as_speech_error(error, request.headers.get("x-request-id", "-")))


async def _on_no_route(request: Request, error: HTTPException) -> Response:
    """What no route takes, in the form of all other errors."""
    message = f"path: nothing is served at it; GET {DOCUMENT_PATH} lists what is"
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another")
        message = f"method: {request.method} is not served at this path; use {allowed}"
    elif error.status_code != 404:
        message = str(error.detail)
    return _json({"error": message}, error.status_code, error.headers)


def _answer(error: SpeechError) -> Response:
    """``{"error": "<sentence>"}``, the shape of kserve's own errors."""
    return _json({"error": sentence(error)}, error.http_status, answer_headers(error))
