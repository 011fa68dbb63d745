"""SenseVoice's network as OpenVINO graphs of int8 products.

Each linear layer multiplies int8 by int8 and sums in int32. A row of activations is divided by its own
largest magnitude and rounded to 256 levels; the row's scale is multiplied back behind the product. OpenVINO
takes such a layer for statically quantised, and so runs its fastest kernels, though every scale is dynamic:
the range it is told, [-1, 1), holds for any row. Attention, norms and the FSMN stay float32.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from predictor.engine.network import N_QUERIES, NetworkConfig
from predictor.engine.quantize import SCALE_SUFFIX

GRAPH_VERSION = 1
"""Raised with every change to what :class:`GraphBuilder` builds: graphs that an older release compiled then
are built anew."""

NORM_EPSILON = 1e-5
"""As torch's LayerNorm."""

SMALLEST_SCALE = 1e-12
"""A row of zeros must not be divided by zero."""

Weights = Mapping[str, NDArray[Any]]


class GraphBuilder:
    """Graphs around quantised weights.

    Args:
        config: sizes.
        weights: of :func:`~predictor.engine.quantize.quantize`.
    """

    def __init__(self, config: NetworkConfig, weights: Weights) -> None:
        self._config = config
        self._weights = weights

    def encoder(self) -> ov.Model:
        config = self._config
        features = op.parameter(ov.PartialShape([-1, -1, config.input_size]), np.float32)
        n_frames = op.parameter(ov.PartialShape([-1]), np.int64)
        queries = op.parameter(ov.PartialShape([-1, N_QUERIES]), np.int64)
        embedded = op.gather(_constant(self._weights["embed.weight"]), queries, _integers(0))
        x = op.concat([embedded, features], 1)
        frames = op.gather(op.shape_of(x), _integers(1), _integers(0))
        positions = op.range(_integers(1), op.add(frames, _integers(1)), _integers(1), "i64")
        x = op.add(
            op.multiply(x, _constant(math.sqrt(config.output_size))), self._sinusoids(positions)
        )
        real = op.less_equal(
            op.unsqueeze(positions, _integers(0)), op.unsqueeze(n_frames, _integers(1))
        )
        keep = op.unsqueeze(op.convert(real, np.float32), _integers(2))
        hide = op.select(real, _constant(0.0), _constant(-np.inf))
        hide = op.unsqueeze(op.unsqueeze(hide, _integers(1)), _integers(1))
        for name in config.blocks[: config.num_blocks]:
            x = self._block(x, f"{name}.", keep, hide)
        x = self._norm(x, "encoder.after_norm")
        for name in config.blocks[config.num_blocks :]:
            x = self._block(x, f"{name}.", keep, hide)
        x = self._norm(x, "encoder.tp_norm")
        return ov.Model([op.result(x)], [features, n_frames, queries], "encoder")

    def head(self) -> ov.Model:
        frames = op.parameter(ov.PartialShape([-1, self._config.output_size]), np.float32)
        return ov.Model([op.result(self._linear(*_rows(frames), "ctc.ctc_lo"))], [frames], "head")

    def _sinusoids(self, positions: Node) -> Node:
        """int64 [frames] → float32 [frames, input_size], as ``encoder.sinusoidal_positions``."""
        half = self._config.input_size // 2
        step = math.log(10000.0) / (self._config.input_size / 2 - 1)
        inverse = np.exp(np.arange(half) * -step)
        angles = op.multiply(
            op.unsqueeze(op.convert(positions, np.float32), _integers(1)), _constant(inverse)
        )
        return op.concat([op.sin(angles), op.cos(angles)], 1)

    def _block(self, x: Node, name: str, keep: Node, hide: Node) -> Node:
        attended = self._attention(self._norm(x, f"{name}norm1"), f"{name}self_attn.", keep, hide)
        # Only the first block, which maps the features to the network's width, has no residual.
        if self._weights[f"{name}norm1.weight"].shape[0] == self._config.output_size:
            attended = op.add(x, attended)
        rows = _rows(self._norm(attended, f"{name}norm2"))
        hidden = op.relu(self._linear(*rows, f"{name}feed_forward.w_1"))
        rows = _rows(hidden, positive=True)
        return op.add(attended, self._linear(*rows, f"{name}feed_forward.w_2"))

    def _attention(self, x: Node, name: str, keep: Node, hide: Node) -> Node:
        size, heads = self._config.output_size, self._config.attention_heads
        rows = _rows(x)
        # Scaling the queries' weights scales the scores.
        query = self._linear(*rows, f"{name}linear_q_k_v", slice(0, size), (size // heads) ** -0.5)
        key = self._linear(*rows, f"{name}linear_q_k_v", slice(size, 2 * size))
        value = self._linear(*rows, f"{name}linear_q_k_v", slice(2 * size, 3 * size))
        scores = op.add(op.matmul(self._split(query), self._split(key), False, True), hide)
        attended = op.matmul(op.softmax(scores, -1), self._split(value), False, False)
        joined = op.reshape(
            op.transpose(attended, _integers([0, 2, 1, 3])), _integers([0, 0, size]), True
        )
        out = self._linear(*_rows(joined), f"{name}linear_out")
        return op.add(out, self._memory(op.multiply(value, keep), f"{name}fsmn_block.weight"))

    def _split(self, x: Node) -> Node:
        """[batch, frames, size] → [batch, heads, frames, size / heads]."""
        heads = self._config.attention_heads
        shape = [0, 0, heads, self._config.output_size // heads]
        return op.transpose(op.reshape(x, _integers(shape), True), _integers([0, 2, 1, 3]))

    def _memory(self, value: Node, name: str) -> Node:
        """FSMN: a depthwise convolution over time, and the value itself."""
        kernel = self._weights[name].copy()
        left = (kernel.shape[2] - 1) // 2
        kernel[:, 0, left] += 1
        out = op.group_convolution(
            op.transpose(op.unsqueeze(value, _integers(1)), _integers([0, 3, 1, 2])),
            _constant(kernel[:, None, :, None, :]),
            [1, 1],
            [0, left],
            [0, kernel.shape[2] - 1 - left],
            [1, 1],
        )
        return op.squeeze(op.transpose(out, _integers([0, 2, 3, 1])), _integers(1))

    def _norm(self, x: Node, name: str) -> Node:
        normed = op.mvn(x, _integers([-1]), True, NORM_EPSILON, "inside_sqrt")
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return op.add(op.multiply(normed, _constant(scale)), _constant(shift))

    def _linear(
        self, rows: Node, largest: Node, name: str, out: slice = slice(None), factor: float = 1.0
    ) -> Node:
        """Quantised rows times a layer's weights (of the output channels ``out``), times ``factor``."""
        scale = self._weights[f"{name}.weight{SCALE_SUFFIX}"][out, None] * factor
        weight = np.ascontiguousarray(self._weights[f"{name}.weight"][out])
        dequantized = op.multiply(op.convert(op.constant(weight), np.float32), _constant(scale))
        product = op.multiply(op.matmul(rows, dequantized, False, True), largest)
        return op.add(product, _constant(self._weights[f"{name}.bias"][out] * factor))


def _rows(x: Node, positive: bool = False) -> tuple[Node, Node]:
    """Rows divided by their largest magnitude and rounded to 256 levels, and that magnitude [..., 1]."""
    largest = op.reduce_max(x, _integers([-1]), True)
    if not positive:
        lowest = op.reduce_min(x, _integers([-1]), True)
        largest = op.maximum(largest, op.negative(lowest))
    largest = op.maximum(largest, _constant(SMALLEST_SCALE))
    low, high = (0.0, 1.0) if positive else (-1.0, 127 / 128)
    bounds = [_constant(bound) for bound in (low, high, low, high)]
    return op.fake_quantize(op.divide(x, largest), *bounds, 256), largest


def _constant(value: Any) -> Node:
    return op.constant(np.ascontiguousarray(value, dtype=np.float32))


def _integers(value: int | Sequence[int]) -> Node:
    return op.constant(np.array(value, np.int64))
