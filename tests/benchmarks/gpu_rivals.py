"""Whole recognisers on one GPU: our engine, our server, and FunASR's AutoModel."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pipelines.random_model import write_random_model
from predictor.engine.checkpoint import CMVN, CONFIG
from predictor.engine.transcribe import Engine
from predictor.engine.types import TranscribeOptions, Waveform
from tests.benchmarks import models
from tests.benchmarks.clips import write_clips
from tests.benchmarks.gpu_network import Plan, seconds
from tests.benchmarks.load import make_load, summary
from tests.benchmarks.servers import OURS_API, Server, free_port
from tests.benchmarks.spread import spread
from tests.benchmarks.workers.loop import read_wav

OPTIONS = TranscribeOptions.parse({"timestamps": "none"})
LOCUST_PYTHON = models.REPOSITORY / "build" / "bench" / "env" / "bin" / "python"
TINY = {"output_size": 32, "linear_units": 48, "num_blocks": 2, "tp_blocks": 1}
DIFFERENT_CLIPS = 16
BATCHES = 4
"""In a timed call of our engine."""

MOST_CLIPS = 64
"""In one batch of our engine, as in the server's. FunASR gets a quarter: it is slower."""

HUB_FILES = {
    "file_path_metas": {
        "init_param": "model.pt",
        "config": CONFIG,
        "tokenizer_conf": {"bpemodel": next(models.DEMO_MODEL.glob("*.bpe.model")).name},
        "frontend_conf": {"cmvn_file": CMVN},
    }
}
"""``configuration.json``, where FunASR looks for a model's files."""


def model(folder: Path, *, tiny: bool, pickled: bool = False) -> Path:
    """A directory with random weights like the embedded model's, full-size unless ``tiny``."""
    sizes = TINY if tiny else models.FULL_SIZE

    def make(destination: Path) -> None:
        write_random_model(models.DEMO_MODEL, destination, sizes, pickled=pickled)
        if pickled:
            models.without_dither(destination)
            (destination / models.CONFIGURATION).write_text(json.dumps(HUB_FILES))

    files = [models.REPOSITORY / "pipelines" / "random_model.py", models.DEMO_MODEL / "config.yaml"]
    files += sorted((models.REPOSITORY / "predictor" / "engine").glob("*.py"))
    name = f"gpu-{'tiny-' if tiny else ''}{'hub' if pickled else 'prepared'}"
    return models.cached(folder / "models", name, models.digest(files), make)


def waveforms(folder: Path, clip_s: float) -> list[Waveform]:
    return [
        Waveform(read_wav(path)) for path in write_clips(folder / "clips", clip_s, DIFFERENT_CLIPS)
    ]


def rates(
    work: Callable[[], Any], audio_s: float, device: torch.device, repeats: int
) -> dict[str, Any]:
    found = spread([audio_s / wall for wall in seconds(work, device, repeats)])
    return {"audio_s_per_s": found["median"], "audio_s_per_s_spread": found}


def engine(
    plan: Plan, device: torch.device, folder: Path, *, tiny: bool
) -> Iterator[dict[str, Any]]:
    """:meth:`Engine.recognize` on clips in memory, its Python included. Random weights emit a token
    nearly every frame, trained ones one in several: decoding is dearer here than in life."""
    directory = model(folder, tiny=tiny)
    for precision in plan.precisions:
        ours = Engine(directory, str(device), precision)
        for clip_s in plan.clips_s:
            sources = waveforms(folder, clip_s)
            for batch in (size for size in plan.batches if size <= MOST_CLIPS):
                clips = [
                    clip
                    for index in range(batch)
                    for clip in ours.open(sources[index % len(sources)], OPTIONS)
                ]
                heard = ours.recognize(clips)
                work = partial(side_by_side, ours, clips, BATCHES)
                yield {
                    "precision": precision,
                    "network": type(ours.network).__name__,
                    "passes": ours.passes,
                    "clip_s": clip_s,
                    "batch": batch,
                    "tokens_per_clip": sum(len(each.tokens) for each in heard) / batch,
                    **rates(work, BATCHES * clip_s * batch, device, plan.repeats),
                }


def side_by_side(ours: Engine, clips: Sequence[Any], batches: int) -> None:
    """As the server: as many batches at once as the engine takes."""
    with ThreadPoolExecutor(ours.passes) as pool:
        for done in [pool.submit(ours.recognize, clips) for _ in range(batches)]:
            done.result()


def funasr(
    plan: Plan, device: torch.device, folder: Path, *, tiny: bool
) -> Iterator[dict[str, Any]]:
    """``AutoModel.generate`` on clips in memory: in float32 as it comes, and under autocast to bf16, the
    best that can be made of it (its own ``bf16`` option fails: its features stay float32)."""
    from funasr import AutoModel

    theirs = AutoModel(
        model=str(model(folder, tiny=tiny, pickled=True)),
        device=str(device),
        disable_update=True,
        disable_pbar=True,
        log_level="ERROR",
    )

    def generate(samples: Sequence[Any], *, half: bool) -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            theirs.generate(
                list(samples), batch_size=len(samples), language="auto", use_itn=True, cache={}
            )

    for precision in ("fp32", "bf16 autocast"):
        for clip_s in plan.clips_s:
            sources = [each.samples for each in waveforms(folder, clip_s)]
            for batch in (size for size in plan.batches if size <= MOST_CLIPS // 4):
                samples = [sources[index % len(sources)] for index in range(batch)]
                work = partial(generate, samples, half=precision != "fp32")
                yield {
                    "precision": precision,
                    "clip_s": clip_s,
                    "batch": batch,
                    **rates(work, clip_s * batch, device, min(plan.repeats, 3)),
                }


def server(device: torch.device, folder: Path, *, tiny: bool) -> Iterator[dict[str, Any]]:
    """WAV files over loopback to one server process, with locust on the same machine's cores."""
    import kserve  # noqa: F401 - says what is missing before a server is started

    if not LOCUST_PYTHON.is_file():
        raise ImportError(f"no environment with locust: {LOCUST_PYTHON}")
    clip_s = 2.0 if tiny else 30.0
    clips = write_clips(folder / "clips", clip_s, DIFFERENT_CLIPS)
    http_port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "predictor", "serve", "--log_level=warning"]
    command += [f"--model_dir={model(folder, tiny=tiny)}", f"--device={device}"]
    command += [f"--http_port={http_port}", f"--grpc_port={grpc_port}"]
    command += ["--max_batch_seconds=1920", "--max_queue_seconds=20000"]
    threads = len(os.sched_getaffinity(0))
    with Server(command, OURS_API, http_port, threads, folder / "server-gpu.log") as ours:
        ours.wait()
        ours.post(clips[0].read_bytes())
        for concurrency in (2,) if tiny else (1, 32, 256):
            load_s = 2.0 if tiny else 20.0
            done = make_load(ours, clips, load_s, folder, LOCUST_PYTHON, users=concurrency)
            figures = summary(done, clip_s)
            yield {"clip_s": clip_s, "concurrency": concurrency, **figures}
