"""CUDA graphs: the whole network as one launch, for batches of a few sizes.

A small batch keeps a GPU waiting for the next of some thousand launches; a graph makes them in one. It is
bound to the shape and the memory that it was captured with, so batches are padded to the next of a few
sizes, and the graphs last used are kept.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from predictor.engine.network import N_QUERIES

FRAMES_STEP = 32
"""Frames of a bucket, queries counted, are a multiple of this: at most 7 % more than a 30-second clip's."""

MAX_FRAMES = 512
"""Queries and a clip of 30 seconds are 504 frames."""

MAX_BATCH = 32

MAX_TOTAL_FRAMES = 4096
"""Batch times frames up to which launching is taken to cost more than padding does. From there on the GPU
has work enough for as long as launching takes. To be measured: ``python -m tests.benchmarks.gpu``."""

CAPACITY = 32
"""Graphs kept. Each holds its inputs and outputs; what lies between is shared by all."""


class Bucket(NamedTuple):
    """A shape that graphs are captured for: clips, and frames of each with its queries."""

    batch: int
    frames: int


def bucket(batch: int, frames: int) -> Bucket | None:
    """The smallest that holds ``batch`` clips of up to ``frames`` frames, queries counted; None where
    graphs do not pay."""
    rounded = Bucket(1 << (batch - 1).bit_length(), -(-frames // FRAMES_STEP) * FRAMES_STEP)
    small = rounded.batch <= MAX_BATCH and rounded.frames <= MAX_FRAMES
    return rounded if small and rounded.batch * rounded.frames <= MAX_TOTAL_FRAMES else None


def single_clips() -> Iterator[Bucket]:
    """The buckets of one clip, captured before the first request comes."""
    return (Bucket(1, frames) for frames in range(FRAMES_STEP, MAX_FRAMES + 1, FRAMES_STEP))


class Inputs(NamedTuple):
    """What the network is given.

    Attributes:
        features: float [batch, frames, input_size], without the queries' frames.
        rows: int64 [batch, 4], rows of the query embedding.
        n_frames: int64 [batch], real frames of each clip; None: all are.
    """

    features: Tensor
    rows: Tensor
    n_frames: Tensor | None


class Outputs(NamedTuple):
    """What it answers, for every frame of the batch, queries and padding counted.

    Attributes:
        ids: int32 [batch, 4 + frames], the best token.
        log_probabilities: float32 [batch, 4 + frames], of that token.
        tag_logits: float32 [batch, 4, vocab_size].
    """

    ids: Tensor
    log_probabilities: Tensor
    tag_logits: Tensor


Forward = Callable[[Inputs], Outputs]


class Graphs:
    """The network at the sizes asked for last, each captured when it is first needed.

    All graphs work in one pool of memory, which is as large as the largest needs: one replays behind the
    other on one stream, and what a replay answers must be read on that stream before the next one.

    Args:
        forward: starts work on the current stream only, and asks the device nothing.
        features: of any shape: what device and type the network's features have, and their size.
    """

    def __init__(self, forward: Forward, features: Tensor) -> None:
        self._forward = forward
        self._like = features
        self._pool = torch.cuda.graph_pool_handle()
        # One for all captures: cuBLAS keeps a workspace of 32 MB for each stream it has seen.
        self._stream: torch.cuda.Stream = torch.cuda.Stream(features.device)  # type: ignore[no-untyped-call]
        self._captured = lru_cache(CAPACITY)(self._capture)

    def warm_up(self) -> None:
        """Capture what single clips need, so that no request waits for it."""
        for one in single_clips():
            self._captured(one)

    def __call__(self, size: Bucket, inputs: Inputs) -> Outputs:
        """Answers that the next call overwrites.

        Args:
            size: from :func:`bucket`.
            inputs: of exactly this size, ``n_frames`` given.
        """
        captured = self._captured(size)
        for static, given in zip(captured.inputs, inputs, strict=True):
            if static is not None and given is not None:
                static.copy_(given)
        captured.graph.replay()
        return captured.outputs

    def _capture(self, size: Bucket) -> "Captured":
        frames = size.frames - N_QUERIES
        like = self._like
        inputs = Inputs(
            like.new_zeros(size.batch, frames, like.shape[-1]),
            like.new_zeros(size.batch, N_QUERIES, dtype=torch.int64),
            like.new_full((size.batch,), frames, dtype=torch.int64),
        )
        # Libraries allocate and choose kernels when first called, which no graph may hold.
        with torch.cuda.device(like.device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                self._forward(inputs)
            graph = torch.cuda.CUDAGraph()
            # Other threads decode audio meanwhile: what they ask of the driver must not end the capture.
            mode = "thread_local"
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode=mode):
                outputs = self._forward(inputs)
        return Captured(graph, inputs, outputs)


@dataclass(frozen=True, slots=True)
class Captured:
    """A graph with the tensors it reads and writes."""

    graph: torch.cuda.CUDAGraph
    inputs: Inputs
    outputs: Outputs
