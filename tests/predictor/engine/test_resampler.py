"""The same samples as PyAV's resampler, without its threads."""

from pathlib import Path

import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from predictor.engine.resampler import Resampler


def frames(sample_format: str, layout: str, rate: int) -> list[AudioFrame]:
    """A second of noise."""
    generator = np.random.default_rng(rate)
    n_channels = {"mono": 1, "stereo": 2}[layout]
    made = []
    for _ in range(10):
        noise = generator.uniform(-0.5, 0.5, (n_channels, rate // 10)).astype(np.float32)
        if sample_format == "s16":
            noise = (32767 * noise).astype(np.int16)
        if not sample_format.endswith("p"):
            noise = np.ascontiguousarray(noise.T).reshape(1, -1)
        frame = AudioFrame.from_ndarray(noise, format=sample_format, layout=layout)
        frame.sample_rate, frame.pts = rate, None
        made.append(frame)
    return made


@pytest.mark.parametrize("layout", ["mono", "stereo"])
@pytest.mark.parametrize("rate", [8000, 16_000, 44_100])
@pytest.mark.parametrize("sample_format", ["s16", "flt", "fltp"])
def test_samples(sample_format: str, layout: str, rate: int) -> None:
    ours = Resampler()
    theirs = AudioResampler(format="flt", layout=layout, rate=16_000)
    both = []
    for resampler in (ours, theirs):
        given = [*frames(sample_format, layout, rate), None]
        both.append([out.to_ndarray() for frame in given for out in resampler.resample(frame)])
    assert [len(each) for each in both[0]] == [len(each) for each in both[1]]
    np.testing.assert_array_equal(*(np.concatenate(each, axis=1) for each in both))


def test_no_threads() -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    resamplers = [Resampler() for _ in range(8)]
    for resampler in resamplers:
        resampler.resample(frames("s16", "mono", 8000)[0])
    assert len(list(Path("/proc/self/task").iterdir())) == before


def test_frames_of_another_kind() -> None:
    resampler = Resampler()
    resampler.resample(frames("s16", "mono", 8000)[0])
    with pytest.raises(ValueError, match="follows"):
        resampler.resample(frames("s16", "stereo", 8000)[0])


def test_nothing() -> None:
    assert Resampler().resample(None) == []
