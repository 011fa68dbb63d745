"""gRPC v2 on kserve's servicer.

kserve's own server takes no interceptors, reports every error it does not know as INTERNAL, and unpacks
tensors into Python lists on the event loop; so the server is built here and only the call that carries
audio is replaced.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from predictor.engine.errors import InvalidRequest, SpeechError
from predictor.server.errors import as_speech_error, sentence
from predictor.server.kserve_model import FixedRepository, SpeechDataPlane
from predictor.server.limits import ByteBudget
from predictor.server.observer import OK, Observer, RequestRecord, observed
from predictor.server.protobuf_body import INFER, NOTHING, Payload, check_rest
from predictor.server.protocol_v2 import V2Message
from predictor.server.sdk import InferenceServicer, messages, services

REQUEST_ID = "x-request-id"
MAX_CONNECTION_AGE_SECONDS = 10
"""After about so long a client is asked to use a new connection, for its next call. A Service of Kubernetes
chooses a pod for each connection, not for each call: new pods get their share of the calls, and one that is
to stop has no clients left when its preStop delay is over, which must be longer. A server that stops while
calls arrive would cancel those that it has not looked at."""

MODEL_INFER = "inference.GRPCInferenceService/ModelInfer"


class SpeechServicer(InferenceServicer):  # type: ignore[misc]
    """ModelInfer on typed payloads, and the model's version in its metadata."""

    def __init__(
        self,
        data_plane: SpeechDataPlane,
        repository: FixedRepository,
        budget: ByteBudget,
        observer: Observer,
    ) -> None:
        super().__init__(data_plane, repository)
        self._speech = data_plane
        self._budget = budget
        self._observer = observer

    async def ModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        described = await self._speech.model_metadata(request.name)
        return messages.ModelMetadataResponse(**described)

    async def ModelInfer(self, request: Any, context: Any) -> Any:  # noqa: N802
        headers = dict(context.invocation_metadata() or ())
        request_id = headers.setdefault(REQUEST_ID, str(uuid.uuid4()))
        record = RequestRecord(
            "grpc_v2",
            request.model_name,
            id=str(request_id),
            route=MODEL_INFER,
            path=f"/{MODEL_INFER}",
            headers=headers,
            status="CANCELLED",
        )
        with observed(self._observer, record):
            try:
                answer = await self._infer(request, headers, context)
            except Exception as error:
                known = as_speech_error(error, record.id)
                record.reason, record.status = known.reason, known.grpc_code
                raise known from error
            record.reason, record.status = OK, "OK"
            return answer

    async def _infer(self, request: Any, headers: dict[str, Any], context: Any) -> Any:
        if request.model_version:
            self._speech.check_version(request.model_name, request.model_version)
        with self._budget.share() as share:
            share.add(request.ByteSize())
            answer, metadata = await self._speech.infer(
                request.model_name, V2Message(request), headers
            )
            context.set_trailing_metadata(tuple(metadata.items()))
            return answer.to_grpc()


class ErrorsToStatus(aio.ServerInterceptor):  # type: ignore[misc]
    """Tells about the model in the initial metadata of every call, and turns exceptions into status
    codes.

    Args:
        headers: the initial metadata.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = tuple(headers.items())

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler

        async def call(request: Any, context: Any) -> Any:
            await context.send_initial_metadata(self._headers)
            try:
                if isinstance(request, InvalidRequest):
                    raise request
                return await handler.unary_unary(request, context)
            except Exception as error:
                metadata = dict(context.invocation_metadata() or ())
                request_id = str(metadata.get(REQUEST_ID, "-"))
                return await _abort(context, as_speech_error(error, request_id))

        is_infer = handler_call_details.method == f"/{MODEL_INFER}"
        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=_readable(
                handler.request_deserializer, INFER if is_infer else NOTHING
            ),
            response_serializer=handler.response_serializer,
        )


def _readable(deserialize: Callable[[bytes], Any], payload: Payload) -> Callable[[bytes], Any]:
    """The same, but that it returns an InvalidRequest for what it cannot read, or what is not worth it:
    were it raised, gRPC itself would answer UNKNOWN, and log a traceback."""

    def deserialized(message: bytes) -> Any:
        try:
            check_rest(message, payload)
            return deserialize(message)
        except DecodeError:
            return InvalidRequest("message: not the protobuf message of this call")
        except InvalidRequest as error:
            return error

    return deserialized


async def _abort(context: Any, error: SpeechError) -> NoReturn:
    metadata: tuple[tuple[str, str], ...] = ()
    seconds = error.retry_after_seconds
    if seconds is not None:
        # The second is gRPC's own: a client with a retry policy waits for so long by itself (gRFC A6).
        metadata = (("retry-after", str(seconds)), ("grpc-retry-pushback-ms", str(1000 * seconds)))
    await context.abort(grpc.StatusCode[error.grpc_code], sentence(error), metadata)
    raise AssertionError("abort returned")


class GrpcServer:
    """Listens until it is stopped.

    Args:
        servicer: answers the calls.
        headers: initial metadata of every call.
        port: to listen on.
        max_message_bytes: largest message, in and out.
    """

    def __init__(
        self,
        servicer: SpeechServicer,
        *,
        headers: Mapping[str, str],
        port: int,
        max_message_bytes: int,
    ) -> None:
        self._servicer = servicer
        self._headers = headers
        self._port = port
        self._max_message_bytes = max_message_bytes
        self._server: Any = None

    async def serve(self) -> None:
        """Raises:
        SystemExit: the port is taken.
        """
        self._server = aio.server(
            interceptors=(ErrorsToStatus(self._headers),),
            options=(
                ("grpc.max_receive_message_length", self._max_message_bytes),
                ("grpc.max_send_message_length", self._max_message_bytes),
                # Two servers on one port would share its calls between them.
                ("grpc.so_reuseport", 0),
                ("grpc.max_connection_age_ms", 1000 * MAX_CONNECTION_AGE_SECONDS),
            ),
        )
        services.add_GRPCInferenceServiceServicer_to_server(self._servicer, self._server)
        try:
            self._server.add_insecure_port(f"[::]:{self._port}")
        except RuntimeError:
            raise SystemExit(f"gRPC port {self._port} is already in use") from None
        await self._server.start()
        await self._server.wait_for_termination()

    async def stop(self, grace_seconds: float) -> None:
        """Take no new calls, and give running ones time to finish."""
        if self._server is not None:
            await self._server.stop(grace_seconds)
