"""Forms of the operations whose fastest one cannot be known without the GPU at hand.

What the engine takes is marked; where another is faster, that is the next thing to change.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from predictor.engine.encoder import PaddingMask, shifted_sum
from predictor.engine.network import N_QUERIES, NetworkConfig
from tests.benchmarks.gpu_network import seconds
from tests.benchmarks.spread import spread

CALLS = 20
"""Calls in one timed loop, so that a launch's time on the host hides behind the others'."""

BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.MATH,
)


def measure(
    config: NetworkConfig, shapes: list[tuple[int, int]], device: torch.device, repeats: int
) -> Iterator[dict[str, Any]]:
    """A row for each form at each shape (batch, frames), microseconds a call, bf16."""
    for batch, frames in shapes:
        for operation, form, work in forms(config, batch, frames, device):
            row = {"operation": operation, "form": form, "batch": batch, "frames": frames}
            try:
                times = _microseconds(work, device, repeats)
            except (RuntimeError, NotImplementedError) as error:
                yield row | {"unsupported": str(error).splitlines()[0][:200]}
            else:
                yield row | {"us": times}


@torch.inference_mode()
def _microseconds(work: Callable[[], Any], device: torch.device, repeats: int) -> dict[str, Any]:
    def calls() -> None:
        for _ in range(CALLS):
            work()

    return dict(spread([1e6 * wall / CALLS for wall in seconds(calls, device, repeats)]))


def forms(
    config: NetworkConfig, batch: int, frames: int, device: torch.device
) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    """Operation, form, and the call."""
    width = config.output_size

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    value, weight = random(batch, frames, width), random(width, 1, config.kernel_size)
    compiled = torch.compile(shifted_sum, backend="inductor" if value.is_cuda else "eager")
    yield "fsmn", "conv1d (taken)", lambda: conv1d(value, weight)
    yield "fsmn", "conv2d, channels last", lambda: conv2d(value, weight)
    yield "fsmn", "shifted sum", lambda: shifted_sum(value, weight)
    yield "fsmn", "shifted sum, compiled (taken when compiling)", lambda: compiled(value, weight)

    heads = config.attention_heads
    query, key, values = (
        random(batch, frames, heads, width // heads).transpose(1, 2) for _ in range(3)
    )

    def attend(mask: Tensor | None) -> Tensor:
        return F.scaled_dot_product_attention(query, key, values, attn_mask=mask)

    def attend_with(mask: Tensor | None, backend: SDPBackend) -> Tensor:
        with sdpa_kernel(backend):
            return attend(mask)

    real = torch.arange(frames, device=device) < frames - 3
    scores = PaddingMask.of(real.expand(batch, frames), torch.bfloat16).scores
    for name, mask in (("no mask", None), ("mask", scores)):
        yield "attention", f"{name}, torch's choice (taken)", lambda m=mask: attend(m)
        for backend in BACKENDS:
            yield (
                "attention",
                f"{name}, {backend.name}",
                lambda m=mask, b=backend: attend_with(m, b),
            )

    encoded, head = random(batch * frames, width), random(config.vocab_size, width)
    for chunk in (128, 256, 1024, 4096):
        yield "head", f"{chunk} frames at a time", lambda n=chunk: best_tokens(encoded, head, n)
    yield "tag logits", f"of {N_QUERIES} frames", lambda: encoded[: N_QUERIES * batch] @ head.t()


def conv1d(x: Tensor, weight: Tensor) -> Tensor:
    """[batch, frames, size] → the same; by way of [batch, size, frames]."""
    out = F.conv1d(x.transpose(1, 2), weight, padding="same", groups=x.shape[2])
    return out.transpose(1, 2)


def conv2d(x: Tensor, weight: Tensor) -> Tensor:
    """The same without moving anything: [batch, frames, size] is channels-last already."""
    image = x.unsqueeze(1).permute(0, 3, 1, 2)
    out = F.conv2d(image, weight.unsqueeze(2), padding="same", groups=x.shape[2])
    return out.permute(0, 2, 3, 1).squeeze(1)


def best_tokens(encoded: Tensor, head: Tensor, frames: int) -> list[Any]:
    """As the engine's, ``frames`` at a time."""
    return [
        F.log_softmax(_product(some, head), dim=-1).max(dim=-1)
        for some in torch.split(encoded, frames)
    ]


def _product(frames: Tensor, head: Tensor) -> Tensor:
    if frames.is_cuda:
        return torch.mm(frames, head.t(), out_dtype=torch.float32)
    return frames.float() @ head.float().t()
