"""What the engine asks of a network, whichever library runs it: its sizes, its queries, its four steps.

Three networks answer: :class:`~predictor.engine.int8.Int8Network` (CPU, OpenVINO),
:class:`~predictor.engine.torch_network.TorchNetwork` (CPU, the reference) and
:class:`~predictor.engine.gpu_network.GpuNetwork`. What travels from one step to the
next is the network's own (a tensor on its device, an array); what comes out at the end is NumPy.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from predictor.engine.errors import SpeechError
from predictor.engine.types import Samples

N_QUERIES = 4
"""Frames in front of the speech: language, event, emotion, text normalisation. The first four output
frames are, in this order, the language, emotion, event and text-normalisation tags."""

N_QUERY_EMBEDDINGS = 16
"""Rows of the query embedding: 7 reserved, 7 languages (0 is auto), 2 text normalisations."""

EVENT_QUERY = 1
EMOTION_QUERY = 2

CHUNK_FRAMES = 128
"""Frames projected to the vocabulary at a time: 25,055 logits a frame are 13 MB a chunk."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """Sizes of one checkpoint, as its ``config.yaml`` and tokenizer give them."""

    input_size: int
    output_size: int
    attention_heads: int
    linear_units: int
    num_blocks: int
    tp_blocks: int
    kernel_size: int
    vocab_size: int
    dropout_rate: float = 0.1
    attention_dropout_rate: float = 0.1

    def __post_init__(self) -> None:
        for name, size in asdict(self).items():
            least = 0 if name == "tp_blocks" or name.endswith("_rate") else 1
            if size < least:
                raise ValueError(f"{name} must be at least {least}, not {size}")
        if self.output_size % self.attention_heads:
            raise ValueError(
                f"output_size {self.output_size} is not a multiple of "
                f"attention_heads {self.attention_heads}"
            )

    @property
    def blocks(self) -> list[str]:
        """Names of the blocks in FunASR's checkpoints, in order."""
        return [
            "encoder.encoders0.0",
            *(f"encoder.encoders.{index}" for index in range(self.num_blocks - 1)),
            *(f"encoder.tp_encoders.{index}" for index in range(self.tp_blocks)),
        ]


@dataclass(frozen=True, slots=True)
class BestPath:
    """The best token of each frame of one clip.

    Attributes:
        ids: int64 [n_frames].
        log_probabilities: float32 [n_frames], of that token in the softmax over the vocabulary; frames of
            the blank may hold NaN, nobody asks.
    """

    ids: NDArray[np.int64]
    log_probabilities: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Queries:
    """Rows of the query embedding for one clip."""

    language: int
    textnorm: int

    @property
    def rows(self) -> tuple[int, int, int, int]:
        return (self.language, EVENT_QUERY, EMOTION_QUERY, self.textnorm)


class Network(Protocol):
    """A loaded network. Its methods may run in as many threads at once as it was loaded for."""

    def features(self, samples: Samples) -> Any:
        """float32 [n_samples], 16 kHz, in [-1, 1] → normalised features [n_frames, feature_size]."""

    def encode(self, features: Sequence[Any], queries: Sequence[Queries]) -> list[Any]:
        """One batch → for each clip [4 + n_frames, output_size]. No clip's words depend on another."""

    def best_paths(self, encoded: Sequence[Any]) -> list[BestPath]:
        """Encoder outputs → the best path over the speech frames of each."""

    def tag_logits(self, encoded: Any) -> NDArray[np.float32]:
        """Encoder output of one clip → logits of its four query frames, float32 [4, vocab_size]."""

    def failure(self, error: Exception) -> SpeechError | None:
        """What an exception of the steps above means, if it is nothing about the clips themselves.

        Returns:
            OutOfMemory: and nothing of the batch is held by ``error`` any more.
            DeviceLost: no step will ever work again.
            None: neither.
        """
