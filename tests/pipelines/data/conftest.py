"""What tests of data sets share: tiny audio files of any format, and an adapter run from end to end."""

import math
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.data.adapter import InvalidDataset
from pipelines.data.convert import convert
from pipelines.data.manifest import Utterance, read_manifest
from pipelines.data.registry import find
from predictor.engine.audio import decode

CODECS = {
    ".wav": "pcm_s16le",
    ".flac": "flac",
    ".mp3": "libmp3lame",
    ".mp4": "aac",
    ".opus": "libopus",
}


def make_audio(path: Path, seconds: float = 0.2, rate: int = 16_000) -> None:
    """A tone that rises in loudness, so that a part of it tells where it was cut from."""
    n = round(seconds * rate)
    samples = 0.8 * np.arange(n) / n * np.sin(2 * math.pi * 440 * np.arange(n) / rate)
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix
    with av.open(str(path), "w", format="ogg" if suffix == ".opus" else None) as container:
        stream = container.add_stream(
            CODECS[suffix], rate=48_000 if suffix == ".opus" else rate, layout="mono"
        )
        pcm = (samples * 32767).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = rate
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read_samples(path: str) -> np.ndarray:
    return np.concatenate(list(decode(Path(path).read_bytes(), 3600.0)), axis=1)[0]


@pytest.fixture
def audio() -> Callable[..., None]:
    """Writes a tiny audio file, in the format that its suffix names."""
    return make_audio


@pytest.fixture
def text() -> Callable[[Path, str], None]:
    """Writes a UTF-8 file and its folders."""

    def write(path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    return write


@pytest.fixture
def samples() -> Callable[[str], np.ndarray]:
    """Decodes a file as the engine does: float32 [n_samples], 16 kHz."""
    return read_samples


@pytest.fixture
def adapt(tmp_path: Path) -> Callable[..., dict[str, Utterance]]:
    """Converts a set and reads its manifest back: id → utterance, all audio absolute and decodable."""

    def run(name: str, root: Path, limit: int = 0) -> dict[str, Utterance]:
        manifest = tmp_path / "out" / "manifest.jsonl"
        convert(find(name), root, manifest, limit)
        utterances = read_manifest(manifest)
        for one in utterances:
            assert Path(one.audio).is_absolute()
            assert len(read_samples(one.audio))
        return {one.id: one for one in utterances}

    return run


@pytest.fixture
def complaint(tmp_path: Path) -> Callable[[str, Path], str]:
    """The error of a set whose root is not as it should be; it names the set and the root, and leaves no
    manifest."""

    def run(name: str, root: Path) -> str:
        manifest = tmp_path / "out" / "manifest.jsonl"
        with pytest.raises(InvalidDataset) as raised:
            convert(find(name), root, manifest)
        message = str(raised.value)
        assert message.startswith(f"{find(name).title}: ")
        assert f"Expected in {root}: {find(name).layout}" in message
        assert not manifest.exists()
        return message

    return run
