"""A server on tiny random weights, and clips with known answers."""

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import soundfile
from prometheus_client.parser import text_string_to_metric_families

from predictor.engine.transcribe import Engine
from predictor.engine.types import StageTimes
from predictor.server.sdk import services

RATE = 16_000


def tone(seed: int, seconds: float) -> np.ndarray:
    """Float32 [n_samples] of sound that no other seed gives."""
    generator = np.random.default_rng(seed)
    time = np.arange(int(seconds * RATE)) / RATE
    pitch, wobble = generator.uniform(100, 1000), generator.uniform(2, 9)
    sound = 0.3 * np.sin(2 * np.pi * pitch * time + 3 * np.sin(2 * np.pi * wobble * time))
    return (sound + generator.normal(0, 0.05, len(time))).astype(np.float32)


def encode(samples: np.ndarray, container: str = "FLAC", subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, subtype, format=container)
    return file.getvalue()


class Seen:
    """An observer that remembers what became of requests, as (protocol, reason)."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []

    def on_transcribed(self, times: StageTimes, audio_seconds: float) -> None:
        pass

    def on_request(self, protocol: str, reason: str, seconds: float) -> None:
        assert seconds >= 0
        self.requests.append((protocol, reason))


@pytest.fixture(scope="session")
def samples() -> Callable[[str], dict[str, float]]:
    """The function that reads a scrape: our sample names, with labels in alphabetical order → values."""

    def read(text: str) -> dict[str, float]:
        return {
            " ".join((sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items())))): (
                sample.value
            )
            for family in text_string_to_metric_families(text)
            if family.name.startswith("sensevoice_")
            for sample in family.samples
        }

    return read


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture(scope="session")
def served(
    random_model_dir: Path, start_server: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """A server on tiny random weights: every clip has an answer of its own, quickly."""
    log = tmp_path_factory.mktemp("server") / "log"
    flags = ("--max_audio_bytes=30000000", "--max_audio_seconds=1200", "--max_request_items=40")
    yield from start_server(random_model_dir, log, *flags)


@pytest.fixture(scope="session")
def clips() -> list[bytes]:
    """FLAC files of 0.4 to 6.6 seconds."""
    return [encode(tone(seed, 0.4 + 0.2 * seed)) for seed in range(32)]


@pytest.fixture(scope="session")
def expected(random_model_dir: Path, clips: list[bytes]) -> list[str]:
    """Text of each clip, as the engine gives it by itself."""
    engine = Engine(random_model_dir)
    texts = [engine.transcribe(clip).text for clip in clips]
    assert len(set(texts)) > 20, "the clips cannot be told apart by their texts"
    return texts


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """The function that lets everything else run until a condition holds."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110  # conditions are of threads, not of the loop
            await asyncio.sleep(0)

    return wait


@pytest.fixture(scope="session")
def tone_file() -> bytes:
    """Ten minutes as one file."""
    return encode(np.concatenate([tone(seed, 30) for seed in range(20)]))


@pytest.fixture(scope="session")
def wide_file() -> bytes:
    """Three minutes in more bytes than sockets buffer."""
    return encode(tone(0, 180), "WAV", "FLOAT")


@pytest.fixture
async def rest(served: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=served.http, timeout=120) as client:
        yield client


@pytest.fixture
async def stub(served: Any) -> AsyncIterator[Any]:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(served.grpc, options=options) as channel:
        yield services.GRPCInferenceServiceStub(channel)
