"""Items → outcomes over a fake engine: isolation, bounded windows, cancellation, order."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from predictor.engine.errors import InvalidAudio, Overloaded, SpeechError
from predictor.engine.types import Segment, Tag, TranscribeOptions, Transcript, Waveform
from predictor.server.allowlist import Allowlist
from predictor.server.batching import Batcher
from predictor.server.decoder import Decoders
from predictor.server.errors import InternalError
from predictor.server.fetch import Fetcher
from predictor.server.fork_server import ForkServer
from predictor.server.limits import ByteBudget
from predictor.server.observer import Observer
from predictor.server.protocol import AudioUrl, Item
from predictor.server.transcriber import Transcriber, expected_seconds

WINDOW = 4
"""Seconds, and clips, of one request in flight."""

Until = Callable[[Callable[[], bool]], Awaitable[None]]


@dataclass(frozen=True)
class Clip:
    text: str
    duration: float = 1.0


@dataclass
class FakeRecording:
    clips: Iterator[Clip]

    def advance(self) -> list[Clip] | None:
        clip = next(self.clips, None)
        return None if clip is None else [clip]


@dataclass
class FakeEngine:
    """Audio is text: a clip is a word, a transcript the words in upper case. Words in ``spoilt``
    fail in the network, audio that begins with '!' on opening, a word '?' on decoding."""

    spoilt: set[str] = field(default_factory=set)
    decoded: list[str] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def open(
        self, audio: bytes | Waveform, options: TranscribeOptions, decode: Any
    ) -> FakeRecording:
        assert isinstance(audio, bytes)
        if audio.startswith(b"!"):
            raise InvalidAudio("audio: not audio")
        return FakeRecording(self._clips(audio.decode().split()))

    def _clips(self, words: list[str]) -> Iterator[Clip]:
        for word in words:
            if word == "?":
                raise InvalidAudio("audio: damaged")
            self.decoded.append(word)
            yield Clip(word)

    def recognize(self, clips: Sequence[Clip]) -> list[str]:
        self.entered.set()
        self.gate.wait()
        if self.spoilt & {clip.text for clip in clips}:
            message = "secret audio"
            raise ValueError(message)
        return [clip.text.upper() for clip in clips]

    def assemble(self, recording: Any, hypotheses: Sequence[str]) -> Transcript:
        tag = Tag("en", 1.0)
        return Transcript(" ".join(hypotheses), tag, tag, tag, duration=len(hypotheses))

    def segment(self, hypothesis: str, options: TranscribeOptions) -> Segment:
        tag = Tag("en", 1.0)
        return Segment(0, 1, hypothesis, tag, tag, tag)


def no_decoders() -> Decoders:
    """Of which no process is ever started: the fake engine decodes by itself."""
    return Decoders(ForkServer(), 1.0, lambda cause: None)


def no_fetcher() -> Fetcher:
    """Which may fetch nothing."""
    return Fetcher(Allowlist(()), 100, 1, ByteBudget(100))


@dataclass
class Setup:
    engine: FakeEngine
    batcher: Batcher[Any, Any]
    transcriber: Transcriber


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    engine = FakeEngine()
    batcher: Batcher[Any, Any] = Batcher(
        engine.recognize, max_batch_clips=9, max_batch_seconds=WINDOW / 2, max_queue_seconds=5
    )
    pool = ThreadPoolExecutor(2)
    transcriber = Transcriber(engine, batcher, pool, no_decoders(), no_fetcher(), Observer())
    yield Setup(engine, batcher, transcriber)
    engine.gate.set()
    batcher.close()
    pool.shutdown()


def item(text: str) -> Item:
    return Item(text.encode(), TranscribeOptions())


async def test_outcomes_are_in_order_and_errors_stay_alone(setup: Setup) -> None:
    setup.engine.gate.set()
    setup.engine.spoilt = {"bad"}
    items: list[Item | SpeechError] = [
        item("one two"),
        item("!"),
        item("a ?"),
        InvalidAudio("given"),
        item("x bad y"),
        item("three"),
    ]
    first, opened, damaged, given, spoilt, last = await setup.transcriber.transcribe(items, "r7")
    assert isinstance(first, Transcript)
    assert isinstance(last, Transcript)
    assert (first.text, last.text) == ("ONE TWO", "THREE")
    assert [str(e) for e in (opened, damaged, given)] == [
        "audio: not audio",
        "audio: damaged",
        "given",
    ]
    assert isinstance(spoilt, InternalError)
    assert "r7" in str(spoilt)
    assert "secret" not in str(spoilt)


async def test_an_internal_error_is_logged_without_its_message(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    setup.engine.gate.set()
    setup.engine.spoilt = {"bad"}
    await setup.transcriber.transcribe([item("bad")], "r8")
    assert "request r8 failed: ValueError" in caplog.text
    assert "recognize" in caplog.text
    assert "secret" not in caplog.text


async def test_a_long_recording_is_decoded_only_a_window_ahead(setup: Setup, until: Until) -> None:
    words = [f"w{i}" for i in range(50)]
    running = asyncio.ensure_future(setup.transcriber.transcribe([item(" ".join(words))], "r"))
    await until(lambda: len(setup.engine.decoded) == WINDOW)
    await until(setup.engine.entered.is_set)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(setup.engine.decoded) == WINDOW
    setup.engine.gate.set()
    (outcome,) = await running
    assert isinstance(outcome, Transcript)
    assert outcome.text == " ".join(words).upper()
    assert outcome.times.queue > 0
    assert outcome.times.batch > 0


async def test_a_cancelled_request_stops_decoding_and_leaves_the_queue(
    setup: Setup, until: Until
) -> None:
    running = asyncio.ensure_future(
        setup.transcriber.transcribe([item("a b c d e f g"), item("h i j")], "r")
    )
    await until(lambda: len(setup.engine.decoded) >= WINDOW)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    n_decoded = len(setup.engine.decoded)
    setup.engine.gate.set()
    (outcome,) = await setup.transcriber.transcribe([item("next")], "r")
    assert isinstance(outcome, Transcript)
    assert outcome.text == "NEXT"
    assert len(setup.engine.decoded) <= n_decoded + 2
    assert setup.batcher.queue_seconds == 0
    assert setup.batcher.n_requests == 0


async def test_segments_are_told_in_order_while_the_rest_is_decoded(setup: Setup) -> None:
    words = [f"w{i}" for i in range(50)]
    told: list[tuple[str, int]] = []

    def on_segment(segment: Segment) -> None:
        told.append((segment.text, len(setup.engine.decoded)))

    setup.engine.gate.set()
    transcript = await setup.transcriber.stream(item(" ".join(words)), on_segment)
    assert [text for text, _ in told] == transcript.text.split() == [w.upper() for w in words]
    # When the first was told, only a window and what ran meanwhile had been decoded.
    assert told[0][1] < len(words)
    assert setup.batcher.n_requests == 0


async def test_segments_in_front_of_an_error_are_told(setup: Setup) -> None:
    setup.engine.gate.set()
    told: list[str] = []
    words = " ".join(f"w{i}" for i in range(20))
    with pytest.raises(InvalidAudio, match="damaged"):
        await setup.transcriber.stream(item(f"{words} ?"), lambda each: told.append(each.text))
    assert told == words.upper().split()[: len(told)]
    assert told


async def test_overload_is_told_before_anything_is_decoded(setup: Setup, until: Until) -> None:
    running = [asyncio.ensure_future(setup.transcriber.transcribe([item("first")], "r"))]
    await until(setup.engine.entered.is_set)
    for name in "abcd":
        items = [item(f"{name}{i}") for i in range(WINDOW)]
        running.append(asyncio.ensure_future(setup.transcriber.transcribe(items, "r")))
    await until(lambda: setup.batcher.queue_seconds >= 5)
    with pytest.raises(Overloaded):
        await setup.transcriber.transcribe([item("late")], "r")
    assert "late" not in setup.engine.decoded
    setup.engine.gate.set()
    await asyncio.gather(*running)


async def test_a_request_that_comes_alone_does_not_wait_for_itself(setup: Setup) -> None:
    setup.engine.gate.set()
    patient: Batcher[Any, Any] = Batcher(
        setup.engine.recognize,
        max_batch_clips=9,
        max_batch_seconds=60,
        max_queue_seconds=60,
        batch_wait_seconds=3600,
    )
    with ThreadPoolExecutor(2) as pool:
        transcriber = Transcriber(
            setup.engine, patient, pool, no_decoders(), no_fetcher(), Observer()
        )
        outcomes = await transcriber.transcribe([item("one")], "r")
        outcomes += await transcriber.transcribe([item("two three"), item("!")], "r")
    assert [o.text for o in outcomes if isinstance(o, Transcript)] == ["ONE", "TWO THREE"]
    patient.close()


@pytest.mark.parametrize(
    ("audio", "seconds"),
    [
        (Waveform(np.zeros(8000, np.float32), 16_000), 0.5),
        (b"RIFF" + bytes(63_996), 2),
        (b"fLaC" + bytes(31_996), 2),
        (b"OggS" + bytes(15_996), 2),
        (AudioUrl("https://a.example/long.wav"), 0),
    ],
)
def test_audio_is_guessed_from_its_bytes(audio: Any, seconds: float) -> None:
    assert expected_seconds(audio) == seconds
