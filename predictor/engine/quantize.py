"""The network's weights in int8.

Each linear layer's weights become int8, symmetric, with one scale for each output channel. Activations are
quantised at run time, one scale for each row (a frame of one clip), so nothing is calibrated and no clip
changes another's numbers. Everything else (norms, biases, FSMN kernels, query embedding) stays float32.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""Weights lie in [-127, 127]: -128 would have no counterpart."""

SCALE_SUFFIX = ".scale"


def quantize(weights: Mapping[str, NDArray[np.floating]]) -> dict[str, NDArray[np.generic]]:
    """Float weights by FunASR's names → int8 [out, in] matrices, ``<name>.scale`` float32 [out], and the
    rest in float32.

    A matrix equals ``int8 * scale[:, None]`` to within half a scale.
    """
    quantized: dict[str, NDArray[np.generic]] = {}
    for name, value in weights.items():
        weight = value.astype(np.float32)
        if not is_linear(name, weight):
            quantized[name] = weight
            continue
        scale = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny) / LEVELS
        quantized[name] = np.rint(weight / scale[:, None]).astype(np.int8)
        quantized[name + SCALE_SUFFIX] = scale
    return quantized


def is_linear(name: str, weight: NDArray[np.generic]) -> bool:
    """Whether a tensor is a linear layer's matrix; the query embedding is a table."""
    return weight.ndim == 2 and name != "embed.weight"
