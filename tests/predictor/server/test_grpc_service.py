"""The gRPC server in this process, over a fake data plane: errors, overload, cancellation, ports."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from predictor.engine.errors import Overloaded
from predictor.server.grpc_service import GrpcServer, SpeechServicer
from predictor.server.limits import ByteBudget
from predictor.server.sdk import messages, services


class FakeDataPlane:
    def __init__(self, error: Exception | None) -> None:
        self.error = error
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def infer(self, *arguments: Any) -> Any:
        self.started.set()
        if self.error:
            raise self.error
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def server(data_plane: Any, port: int, seen: Any) -> GrpcServer:
    servicer = SpeechServicer(data_plane, None, ByteBudget(10_000), seen)  # type: ignore[arg-type]
    return GrpcServer(servicer, headers={}, port=port, max_message_bytes=10_000)


@asynccontextmanager
async def stub_for(data_plane: Any, port: int, seen: Any) -> AsyncIterator[Any]:
    made = server(data_plane, port, seen)
    serving = asyncio.ensure_future(made.serve())
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        yield services.GRPCInferenceServiceStub(channel)
    await made.stop(0)
    await serving


REQUEST = messages.ModelInferRequest(model_name="m")


async def test_overload_says_when_to_come_back(new_port: Callable[[], int], seen: Any) -> None:
    async with stub_for(FakeDataPlane(Overloaded("full", 7)), new_port(), seen) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(REQUEST)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "full"
    assert {("retry-after", "7"), ("grpc-retry-pushback-ms", "7000")} <= {
        (key, value) for key, value in caught.value.trailing_metadata() or ()
    }
    assert seen.requests == [("grpc_v2", "overloaded")]


async def test_what_nobody_foresaw_is_answered_without_its_message(
    new_port: Callable[[], int], seen: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async with stub_for(FakeDataPlane(RuntimeError("secret audio")), new_port(), seen) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(REQUEST, metadata=(("x-request-id", "r3"),))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "r3" in str(caught.value.details())
    assert "secret" not in str(caught.value.details())
    assert "request r3 failed: RuntimeError" in caplog.text


async def test_a_cancelled_call_cancels_its_work(
    new_port: Callable[[], int], seen: Any, until: Any
) -> None:
    data_plane = FakeDataPlane(None)
    async with stub_for(data_plane, new_port(), seen) as stub:
        call = stub.ModelInfer(REQUEST)
        await data_plane.started.wait()
        call.cancel()
        await data_plane.cancelled.wait()
        await until(lambda: seen.requests == [("grpc_v2", "cancelled")])


async def test_a_port_that_is_taken(seen: Any) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))  # noqa: S104
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit, match=f"gRPC port {port} is already in use"):
            await server(FakeDataPlane(None), port, seen).serve()
