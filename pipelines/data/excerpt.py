"""Parts of long recordings → clips of their own.

A set may name seconds of an hour-long file. While it is being adapted, such a part is written as the path
with a temporal media fragment, ``/set/long.opus#t=12.5,15.75`` (W3C Media Fragments 1.0, section 4.2.1);
manifests name the clips that :func:`cut` makes of them.
"""

import math
import re
import wave
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.data.adapter import InvalidDataset
from predictor.engine.audio import decode
from predictor.engine.errors import SpeechError
from predictor.engine.types import SAMPLE_RATE, Samples

_FRAGMENT = re.compile(r"(.+)#t=([0-9.]+),([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Part of an audio file.

    Attributes:
        source: the file.
        begin, end: seconds from its start, begin < end.
    """

    source: Path
    begin: float
    end: float

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise InvalidDataset(
                f"{self.source}: {self.begin:g} to {self.end:g} s is no span of time"
            )

    def __str__(self) -> str:
        return f"{self.source}#t={self.begin:.6f},{self.end:.6f}"

    @classmethod
    def parse(cls, audio: str) -> "Excerpt | None":
        """None where the audio is a whole file."""
        found = _FRAGMENT.fullmatch(audio)
        return found and cls(Path(found[1]), float(found[2]), float(found[3]))


def cut(clips: Mapping[Path, Excerpt]) -> None:
    """Write every clip, as 16 kHz mono 16-bit WAV; each source is decoded once, a second at a time.

    Args:
        clips: file to write → what it shall hold. An excerpt that runs past its source's end is cut there.

    Raises:
        InvalidDataset: a source cannot be decoded, or ends before an excerpt begins.
        OSError: a source cannot be read or a clip written.
    """
    sources: dict[Path, dict[Path, Excerpt]] = defaultdict(dict)
    for file, excerpt in clips.items():
        sources[excerpt.source][file] = excerpt
    for source, mine in sources.items():
        try:
            _cut_source(decode(source.read_bytes(), math.inf), mine)
        except SpeechError as error:
            raise InvalidDataset(f"{source}: {error}") from error


def _cut_source(blocks: Iterable[Samples], clips: Mapping[Path, Excerpt]) -> None:
    waiting = sorted(clips, key=lambda file: clips[file].begin, reverse=True)
    open_clips: dict[Path, list[Samples]] = {}
    position = 0
    for block in blocks:
        end = position + block.shape[1]
        while waiting and _sample(clips[waiting[-1]].begin) < end:
            open_clips[waiting.pop()] = []
        for file, pieces in list(open_clips.items()):
            first = max(_sample(clips[file].begin) - position, 0)
            last = _sample(clips[file].end) - position
            pieces.append(block[0, first:last])
            if last <= block.shape[1]:
                _write(file, open_clips.pop(file))
        position = end
    for file, pieces in open_clips.items():
        _write(file, pieces)
    if waiting:
        late = clips[waiting[-1]]
        raise InvalidDataset(
            f"{late.source}: {position / SAMPLE_RATE:.2f} s long, an utterance begins at {late.begin:g} s"
        )


def _sample(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)


def _write(path: Path, pieces: list[Samples]) -> None:
    scaled = np.concatenate(pieces) * 32768
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(scaled.round().clip(-32768, 32767).astype("<i2").tobytes())
