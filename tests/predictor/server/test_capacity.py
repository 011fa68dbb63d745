"""Clients that leave, and clients that are refused, over real sockets.

The server's network is behind a gate: it tells this process of each batch, and waits until it may go on.
"""

import asyncio
import base64
import json
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferInput, InferRequest

from predictor.server.sdk import services

REPOSITORY = Path(__file__).resolve().parents[3]
NAME = "sensevoice"
RAW = {"inference-header-content-length": "0"}

GATED_SERVER = """
import socket, sys, threading
from predictor.engine.transcribe import Engine
from predictor.server.app import serve
from predictor.server.settings import Settings

recognize = Engine.recognize
gate = socket.create_connection(("127.0.0.1", int(sys.argv[1])))

def gated(self, clips):
    if threading.current_thread().name.startswith("recognize"):
        gate.sendall(b"x")
        gate.recv(1)
    return recognize(self, clips)

Engine.recognize = gated
serve(Settings.from_command_line(sys.argv[2:]))
"""


@dataclass
class Gated:
    """A server that lets a batch run for each byte sent to its gate."""

    http_port: int
    grpc_address: str
    gate: socket.socket
    samples: Callable[[str], dict[str, float]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    async def entered(self) -> None:
        """Until a batch stands before the gate."""
        assert await asyncio.to_thread(self.gate.recv, 1) == b"x"

    def open(self) -> None:
        self.gate.sendall(bytes(1000))

    async def metrics(self) -> dict[str, float]:
        async with httpx.AsyncClient() as client:
            return self.samples((await client.get(f"{self.url}/metrics")).text)

    async def until(self, **wanted: float) -> None:
        """Until these gauges have these values."""
        while True:
            metrics = await self.metrics()
            if all(metrics[f"sensevoice_{name}"] == value for name, value in wanted.items()):
                return


@pytest.fixture
def gated(random_model_dir: Path, new_port: Callable[[], int], samples: Any) -> Iterator[Gated]:
    http_port, grpc_port = new_port(), new_port()
    flags = {"model_dir": random_model_dir, "http_port": http_port, "grpc_port": grpc_port}
    flags |= {"max_queue_seconds": 3, "network_passes": 1, "log_level": "warning"}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(120)
        command = [sys.executable, "-c", GATED_SERVER, str(listener.getsockname()[1])]
        command += [f"--{name}={value}" for name, value in flags.items()]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        ) as process:
            gate, _ = listener.accept()
            assert process.stdout is not None
            assert any(line.startswith("ready:") for line in process.stdout)
            with gate:
                yield Gated(http_port, f"127.0.0.1:{grpc_port}", gate, samples)
            process.terminate()


@pytest.fixture
def clip(clips: list[bytes]) -> bytes:
    """A second of audio."""
    return clips[3]


def message(clip: bytes) -> Any:
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([clip], dtype=np.object_), binary_data=True)
    return InferRequest(NAME, [tensor]).to_grpc()


def v1_body(clip: bytes) -> bytes:
    instance = {"audio": {"b64": base64.b64encode(clip).decode()}}
    return json.dumps({"instances": [instance]}).encode()


Leave = Callable[[], Awaitable[Any]]


async def over_http(server: Gated, path: str, body: bytes, header: str) -> Leave:
    """Sends a request whose answer is never read; gives what breaks the connection."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{header}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()

    async def leave() -> None:
        writer.transport.abort()

    return leave


async def over_grpc(server: Gated, clip: bytes) -> Leave:
    channel = grpc.aio.insecure_channel(server.grpc_address)
    call = services.GRPCInferenceServiceStub(channel).ModelInfer(message(clip))

    async def leave() -> None:
        await channel.close()
        assert call.done()

    return leave


async def three_waiting(server: Gated, clip: bytes) -> tuple["asyncio.Task[Any]", list[Leave]]:
    """One request in the network, and behind it one of each protocol in the queue."""

    async def first() -> Any:
        async with httpx.AsyncClient(timeout=120) as client:
            url = f"{server.url}/v2/models/{NAME}/infer"
            return await client.post(url, content=clip, headers=RAW)

    running = asyncio.create_task(first())
    await server.entered()
    await server.until(queue_audio_seconds=0, requests_running=1)
    leaves = [
        await over_http(
            server, f"/v1/models/{NAME}:predict", v1_body(clip), "content-type: application/json"
        )
    ]
    await server.until(queue_audio_seconds=1, requests_running=2)
    leaves.append(
        await over_http(
            server, f"/v2/models/{NAME}/infer", clip, "inference-header-content-length: 0"
        )
    )
    await server.until(queue_audio_seconds=2, requests_running=3)
    leaves.append(await over_grpc(server, clip))
    await server.until(queue_audio_seconds=3, requests_running=4)
    return running, leaves


async def test_clients_that_leave_take_their_clips_with_them(gated: Gated, clip: bytes) -> None:
    running, leaves = await three_waiting(gated, clip)
    for n_left, leave in zip((2, 1, 0), leaves, strict=True):
        await leave()
        await gated.until(queue_audio_seconds=n_left, requests_running=n_left + 1)
    gated.open()
    assert (await running).is_success
    metrics = await gated.metrics()
    assert metrics["sensevoice_batch_clips_sum"] == 1
    for protocol in ("rest_v1", "rest_v2", "grpc_v2"):
        labels = f"outcome=cancelled protocol={protocol} reason=cancelled"
        assert metrics[f"sensevoice_requests_total {labels}"] == 1


async def test_over_the_bound_clients_are_told_when_to_come_back(gated: Gated, clip: bytes) -> None:
    running, leaves = await three_waiting(gated, clip)
    async with httpx.AsyncClient(base_url=gated.url, timeout=120) as client:
        answers = [
            await client.post(f"/v1/models/{NAME}:predict", content=v1_body(clip)),
            await client.post(f"/v2/models/{NAME}/infer", content=clip, headers=RAW),
        ]
        for answer in answers:
            assert answer.status_code == 429
            assert int(answer.headers["retry-after"]) >= 1
            assert "3 seconds of audio are waiting, the limit is 3" in answer.json()["error"]
        async with grpc.aio.insecure_channel(gated.grpc_address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await services.GRPCInferenceServiceStub(channel).ModelInfer(message(clip))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        told = dict(caught.value.trailing_metadata() or ())
        assert int(str(told["grpc-retry-pushback-ms"])) == 1000 * int(str(told["retry-after"]))
        # Probes are still answered, and those who were let in are served.
        assert (await client.get(f"/v2/models/{NAME}/ready")).is_success
        gated.open()
        assert (await running).is_success
        await gated.until(queue_audio_seconds=0, requests_running=0)
        again = await client.post(f"/v2/models/{NAME}/infer", content=clip, headers=RAW)
        assert again.is_success
    metrics = await gated.metrics()
    for protocol in ("rest_v1", "rest_v2", "grpc_v2"):
        labels = f"outcome=rejected protocol={protocol} reason=overloaded"
        assert metrics[f"sensevoice_requests_total {labels}"] == 1
    for leave in leaves:
        await leave()
