"""One audio as a stream of clips for the network: decoded and cut as they are asked for."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from predictor.engine.segment import OverlapSegmenter, Segmenter, Span, VadSegmenter
from predictor.engine.types import SAMPLE_RATE, Samples, StageTimes, TranscribeOptions

BLOCK_SAMPLES = SAMPLE_RATE
"""Decoded audio is handed to the segmenter a second at a time: codecs give 20 ms pieces."""

STEP_SECONDS = 20.0
"""Most audio decoded in one step: some tenths of a second of work."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One piece of audio for the network.

    Attributes:
        span: where it lies and its samples, float32 [n_samples], 16 kHz.
        options: what its caller wants.
        channel: index of the channel; None when channels are mixed.
    """

    span: Span
    options: TranscribeOptions
    channel: int | None = None

    @property
    def duration(self) -> float:
        return len(self.span.samples) / SAMPLE_RATE


class Recording(Iterable[Clip]):
    """The clips of one audio, decoded and cut as they are asked for: once, by iterating or a step at a
    time.

    Args:
        blocks: float32 [n_channels, n_samples], 16 kHz. One without samples ends the step: there is
            nothing more for now.
        options: what the caller wants.

    Attributes:
        options: what the caller wants.
        duration: seconds decoded so far; the audio's length once exhausted.
        times: seconds spent decoding and segmenting so far.
    """

    def __init__(self, blocks: Iterator[Samples], options: TranscribeOptions) -> None:
        self.options = options
        self._n_samples = 0
        self._decode_seconds = 0.0
        self._segment_seconds = 0.0
        self._blocks = blocks
        self._steps = self._cut()

    @property
    def duration(self) -> float:
        return self._n_samples / SAMPLE_RATE

    @property
    def times(self) -> StageTimes:
        return StageTimes(decode=self._decode_seconds, segment=self._segment_seconds)

    def __iter__(self) -> Iterator[Clip]:
        while (clips := self.advance()) is not None:
            yield from clips

    def advance(self) -> list[Clip] | None:
        """Decode on, to the next clips but for STEP_SECONDS at most: a file may be silent for hours,
        and whoever shares a thread with it should get a turn.

        Returns:
            The clips that became certain, perhaps none; None at the end of the audio.
        """
        until = self.duration + STEP_SECONDS
        for clips in self._steps:
            if clips is None:
                return []
            if clips or self.duration >= until:
                return clips
        return None

    def _cut(self) -> Iterator[list[Clip] | None]:
        """Clips, block for block; None in a pause of the blocks."""
        split = self.options.channels == "split"
        segmenters: list[Segmenter] = []
        for block in self._merged_blocks():
            if block is None:
                yield None
                continue
            if not segmenters:
                segmenters = [
                    OverlapSegmenter() if self.options.segmentation == "overlap" else VadSegmenter()
                    for _ in block
                ]
            yield [
                clip
                for channel, segmenter in enumerate(segmenters)
                for clip in self._cut_channel(segmenter, block[channel], channel if split else None)
            ]
        yield [
            clip
            for channel, segmenter in enumerate(segmenters)
            for clip in self._cut_channel(segmenter, None, channel if split else None)
        ]

    def _cut_channel(
        self, segmenter: Segmenter, block: Samples | None, channel: int | None
    ) -> list[Clip]:
        started = time.perf_counter()
        spans = segmenter.flush() if block is None else segmenter.push(block)
        self._segment_seconds += time.perf_counter() - started
        return [Clip(span, self.options, channel) for span in spans if not span.silent]

    def _merged_blocks(self) -> Iterator[Samples | None]:
        """Decoder output [n_channels, n_samples] in pieces of at least BLOCK_SAMPLES; None in a pause."""
        pending: list[Samples] = []
        n_pending = 0
        while True:
            started = time.perf_counter()
            block = next(self._blocks, None)
            self._decode_seconds += time.perf_counter() - started
            if block is not None and not block.size:
                yield None
                continue
            if block is not None:
                pending.append(block)
                n_pending += block.shape[1]
                self._n_samples += block.shape[1]
            if pending and (block is None or n_pending >= BLOCK_SAMPLES):
                yield np.concatenate(pending, axis=1)
                pending, n_pending = [], 0
            if block is None:
                return


def batches(recording: Recording, max_seconds: float) -> Iterator[list[Clip]]:
    """Clips in order, as many at a time as fit ``max_seconds`` once padded to the longest."""
    batch: list[Clip] = []
    longest = 0.0
    for clip in recording:
        longest = max(longest, clip.duration)
        if batch and longest * (len(batch) + 1) > max_seconds:
            yield batch
            batch, longest = [], clip.duration
        batch.append(clip)
    if batch:
        yield batch
