"""Float weights → int8 and scales: to within half a step, and linear layers alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from predictor.engine.quantize import LEVELS, SCALE_SUFFIX, is_linear, quantize

NAME = "encoder.encoders.0.feed_forward.w_1.weight"


def restored(quantized, name=NAME):
    return quantized[name] * quantized[name + SCALE_SUFFIX][:, None]


@given(
    arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=8),
        elements=st.floats(-1e3, 1e3, width=32, allow_subnormal=False),
    )
)
def test_a_matrix_is_restored_to_within_half_a_scale(weight):
    quantized = quantize({NAME: weight})
    scale = quantized[NAME + SCALE_SUFFIX]
    assert (quantized[NAME].dtype, scale.dtype) == (np.int8, np.float32)
    assert scale.shape == weight.shape[:1]
    error = np.abs(restored(quantized).astype(np.float64) - weight)
    assert (error <= scale[:, None] * 0.5001).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_each_output_channel_has_its_own_scale(dtype):
    """A quiet channel beside a loud one keeps its digits."""
    weight = np.array([[1000, -500], [0.001, 0.0005], [-0.25, 0.125]], dtype)
    quantized = quantize({NAME: weight})
    expected = [[LEVELS, -64], [LEVELS, 64], [-LEVELS, 64]]
    np.testing.assert_allclose(quantized[NAME], expected, atol=1)
    np.testing.assert_allclose(restored(quantized), weight, rtol=0.01)


def test_the_largest_magnitude_of_a_row_is_kept_and_the_range_is_symmetric():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 32)).astype(np.float32)
    quantized = quantize({NAME: weight})
    assert (np.abs(quantized[NAME].astype(int)).max(axis=1) == LEVELS).all()
    largest = np.abs(weight).argmax(axis=1)
    rows = np.arange(64)
    np.testing.assert_allclose(restored(quantized)[rows, largest], weight[rows, largest], rtol=1e-6)


def test_what_int8_can_say_is_said_exactly():
    """Quantising what was quantised changes nothing."""
    rng = np.random.default_rng(0)
    once = quantize({NAME: rng.normal(size=(16, 8)).astype(np.float32)})
    twice = quantize({NAME: restored(once)})
    assert np.array_equal(once[NAME], twice[NAME])
    np.testing.assert_allclose(once[NAME + SCALE_SUFFIX], twice[NAME + SCALE_SUFFIX], rtol=1e-6)


def test_rows_of_zeros_stay_zeros():
    weight = np.zeros((3, 4), np.float32)
    weight[1] = 1
    quantized = quantize({NAME: weight})
    assert np.isfinite(quantized[NAME + SCALE_SUFFIX]).all()
    np.testing.assert_allclose(restored(quantized), weight)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("embed.weight", (16, 560)),
        ("encoder.encoders.0.norm1.weight", (512,)),
        ("encoder.encoders.0.feed_forward.w_1.bias", (2048,)),
        ("encoder.encoders.0.self_attn.fsmn_block.weight", (512, 1, 11)),
    ],
)
def test_all_but_linear_layers_stay_float32(name, shape):
    value = np.random.default_rng(0).normal(size=shape).astype(np.float16)
    quantized = quantize({name: value})
    assert not is_linear(name, value)
    assert list(quantized) == [name]
    assert quantized[name].dtype == np.float32
    assert np.array_equal(quantized[name], value)
