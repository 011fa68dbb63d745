"""The network in torch on a CPU: the reference, in float32, and for CPUs that do not multiply int8."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.errors import InvalidModel, OutOfMemory
from predictor.engine.frontend import Frontend
from predictor.engine.network import (
    CHUNK_FRAMES,
    N_QUERIES,
    BestPath,
    NetworkConfig,
    Precision,
    Queries,
)
from predictor.engine.types import Samples

DTYPES: Mapping[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class TorchNetwork:
    """See :class:`~predictor.engine.network.Network`.

    Args:
        module: in the precision to run in.
        frontend: makes the features.
        threads: CPU threads of one operation.
    """

    def __init__(self, module: SenseVoiceNetwork, frontend: Frontend, threads: int) -> None:
        self.module = module
        self._threads = threads
        self._frontend = frontend

    def features(self, samples: Samples) -> Tensor:
        return torch.from_numpy(self._frontend(samples))

    @torch.inference_mode()
    def encode(self, features: Sequence[Tensor], queries: Sequence[Queries]) -> list[Tensor]:
        torch.set_num_threads(self._threads)
        encoded = self.module.encode(
            pad_sequence(list(features), batch_first=True).to(self.module.embed.weight.dtype),
            torch.tensor([len(each) for each in features]),
            torch.tensor([each.language for each in queries]),
            torch.tensor([each.textnorm for each in queries]),
        )
        return [each[: N_QUERIES + len(clip)] for each, clip in zip(encoded, features, strict=True)]

    @torch.inference_mode()
    def best_paths(self, encoded: Sequence[Tensor]) -> list[BestPath]:
        lengths = [len(each) - N_QUERIES for each in encoded]
        ids, log_probabilities = [], []
        speech = torch.cat([each[N_QUERIES:] for each in encoded])
        for frames in torch.split(speech, CHUNK_FRAMES):
            logits = self.module.ctc(frames).float()
            best, best_ids = logits.max(dim=-1)
            ids.append(best_ids)
            log_probabilities.append(best - logits.logsumexp(dim=-1))
        split = zip(
            torch.split(torch.cat(ids), lengths),
            torch.split(torch.cat(log_probabilities), lengths),
            strict=True,
        )
        return [BestPath(a.numpy(), b.numpy()) for a, b in split]

    @torch.inference_mode()
    def tag_logits(self, encoded: Tensor) -> NDArray[np.float32]:
        logits: Tensor = self.module.ctc(encoded[:N_QUERIES])
        array: NDArray[np.float32] = logits.float().numpy()
        return array

    def failure(self, error: Exception) -> OutOfMemory | None:
        # torch's allocator for CPUs has no exception of its own.
        if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
            error.__traceback__ = None
            return OutOfMemory("the server has not the memory to recognise this audio now")
        return None


def build_module(
    config: NetworkConfig,
    state: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> SenseVoiceNetwork:
    """A network around existing tensors, cast to ``dtype``, without initialising weights first.

    Raises:
        InvalidModel: names or shapes differ from what the config asks for.
    """
    with torch.device("meta"):
        module = SenseVoiceNetwork(config)
    try:
        module.load_state_dict({k: v.to(dtype) for k, v in state.items()}, assign=True)
    except RuntimeError as error:
        raise InvalidModel(f"weights do not fit config.yaml: {error}") from error
    return module.eval().requires_grad_(False)
