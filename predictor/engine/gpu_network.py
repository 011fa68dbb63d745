"""The network on a GPU: per batch one copy in, one copy out, and one wait.

:meth:`GpuNetwork.encode` starts all work of a batch and returns at once; the answers are waited for when
they are first looked at. What it is given are samples: the filter bank runs on the GPU, for all clips of
the batch together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from predictor.engine.batch_frontend import BatchFrontend, Layout
from predictor.engine.cuda_graphs import Graphs, Inputs, Outputs, bucket
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.errors import DeviceLost, OutOfMemory
from predictor.engine.frontend import FrontendConfig
from predictor.engine.network import N_QUERIES, BestPath, Queries
from predictor.engine.types import Samples

HEAD_FRAMES = 256
"""Frames projected to the vocabulary at a time: 26 MB of logits, which stay in a large GPU's cache (50 MB
on an H100) from the product to the softmax and the maximum."""

MASK_STEP = 8
"""Frames of a padded batch are a multiple of this: attention kernels want masks of whole 16 bytes, and
would copy any other for each block."""

OUT_OF_MEMORY = ("CUDA error: out of memory", "ALLOC_FAILED")
"""What pinned memory, and cuBLAS and its like, say where torch's own allocator has an exception."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What comes back of one batch, in pinned memory, once ``done`` has happened.

    Attributes:
        outputs: on the CPU.
        done: recorded behind the last copy; None on a CPU.
    """

    outputs: Outputs
    done: torch.cuda.Event | None

    def wait(self) -> Outputs:
        if self.done is not None:
            self.done.synchronize()
        return self.outputs


@dataclass(frozen=True, slots=True)
class Encoded:
    """One clip of a batch that has been started."""

    answers: Answers
    row: int
    n_frames: int


class GpuNetwork:
    """See :class:`~predictor.engine.network.Network`. Runs on a CPU too, without graphs, for tests.

    Any number of threads may call it. Two keep a GPU busy: one prepares or decodes while the other waits.

    Args:
        module: in the precision and on the device to run in. bf16 has the range of float32; in fp16 the
            residual stream of a trained network may overflow.
        frontend: sizes of the features.
        cmvn: float32 [2, feature_size].
        graphs: capture CUDA graphs for small batches.
    """

    def __init__(
        self,
        module: SenseVoiceNetwork,
        frontend: FrontendConfig,
        cmvn: NDArray[np.float32],
        *,
        graphs: bool = True,
    ) -> None:
        self.module = module
        weight = module.ctc.ctc_lo.weight
        self._device, self._dtype = weight.device, weight.dtype
        self._on_gpu = self._device.type == "cuda"
        self._frontend = BatchFrontend(frontend, cmvn, self._device)
        self._lock = Lock()
        self._graphs: Graphs | None = None
        if graphs and self._on_gpu:
            with torch.inference_mode():
                self._graphs = Graphs(self._forward, weight.new_empty(module.config.input_size))
                self._graphs.warm_up()

    def features(self, samples: Samples) -> Samples:
        """The samples as they are: :meth:`encode` makes the features of a whole batch."""
        return samples

    @torch.inference_mode()
    def encode(self, features: Sequence[Samples], queries: Sequence[Queries]) -> list[Encoded]:
        """Start a batch: nothing is waited for."""
        layout = Layout(self._frontend.config, features)
        samples = layout.write(self._on_gpu)
        n_frames = layout.n_frames.tolist()
        longest = N_QUERIES + max(n_frames)
        size = bucket(len(features), longest) if self._graphs else None
        batch, frames = size or (len(features), longest)
        padded = size is not None or min(n_frames) < max(n_frames)
        if padded:
            frames = -(-frames // MASK_STEP) * MASK_STEP
        rows = [each.rows for each in queries]
        # A row a clip: where it lies, its length, its queries. Rows of none repeat the first.
        table = np.column_stack([layout.first_window, layout.n_windows, layout.n_frames, rows])
        table = np.concatenate([table, np.repeat(table[:1], batch - len(table), axis=0)])
        # On the device a batch's work lies whole between two others': graphs share their memory.
        with self._lock:
            sizes = self._to_device(torch.from_numpy(table))
            made = self._frontend(
                self._to_device(samples), sizes[:, 0], sizes[:, 1], frames - N_QUERIES
            )
            inputs = Inputs(made.to(self._dtype), sizes[:, 3:], sizes[:, 2] if padded else None)
            if self._graphs and size:
                answers = self._fetch(self._graphs(size, inputs))
            else:
                answers = self._fetch(self._forward(inputs))
        return [Encoded(answers, row, n) for row, n in enumerate(n_frames)]

    def best_paths(self, encoded: Sequence[Encoded]) -> list[BestPath]:
        """Waits for the batch."""
        paths = []
        for each in encoded:
            ids, log_probabilities, _ = each.answers.wait()
            speech = each.row, slice(N_QUERIES, N_QUERIES + each.n_frames)
            paths.append(BestPath(ids[speech].long().numpy(), log_probabilities[speech].numpy()))
        return paths

    def tag_logits(self, encoded: Encoded) -> NDArray[np.float32]:
        """Waits for the batch; nothing is computed."""
        logits: NDArray[np.float32] = encoded.answers.wait().tag_logits[encoded.row].numpy()
        return logits

    def failure(self, error: Exception) -> OutOfMemory | DeviceLost | None:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(
            sign in str(error) for sign in OUT_OF_MEMORY
        ):
            # The frames on its way held the batch's tensors.
            error.__traceback__ = None
            if self._on_gpu:
                torch.cuda.empty_cache()
            return OutOfMemory("the GPU has not the memory to recognise this audio now")
        if isinstance(error, torch.AcceleratorError) and not self._answers():
            return DeviceLost("the GPU answers no more; the server must be started anew")
        return None

    def _answers(self) -> bool:
        """Whether the device still works for this process. A kernel that failed may have spoilt its
        context, and then every call fails as the first did."""
        try:
            torch.ones(1, device=self._device).sum().item()
        except torch.AcceleratorError:
            return False
        return True

    @torch.inference_mode()
    def _forward(self, inputs: Inputs) -> Outputs:
        encoded = self.module.encode_rows(*inputs)
        head = self.module.ctc.ctc_lo
        best = [
            # The softmax of all, because its kernel reads and writes once: that of the best alone is
            # a chain of passes over the logits.
            F.log_softmax(_logits(head, some), dim=-1).max(dim=-1)
            for some in torch.split(encoded.flatten(0, 1), HEAD_FRAMES)
        ]
        shape = encoded.shape[:2]
        return Outputs(
            torch.cat([indices for _, indices in best]).to(torch.int32).view(shape),
            torch.cat([values for values, _ in best]).view(shape),
            _logits(head, encoded[:, :N_QUERIES].flatten(0, 1)).view(shape[0], N_QUERIES, -1),
        )

    def _to_device(self, array: Tensor) -> Tensor:
        """Copy without waiting; ``array`` may go at once, its memory stays until it is copied."""
        if not self._on_gpu:
            return array
        return array.pin_memory().to(self._device, non_blocking=True)

    def _fetch(self, outputs: Outputs) -> Answers:
        """Start copying to pinned memory."""
        if not self._on_gpu:
            return Answers(outputs, None)
        pinned = [torch.empty(each.shape, dtype=each.dtype, pin_memory=True) for each in outputs]
        for target, each in zip(pinned, outputs, strict=True):
            target.copy_(each, non_blocking=True)
        # Blocking: a thread that waits leaves its core to those that decode audio.
        done: torch.cuda.Event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        done.record(torch.cuda.current_stream(self._device))
        return Answers(Outputs(*pinned), done)


def _logits(head: torch.nn.Linear, frames: Tensor) -> Tensor:
    """Logits of frames [n, size] in float32 whatever the network's type: in bf16 the best two are often
    equal."""
    if frames.is_cuda and frames.dtype != torch.float32:
        product = torch.mm(frames, head.weight.t(), out_dtype=torch.float32)
        return product.add_(head.bias)
    return F.linear(frames.float(), head.weight.float(), head.bias.float())
