"""The embedded model with noise on its weights: another version of it, as good or as bad as one likes.

A little noise makes a candidate that hears the same words under another digest; much of it makes one that a
release must refuse.
"""

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from predictor.engine.checkpoint import (
    CMVN,
    CONFIG,
    WEIGHTS,
    read_manifest,
    write_manifest,
)
from predictor.engine.config import read_config
from predictor.engine.prepare import write_int8
from predictor.engine.tokenizer import Tokenizer


def write_variant(model: Path, destination: Path, noise: float, seed: int = 0) -> Path:
    """Write a prepared model directory.

    Args:
        model: prepared directory to start from.
        destination: made; must not exist.
        noise: standard deviation of what is added to each tensor, in units of the tensor's own.
        seed: of torch's generator.
    """
    manifest = read_manifest(model)
    destination.mkdir(parents=True)
    for name in (CONFIG, CMVN, manifest.tokenizer):
        shutil.copyfile(model / name, destination / name)
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, tensor in load_file(model / WEIGHTS).items():
        values = tensor.float()
        scale = noise * float(values.std(correction=0))
        values += scale * torch.randn(values.shape, generator=generator)
        state[name] = values.to(tensor.dtype)
    save_file(state, destination / WEIGHTS)
    _, sizes = read_config(destination / CONFIG, Tokenizer(model / manifest.tokenizer).vocab_size)
    write_int8(destination, sizes, compiled=False)
    write_manifest(
        destination,
        manifest.tokenizer,
        manifest.name,
        source=manifest.source,
        revision=f"{manifest.version} with noise {noise:g}",
        licence=manifest.licence,
        notice=manifest.notice,
    )
    return destination
