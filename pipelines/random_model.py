"""Model directories with seeded random weights.

The published weights cannot ship with the project. Random ones of the same architecture measure speed
and numeric parity as well as trained ones do; they say nothing of accuracy.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from predictor.engine.checkpoint import CMVN, CONFIG, PICKLED_WEIGHTS, WEIGHTS, write_manifest
from predictor.engine.config import read_config
from predictor.engine.encoder import SenseVoiceNetwork
from predictor.engine.prepare import write_int8
from predictor.engine.tokenizer import Tokenizer


def write_random_model(
    like: Path,
    destination: Path,
    encoder_conf: Mapping[str, int] | None = None,
    *,
    seed: int = 0,
    pickled: bool = False,
) -> Path:
    """Write a model directory around random weights.

    Args:
        like: holds the ``config.yaml``, ``am.mvn`` and ``*.bpe.model`` to take.
        destination: made; must not exist.
        encoder_conf: sizes to change in the config.
        seed: of torch's generator.
        pickled: write ``model.pt`` as a model hub does, instead of a prepared directory.
    """
    destination.mkdir(parents=True)
    config = yaml.safe_load((like / CONFIG).read_text(encoding="utf-8"))
    config["encoder_conf"].update(encoder_conf or {})
    (destination / CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    tokenizer = next(like.glob("*.bpe.model"))
    for file in (like / CMVN, tokenizer):
        shutil.copyfile(file, destination / file.name)
    _, sizes = read_config(destination / CONFIG, Tokenizer(tokenizer).vocab_size)
    torch.manual_seed(seed)
    state = SenseVoiceNetwork(sizes).state_dict()
    if pickled:
        torch.save(state, destination / PICKLED_WEIGHTS)
        return destination
    save_file(state, destination / WEIGHTS)
    write_int8(destination, sizes, compiled=False)
    write_manifest(
        destination,
        tokenizer.name,
        "SenseVoiceSmall-random",
        notice="Random weights: no speech model.",
    )
    return destination
