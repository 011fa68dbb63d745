"""Samples → features: those of FunASR, without its dither."""

from pathlib import Path

import numpy as np
import pytest
import torch

from predictor.engine import frontend as module
from predictor.engine.frontend import (
    WINDOWS_AT_ONCE,
    Frontend,
    FrontendConfig,
    low_frame_rate,
    read_cmvn,
)

WINDOW, HOP = 400, 160


def cmvn_text(shift, scale):
    def vector(values):
        return f"[ {' '.join(map(str, values))} ]"

    return (
        f"<Nnet>\n<AddShift> 560 560\n<LearnRateCoef> 0 {vector(shift)}\n"
        f"<Rescale> 560 560\n<LearnRateCoef> 0 {vector(scale)}\n</Nnet>\n"
    )


@pytest.fixture(scope="module")
def am_mvn(demo_model_dir: Path) -> Path:
    return demo_model_dir / "am.mvn"


@pytest.fixture(scope="module")
def frontend(am_mvn: Path) -> Frontend:
    return Frontend(FrontendConfig(), read_cmvn(am_mvn))


@pytest.fixture(scope="module")
def funasr_frontend(am_mvn: Path):
    wav_frontend = pytest.importorskip("funasr.frontends.wav_frontend")
    return wav_frontend.WavFrontend(
        cmvn_file=str(am_mvn), window="hamming", lfr_m=7, lfr_n=6, dither=0.0
    )


@pytest.mark.parametrize(
    "length",
    [400, 401, 559, 560, 400 + 5 * HOP, 400 + 6 * HOP, 403 + 7 * HOP, 4801, 16000, 16077, 48123],
)
def test_features_are_those_of_funasr(frontend, funasr_frontend, length):
    rng = np.random.default_rng(length)
    samples = rng.normal(0, 0.1, length).astype(np.float32)
    expected, _ = funasr_frontend(torch.from_numpy(samples)[None], torch.tensor([length]))
    np.testing.assert_allclose(frontend(samples), expected[0], atol=1e-3, rtol=0)


def log_mel_by_definition(samples):
    """Kaldi's filter bank written out in NumPy, float64: sums over windows, a Fourier matrix, triangles."""
    n = np.arange(WINDOW)
    rows = (len(samples) - WINDOW) // HOP + 1
    frames = np.stack([samples[HOP * i : HOP * i + WINDOW] for i in range(rows)]).astype(float)
    frames = frames * 32768
    frames -= frames.mean(axis=1, keepdims=True)
    frames[:, 1:] -= 0.97 * frames[:, :-1].copy()
    frames[:, 0] *= 1 - 0.97
    frames *= 0.54 - 0.46 * np.cos(2 * np.pi * n / (WINDOW - 1))
    power = np.abs(frames @ np.exp(-2j * np.pi * np.outer(n, np.arange(256)) / 512)) ** 2

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(20.0), mel(8000.0), 82)
    bins = mel(np.arange(256) * 16_000 / 512)
    weights = np.zeros((256, 80))
    for k in range(80):
        low, centre, high = edges[k : k + 3]
        rising, falling = (bins - low) / (centre - low), (high - bins) / (high - centre)
        weights[:, k] = np.clip(np.minimum(rising, falling), 0, None)
    return np.log(np.maximum(power @ weights, np.finfo(np.float32).eps))


def test_speech_features_are_exact(frontend, spoken):
    """Where FunASR differs by more, it is FunASR's float32 that rounds."""
    for clips in spoken.values():
        samples = clips[0].samples
        log_mel = frontend.log_mel(samples)
        np.testing.assert_allclose(log_mel, log_mel_by_definition(samples), atol=1e-5)


def test_speech_features_are_those_of_funasr(frontend, funasr_frontend, spoken):
    """But for rare bins 100 dB below their frame's loudest, where either side's rounding shows."""
    for clips in spoken.values():
        samples = clips[0].samples
        expected, _ = funasr_frontend(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        difference = np.abs(np.asarray(frontend(samples)) - expected[0].numpy())
        assert (difference <= 1e-3).mean() >= 0.9999
        assert difference.max() <= 1e-2


@pytest.mark.parametrize(
    "n_windows", [1, WINDOWS_AT_ONCE, WINDOWS_AT_ONCE + 1, 3 * WINDOWS_AT_ONCE]
)
def test_working_in_pieces_changes_nothing(am_mvn, monkeypatch, n_windows):
    rng = np.random.default_rng(n_windows)
    samples = rng.normal(0, 0.1, WINDOW + HOP * (n_windows - 1)).astype(np.float32)
    frontend = Frontend(FrontendConfig(), read_cmvn(am_mvn))
    pieces = frontend(samples)
    assert pieces.dtype == np.float32
    monkeypatch.setattr(module, "WINDOWS_AT_ONCE", n_windows)
    np.testing.assert_allclose(pieces, frontend(samples), atol=1e-6)


@pytest.mark.parametrize("length", [1, 100, WINDOW - 1])
def test_a_clip_shorter_than_one_window_gives_one_finite_frame(frontend, length):
    features = frontend(np.full(length, 0.1, np.float32))
    assert features.shape == (1, 560)
    assert np.isfinite(features).all()


@pytest.mark.parametrize(
    ("length", "n_windows"), [(WINDOW, 1), (WINDOW + HOP - 1, 1), (WINDOW + HOP, 2), (16000, 98)]
)
def test_only_whole_windows_count(frontend, length, n_windows):
    assert frontend.log_mel(np.zeros(length, np.float32)).shape == (n_windows, 80)


def test_digital_silence_is_finite(frontend):
    assert np.isfinite(frontend(np.zeros(16000, np.float32))).all()


def test_low_frame_rate_stacks_seven_every_six():
    """Three copies of the first frame go in front; the last frame fills the end."""
    stacked = low_frame_rate(np.arange(9.0)[:, None], 7, 6)
    assert stacked.tolist() == [[0, 0, 0, 0, 1, 2, 3], [3, 4, 5, 6, 7, 8, 8]]


def test_low_frame_rate_keeps_the_values_of_a_frame_together():
    frames = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert low_frame_rate(frames, 3, 2).tolist() == [[1, 10, 1, 10, 2, 20], [2, 20, 3, 30, 3, 30]]


@pytest.mark.parametrize("n_windows", range(1, 26))
def test_low_frame_rate_gives_one_frame_for_every_six_begun(n_windows):
    frames = np.zeros((n_windows, 80))
    assert low_frame_rate(frames, 7, 6).shape == (-(-n_windows // 6), 560)


def test_cmvn_adds_the_shift_then_scales(tmp_path):
    path = tmp_path / "am.mvn"
    path.write_text(cmvn_text(range(560), [2.0] * 560))
    identity = np.stack([np.zeros(560, np.float32), np.ones(560, np.float32)])
    samples = np.sin(np.arange(800, dtype=np.float32) / 5)
    plain = np.asarray(Frontend(FrontendConfig(), identity)(samples))
    shifted = Frontend(FrontendConfig(), read_cmvn(path))(samples)
    np.testing.assert_allclose(shifted, (plain + np.arange(560)) * 2, rtol=1e-6)


def test_the_published_cmvn_is_read(reference_files):
    assert read_cmvn(reference_files / "am.mvn").shape == (2, 560)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no <AddShift> vector"),
        ("<AddShift> 2 2 [ 1 2", "no <AddShift> vector"),
        ("<AddShift> 2 2 [ 1 two ]", "no <AddShift> vector"),
        ("<AddShift> 2 2 [ 1 2 ]", "no <Rescale> vector"),
        ("<AddShift> 2 2 [ 1 2 ] <Rescale> 2 2 [ 1 ]", "differ in length"),
    ],
)
def test_damaged_cmvn_files_are_named(tmp_path, text, message):
    path = tmp_path / "am.mvn"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"am.mvn: .*{message}"):
        read_cmvn(path)


def test_cmvn_of_another_model_is_refused():
    with pytest.raises(ValueError, match=r"CMVN must be \[2, 560\], not \[2, 80\]"):
        Frontend(FrontendConfig(), np.zeros((2, 80), np.float32))


@pytest.mark.parametrize("name", ["n_mels", "frame_length", "frame_shift", "lfr_m", "lfr_n"])
def test_sizes_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, not 0"):
        FrontendConfig(**{name: 0})


def test_other_windows_are_refused():
    with pytest.raises(ValueError, match="window must be 'hamming', not 'hanning'"):
        FrontendConfig(window="hanning")


def test_sizes_of_sensevoice_small():
    config = FrontendConfig()
    assert (config.window_samples, config.hop_samples) == (WINDOW, HOP)
    assert config.feature_size == 560
    assert config.seconds_per_frame == pytest.approx(0.06)
