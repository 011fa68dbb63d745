"""Live audio → what was said between pauses, as soon as each pause is certain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from predictor.engine.segment import Span, SpeechCutter, load_detector
from predictor.engine.types import SAMPLE_RATE, Samples


@dataclass(frozen=True, slots=True)
class TurnDetection:
    """When somebody is heard to speak, and to have stopped.

    Attributes:
        threshold: probability of speech from which on it is heard, in [0, 1].
        prefix_padding_ms: kept on both sides of it.
        silence_duration_ms: pause that ends a turn.
    """

    threshold: float
    prefix_padding_ms: int
    silence_duration_ms: int


@dataclass(frozen=True, slots=True)
class Started:
    """Somebody began to speak.

    Attributes:
        at: seconds since the stream began.
    """

    at: float


@dataclass(frozen=True, slots=True)
class Turn:
    """What was said from one pause to the next, or up to where a span is full.

    Attributes:
        start: seconds since the stream began.
        samples: float32 [n_samples], 16 kHz, a span at most.
    """

    start: float
    samples: Samples

    @property
    def duration(self) -> float:
        return len(self.samples) / SAMPLE_RATE

    @property
    def end(self) -> float:
        return self.start + self.duration


class Decoder(Protocol):
    """What a listener needs of ``predictor.engine.packets.PacketDecoder``."""

    @property
    def bytes_per_second(self) -> int | None: ...

    def decode(self, data: bytes) -> Samples: ...


class Listener:
    """Follows one live stream; holds a span of audio at most. For one thread at a time.

    Args:
        decoder: of the stream's packets.
        detection: how turns are told apart; None: all is speech, and the caller says when a turn ends.
        start: seconds since the stream began.
    """

    def __init__(
        self, decoder: Decoder, detection: TurnDetection | None, start: float = 0.0
    ) -> None:
        self._decoder = decoder
        if detection is None:
            self._cutter = SpeechCutter(_Everything())
        else:
            padding_ms = detection.prefix_padding_ms
            detector = load_detector(detection.threshold, detection.silence_duration_ms, padding_ms)
            self._cutter = SpeechCutter(detector, pad_ms=padding_ms)
        self._cutter.reset(round(start * SAMPLE_RATE))
        self._announced = False

    @property
    def now(self) -> float:
        """Seconds since the stream began."""
        return self._cutter.end / SAMPLE_RATE

    @property
    def speaking_seconds(self) -> float:
        """Length of what is being said; 0 in a pause."""
        start = self._cutter.speech_start
        return 0.0 if start is None else (self._cutter.end - start) / SAMPLE_RATE

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """A message cut into seconds, so that none keeps a thread for long."""
        size = self._decoder.bytes_per_second or len(data) or 1
        return (data[at : at + size] for at in range(0, max(1, len(data)), size))

    def hear(self, data: bytes) -> list[Started | Turn]:
        """What became certain with this audio, in order: each turn follows its start.

        Raises:
            InvalidAudio: the data is not of the stream's encoding.
        """
        turns = self._turns(self._cutter.push(self._decoder.decode(data)))
        if self._cutter.speech_start is not None and not self._announced:
            turns.append(Started(self._cutter.speech_start / SAMPLE_RATE))
            self._announced = True
        return turns

    def running(self) -> Turn | None:
        """What is being said, as far as it is known; None in a pause."""
        samples, start = self._cutter.running(), self._cutter.speech_start
        if samples is None or start is None:
            return None
        return Turn(start / SAMPLE_RATE, samples)

    def commit(self) -> list[Started | Turn]:
        """The turn ends here. Empty where nobody is speaking."""
        turns = self._turns(self._cutter.flush())
        self.clear()
        return turns

    def clear(self) -> None:
        """Forget what is being said."""
        self._cutter.reset()
        self._announced = False

    def _turns(self, spans: list[Span]) -> list[Started | Turn]:
        out: list[Started | Turn] = []
        for span in spans:
            start = span.start / SAMPLE_RATE
            if not self._announced:
                out.append(Started(start))
            out.append(Turn(start, span.samples))
            self._announced = False
        return out


class _Everything:
    """A detector to which all is speech."""

    def __init__(self) -> None:
        self._started = False

    def __call__(self, window: Samples) -> dict[str, int] | None:
        if self._started:
            return None
        self._started = True
        return {"start": 0}

    def reset_states(self) -> None:
        self._started = False
