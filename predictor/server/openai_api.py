"""OpenAI's audio API beside KServe's protocols: the same model, limits, queue and errors.

Everything is served under ``/openai/v1``, where KServe puts OpenAI's API, and under ``/v1``, where most
clients look. ``GET /v1/models`` is KServe's, too: its answers have the fields of both.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from predictor.engine.types import Segment, Transcript
from predictor.server.disconnect import CLIENT_CLOSED_REQUEST, unless_disconnected
from predictor.server.errors import UnknownModel, as_speech_error
from predictor.server.form import read_form
from predictor.server.kserve_model import SpeechDataPlane, SpeechModel
from predictor.server.observer import OK, Observer, RequestRecord, observed
from predictor.server.openai_answer import Events
from predictor.server.openai_error import error_response, error_value
from predictor.server.openai_request import FILE, TranscriptionCall, parse_request
from predictor.server.rest import new_record
from predictor.server.sdk import ModelNotReady

PREFIXES = ("/openai/v1", "/v1")

ALIAS = "whisper-1"
"""What clients ask for that cannot be told a model's name."""

OWNER = "sensevoice-kserve"


class EventStream(StreamingResponse):
    """Server-sent events, and what is to be done once the client has them all, or is gone."""

    def __init__(
        self,
        events: AsyncIterator[dict[str, Any]],
        request_id: str,
        at_end: Callable[[], Awaitable[None]],
    ) -> None:
        headers = {"x-request-id": request_id}
        super().__init__(_as_sse(events), headers=headers, media_type="text/event-stream")
        self._at_end = at_end
        self._then: Callable[[], None] | None = None

    def then(self, call: Callable[[], None]) -> None:
        """What else is to be done at the very end."""
        self._then = call

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                await self._at_end()
            finally:
                if self._then is not None:
                    self._then()


async def _as_sse(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    async for event in events:
        yield b"data: " + orjson.dumps(event) + b"\n\n"


class OpenAiApi:
    """The API of one model.

    Args:
        data_plane: knows the model.
        model: what is served.
        observer: is told what became of each request.
    """

    def __init__(self, data_plane: SpeechDataPlane, model: SpeechModel, observer: Observer) -> None:
        self._data_plane = data_plane
        self._model = model
        self._observer = observer
        self._created = int(time.time())

    def add_routes(self, app: FastAPI) -> None:
        """To be called before kserve adds its own, which have ``/v1/models``, too."""
        for prefix in PREFIXES:
            router = APIRouter(prefix=prefix, tags=["OpenAI"])
            router.add_api_route("/audio/transcriptions", self.transcribe, methods=["POST"])
            router.add_api_route("/models", self.models, methods=["GET"])
            app.include_router(router)
        app.add_api_route("/openai/v1/models/{model_name}", self.model, methods=["GET"])
        app.add_api_route("/v1/models/{model_name}", self.model_of_both, methods=["GET"])

    async def models(self) -> dict[str, Any]:
        """OpenAI's list of models; ``models`` is KServe's."""
        names = [self._model.name, ALIAS]
        return {
            "object": "list",
            "data": [self._described(name) for name in dict.fromkeys(names)],
            "models": [self._model.name],
        }

    async def model(self, model_name: str, request: Request) -> Any:
        """One of OpenAI's models."""
        try:
            self.check_model(model_name)
        except UnknownModel as error:
            return error_response(error, _request_id(request))
        return self._described(model_name)

    async def model_of_both(self, model_name: str) -> dict[str, Any]:
        """One of OpenAI's models, with KServe's word on whether it is ready. Errors are KServe's."""
        self.check_model(model_name)
        if not await self._data_plane.model_ready(model_name):
            raise ModelNotReady(model_name)
        return {"name": model_name, "ready": True, **self._described(model_name)}

    async def transcribe(self, request: Request) -> Response:
        """Audio in a form → text, as json, text, srt, vtt, verbose_json, or a stream of events."""
        with ExitStack() as stack:
            record = stack.enter_context(
                observed(self._observer, new_record("openai", self._model.name, request))
            )
            response = await self._answer(request, record)
            record.status = response.status_code
            if isinstance(response, EventStream):
                # The request ends with its stream.
                response.then(stack.pop_all().close)
            return response

    async def _answer(self, request: Request, record: RequestRecord) -> Response:
        try:
            content_type = request.headers.get("content-type", "")
            call = parse_request(await read_form(content_type, request.stream(), FILE))
            self.check_model(call.model)
            if call.stream:
                stream = await self._stream(call, request, record)
                if stream is not None:
                    return stream
            else:
                headers = {**record.headers, "x-request-id": record.id}
                work = self._data_plane.infer(self._model.name, call, headers)
                answer = await unless_disconnected(request, work)
                if answer is not None:
                    record.reason = OK
                    value, answer_headers = answer
                    return _respond(value, answer_headers, record.id)
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except ClientDisconnect:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        except Exception as error:
            known = as_speech_error(error, record.id)
            record.reason = known.reason
            return error_response(known, record.id)

    async def _stream(
        self, call: TranscriptionCall, request: Request, record: RequestRecord
    ) -> "EventStream | None":
        """The stream, once its first event is known; None where the client is gone by then. What goes
        wrong until then is raised, and what goes wrong later is the stream's last event."""
        heard: asyncio.Queue[Segment | asyncio.Task[Transcript]] = asyncio.Queue()
        task = asyncio.create_task(self._model.stream(call.item, heard.put_nowait))
        task.add_done_callback(heard.put_nowait)

        async def at_end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        async def events(
            first: Segment | asyncio.Task[Transcript],
        ) -> AsyncIterator[dict[str, Any]]:
            making, item = Events(call.answer), first
            while isinstance(item, Segment):
                for event in making.on_segment(item):
                    yield event
                item = await heard.get()
            try:
                yield making.on_end(item.result())
                record.reason = OK
            except Exception as error:
                known = as_speech_error(error, record.id)
                record.reason = known.reason
                yield {"error": error_value(known)}

        first = None
        try:
            first = await unless_disconnected(request, heard.get())
            if isinstance(first, asyncio.Task):
                first.result()
        finally:
            if first is None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return None if first is None else EventStream(events(first), record.id, at_end)

    def check_model(self, name: str) -> None:
        """Raises:
        UnknownModel: neither the model's name nor the alias.
        """
        if name != ALIAS:
            self._data_plane.get_model_from_registry(name)

    def _described(self, name: str) -> dict[str, Any]:
        card = self._model.card
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": OWNER,
            "root": self._model.name,
            "version": card.version,
            "digest": card.digest,
        }


def _request_id(request: Request) -> str:
    return request.headers.get("x-request-id") or str(uuid.uuid4())


def _respond(answer: dict[str, Any] | str, headers: dict[str, str], request_id: str) -> Response:
    headers = {**headers, "x-request-id": request_id}
    if isinstance(answer, str):
        return Response(answer, 200, headers, media_type="text/plain")
    return Response(orjson.dumps(answer), 200, headers, media_type="application/json")
