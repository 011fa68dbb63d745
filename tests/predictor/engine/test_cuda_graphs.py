"""Which batches a graph is captured for. The graphs themselves need a GPU: test_cuda.py."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictor.engine.cuda_graphs import (
    FRAMES_STEP,
    MAX_BATCH,
    MAX_FRAMES,
    MAX_TOTAL_FRAMES,
    Bucket,
    bucket,
    single_clips,
)


@pytest.mark.parametrize(
    ("batch", "frames", "expected"),
    [
        (1, 5, Bucket(1, 32)),
        (1, 171, Bucket(1, 192)),
        (1, 504, Bucket(1, 512)),
        (3, 32, Bucket(4, 32)),
        (8, 505, Bucket(8, 512)),
        (1, 513, None),
        (9, 505, None),
        (33, 32, None),
    ],
)
def test_the_next_larger_size_is_taken(batch, frames, expected):
    assert bucket(batch, frames) == expected


@given(st.integers(1, 200), st.integers(5, 2_000))
def test_a_bucket_holds_its_batch_and_is_bounded(batch, frames):
    found = bucket(batch, frames)
    if found is None:
        # What is refused is large, or would be once rounded.
        assert batch * frames * 2 > MAX_TOTAL_FRAMES / 2 or frames > MAX_FRAMES or batch > MAX_BATCH
        return
    assert batch <= found.batch < 2 * batch
    assert frames <= found.frames < frames + FRAMES_STEP
    assert found.batch * found.frames <= MAX_TOTAL_FRAMES


def test_every_single_clip_of_up_to_thirty_seconds_is_ready_before_it_comes():
    """30 seconds are 500 frames behind the four queries."""
    assert {bucket(1, 4 + n) for n in range(1, 501)} == set(single_clips())
