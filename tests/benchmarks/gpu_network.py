"""The network on a GPU: throughput, latency, and its share of what matrix products reach.

Needs torch and NumPy alone, no model directory and no audio: samples are seeded noise, which costs what
speech does.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import torch

from predictor.engine.batch_frontend import Layout
from predictor.engine.cuda_graphs import bucket
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.frontend import FrontendConfig
from predictor.engine.gpu_network import GpuNetwork
from predictor.engine.network import N_QUERIES, NetworkConfig, Queries
from predictor.engine.torch_network import DTYPES, build_module
from predictor.engine.types import SAMPLE_RATE, Samples
from tests.benchmarks.spread import percentile, spread

SENSEVOICE_SMALL = NetworkConfig(
    input_size=560,
    output_size=512,
    attention_heads=4,
    linear_units=2048,
    num_blocks=50,
    tp_blocks=20,
    kernel_size=11,
    vocab_size=25055,
)
TINY = replace(
    SENSEVOICE_SMALL, output_size=32, linear_units=48, num_blocks=2, tp_blocks=1, vocab_size=200
)
MODES = ("eager", "graphs", "compile", "compile+graphs")
"""How the network runs. Graphs are for batches of few frames; there are none on a CPU."""

QUERIES = Queries(language=0, textnorm=14)

LONG = 3.0
"""Seconds that the timed calls of one shape may take."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        config: sizes of the network.
        batches: clips at a time, ascending; the first that does not fit into memory ends the row.
        clips_s: lengths of clips, in seconds.
        precisions: of the network.
        repeats: timed calls of each shape, at least.
        latency_calls: timed calls of one clip.
        matrix: size of the square matrices whose product is the peak.
    """

    config: NetworkConfig
    batches: Sequence[int]
    clips_s: Sequence[float]
    precisions: Sequence[str]
    repeats: int
    latency_calls: int
    matrix: int


FULL = Plan(SENSEVOICE_SMALL, (1, 4, 16, 64, 256, 1024), (10, 30), ("bf16", "fp16"), 5, 300, 8192)
QUICK = Plan(TINY, (1, 3), (1, 2), ("bf16",), 2, 3, 128)


def flops(config: NetworkConfig, clips: int, n_frames: int) -> float:
    """Floating-point operations of ``clips`` clips of ``n_frames`` frames each, two a multiplication
    with its addition.

    Counted are the products of matrices, of real frames with the four query frames before them: QKV,
    output, both layers of the feed-forward, scores and sums of the attention, the vocabulary; and the
    FSMN. Norms, activations, the softmax, the filter bank and all padding count as nothing: what they
    cost lowers the share.
    """
    width, frames = config.output_size, n_frames + N_QUERIES
    blocks = config.num_blocks + config.tp_blocks
    inputs = config.input_size + (blocks - 1) * width
    linear = inputs * 3 * width + blocks * (width * width + 2 * width * config.linear_units)
    attention = blocks * 2 * frames * width
    memory = blocks * config.kernel_size * width
    return 2.0 * clips * frames * (linear + attention + memory + width * config.vocab_size)


def modes(device: torch.device) -> list[str]:
    return [mode for mode in MODES if device.type == "cuda" or "graphs" not in mode]


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], Any], device: torch.device, repeats: int) -> list[float]:
    """Wall time of each call until the device is done, after one that is not counted. Once the calls have
    taken LONG, two are enough."""
    times: list[float] = []
    work()
    while len(times) < min(repeats, 2) or (len(times) < repeats and sum(times) < LONG):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        times.append(time.perf_counter() - started)
    return times


def matmul_peak(device: torch.device, size: int, repeats: int = 30) -> dict[str, Any]:
    """Operations per second of one large bf16 product, the median of single calls, random data."""
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = spread(seconds(lambda: left @ right, device, repeats))
    return {"size": size, "flop_per_s": 2 * size**3 / times["median"], "seconds": times}


def clips(seconds_each: float, count: int) -> list[Samples]:
    """Seeded noise; large batches hold the same sixteen clips again and again."""
    rng = np.random.default_rng(0)
    length = round(seconds_each * SAMPLE_RATE)
    some = [rng.normal(0, 0.1, length).astype(np.float32) for _ in range(min(count, 16))]
    return [some[index % len(some)] for index in range(count)]


@cache
def weights(config: NetworkConfig) -> dict[str, torch.Tensor]:
    """Seeded random ones, float32."""
    torch.manual_seed(0)
    return SenseVoiceNetwork(config).state_dict()


def make_network(plan: Plan, precision: str, mode: str, device: torch.device) -> GpuNetwork:
    """A network in one of MODES. Compiled is each block, once for all of a kind; on a CPU dynamo's part
    alone."""
    state = {name: tensor.to(device) for name, tensor in weights(plan.config).items()}
    module = build_module(plan.config, state, DTYPES[precision])
    if mode.startswith("compile"):
        backend = "inductor" if device.type == "cuda" else "eager"
        # Every network has the same code, of which dynamo keeps eight variants and runs any other eagerly.
        torch.compiler.reset()
        encoder = module.encoder
        for block in (*encoder.encoders0, *encoder.encoders, *encoder.tp_encoders):
            block.compile(dynamic=True, backend=backend)
    frontend = FrontendConfig()
    cmvn = np.full((2, frontend.feature_size), 0.1, np.float32)
    return GpuNetwork(module, frontend, cmvn, graphs="graphs" in mode)


def answer(network: GpuNetwork, encoded: Sequence[Any]) -> None:
    """All that the engine asks a network for."""
    network.best_paths(encoded)
    for each in encoded:
        network.tag_logits(each)


def recognize(network: GpuNetwork, samples: Sequence[Samples], batches: int) -> None:
    """The same batch ``batches`` times, each started before the last one's answers are looked at."""
    before = None
    for _ in range(batches):
        started = network.encode(samples, [QUERIES] * len(samples))
        if before:
            answer(network, before)
        before = started
    answer(network, before)


def throughput(plan: Plan, device: torch.device, peak: float) -> Iterator[dict[str, Any]]:
    """A row for each mode, precision, length and batch: samples in the host's memory to best paths and
    tag logits there."""
    for precision in plan.precisions:
        # How launches are made does not depend on the kind of half precision.
        for mode in modes(device) if precision == plan.precisions[0] else ["eager"]:
            network = make_network(plan, precision, mode, device)
            for clip_s in plan.clips_s:
                for batch in plan.batches:
                    if "graphs" in mode and not bucket(batch, _n_frames(clip_s) + N_QUERIES):
                        continue
                    about = {"precision": precision, "mode": mode, "clip_s": clip_s, "batch": batch}
                    try:
                        yield about | _measured(network, plan, clip_s, batch, device, peak)
                    except torch.cuda.OutOfMemoryError:
                        yield about | {"out_of_memory": True}
                        break
            del network
            if device.type == "cuda":
                torch.cuda.empty_cache()


def _measured(
    network: GpuNetwork,
    plan: Plan,
    clip_s: float,
    batch: int,
    device: torch.device,
    peak: float,
) -> dict[str, Any]:
    samples, audio_s = clips(clip_s, batch), clip_s * batch
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    recognize(network, samples, 2)
    ahead = (
        4  # Batches in a timed call: the first one's start and the last one's end are not hidden.
    )
    rates = [
        ahead * audio_s / wall
        for wall in seconds(lambda: recognize(network, samples, ahead), device, plan.repeats)
    ]
    singly = [
        audio_s / wall
        for wall in seconds(lambda: recognize(network, samples, 1), device, plan.repeats)
    ]
    work = flops(plan.config, batch, _n_frames(clip_s))
    rate = statistics.median(rates)
    memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {
        "audio_s_per_s": rate,
        "audio_s_per_s_spread": spread(rates),
        "audio_s_per_s_one_at_a_time": spread(singly),
        "share_of_peak": work * rate / audio_s / peak,
        "peak_memory_mb": memory,
    }


def latency(plan: Plan, device: torch.device) -> Iterator[dict[str, Any]]:
    """Single clips, one after the other: milliseconds from samples to answers."""
    for mode in modes(device):
        network = make_network(plan, plan.precisions[0], mode, device)
        for clip_s in plan.clips_s:
            samples = clips(clip_s, 1)
            work = partial(recognize, network, samples, 1)
            work()
            walls = seconds(work, device, plan.latency_calls)
            yield {
                "precision": plan.precisions[0],
                "mode": mode,
                "clip_s": clip_s,
                "calls": len(walls),
                **{f"p{n}_ms": 1e3 * percentile(walls, n / 100) for n in (50, 99)},
                "spread_ms": spread([1e3 * wall for wall in walls]),
            }


def _n_frames(clip_s: float) -> int:
    length = round(clip_s * SAMPLE_RATE)
    return int(Layout(FrontendConfig(), [np.empty(length, np.float32)]).n_frames[0])
