from itertools import pairwise

import numpy as np
import pytest

from tests.benchmarks.clips import write_clips
from tests.benchmarks.workers.loop import read_wav


@pytest.mark.parametrize("seconds", [2, 30])
def test_clips_are_different_real_speech_of_exact_length(tmp_path, seconds):
    clips = [read_wav(path) for path in write_clips(tmp_path, seconds, 3)]
    assert [len(clip) for clip in clips] == [seconds * 16000] * 3
    for clip, other in pairwise(clips):
        assert not np.array_equal(clip, other)
    # Speech, not silence and not clipped.
    assert all(0.01 < np.sqrt(np.mean(clip**2)) < 0.5 for clip in clips)


def test_every_run_hears_the_same(tmp_path):
    one, again = (write_clips(tmp_path / name, 2, 2) for name in ("one", "again"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in again]
