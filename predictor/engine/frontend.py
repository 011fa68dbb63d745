"""Waveform → features: kaldi log-mel filter bank, low frame rate stacking, mean-variance normalisation.

All of it is torch, so it runs on the model's device. The filter bank follows Kaldi's
``feature-fbank.cc`` with the options of FunASR's ``WavFrontend`` and dither 0: samples scaled to
16-bit range, DC removed and pre-emphasised per frame, Hamming window, power spectrum, natural log.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from predictor.engine.types import SAMPLE_RATE

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


class Frontend(nn.Module):
    """Samples of one clip to normalised features.

    Args:
        config: sizes.
        cmvn: float32 [2, feature_size]: the shift and the scale of ``am.mvn``.
    """

    window: Tensor
    mel_filters: Tensor
    shift: Tensor
    scale: Tensor

    def __init__(self, config: FrontendConfig, cmvn: Tensor) -> None:
        super().__init__()
        if cmvn.shape != (2, config.feature_size):
            raise ValueError(
                f"CMVN must be [2, {config.feature_size}], not {list(cmvn.shape)}; "
                "is am.mvn of another model?"
            )
        self.config = config
        self.n_fft = 1 << (config.window_samples - 1).bit_length()
        window = torch.hamming_window(config.window_samples, periodic=False, dtype=torch.float64)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("mel_filters", mel_filters(config, self.n_fft), persistent=False)
        self.register_buffer("shift", cmvn[0].clone(), persistent=False)
        self.register_buffer("scale", cmvn[1].clone(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """float32 [n_samples], 16 kHz, in [-1, 1] → float32 [n_frames, feature_size]."""
        stacked = low_frame_rate(self.log_mel(samples), self.config.lfr_m, self.config.lfr_n)
        return (stacked + self.shift) * self.scale

    def log_mel(self, samples: Tensor) -> Tensor:
        """float32 [n_samples] → float32 [n_windows, n_mels], natural log of mel energies.

        A clip shorter than one window is padded with silence to one window.
        """
        config = self.config
        short = config.window_samples - samples.shape[0]
        if short > 0:
            samples = F.pad(samples, (0, short))
        # In float64 up to the mel energies: in float32 the rounding of loud harmonics reaches bins 100 dB
        # below them. Next to the encoder it costs nothing.
        scaled = samples.double() * INT16_SCALE
        frames = scaled.unfold(0, config.window_samples, config.hop_samples)
        frames = frames - frames.mean(dim=1, keepdim=True)
        previous = F.pad(frames[:, None, :], (1, 0), mode="replicate")[:, 0, :-1]
        frames = (frames - PREEMPHASIS * previous) * self.window
        spectrum = torch.fft.rfft(frames, n=self.n_fft)
        power = spectrum.real.square() + spectrum.imag.square()
        energies = power @ self.mel_filters
        log_energies: Tensor = energies.clamp_min(LOG_FLOOR).log()
        return log_energies.float()


def low_frame_rate(x: Tensor, m: int, n: int) -> Tensor:
    """Stack ``m`` frames every ``n``: [n_windows, size] → [ceil(n_windows / n), m * size].

    The first frame is repeated (m - 1) // 2 times on the left, the last one as needed on the right.
    """
    n_out = math.ceil(x.shape[0] / n)
    left = (m - 1) // 2
    right = max(0, (n_out - 1) * n + m - left - x.shape[0])
    x = torch.cat([x[:1].expand(left, -1), x, x[-1:].expand(right, -1)])
    return x.unfold(0, m, n)[:n_out].transpose(1, 2).flatten(1)


def mel_filters(config: FrontendConfig, n_fft: int) -> Tensor:
    """Triangular filters, float64 [n_fft / 2 + 1, n_mels], 20 Hz to Nyquist, triangles in mel.

    Kaldi's mel scale, 1127 ln(1 + f / 700); Kaldi leaves the Nyquist bin out.
    """

    def mel(hertz: Tensor) -> Tensor:
        return 1127.0 * torch.log1p(hertz / 700.0)

    limits = mel(torch.tensor([LOWEST_MEL_HZ, config.fs / 2], dtype=torch.float64))
    edges = torch.linspace(
        float(limits[0]), float(limits[1]), config.n_mels + 2, dtype=torch.float64
    )
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    bins = mel(torch.arange(n_fft // 2, dtype=torch.float64) * config.fs / n_fft)[:, None]
    up = (bins - left) / (centre - left)
    down = (right - bins) / (right - centre)
    return F.pad(torch.minimum(up, down).clamp_min(0.0), (0, 0, 0, 1))


def read_cmvn(path: Path) -> Tensor:
    """Shift and scale from a Kaldi nnet file (``am.mvn``), float32 [2, feature_size].

    Raises:
        ValueError: the file has no ``<AddShift>`` or ``<Rescale>`` vector.
    """
    tokens = path.read_text(encoding="utf-8").split()
    vectors = []
    for tag in ("<AddShift>", "<Rescale>"):
        try:
            start = tokens.index("[", tokens.index(tag)) + 1
            vectors.append([float(value) for value in tokens[start : tokens.index("]", start)]])
        except ValueError as error:
            raise ValueError(f"{path.name}: no {tag} vector: {error}") from error
    if len(vectors[0]) != len(vectors[1]):
        raise ValueError(f"{path.name}: shift and scale differ in length")
    return torch.tensor(vectors, dtype=torch.float32)
