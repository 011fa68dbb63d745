"""REST routes for v1 predict and v2 infer, and errors as JSON.

kserve has both routes, but its v2 route lets FastAPI parse the body: a binary tensor must be UTF-8 there,
a wrong one is answered with the audio quoted in it, and all of it happens on the event loop. These come
first in the application, so kserve's are never reached; the data plane and the model behind are kserve's.
"""

import asyncio
import io
import time
import uuid
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import ClientDisconnect

from predictor.engine.errors import AudioTooLarge, InvalidRequest, Overloaded, SpeechError
from predictor.server.errors import UnknownModel, as_speech_error, quoted, sentence
from predictor.server.kserve_model import SpeechDataPlane
from predictor.server.limits import BodyLimit, ByteBudget, ExtraHeaders
from predictor.server.observer import CANCELLED, OK, Observer
from predictor.server.protocol import Payload, V1Body
from predictor.server.protocol_v2 import V2Body
from predictor.server.sdk import InferResponse

JSON_LENGTH = "inference-header-content-length"
CLIENT_CLOSED_REQUEST = 499


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
        headers: of every answer.
        max_body_bytes: largest body.
        budget: for the bytes of all bodies.
        observer: is told what became of each request.
        enable_docs: serve a page at /docs.
    """
    app.include_router(_router(data_plane, observer))
    app.add_middleware(BodyLimit, max_bytes=max_body_bytes, budget=budget)
    app.add_middleware(ExtraHeaders, headers=headers)
    app.add_exception_handler(SpeechError, _on_error)
    if enable_docs:

        async def docs() -> Response:
            return get_swagger_ui_html(openapi_url="/openapi.json", title=app.title)

        app.add_api_route("/docs", docs, include_in_schema=False)


def _router(data_plane: SpeechDataPlane, observer: Observer) -> APIRouter:
    # kserve's own routes describe these requests in the OpenAPI document.
    router = APIRouter(include_in_schema=False)

    async def observed(
        model_name: str, request: Request, protocol: str, payload: Callable[[bytes], Payload]
    ) -> Response:
        started = time.perf_counter()
        reason = CANCELLED
        try:
            reason, answer = await _infer(data_plane, model_name, request, payload)
        finally:
            observer.on_request(protocol, reason, time.perf_counter() - started)
        return answer

    @router.post("/v1/models/{model_name}:predict")
    async def predict(model_name: str, request: Request) -> Response:
        """Transcribe the instances of a v1 request."""
        return await observed(model_name, request, "rest_v1", V1Body)

    @router.post("/v2/models/{model_name}/infer")
    async def infer(model_name: str, request: Request) -> Response:
        """Transcribe the tensors of a v2 request, JSON or with binary data."""
        return await observed(
            model_name, request, "rest_v2", lambda body: V2Body(body, _json_length(request))
        )

    @router.get("/v2/models/{model_name}")
    async def metadata(model_name: str) -> Response:
        """The model's inputs and outputs, its version, digest, and notice."""
        described = await data_plane.model_metadata(model_name)
        return _json({**described, "properties": data_plane.model_properties(model_name)})

    @router.post("/v2/models/{model_name}/versions/{version}/infer")
    async def infer_version(model_name: str, version: str, request: Request) -> Response:
        described = await data_plane.model_metadata(model_name)
        if version not in described["versions"]:
            raise UnknownModel(f"Model with name {model_name} has no version {quoted(version)}.")
        return await infer(model_name, request)

    return router


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
        if not given.isdecimal():
            raise InvalidRequest("Inference-Header-Content-Length: must be a number")
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
    request: Request,
    payload: Callable[[bytes], Payload],
) -> tuple[str, Response]:
    """What became of the request, as an :class:`Observer` is told, and its answer."""
    request_id = request.headers.get("x-request-id") or str(uuid.uuid4())
    headers = {**request.headers, "x-request-id": request_id}
    try:
        body = payload(await _body(request))
        answer = await _unless_disconnected(request, data_plane.infer(model_name, body, headers))
        if answer is None:
            return CANCELLED, Response(status_code=CLIENT_CLOSED_REQUEST)
        return OK, _encode(*answer)
    except ClientDisconnect:
        return CANCELLED, Response(status_code=CLIENT_CLOSED_REQUEST)
    except Exception as error:
        known = as_speech_error(error, request_id)
        return known.reason, _answer(known)


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """The work's result; None, and the work cancelled, if the client hangs up before."""

    async def disconnected() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    task, watch = asyncio.ensure_future(work), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, watch):
            each.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


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


def _answer(error: SpeechError) -> Response:
    """``{"error": "<sentence>"}``, the shape of kserve's own errors."""
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded):
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, AudioTooLarge | Overloaded):
        # The rest of the body may still be on its way, and nobody will read it.
        headers["connection"] = "close"
    return _json({"error": sentence(error)}, error.http_status, headers)
