"""Long audio → spans that fit the network.

Attention is quadratic in length (SenseVoice#7: five minutes in one piece fill a 32 GB GPU), so audio
longer than one span is cut: at silences found by voice activity detection (Silero VAD), or into
overlapping windows whose token paths are joined later. Segmenters are fed blocks and hold at most a
little more than one span, whatever the file's length.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from predictor.engine.types import SAMPLE_RATE, Samples

SPAN_SECONDS = 30.0
"""Longest piece given to the network; SenseVoice was trained on utterances up to this length."""

OVERLAP_SECONDS = 4.02
"""What neighbouring windows share: longer than any word, so that each word is whole in one of them, and
such that windows start whole 60 ms frames apart."""

SILENCE_PEAK = 1e-4
"""Peak below which a span is silence (-80 dBFS, three steps of 16-bit audio)."""

VAD_WINDOW = 512
"""Samples the detector judges at a time at 16 kHz; fixed by the model."""

THRESHOLD = 0.5
"""Probability of speech from which on the detector hears it: its authors' own."""

MIN_PAUSE_MS = 400
"""Shortest silence that ends a span: within a sentence speakers rarely pause longer."""

PAD_MS = 100
"""Kept on both sides of detected speech, for soft onsets and endings."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of one channel.

    Attributes:
        start: index of the first sample in the recording.
        samples: float32 [n_samples], 16 kHz.
        speech: False where the detector heard no voice: the piece is judged for its event only.
    """

    start: int
    samples: Samples
    speech: bool = True

    @property
    def end(self) -> int:
        return self.start + len(self.samples)

    @property
    def silent(self) -> bool:
        return not self.samples.size or float(np.abs(self.samples).max()) < SILENCE_PEAK


class Segmenter(Protocol):
    """Takes blocks float32 [n_samples] in order; gives spans as they become certain."""

    def push(self, block: Samples) -> list[Span]: ...

    def flush(self) -> list[Span]: ...


class OverlapSegmenter:
    """Windows of ``span_seconds``, each sharing ``overlap_seconds`` with the one before it."""

    def __init__(
        self, span_seconds: float = SPAN_SECONDS, overlap_seconds: float = OVERLAP_SECONDS
    ) -> None:
        self._size = round(span_seconds * SAMPLE_RATE)
        self._step = self._size - round(overlap_seconds * SAMPLE_RATE)
        self._buffer = np.zeros(0, np.float32)
        self._start = 0

    def push(self, block: Samples) -> list[Span]:
        self._buffer = np.concatenate([self._buffer, block])
        spans = []
        # Strictly longer: the last window then always holds something the one before it lacks.
        while len(self._buffer) > self._size:
            spans.append(Span(self._start, self._buffer[: self._size]))
            self._buffer = self._buffer[self._step :]
            self._start += self._step
        return spans

    def flush(self) -> list[Span]:
        return [Span(self._start, self._buffer)] if self._buffer.size else []


class VadSegmenter:
    """Spans of speech between pauses; audio that fits one span is kept whole and unjudged."""

    def __init__(self, span_seconds: float = SPAN_SECONDS) -> None:
        self._span_seconds = span_seconds
        self._head = np.zeros(0, np.float32)
        self._cutter: SpeechCutter | None = None

    def push(self, block: Samples) -> list[Span]:
        if self._cutter is None:
            size = round(self._span_seconds * SAMPLE_RATE)
            block = np.concatenate([self._head, block])
            self._head = block[:size]
            if len(block) <= size:
                return []
            self._cutter = SpeechCutter(load_detector(), self._span_seconds)
        spans = self._cutter.push(block)
        if self._cutter.heard:
            self._head = np.zeros(0, np.float32)
        return spans

    def flush(self) -> list[Span]:
        if self._cutter is None:
            return [Span(0, self._head)] if self._head.size else []
        if self._cutter.heard:
            return self._cutter.flush()
        return [Span(0, self._head, speech=False)]


class Detector(Protocol):
    """Hears when speech starts and stops; keeps a state from window to window."""

    def __call__(self, window: Samples) -> Any:
        """float32 [VAD_WINDOW] → None, {'start': i} or {'end': i}: samples since the last reset."""

    def reset_states(self) -> None: ...


class SpeechCutter:
    """Spans of speech between pauses of one stream, each as soon as its pause is certain.

    Speech without a pause for a whole span is cut at the quietest place of its last third.

    Args:
        detector: a fresh one.
        span_seconds: longest span.
        pad_ms: how far back the detector dates a start.

    Attributes:
        speech_start: index of the first sample of what is being said; None in a pause.
        heard: whether anything has been said yet.
    """

    def __init__(
        self, detector: Detector, span_seconds: float = SPAN_SECONDS, pad_ms: int = PAD_MS
    ) -> None:
        self._detector = detector
        self._size = round(span_seconds * SAMPLE_RATE)
        self._pad = pad_ms * SAMPLE_RATE // 1000 + 2 * VAD_WINDOW
        self._buffer = np.zeros(0, np.float32)
        self._offset = 0
        self._judged = 0
        self._detector_start = 0
        self._last_end = 0
        self.speech_start: int | None = None
        self.heard = False

    @property
    def end(self) -> int:
        """Index of the sample that comes next."""
        return self._offset + len(self._buffer)

    def push(self, block: Samples) -> list[Span]:
        self._buffer = np.concatenate([self._buffer, block])
        spans = []
        with one_torch_thread():
            while self.end - self._judged >= VAD_WINDOW:
                spans += self._judge_window()
        self._forget()
        return spans

    def flush(self) -> list[Span]:
        """What is being said, up to here."""
        if self.speech_start is None:
            return []
        end = self.end
        return [*self._forced_cuts(end - 1), self._cut(end)]

    def reset(self, start: int | None = None) -> None:
        """Forget what was heard; the next sample is where a new stream begins.

        Args:
            start: its index; goes on counting unless given.
        """
        self._offset = self._judged = self._detector_start = self._last_end = (
            self.end if start is None else start
        )
        self._buffer = np.zeros(0, np.float32)
        self.speech_start = None
        self._detector.reset_states()

    def running(self) -> Samples | None:
        """What is being said, as far as it is known; None in a pause."""
        if self.speech_start is None:
            return None
        return self._buffer[self.speech_start - self._offset :].copy()

    def _judge_window(self) -> list[Span]:
        at = self._judged - self._offset
        event = self._detector(self._buffer[at : at + VAD_WINDOW])
        self._judged += VAD_WINDOW
        if event and "start" in event:
            start = int(event["start"]) + self._detector_start
            self.speech_start = max(start, self._last_end)
            self.heard = True
        elif event and self.speech_start is not None:
            end = min(int(event["end"]) + self._detector_start, self._judged)
            if end > self.speech_start:
                return [self._cut(end)]
            # A forced cut fell into the pause, which the detector dates to before the cut.
            self.speech_start = None
        return self._forced_cuts(self._judged)

    def _forced_cuts(self, end: int) -> list[Span]:
        """Cut running speech that would fill a span by ``end``."""
        spans = []
        while self.speech_start is not None and end - self.speech_start >= self._size:
            latest = self.speech_start + self._size
            spans.append(self._cut(self._quietest(latest - self._size // 3, latest)))
            self.speech_start = spans[-1].end
        return spans

    def _cut(self, end: int) -> Span:
        start = self.speech_start or 0
        self.speech_start = None
        self._last_end = end
        return Span(start, self._buffer[start - self._offset : end - self._offset].copy())

    def _quietest(self, start: int, end: int) -> int:
        """Middle of the window with the least energy between two sample indices."""
        region = self._buffer[start - self._offset : end - self._offset]
        whole = len(region) // VAD_WINDOW
        energy = np.square(region[: whole * VAD_WINDOW]).reshape(whole, VAD_WINDOW).sum(axis=1)
        return start + int(energy.argmin()) * VAD_WINDOW + VAD_WINDOW // 2

    def _forget(self) -> None:
        """Drop samples that no later span can hold; a start is reported up to one pad back."""
        keep = self._judged - self._pad if self.speech_start is None else self.speech_start
        keep = max(keep, self._offset)
        self._buffer = self._buffer[keep - self._offset :]
        self._offset = keep


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Run this thread's torch operations on one core.

    The detector's operations are so small that waking further threads costs more than it saves, and
    on a busy machine a hundred times more.
    """
    import torch  # Two seconds, that only audio longer than a span needs.

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def load_detector(
    threshold: float = THRESHOLD, pause_ms: int = MIN_PAUSE_MS, pad_ms: int = PAD_MS
) -> Detector:
    """A fresh Silero VAD stream.

    Args:
        threshold: probability of speech from which on it is heard.
        pause_ms: shortest silence that ends it.
        pad_ms: kept on both sides of it.

    The model carries state, so every stream has its own (2 MB, loaded in tens of milliseconds).
    """
    # Importing silero_vad sets the number of torch threads, too.
    with one_torch_thread():
        from silero_vad import VADIterator, load_silero_vad

        model = load_silero_vad()
    detector: Detector = VADIterator(
        model,
        threshold=threshold,
        sampling_rate=SAMPLE_RATE,
        min_silence_duration_ms=pause_ms,
        speech_pad_ms=pad_ms,
    )
    return detector
