"""The network in int8 on a CPU: SenseVoice's encoder run by OpenVINO.

A compiled graph can be kept and loaded in a third of the time that compiling takes.
"""

import mmap
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from predictor.engine.cpu import has_bfloat16, has_vnni, vector_instructions
from predictor.engine.errors import OutOfMemory
from predictor.engine.frontend import Frontend
from predictor.engine.int8_conv_graph import ConvolutionGraphBuilder
from predictor.engine.int8_graph import GRAPH_VERSION, GraphBuilder
from predictor.engine.network import CHUNK_FRAMES, N_QUERIES, BestPath, Queries
from predictor.engine.tokenizer import BLANK_ID

FRAMES_STEP = 16
"""Clips are padded to a multiple of so many frames, the float32 lanes of the widest registers: sums over
frames then run in the same order whatever the padding, and a clip's result is the same to the last bit
alone and beside any neighbour. It also bounds the number of shapes that kernels are made for."""

PASS_FRAMES = 512
"""Most frames in one pass, padding counted: a clip of 30 s. Larger passes leave the core's cache: eight
such clips together take half as long again as one by one."""

UNWRITTEN = np.float32(-3e38)
"""Stands in the last column of an output until it is written; no network computes it."""


class Int8Network:
    """See :class:`~predictor.engine.network.Network`.

    Args:
        frontend: makes features of NumPy arrays.
        encoder: features [batch, frames, input_size], frames of each item with its queries [batch], rows of
            the query embedding [batch, 4] → [batch, 4 + frames, output_size].
        head: [frames, output_size] → logits [frames, vocab_size].
    """

    def __init__(self, frontend: Frontend, encoder: "Compiled", head: "Compiled") -> None:
        self.features = frontend
        self._encoder = encoder
        self._head = head

    def encode(
        self, features: Sequence[NDArray[np.float32]], queries: Sequence[Queries]
    ) -> list[NDArray[np.float32]]:
        encoded: list[NDArray[np.float32]] = []
        while len(encoded) < len(features):
            start = len(encoded)
            frames, end = _padded(features[start]), start + 1
            while end < len(features):
                frames = max(frames, _padded(features[end]))
                if frames * (end + 1 - start) > PASS_FRAMES:
                    break
                end += 1
            encoded += self._encode(features[start:end], queries[start:end])
        return encoded

    def _encode(
        self, features: Sequence[NDArray[np.float32]], queries: Sequence[Queries]
    ) -> list[NDArray[np.float32]]:
        padded = max(map(_padded, features)) - N_QUERIES
        batch = np.zeros((len(features), padded, features[0].shape[1]), np.float32)
        for row, each in zip(batch, features, strict=True):
            row[: len(each)] = each
        rows = np.array([each.rows for each in queries], np.int64)
        n_frames = np.array([len(each) for each in features], np.int64) + N_QUERIES
        encoded = self._encoder(batch, n_frames, rows)
        # The next call overwrites it.
        return [each[:n].copy() for each, n in zip(encoded, n_frames, strict=True)]

    def best_paths(self, encoded: Sequence[NDArray[np.float32]]) -> list[BestPath]:
        frames = np.concatenate([each[N_QUERIES:] for each in encoded])
        ids = np.empty(len(frames), np.int64)
        log_probabilities = np.full(len(frames), np.nan, np.float32)
        for start in range(0, len(frames), CHUNK_FRAMES):
            logits = self._logits(frames[start : start + CHUNK_FRAMES])
            best = ids[start : start + CHUNK_FRAMES] = logits.argmax(axis=1)
            (spoken,) = np.nonzero(best != BLANK_ID)
            if spoken.size:
                relative = logits[spoken]
                relative -= logits[spoken, best[spoken], None]
                total = np.exp(relative, out=relative).sum(axis=1)
                log_probabilities[start + spoken] = -np.log(total)
        ends = np.cumsum([len(each) - N_QUERIES for each in encoded])[:-1]
        pairs = zip(np.split(ids, ends), np.split(log_probabilities, ends), strict=True)
        return [BestPath(*pair) for pair in pairs]

    def tag_logits(self, encoded: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._logits(encoded[:N_QUERIES]).copy()

    def failure(self, error: Exception) -> OutOfMemory | None:
        # OpenVINO passes on C++'s std::bad_alloc as text.
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            error.__traceback__ = None
            return OutOfMemory("the server has not the memory to recognise this audio now")
        return None

    def _logits(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._head(np.ascontiguousarray(frames))


def _padded(features: NDArray[np.float32]) -> int:
    """Frames of a clip with its queries and padding."""
    return -(-(len(features) + N_QUERIES) // FRAMES_STEP) * FRAMES_STEP


def target() -> str:
    """What a compiled graph depends on: how it was built, OpenVINO, the CPU's instruction sets."""
    return f"openvino {ov.__version__} graph {GRAPH_VERSION} {' '.join(vector_instructions())}"


def graph_builder() -> type[GraphBuilder]:
    """Of the graphs that are fastest, and exact, on this machine's CPU."""
    return GraphBuilder if has_vnni() else ConvolutionGraphBuilder


class Compiled:
    """A graph ready to run, in as many threads at once as it was compiled for.

    Args:
        graph: the graph.
        memory: what it was loaded from and goes on reading; OpenVINO itself does not keep it alive.
    """

    def __init__(self, graph: ov.CompiledModel, memory: ov.Tensor | None = None) -> None:
        self._graph = graph
        self._memory = memory
        # A request holds the memory of one pass: every thread has its own, and its last output.
        self._own = threading.local()

    def __call__(self, *inputs: NDArray[Any]) -> NDArray[np.float32]:
        """The first output; the thread's next call overwrites it.

        Raises:
            MemoryError: the memory did not suffice.
        """
        own = self._own
        if not hasattr(own, "request"):
            own.request = self._graph.create_infer_request()
        else:
            own.output[..., -1] = UNWRITTEN
        try:
            own.request.infer(list(inputs), share_inputs=True)
            output: NDArray[np.float32] = own.request.get_output_tensor(0).data
            # Where memory is short, OpenVINO may return as if all were well and leave the output of before.
            if len(output) != len(inputs[0]) or (output[..., -1] == UNWRITTEN).any():
                raise MemoryError("OpenVINO wrote no output")
        except Exception:
            # What state it is in, nobody knows.
            own.__dict__.clear()
            raise
        own.output = output
        return output

    def save(self, path: Path) -> None:
        path.write_bytes(self._graph.export_model().getvalue())


def compile_graph(
    graph: ov.Model, threads: int, passes: int = 1, *, exact: bool = False
) -> Compiled:
    """
    Args:
        threads: of one pass.
        passes: that run at once.
        exact: float32 wherever it is not int8. For the head: logits that differ by less than bfloat16 tells
            apart are not the same.
    """
    return Compiled(_core().compile_model(graph, "CPU", _properties(threads, passes, exact)))


def load_compiled(path: Path, threads: int, passes: int = 1, *, exact: bool = False) -> Compiled:
    """Load what :meth:`Compiled.save` saved: a third of the time that compiling takes."""
    with path.open("rb") as file:
        # A private mapping: OpenVINO wants memory it may write to, and keeps it as long as it needs it.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    blob = ov.Tensor(np.frombuffer(mapped, np.uint8), shared_memory=True)
    properties = _properties(threads, passes, exact)
    return Compiled(_core().import_model(blob, "CPU", properties), blob)


@cache
def _core() -> ov.Core:
    """One for the process. Each gives the thread that makes it a stack for signals, and takes it away at
    its own end without a look at the others: after two of them, a signal would end the process."""
    return ov.Core()


def _properties(threads: int, passes: int, exact: bool) -> dict[str, Any]:
    # Attention, which is not int8, takes a share of the time that grows with a clip's length.
    rest = "bf16" if has_bfloat16() and not exact else "f32"
    return {
        "INFERENCE_NUM_THREADS": threads * passes,
        "NUM_STREAMS": passes,
        "INFERENCE_PRECISION_HINT": rest,
        # Pinned threads of two containers would share cores while others idle.
        "ENABLE_CPU_PINNING": False,
    }
