"""SenseVoice's network as OpenVINO graphs of int8 products.

Each linear layer multiplies 8-bit integers and sums in int32. A row of activations is divided by its own
largest magnitude, shifted by 1 and rounded to 256 levels, for CPUs multiply unsigned by signed bytes; what
the shift adds to a product is the same for every row, and is taken away behind it before the row's scale is
multiplied back. OpenVINO takes such a layer for statically quantised and so runs its fastest kernels,
though every scale is dynamic: the range it is told, [0, 2), holds for any row. Attention, norms and the
FSMN stay floating point.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from predictor.engine.network import N_QUERIES, NetworkConfig
from predictor.engine.quantize import SCALE_SUFFIX

GRAPH_VERSION = 3
"""Raised with every change to what :class:`GraphBuilder` builds: graphs that an older release compiled then
are built anew."""

NORM_EPSILON = 1e-5
"""As torch's LayerNorm."""

SMALLEST_SCALE = 1e-12
"""A row of zeros must not be divided by zero."""

Weights = Mapping[str, NDArray[Any]]


class Rows(NamedTuple):
    """Quantised activations.

    Attributes:
        values: rows divided by their largest magnitudes, plus ``shift``, rounded to 256 levels.
        largest: the magnitudes, at least ``SMALLEST_SCALE``.
    """

    values: Node
    largest: Node
    shift: float


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
        embedded = op.gather(constant(self._weights["embed.weight"]), queries, integers(0))
        x = op.concat([embedded, features], 1)
        frames = op.gather(op.shape_of(x), integers(1), integers(0))
        positions = op.range(integers(1), op.add(frames, integers(1)), integers(1), "i64")
        x = op.add(
            op.multiply(x, constant(math.sqrt(config.output_size))), self._sinusoids(positions)
        )
        real = op.less_equal(
            op.unsqueeze(positions, integers(0)), op.unsqueeze(n_frames, integers(1))
        )
        x, keep = (
            self._enter(x),
            self._enter(op.unsqueeze(op.convert(real, np.float32), integers(2))),
        )
        hide = op.select(real, constant(0.0), constant(-np.inf))
        hide = op.unsqueeze(op.unsqueeze(hide, integers(1)), integers(1))
        for name in config.blocks[: config.num_blocks]:
            x = self._block(x, f"{name}.", keep, hide)
        x = self._norm(x, "encoder.after_norm")
        for name in config.blocks[config.num_blocks :]:
            x = self._block(x, f"{name}.", keep, hide)
        x = self._norm(x, "encoder.tp_norm")
        return ov.Model([op.result(self._leave(x))], [features, n_frames, queries], "encoder")

    def head(self) -> ov.Model:
        frames = op.parameter(ov.PartialShape([-1, self._config.output_size]), np.float32)
        rows = self._rows(self._enter(op.unsqueeze(frames, integers(0))))
        logits = self._leave(self._linear(rows, "ctc.ctc_lo"))
        return ov.Model([op.result(op.squeeze(logits, integers(0)))], [frames], "head")

    def _sinusoids(self, positions: Node) -> Node:
        """int64 [frames] → float32 [frames, input_size], as ``encoder.sinusoidal_positions``."""
        half = self._config.input_size // 2
        step = math.log(10000.0) / (self._config.input_size / 2 - 1)
        inverse = np.exp(np.arange(half) * -step)
        angles = op.multiply(
            op.unsqueeze(op.convert(positions, np.float32), integers(1)), constant(inverse)
        )
        return op.concat([op.sin(angles), op.cos(angles)], 1)

    def _block(self, x: Node, name: str, keep: Node, hide: Node) -> Node:
        attended = self._attention(self._norm(x, f"{name}norm1"), f"{name}self_attn.", keep, hide)
        # Only the first block, which maps the features to the network's width, has no residual.
        if self._weights[f"{name}norm1.weight"].shape[0] == self._config.output_size:
            attended = op.add(x, attended)
        rows = self._rows(self._norm(attended, f"{name}norm2"))
        hidden = op.relu(self._linear(rows, f"{name}feed_forward.w_1"))
        rows = self._rows(hidden, positive=True)
        return op.add(attended, self._linear(rows, f"{name}feed_forward.w_2"))

    def _attention(self, x: Node, name: str, keep: Node, hide: Node) -> Node:
        size, heads = self._config.output_size, self._config.attention_heads
        rows = self._rows(x)
        # Scaling the queries' weights scales the scores.
        query = self._linear(rows, f"{name}linear_q_k_v", slice(0, size), (size // heads) ** -0.5)
        key = self._linear(rows, f"{name}linear_q_k_v", slice(size, 2 * size))
        value = self._linear(rows, f"{name}linear_q_k_v", slice(2 * size, 3 * size))
        attended = self._attend(query, key, value, hide)
        out = self._linear(self._rows(attended), f"{name}linear_out")
        # FSMN: a depthwise convolution over time, and the value itself.
        kernel = self._weights[f"{name}fsmn_block.weight"].copy()
        kernel[:, 0, (kernel.shape[2] - 1) // 2] += 1
        return op.add(out, self._convolve(op.multiply(value, keep), kernel))

    def _linear(self, rows: Rows, name: str, out: slice = slice(None), factor: float = 1.0) -> Node:
        """A layer's weights (of the output channels ``out``) times the rows, times ``factor``."""
        weight = self._weights[f"{name}.weight"][out]
        scale = self._weights[f"{name}.weight{SCALE_SUFFIX}"][out] * factor
        product = self._product(rows.values, weight, scale)
        if rows.shift:
            added = weight.sum(axis=1, dtype=np.int64) * scale.astype(np.float64) * rows.shift
            product = op.subtract(product, self._channels(added))
        bias = self._weights[f"{name}.bias"][out] * factor
        return op.add(op.multiply(product, rows.largest), self._channels(bias))

    def _rows(self, x: Node, positive: bool = False) -> Rows:
        """
        Args:
            positive: nothing in ``x`` is below 0.
        """
        channels = integers([self._channel_axis])
        largest = op.reduce_max(x, channels, True)
        if not positive:
            largest = op.maximum(largest, op.negative(op.reduce_min(x, channels, True)))
        largest = op.maximum(largest, constant(SMALLEST_SCALE))
        low, high = (0.0, 1.0) if positive else (-1.0, 127 / 128)
        shift = 0.0 if positive else self._shift
        bounds = [constant(bound) for bound in (low, high, low + shift, high + shift)]
        return Rows(op.fake_quantize(op.divide(x, largest), *bounds, 256), largest, shift)

    # What follows depends on how frames lie in memory: here as [batch, frames, channels].

    _channel_axis = -1

    _shift = 1.0
    """Of rows, which makes them unsigned; 0 leaves them signed."""

    def _enter(self, x: Node) -> Node:
        """[batch, frames, channels] → as frames lie here."""
        return x

    def _leave(self, x: Node) -> Node:
        return x

    def _channels(self, values: NDArray[np.floating]) -> Node:
        """One number for each channel."""
        return constant(values)

    def _norm(self, x: Node, name: str) -> Node:
        normed = op.mvn(x, integers([-1]), True, NORM_EPSILON, "inside_sqrt")
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return op.add(op.multiply(normed, constant(scale)), constant(shift))

    def _product(self, rows: Node, weight: NDArray[np.int8], scale: NDArray[np.floating]) -> Node:
        """Quantised rows times int8 [out, in] times ``scale`` [out]."""
        return op.matmul(rows, dequantized(weight, scale), False, True)

    def _attend(self, query: Node, key: Node, value: Node, hide: Node) -> Node:
        scores = op.add(op.matmul(self._split(query), self._split(key), False, True), hide)
        attended = op.matmul(op.softmax(scores, -1), self._split(value), False, False)
        joined = op.transpose(attended, integers([0, 2, 1, 3]))
        return op.reshape(joined, integers([0, 0, self._config.output_size]), True)

    def _split(self, x: Node) -> Node:
        """[batch, frames, size] → [batch, heads, frames, size / heads]."""
        heads = self._config.attention_heads
        shape = [0, 0, heads, self._config.output_size // heads]
        return op.transpose(op.reshape(x, integers(shape), True), integers([0, 2, 1, 3]))

    def _convolve(self, x: Node, kernel: NDArray[np.float32]) -> Node:
        """Over time, each channel with its own kernel [channels, 1, taps]."""
        channels_first = op.transpose(op.unsqueeze(x, integers(1)), integers([0, 3, 1, 2]))
        out = depthwise_convolution(channels_first, kernel)
        return op.squeeze(op.transpose(out, integers([0, 2, 3, 1])), integers(1))


def depthwise_convolution(x: Node, kernel: NDArray[np.float32]) -> Node:
    """[batch, channels, 1, frames], a kernel [channels, 1, taps] for each channel; zero padding."""
    left = (kernel.shape[2] - 1) // 2
    right = kernel.shape[2] - 1 - left
    kernels = constant(kernel[:, None, :, None, :])
    return op.group_convolution(x, kernels, [1, 1], [0, left], [0, right], [1, 1])


def dequantized(weight: NDArray[np.int8], scale: NDArray[np.floating]) -> Node:
    """The form in which OpenVINO knows int8 weights [out, ...] with a scale for each output channel."""
    per_channel = scale.reshape(-1, *[1] * (weight.ndim - 1))
    whole = op.constant(np.ascontiguousarray(weight))
    return op.multiply(op.convert(whole, np.float32), constant(per_channel))


def constant(value: Any) -> Node:
    return op.constant(np.ascontiguousarray(value, dtype=np.float32))


def integers(value: int | Sequence[int]) -> Node:
    return op.constant(np.array(value, np.int64))
