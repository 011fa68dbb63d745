"""The int8 graphs for CPUs without VNNI, where OpenVINO's int8 convolutions are twice as fast as its int8
matrix products.

A linear layer is a convolution of width 1 over frames. Frames lie as [batch, channels, 1, frames] between
layers (in memory channels last), so that nothing is transposed but queries, keys and values.
"""

import numpy as np
from numpy.typing import NDArray
from openvino import Node
from openvino import opset15 as op

from predictor.engine.int8_graph import (
    NORM_EPSILON,
    GraphBuilder,
    constant,
    depthwise_convolution,
    dequantized,
    integers,
)

LEVELS = 63
"""Weights are rounded to [-63, 63]: such CPUs sum two products of an activation (up to 255) and a weight
into int16, and larger weights would saturate it."""


class ConvolutionGraphBuilder(GraphBuilder):
    """See :class:`~predictor.engine.int8_graph.GraphBuilder`."""

    _channel_axis = 1

    _shift = 0.0

    def _enter(self, x: Node) -> Node:
        return op.transpose(op.unsqueeze(x, integers(1)), integers([0, 3, 1, 2]))

    def _leave(self, x: Node) -> Node:
        return op.squeeze(op.transpose(x, integers([0, 2, 3, 1])), integers(1))

    def _channels(self, values: NDArray[np.floating]) -> Node:
        return constant(values[:, None, None])

    def _norm(self, x: Node, name: str) -> Node:
        channels = integers([1])
        centred = op.subtract(x, op.reduce_mean(x, channels, True))
        variance = op.reduce_mean(op.multiply(centred, centred), channels, True)
        normed = op.divide(centred, op.sqrt(op.add(variance, constant(NORM_EPSILON))))
        scale, shift = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return op.add(op.multiply(normed, self._channels(scale)), self._channels(shift))

    def _product(self, rows: Node, weight: NDArray[np.int8], scale: NDArray[np.floating]) -> Node:
        rounded = np.rint(weight * (LEVELS / 127)).astype(np.int8)
        kernel = dequantized(rounded[:, :, None, None], scale * (127 / LEVELS))
        return op.convolution(rows, kernel, [1, 1], [0, 0], [0, 0], [1, 1])

    def _attend(self, query: Node, key: Node, value: Node, hide: Node) -> Node:
        scores = op.add(op.matmul(self._split(query), self._split(key), True, False), hide)
        attended = op.matmul(self._split(value), op.softmax(scores, -1), False, True)
        size = self._config.output_size
        return op.reshape(attended, integers([0, size, 1, -1]), True)

    def _split(self, x: Node) -> Node:
        """[batch, size, 1, frames] → [batch, heads, size / heads, frames]."""
        heads = self._config.attention_heads
        shape = [0, heads, self._config.output_size // heads, -1]
        return op.reshape(x, integers(shape), True)

    def _convolve(self, x: Node, kernel: NDArray[np.float32]) -> Node:
        return depthwise_convolution(x, kernel)
