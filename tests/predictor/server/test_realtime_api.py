"""Live audio over real websockets to the real server."""

import asyncio
import base64
import json
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import openai
import pytest
import websockets
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from predictor.engine.audio import decode
from predictor.engine.types import SAMPLE_RATE

NAME = "sensevoice"
COMPLETED = "conversation.item.input_audio_transcription.completed"
DELTA = "conversation.item.input_audio_transcription.delta"
SECOND = np.zeros(SAMPLE_RATE, np.float32)


class Client:
    """A client that remembers what it was told."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def update(self, **audio_input: Any) -> dict[str, Any]:
        await self.send("session.update", session={"audio": {"input": audio_input}})
        return await self.until("session.updated", "error")

    async def until(self, *kinds: str) -> dict[str, Any]:
        while True:
            event = json.loads(await asyncio.wait_for(self.socket.recv(), 60))
            self.events.append(event)
            if event["type"] in kinds:
                return event

    async def closed(self) -> int:
        """The code with which the server closes."""
        while True:
            try:
                self.events.append(json.loads(await asyncio.wait_for(self.socket.recv(), 60)))
            except websockets.ConnectionClosed:
                return int(self.socket.close_code)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] in kinds]


def pcm(samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    """Float32 at 16 kHz → 16-bit PCM at a rate."""
    frame = AudioFrame.from_ndarray(samples[None, :].astype(np.float32), "fltp", "mono")
    frame.sample_rate = SAMPLE_RATE
    resampler = AudioResampler(format="s16", layout="mono", rate=rate)
    pieces = [out.to_ndarray()[0] for each in (frame, None) for out in resampler.resample(each)]
    return np.concatenate(pieces).astype("<i2").tobytes()


def opus(samples: np.ndarray) -> list[bytes]:
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = 48_000, "mono", "s16"
    encoder.open()
    data = np.frombuffer(pcm(samples, 48_000), "<i2")
    packets: list[bytes] = []
    for at in range(0, len(data) - encoder.frame_size, encoder.frame_size):
        frame = AudioFrame.from_ndarray(data[None, at : at + encoder.frame_size], "s16", "mono")
        frame.sample_rate, frame.pts = 48_000, at
        packets += map(bytes, encoder.encode(frame))
    return packets


@pytest.fixture(scope="module")
def clip(demo_model_dir: Path) -> Callable[[str], np.ndarray]:
    def read(name: str) -> np.ndarray:
        data = (demo_model_dir / "evaluation" / f"{name}.opus").read_bytes()
        return np.concatenate([block[0] for block in decode(data, 60)])

    return read


@pytest.fixture
async def client(demo_served: Any) -> AsyncIterator[Client]:
    url = demo_served.http.replace("http", "ws") + "/v1/realtime?intent=transcription"
    async with websockets.connect(url) as socket:
        one = Client(socket)
        await one.until("session.created")
        yield one


# Speech


async def test_two_utterances_are_two_finals(client, clip):
    """Binary frames of a tenth of a second, as a microphone gives them, but sooner."""
    await client.update(format={"type": "audio/pcm", "rate": SAMPLE_RATE})
    said = [SECOND, clip("en-001"), SECOND, clip("zh-001"), SECOND]
    data = pcm(np.concatenate(said))
    for at in range(0, len(data), 3200):
        await client.socket.send(data[at : at + 3200])
    first, second = [await client.until(COMPLETED), await client.until(COMPLETED)]
    assert (first["transcript"], first["language"]) == ("I want 8 blue phones.", "en")
    assert (second["language"], second["languages"]) == ("zh", [{"code": "zh"}])
    assert first["emotion"]["label"] == second["emotion"]["label"] == "NEUTRAL"
    assert 0 < second["event"]["confidence"] <= 1
    assert [word["word"] for word in first["words"]] == first["transcript"].split()
    for each, start, length in ((first, 1.0, 1.7), (second, 1 + 1.7 + 1, 2.0)):
        assert each["start"] == pytest.approx(start, abs=0.5)
        assert each["end"] - each["start"] == pytest.approx(length, abs=0.8)
        times = [time for word in each["words"] for time in (word["start"], word["end"])]
        assert times == sorted(times)
        assert each["start"] <= times[0] < times[-1] <= each["end"] + 0.1
        assert each["usage"] == {
            "type": "duration",
            "seconds": pytest.approx(each["end"] - each["start"], abs=0.001),
        }
    heard = client.of("input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped")
    committed = client.of("input_audio_buffer.committed")
    assert [each["item_id"] for each in heard] == [
        item for each in (first, second) for item in [each["item_id"]] * 2
    ]
    assert [each["previous_item_id"] for each in committed] == [None, first["item_id"]]
    assert heard[0]["audio_start_ms"] == pytest.approx(1000 * first["start"], abs=1)


async def test_partials_come_before_the_final(client, clip):
    """Each partial is of what was said so far; deltas add up to the beginning of the final."""
    await client.update(format={"type": "audio/pcm", "rate": SAMPLE_RATE})
    data = pcm(np.concatenate([SECOND, clip("zh-001"), clip("zh-002")]))
    for at in range(0, len(data), 9600):
        await client.socket.send(data[at : at + 9600])
        # The next goes when this one has been heard, so that nothing waits and partials are made.
        await client.send("none")
        await client.until("error")
    await client.send("input_audio_buffer.commit")
    final = await client.until(COMPLETED)
    deltas = [event for event in client.of(DELTA) if event["item_id"] == final["item_id"]]
    partials = [event["partial"] for event in deltas if "partial" in event]
    assert len(partials) >= 2
    assert partials[0] != final["transcript"]
    settled = "".join(event["delta"] for event in deltas)
    assert settled
    assert all({"language", "emotion", "event"} <= set(e) for e in deltas if "partial" in e)
    if final["transcript"].startswith(settled):
        assert settled == final["transcript"]


@pytest.mark.parametrize("rate", [8000, 24_000, 48_000])
async def test_rates_and_base64(client, clip, rate):
    await client.update(format={"type": "audio/pcm", "rate": rate}, turn_detection=None)
    audio = base64.b64encode(pcm(clip("en-001"), rate)).decode()
    await client.send("input_audio_buffer.append", audio=audio)
    await client.send("input_audio_buffer.commit")
    final = await client.until(COMPLETED)
    # Half the band is lost at 8 kHz, and some words with it.
    assert final["transcript"].startswith("I want" if rate > 8000 else "I")
    assert not client.of("input_audio_buffer.speech_started", "error")


async def test_opus_packets(client, clip):
    await client.update(format={"type": "audio/opus"}, transcription={"language": "en"})
    for packet in opus(np.concatenate([SECOND, clip("en-001"), SECOND])):
        await client.socket.send(packet)
    assert (await client.until(COMPLETED))["transcript"] == "I want 8 blue phones."


async def test_clear_forgets(client, clip):
    await client.update(
        format={"type": "audio/pcm", "rate": SAMPLE_RATE},
        turn_detection=None,
        transcription={"use_itn": False},
    )
    await client.socket.send(pcm(clip("zh-001")))
    await client.send("input_audio_buffer.clear")
    await client.until("input_audio_buffer.cleared")
    await client.socket.send(pcm(clip("en-001")))
    await client.send("input_audio_buffer.commit")
    final = await client.until(COMPLETED)
    assert final["transcript"] == final["transcript"].lower()
    assert final["language"] == "en"
    assert len(client.of(COMPLETED)) == 1


async def test_with_openais_client(demo_served, clip):
    async with (
        openai.AsyncOpenAI(base_url=f"{demo_served.http}/v1", api_key="none") as sdk,
        sdk.realtime.connect(extra_query={"intent": "transcription"}) as live,
    ):
        assert (await live.recv()).type == "session.created"
        session = {
            "type": "transcription",
            "audio": {"input": {"transcription": {"model": NAME, "language": "en"}}},
            "include": ["item.input_audio_transcription.logprobs"],
        }
        await live.session.update(session=session)
        audio = pcm(np.concatenate([SECOND, clip("en-001"), SECOND]), 24_000)
        for at in range(0, len(audio), 9600):
            piece = base64.b64encode(audio[at : at + 9600]).decode()
            await live.input_audio_buffer.append(audio=piece)
        async for event in live:
            if event.type == COMPLETED:
                break
    assert event.transcript == "I want 8 blue phones."
    assert event.usage.type == "duration"
    assert [each.token for each in event.logprobs] == event.transcript.split()


# Errors


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("{", "event: not valid JSON"),
        ("[]", "event: must be a JSON object"),
        ('{"type": "x"}', "type: 'x' is not known; known: session.update"),
        ('{"type": "input_audio_buffer.append"}', "audio: missing"),
        ('{"type": "input_audio_buffer.append", "audio": "?"}', "audio: not valid base64"),
        ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "3 bytes are no whole number"),
        ('{"type": "input_audio_buffer.commit"}', "input_audio_buffer: nothing to commit"),
        ('{"type": "session.update"}', "session: must be a JSON object"),
        ('{"type": "session.update", "session": {"voice": 1}}', "session.voice: unknown field"),
        (
            '{"type": "session.update", "session": {"audio": {"input": {"transcription": '
            '{"model": "gpt-9"}}}}}',
            "Model with name gpt-9 does not exist",
        ),
        (
            '{"type": "transcription_session.update", "session": {"input_audio_format": "mp3"}}',
            "input_audio_format: 'mp3' is not known",
        ),
        (
            '{"type": "transcription_session.update", "session": {"input_audio_format": []}}',
            "input_audio_format: [] is not known",
        ),
        (
            '{"type": "session.update", "session": {"include": [' + "1," * 40_000 + "1]}}",
            "the limit of one without audio is 65536",
        ),
        (b"\x00", "1 bytes are no whole number of 16-bit samples"),
    ],
)
async def test_errors_leave_the_session_open(client, message, words):
    await client.socket.send(message)
    error = (await client.until("error"))["error"]
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"
    assert (await client.update(transcription={"language": "ja"}))["type"] == "session.updated"


async def test_errors_name_the_clients_event(client):
    await client.send("nonsense", event_id="mine")
    assert (await client.until("error"))["error"]["event_id"] == "mine"


@pytest.mark.parametrize(
    ("query", "code"), [("model=gpt-9", "model_not_found"), ("intent=chat", "invalid_option")]
)
async def test_other_sessions_are_refused(demo_served, query, code):
    url = demo_served.http.replace("http", "ws") + f"/openai/v1/realtime?{query}"
    async with websockets.connect(url) as socket:
        refused = Client(socket)
        assert await refused.closed() == 1008
    assert refused.events[-1]["error"]["code"] == code


async def test_too_long_a_message_closes(client):
    await client.socket.send(bytes(5_000_000))
    assert await client.closed() == 1009


async def test_browsers_may_offer_subprotocols(demo_served):
    url = demo_served.http.replace("http", "ws") + "/v1/realtime"
    offered = ["realtime", "openai-insecure-api-key.none"]
    async with websockets.connect(url, subprotocols=offered) as socket:
        assert socket.subprotocol == "realtime"


# The server's own ends


async def test_limits_and_shutdown(demo_model_dir, start_server, tmp_path, clip, samples):
    """One server of its own: connections are bounded, idle ones are closed, those that leave free
    their place, and what was said when the server stops is answered before it closes."""
    flags = ("--max_realtime_connections=1", "--realtime_idle_seconds=3")
    for server in start_server(demo_model_dir, tmp_path / "log", *flags):
        url = server.http.replace("http", "ws") + "/v1/realtime"
        speech = pcm(np.concatenate([SECOND, clip("en-001")]))
        setting = {"format": {"type": "audio/pcm", "rate": SAMPLE_RATE}}

        async with websockets.connect(url) as socket:
            first = Client(socket)
            await first.update(**setting)
            async with websockets.connect(url) as other:
                refused = Client(other)
                assert await refused.closed() == 1013
            error = refused.events[-1]["error"]
            assert error["message"].startswith("1 live connections are open, the limit is 1")
            assert (error["type"], error["code"]) == ("rate_limit_error", "overloaded")
            await socket.send(speech)
            await first.until("input_audio_buffer.speech_started")
            assert await first.closed() == 1000
        # An idle client's last words are answered, too.
        assert first.of(COMPLETED)[0]["transcript"] == "I want 8 blue phones."
        assert "no message for 3 seconds" in first.of("error")[0]["error"]["message"]

        async with websockets.connect(url) as socket:
            await Client(socket).update(**setting)
            await socket.send(speech)
        async with httpx.AsyncClient() as http:
            while (
                samples((await http.get(f"{server.http}/metrics")).text)[
                    "sensevoice_requests_running"
                ]
                > 0
            ):
                pass
            metrics = samples((await http.get(f"{server.http}/metrics")).text)
        assert metrics["sensevoice_requests_total outcome=ok protocol=realtime reason="] == 1
        refusals = "sensevoice_requests_total outcome=rejected protocol=realtime reason=overloaded"
        assert metrics[refusals] == 1

        async with websockets.connect(url) as socket:
            last = Client(socket)
            await last.update(**setting)
            await socket.send(speech)
            await last.until("input_audio_buffer.speech_started")
            server.process.send_signal(signal.SIGTERM)
            assert await last.closed() == 1001
        assert last.of(COMPLETED)[0]["transcript"] == "I want 8 blue phones."
