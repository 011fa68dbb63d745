"""Waveform → features: kaldi log-mel filter bank, low frame rate stacking, mean-variance normalisation.

The filter bank follows Kaldi's ``feature-fbank.cc`` with the options of FunASR's ``WavFrontend`` and
dither 0: samples scaled to 16-bit range, DC removed and pre-emphasised per frame, Hamming window, power
spectrum, natural log. In NumPy, for the CPU; a GPU does whole batches in
:mod:`~predictor.engine.batch_frontend`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from predictor.engine.files import MIB, read_regular
from predictor.engine.types import SAMPLE_RATE, Samples

Array = NDArray[np.float32]

WINDOWS_AT_ONCE = 128
"""Analysis windows worked on together: so many stay in a core's cache, which halves the time."""

INT16_SCALE = 32768.0
PREEMPHASIS = 0.97
LOWEST_MEL_HZ = 20.0
LOG_FLOOR = 1.1920928955078125e-07
"""Smallest mel energy, float32 epsilon (Kaldi takes the same)."""


@dataclass(frozen=True, slots=True)
class FrontendConfig:
    """``frontend_conf`` of a checkpoint's ``config.yaml``. Lengths in milliseconds, rate in hertz."""

    fs: int = SAMPLE_RATE
    window: str = "hamming"
    n_mels: int = 80
    frame_length: int = 25
    frame_shift: int = 10
    lfr_m: int = 7
    lfr_n: int = 6

    def __post_init__(self) -> None:
        if self.fs != SAMPLE_RATE:
            raise ValueError(f"fs must be {SAMPLE_RATE}, not {self.fs}")
        if self.window != "hamming":
            raise ValueError(f"window must be 'hamming', not {self.window!r}")
        for name in ("n_mels", "frame_length", "frame_shift", "lfr_m", "lfr_n"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def window_samples(self) -> int:
        return self.fs * self.frame_length // 1000

    @property
    def hop_samples(self) -> int:
        return self.fs * self.frame_shift // 1000

    @property
    def feature_size(self) -> int:
        """Values in one stacked frame (560 for SenseVoiceSmall)."""
        return self.n_mels * self.lfr_m

    @property
    def seconds_per_frame(self) -> float:
        """Time from one stacked frame to the next (0.06 s for SenseVoiceSmall)."""
        return self.frame_shift * self.lfr_n / 1000


class Frontend:
    """Samples of one clip to normalised features.

    Args:
        config: sizes.
        cmvn: float32 [2, feature_size]: the shift and the scale of ``am.mvn``.
    """

    def __init__(self, config: FrontendConfig, cmvn: Array) -> None:
        if cmvn.shape != (2, config.feature_size):
            raise ValueError(
                f"CMVN must be [2, {config.feature_size}], not {list(cmvn.shape)}; "
                "is am.mvn of another model?"
            )
        self.config = config
        self._n_fft = 1 << (config.window_samples - 1).bit_length()
        self._window = np.hamming(config.window_samples)
        self._mel_filters = mel_filters(config, self._n_fft)
        self._shift, self._scale = cmvn

    def __call__(self, samples: Samples) -> Array:
        """float32 [n_samples], 16 kHz, in [-1, 1] → float32 [n_frames, feature_size]."""
        stacked = low_frame_rate(self.log_mel(samples), self.config.lfr_m, self.config.lfr_n)
        features: Array = (stacked + self._shift) * self._scale
        return features

    def log_mel(self, samples: Samples) -> Array:
        """float32 [n_samples] → float32 [n_windows, n_mels], natural log of mel energies.

        A clip shorter than one window is padded with silence to one window.
        """
        size, hop = self.config.window_samples, self.config.hop_samples
        samples = np.pad(samples, (0, max(0, size - len(samples))))
        windows = np.lib.stride_tricks.sliding_window_view(samples, size)[::hop]
        starts = range(0, len(windows), WINDOWS_AT_ONCE)
        return np.concatenate([self._log_mel(windows[at : at + WINDOWS_AT_ONCE]) for at in starts])

    def _log_mel(self, windows: Array) -> Array:
        # In float64 up to the mel energies: in float32 the rounding of loud harmonics reaches bins 100 dB
        # below them. Next to the encoder it costs little.
        frames = windows.astype(np.float64) * INT16_SCALE
        frames -= frames.mean(axis=1, keepdims=True)
        previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        spectrum = np.fft.rfft((frames - PREEMPHASIS * previous) * self._window, n=self._n_fft)
        power = spectrum.real**2 + spectrum.imag**2
        energies = (power @ self._mel_filters).clip(LOG_FLOOR)
        log_energies: Array = np.log(energies).astype(np.float32)
        return log_energies


def low_frame_rate(x: Array, m: int, n: int) -> Array:
    """Stack ``m`` frames every ``n``: [n_windows, size] → [ceil(n_windows / n), m * size].

    The first frame is repeated (m - 1) // 2 times on the left, the last one as needed on the right.
    """
    n_windows, size = x.shape
    n_out = math.ceil(n_windows / n)
    # Rows of x behind each stacked frame, those beyond either end being the nearest there is.
    rows = np.arange(n_out)[:, None] * n + np.arange(m) - (m - 1) // 2
    stacked: Array = x[rows.clip(0, n_windows - 1)].reshape(n_out, m * size)
    return stacked


def mel_filters(config: FrontendConfig, n_fft: int) -> NDArray[np.float64]:
    """Triangular filters, float64 [n_fft / 2 + 1, n_mels], 20 Hz to Nyquist, triangles in mel.

    Kaldi's mel scale, 1127 ln(1 + f / 700); Kaldi leaves the Nyquist bin out.
    """
    low, high = 1127.0 * np.log1p(np.array([LOWEST_MEL_HZ, config.fs / 2]) / 700.0)
    edges = np.linspace(low, high, config.n_mels + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    hertz = np.arange(n_fft // 2) * config.fs / n_fft
    bins = 1127.0 * np.log1p(hertz / 700.0)[:, None]
    up = (bins - left) / (centre - left)
    down = (right - bins) / (right - centre)
    return np.pad(np.minimum(up, down).clip(0.0), ((0, 1), (0, 0)))


def read_cmvn(path: Path) -> NDArray[np.float32]:
    """Shift and scale from a Kaldi nnet file (``am.mvn``), float32 [2, feature_size].

    Raises:
        ValueError: the file has no ``<AddShift>`` or ``<Rescale>`` vector of finite numbers.
        InvalidModel: it is no regular file, or has more than a mebibyte.
    """
    tokens = read_regular(path, MIB).decode().split()
    vectors = []
    for tag in ("<AddShift>", "<Rescale>"):
        try:
            start = tokens.index("[", tokens.index(tag)) + 1
            vectors.append([float(value) for value in tokens[start : tokens.index("]", start)]])
        except ValueError as error:
            raise ValueError(f"{path.name}: no {tag} vector: {error}") from error
    if len(vectors[0]) != len(vectors[1]):
        raise ValueError(f"{path.name}: shift and scale differ in length")
    if not np.all(np.abs(vectors) <= np.finfo(np.float32).max):
        raise ValueError(f"{path.name}: shift and scale must be finite numbers")
    return np.array(vectors, dtype=np.float32)
