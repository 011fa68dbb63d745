"""gRPC v2 on kserve's servicer.

kserve's own server takes no interceptors, reports every error it does not know as INTERNAL, and unpacks
tensors into Python lists on the event loop; so the server is built here and only the call that carries
audio is replaced.
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
from grpc import aio

from predictor.engine.errors import Overloaded, SpeechError
from predictor.server.errors import UnknownModel, as_speech_error, quoted, sentence
from predictor.server.kserve_model import FixedRepository, SpeechDataPlane
from predictor.server.limits import ByteBudget
from predictor.server.observer import CANCELLED, OK, Observer
from predictor.server.protocol_v2 import V2Message
from predictor.server.sdk import InferenceServicer, messages, services

REQUEST_ID = "x-request-id"


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
        started = time.perf_counter()
        reason = CANCELLED
        try:
            answer = await self._infer(request, headers, context)
            reason = OK
            return answer
        except Exception as error:
            known = as_speech_error(error, str(request_id))
            reason = known.reason
            raise known from error
        finally:
            self._observer.on_request("grpc_v2", reason, time.perf_counter() - started)

    async def _infer(self, request: Any, headers: dict[str, Any], context: Any) -> Any:
        if request.model_version:
            described = await self._speech.model_metadata(request.model_name)
            if request.model_version not in described["versions"]:
                version = quoted(request.model_version)
                raise UnknownModel(
                    f"Model with name {request.model_name} has no version {version}."
                )
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
                return await handler.unary_unary(request, context)
            except Exception as error:
                metadata = dict(context.invocation_metadata() or ())
                request_id = str(metadata.get(REQUEST_ID, "-"))
                return await _abort(context, as_speech_error(error, request_id))

        return grpc.unary_unary_rpc_method_handler(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


async def _abort(context: Any, error: SpeechError) -> NoReturn:
    metadata: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Overloaded):
        # The second is gRPC's own: a client with a retry policy waits for so long by itself (gRFC A6).
        seconds = error.retry_after_seconds
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
