"""A model hub's directory → a prepared model directory.

The one place that opens a pickle, and with ``weights_only=True`` (safe since torch 2.6, CVE-2025-32434).
"""

import os
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from predictor.engine import int8
from predictor.engine.checkpoint import (
    CMVN,
    COMPILED_ENCODER,
    COMPILED_HEAD,
    CONFIG,
    INT8_WEIGHTS,
    MANIFEST,
    PICKLED_WEIGHTS,
    WEIGHTS,
    Manifest,
    read_manifest,
    verify,
    write_manifest,
)
from predictor.engine.config import read_config
from predictor.engine.cpu import multiplies_int8
from predictor.engine.errors import InvalidModel
from predictor.engine.network import NetworkConfig
from predictor.engine.quantize import quantize
from predictor.engine.tokenizer import Tokenizer
from predictor.engine.torch_network import build_module


def prepare(
    source: Path,
    destination: Path,
    *,
    name: str = "SenseVoiceSmall",
    origin: str = "",
    revision: str = "",
    licence: str = "",
    compiled: bool = True,
) -> Manifest:
    """Turn a ModelScope directory into a prepared model directory, all or nothing.

    The files are written beside ``destination`` and renamed into place when they are whole, so a killed
    run leaves nothing that looks like a model. A destination that already holds the same content is
    left as it is.

    Args:
        source: holds ``model.pt``, ``config.yaml``, ``am.mvn`` and one ``*.bpe.model``.
        destination: must not exist, or hold the same model.
        name: the model's name.
        origin: where the files came from; the source directory's name unless given.
        revision: commit or tag of the origin.
        licence: SPDX id or name.
        compiled: also keep the int8 graphs compiled for this machine's CPU, if it multiplies int8.
            Servers on such CPUs start in half the time; elsewhere they are not read.

    Raises:
        InvalidModel: the source lacks a file, or its weights do not fit its config.
        FileExistsError: the destination holds something else.
    """
    tokenizers = sorted(source.glob("*.bpe.model"))
    if len(tokenizers) != 1:
        raise InvalidModel(f"{source}: expected one *.bpe.model, found {len(tokenizers)}")
    for file in (PICKLED_WEIGHTS, CONFIG, CMVN):
        if not (source / file).is_file():
            raise InvalidModel(f"{source}: no {file}")
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        dir=destination.parent, prefix=f".{destination.name}.", ignore_cleanup_errors=True
    ) as scratch:
        staged = Path(scratch) / destination.name
        staged.mkdir()
        for file in (CONFIG, CMVN, tokenizers[0].name):
            shutil.copyfile(source / file, staged / file)
        _, config = read_config(staged / CONFIG, Tokenizer(tokenizers[0]).vocab_size)
        state = _read_pickled_weights(source / PICKLED_WEIGHTS)
        build_module(config, state)
        save_file(state, staged / WEIGHTS)
        compiled_for = write_int8(staged, config, compiled=compiled)
        manifest = write_manifest(
            staged,
            tokenizers[0].name,
            name,
            source=origin or source.name,
            revision=revision,
            licence=licence,
            compiled_for=compiled_for,
        )
        for path in staged.iterdir():
            # The server runs as another user than the one who prepares, and safetensors writes 0600.
            path.chmod(0o644)
            _sync(path)
        _sync(staged)
        try:
            staged.rename(destination)
        except OSError:
            if not (destination / MANIFEST).is_file():
                raise FileExistsError(f"{destination} exists and is not a model") from None
            existing = read_manifest(destination)
            if existing.digest != manifest.digest:
                raise FileExistsError(
                    f"{destination} holds another model, digest {existing.digest[:12]}"
                ) from None
            verify(destination, existing, existing.files)
            manifest = existing
        _sync(destination.parent)
    return manifest


def write_int8(directory: Path, config: NetworkConfig, *, compiled: bool) -> str:
    """Quantise ``model.safetensors`` of a directory, and perhaps compile it for this machine's CPU.

    Returns:
        What it was compiled for, empty if it was not.
    """
    # Through torch, because NumPy has no bfloat16.
    state = load_file(directory / WEIGHTS)
    weights = quantize({name: tensor.float().numpy() for name, tensor in state.items()})
    save_arrays(weights, directory / INT8_WEIGHTS)
    if not compiled or not multiplies_int8():
        return ""
    graphs = int8.graph_builder()(config, weights)
    int8.compile_graph(graphs.encoder(), threads=1).save(directory / COMPILED_ENCODER)
    int8.compile_graph(graphs.head(), threads=1, exact=True).save(directory / COMPILED_HEAD)
    return int8.target()


def _sync(path: Path) -> None:
    """Force a file or directory to disk, so that a rename never outlives its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_pickled_weights(path: Path) -> dict[str, Tensor]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InvalidModel(f"{path.name}: not a plain state dict of tensors") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InvalidModel(f"{path.name}: not a plain state dict of tensors")
    return {name: tensor.contiguous() for name, tensor in state.items()}
