"""Clients of every protocol, each with connections of its own, that tell what came of a request."""

import asyncio
import base64
import io
import json
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import grpc
import httpx
import numpy as np
import soundfile
import websockets
from kserve import InferInput, InferRequest

from predictor.engine.audio import decode
from predictor.server.sdk import messages, services

NAME = "sensevoice"
RATE = 16_000
RAW = {"inference-header-content-length": "0"}
TRANSCRIPTION = "conversation.item.input_audio_transcription"

OK, REJECTED = "ok", "rejected"

REJECTIONS = ("overloaded", "not_ready")
"""Codes of errors in events."""

TRY_AGAIN_LATER = 1013
"""Code with which a live session is refused."""

GRPC_REJECTIONS = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)


@dataclass(frozen=True)
class Clip:
    """Audio in the forms that requests carry it in."""

    seconds: float
    file: bytes
    pcm: bytes

    @property
    def base64(self) -> str:
        return base64.b64encode(self.file).decode()


def clip_of(samples: np.ndarray) -> Clip:
    """Float32 [n_samples] at 16 kHz as FLAC and as 16-bit PCM."""
    whole = (32767 * samples).astype(np.int16)
    file = io.BytesIO()
    soundfile.write(file, whole, RATE, format="FLAC")
    return Clip(len(whole) / RATE, file.getvalue(), whole.tobytes())


def speech_clip(evaluation: Path, seconds: int) -> Clip:
    """Speech that voice activity cuts into many segments, over and over.

    Args:
        evaluation: the folder with the embedded model's clips.
    """
    second = np.zeros(RATE, np.float32)
    blocks = [
        block[0]
        for file in sorted(evaluation.glob("en-*.opus"))[:12]
        for block in decode(file.read_bytes(), 60)
    ]
    said = np.concatenate([piece for block in blocks for piece in (block, second)])
    return clip_of(np.resize(said, seconds * RATE))


def made_clip(seed: int, seconds: float) -> Clip:
    """Sound that no other seed gives."""
    generator = np.random.default_rng(seed)
    at = np.arange(int(seconds * RATE)) / RATE
    pitch, wobble = generator.uniform(100, 1000), generator.uniform(2, 9)
    sound = np.sin(2 * np.pi * pitch * at + 3 * np.sin(2 * np.pi * wobble * at))
    return clip_of(0.3 * sound + generator.normal(0, 0.05, len(at)))


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        outcome: ``OK``, ``REJECTED`` (for now; the client may come back), or what else happened.
        text: the transcript.
        seconds: from the first byte sent to the whole answer.
        retry_after: seconds to stay away, where the answer says so.
    """

    protocol: str
    outcome: str
    text: str = ""
    seconds: float = 0.0
    retry_after: float | None = None


class Client:
    """One client. ``async with`` opens and closes its connections.

    Args:
        http: address of REST, OpenAI's API and websockets.
        grpc: address of gRPC.
    """

    PROTOCOLS = ("v1", "v2_json", "v2_binary", "grpc", "openai", "sse", "websocket")

    def __init__(self, http: str, grpc: str) -> None:
        self.url, self.grpc_address = http, grpc

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        self.http = await self._stack.enter_async_context(
            httpx.AsyncClient(
                base_url=self.url, timeout=300, trust_env=False, limits=httpx.Limits()
            )
        )
        # A channel of its own: by default all to one address share their connections.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
        self.channel = await self._stack.enter_async_context(
            grpc.aio.insecure_channel(self.grpc_address, options=options)
        )
        self.stub = services.GRPCInferenceServiceStub(self.channel)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def ask(self, protocol: str, clip: Clip) -> Answer:
        """Send a clip, and say what came of it. Raises nothing that a server can be blamed for."""
        began = time.monotonic()
        try:
            outcome, text, retry_after = await getattr(self, f"_{protocol}")(clip)
        except (httpx.HTTPError, websockets.WebSocketException, OSError) as error:
            outcome, text, retry_after = f"{type(error).__name__}: {error}", "", None
        return Answer(protocol, outcome, text, time.monotonic() - began, retry_after)

    async def _v1(self, clip: Clip) -> tuple[str, str, float | None]:
        body = {"instances": [{"audio": {"b64": clip.base64}}]}
        answer = await self.http.post(f"/v1/models/{NAME}:predict", json=body)
        return _over_http(answer, lambda body: body["predictions"][0]["text"])

    async def _v2_json(self, clip: Clip) -> tuple[str, str, float | None]:
        tensor = {"name": "audio", "shape": [1], "datatype": "BYTES", "data": [clip.base64]}
        answer = await self.http.post(f"/v2/models/{NAME}/infer", json={"inputs": [tensor]})
        return _over_http(answer, _v2_text)

    async def _v2_binary(self, clip: Clip) -> tuple[str, str, float | None]:
        url = f"/v2/models/{NAME}/infer"
        answer = await self.http.post(url, content=clip.file, headers=RAW)
        return _over_http(answer, _v2_text)

    async def _openai(self, clip: Clip) -> tuple[str, str, float | None]:
        answer = await self.http.post(
            "/v1/audio/transcriptions", data={"model": NAME}, files={"file": ("clip", clip.file)}
        )
        return _over_http(answer, lambda body: body["text"])

    async def _sse(self, clip: Clip) -> tuple[str, str, float | None]:
        last = [event async for event in self.events(clip)][-1]
        if "response" in last:
            return _over_http(last["response"], _v2_text)
        if last.get("type") == "transcript.text.done":
            return OK, last["text"], None
        if last.get("error", {}).get("code") in REJECTIONS:
            return REJECTED, "", None
        return f"last event: {last}", "", None

    async def events(self, clip: Clip) -> AsyncIterator[dict[str, Any]]:
        """Server-sent events; where the answer is no stream, one event: it, as ``response``."""
        request = self.http.build_request(
            "POST",
            "/v1/audio/transcriptions",
            data={"model": NAME, "stream": "true"},
            files={"file": ("clip", clip.file)},
        )
        answer = await self.http.send(request, stream=True)
        try:
            if answer.status_code != 200:
                await answer.aread()
                yield {"response": answer}
                return
            async for line in answer.aiter_lines():
                if line:
                    yield json.loads(line.removeprefix("data: "))
        finally:
            await answer.aclose()

    async def _grpc(self, clip: Clip) -> tuple[str, str, float | None]:
        try:
            answer = await self.stub.ModelInfer(grpc_request(clip), timeout=300)
        except grpc.aio.AioRpcError as error:
            told = dict(error.trailing_metadata() or ()).get("retry-after")
            retry_after = None if told is None else float(told)
            if error.code() in GRPC_REJECTIONS and retry_after is not None:
                return REJECTED, "", retry_after
            return f"{error.code()}: {error.details()}", "", retry_after
        outputs = [each.name for each in answer.outputs]
        raw = answer.raw_output_contents
        text = raw[outputs.index("text")][4:] if raw else b""
        if not raw:
            text = answer.outputs[outputs.index("text")].contents.bytes_contents[0]
        return OK, text.decode(), None

    async def _websocket(self, clip: Clip) -> tuple[str, str, float | None]:
        try:
            async with LiveSession(self.url) as socket:
                for at in range(0, len(clip.pcm), 2 * RATE):
                    await socket.send(clip.pcm[at : at + 2 * RATE])
                await socket.send(json.dumps({"type": "input_audio_buffer.commit"}))
                while True:
                    event = json.loads(await socket.recv())
                    if event["type"] == f"{TRANSCRIPTION}.completed":
                        return OK, event["transcript"], None
                    if event["type"] in ("error", f"{TRANSCRIPTION}.failed"):
                        busy = event["error"]["code"] in REJECTIONS
                        return REJECTED if busy else str(event), "", None
        except websockets.ConnectionClosed as closed:
            busy = closed.rcvd is not None and closed.rcvd.code == TRY_AGAIN_LATER
            return REJECTED if busy else str(closed), "", None


class LiveSession:
    """A websocket that is set up for PCM at 16 kHz.

    Args:
        url: of the server, as HTTP has it.
        detection: ``turn_detection``; without any the client says when a turn ends.
    """

    def __init__(self, url: str, **detection: Any) -> None:
        self._url = url.replace("http", "ws") + "/v1/realtime"
        self._detection = detection or None

    async def __aenter__(self) -> Any:
        # All is sent at once: a ping waits behind the audio that a busy server is still to take.
        self._socket = await websockets.connect(
            self._url, open_timeout=60, ping_timeout=None, proxy=None
        )
        audio = {
            "format": {"type": "audio/pcm", "rate": RATE},
            "turn_detection": self._detection,
        }
        update = {"type": "session.update", "session": {"audio": {"input": audio}}}
        await self._socket.send(json.dumps(update))
        return self._socket

    async def __aexit__(self, *error: object) -> None:
        await self._socket.close()


def grpc_request(clip: Clip) -> messages.ModelInferRequest:
    tensor = InferInput("audio", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([clip.file], dtype=np.object_), binary_data=True)
    return InferRequest(NAME, [tensor]).to_grpc()


def _v2_text(body: dict[str, Any]) -> str:
    return str(next(each["data"][0] for each in body["outputs"] if each["name"] == "text"))


def _over_http(answer: httpx.Response, text: Any) -> tuple[str, str, float | None]:
    retry_after = answer.headers.get("retry-after")
    if answer.is_success:
        return OK, text(answer.json()), None
    if answer.status_code in (429, 503) and retry_after is not None:
        return REJECTED, "", float(retry_after)
    return f"status {answer.status_code}: {answer.text[:200]}", "", None


async def keep_asking(
    client: Client, clips: Sequence[Clip], seed: int, until: asyncio.Event
) -> list[Answer]:
    """One request after the other over all protocols, in an order of the seed's, until the event."""
    choice = random.Random(seed)
    answers = []
    while not until.is_set():
        answers.append(await client.ask(choice.choice(client.PROTOCOLS), choice.choice(clips)))
    return answers
