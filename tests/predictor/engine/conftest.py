"""What the engine's tests share: audio in every encoding, the shipped clips, and loaded engines."""

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from hypothesis import settings

from predictor.engine import audio, segment
from predictor.engine.tokenizer import Tokenizer
from predictor.engine.transcribe import Engine
from predictor.engine.types import SAMPLE_RATE, Samples

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1", 8: "7.1"}

ENCODERS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "mp3": ("mp3", "libmp3lame"),
    "opus": ("ogg", "libopus"),
    "m4a": ("ipod", "aac"),
    "webm": ("webm", "libopus"),
    "aiff": ("aiff", "pcm_s16be"),
    "au": ("au", "pcm_s16be"),
}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks gain nothing from more threads, and the machine may be busy."""
    with segment.one_torch_thread():
        yield


def _encode(samples: Samples, rate: int = SAMPLE_RATE, kind: str = "wav") -> bytes:
    """float32 [n_samples] or [n_channels, n_samples] in [-1, 1] → a whole file of ``kind``."""
    samples = np.atleast_2d(samples).astype(np.float32)
    file = io.BytesIO()
    if kind == "ogg":
        soundfile.write(file, samples.T, rate, format="OGG", subtype="VORBIS")
        return file.getvalue()
    if kind == "wav-float":
        soundfile.write(file, samples.T, rate, format="WAV", subtype="FLOAT")
        return file.getvalue()
    container, codec = ENCODERS[kind]
    with av.open(file, mode="w", format=container) as output:
        layout = LAYOUTS[len(samples)]
        stream = output.add_stream(codec, rate=rate, layout=layout)
        stream.codec_context.open()
        resampler = AudioResampler(
            format=stream.codec_context.format,
            layout=layout,
            rate=rate,
            frame_size=stream.codec_context.frame_size or None,
        )
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples), "fltp", layout)
        frame.sample_rate = rate
        for source in (frame, None):
            for resampled in resampler.resample(source):
                output.mux(stream.encode(resampled))
        output.mux(stream.encode(None))
    return file.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """``encode(samples, rate, kind)`` → a whole file."""
    return _encode


def _tone(hertz: float, seconds: float, rate: int = SAMPLE_RATE) -> Samples:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(
        np.float32
    )


@pytest.fixture(scope="session")
def tone() -> Callable[..., Samples]:
    """``tone(hertz, seconds, rate)`` → a sine of half the full scale."""
    return _tone


@dataclass(frozen=True)
class ShippedClip:
    """One clip of the evaluation set that ships with the embedded model."""

    path: Path
    text: str
    language: str
    event: str

    @property
    def samples(self) -> Samples:
        blocks = list(audio.decode(self.path.read_bytes(), max_seconds=60.0))
        return np.concatenate(blocks, axis=1)[0]


@pytest.fixture(scope="session")
def shipped(demo_model_dir: Path) -> list[ShippedClip]:
    """The evaluation set."""
    manifest = demo_model_dir / "evaluation" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    return [
        ShippedClip(manifest.parent / row["audio"], row["text"], row["language"], row["event"])
        for row in rows
    ]


@pytest.fixture(scope="session")
def spoken(shipped: list[ShippedClip]) -> dict[str, list[ShippedClip]]:
    """Clips with speech, by language."""
    languages: dict[str, list[ShippedClip]] = {}
    for clip in shipped:
        if clip.text:
            languages.setdefault(clip.language, []).append(clip)
    return languages


@pytest.fixture(scope="session")
def demo_tokenizer(demo_model_dir: Path) -> Tokenizer:
    return Tokenizer(next(demo_model_dir.glob("*.bpe.model")))


@pytest.fixture(scope="session")
def demo_engine(demo_model_dir: Path) -> Engine:
    """The embedded model: its texts and tags mean something."""
    with segment.one_torch_thread():
        return Engine(demo_model_dir)


@pytest.fixture(scope="session")
def random_engine(random_model_dir: Path) -> Engine:
    """Random weights: quick, for whatever does not depend on what was learnt."""
    with segment.one_torch_thread():
        return Engine(random_model_dir)


class LoudnessDetector:
    """Stands in for the voice activity detector: speech is whatever is louder than a threshold."""

    def __init__(self, threshold: float = 0.05) -> None:
        self._threshold = threshold
        self.reset_states()

    def reset_states(self) -> None:
        self._at = 0
        self._quiet_since: int | None = None
        self._speaking = False

    def __call__(self, window: Samples) -> dict[str, int] | None:
        begin, self._at = self._at, self._at + len(window)
        pad = segment.PAD_MS * SAMPLE_RATE // 1000
        if float(np.abs(window).max()) >= self._threshold:
            self._quiet_since = None
            if not self._speaking:
                self._speaking = True
                return {"start": max(0, begin - pad)}
            return None
        if not self._speaking:
            return None
        if self._quiet_since is None:
            self._quiet_since = begin
        if self._at - self._quiet_since < segment.MIN_PAUSE_MS * SAMPLE_RATE // 1000:
            return None
        self._speaking = False
        return {"end": self._quiet_since + pad}


@pytest.fixture
def loudness_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    """Voice activity by loudness, so that a test knows where speech is to the sample."""
    monkeypatch.setattr(segment, "load_detector", LoudnessDetector)
