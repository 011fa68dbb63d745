"""The filter bank for a batch gives what the one for a clip gives."""

import numpy as np
import pytest
import torch

from predictor.engine.batch_frontend import BatchFrontend, Layout
from predictor.engine.frontend import Frontend, FrontendConfig

CONFIG = FrontendConfig()
CPU = torch.device("cpu")
LENGTHS = [1, 399, 400, 401, 560, 16_000, 16_001, 16_159, 48_123, 100]
RNG = np.random.default_rng(0)
CMVN = RNG.normal(0, 1, (2, CONFIG.feature_size)).astype(np.float32)


def speech_like(length):
    """A loud harmonic tone over an offset beside a whisper of noise: bins 100 dB apart."""
    time = np.arange(length) / 16_000
    tone = sum(np.sin(2 * np.pi * 110 * n * time) / n for n in range(1, 12))
    return (0.3 * tone + 0.05 + RNG.normal(0, 1e-5, length)).astype(np.float32)


def made(clips, frames=None, device=CPU):
    frontend, layout = BatchFrontend(CONFIG, CMVN, device), Layout(CONFIG, clips)
    sizes = (torch.from_numpy(each).to(device) for each in (layout.first_window, layout.n_windows))
    frames = frames or int(layout.n_frames.max())
    return frontend(layout.write(pinned=False).to(device), *sizes, frames), layout.n_frames


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1], [16_000], [1]], ids=str)
def test_features_of_a_batch_are_those_of_each_clip(lengths):
    clips = [speech_like(length) for length in lengths]
    together, n_frames = made(clips)
    one = Frontend(CONFIG, CMVN)
    assert together.dtype == torch.float32
    for clip, features, n in zip(clips, together.numpy(), n_frames, strict=True):
        expected = one(clip)
        assert n == len(expected)
        np.testing.assert_allclose(features[:n], expected, atol=2e-5)


def test_neighbours_change_nothing():
    """To the last bit: a window that reaches over a border belongs to nobody."""
    clip, loud = speech_like(12_345), np.ones(9_999, np.float32)
    alone, (n, *_) = made([clip])
    among, _ = made([clip, loud])
    behind, _ = made([loud, clip])
    assert torch.equal(alone[0, :n], among[0, :n])
    assert torch.equal(alone[0, :n], behind[1, :n])


def test_padding_is_finite_whatever_its_length():
    features, _ = made([speech_like(400), speech_like(4_000)], frames=90)
    assert features.shape == (2, 90, CONFIG.feature_size)
    assert bool(features.isfinite().all())


def test_many_windows_are_worked_on_in_turns(monkeypatch):
    clips = [speech_like(length) for length in LENGTHS]
    expected, _ = made(clips)
    monkeypatch.setattr("predictor.engine.batch_frontend.WINDOWS_AT_ONCE", 7)
    torch.testing.assert_close(made(clips)[0], expected, atol=1e-5, rtol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_features_on_a_gpu_are_those_of_the_cpu():
    clips = [speech_like(length) for length in LENGTHS]
    on_gpu, n_frames = made(clips, device=torch.device("cuda"))
    for clip, features, n in zip(clips, on_gpu.cpu().numpy(), n_frames, strict=True):
        np.testing.assert_allclose(features[:n], Frontend(CONFIG, CMVN)(clip), atol=1e-3)
