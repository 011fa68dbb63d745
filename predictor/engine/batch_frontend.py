"""The filter bank for a whole batch at once, on the device of the network.

The same steps as :class:`~predictor.engine.frontend.Frontend`, clip by clip, would start about twenty small
kernels and wait for a copy for each clip. Here the clips lie one behind the other in one buffer, which
crosses to the device in one copy, and each step is one kernel for all of them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from predictor.engine.frontend import (
    INT16_SCALE,
    LOG_FLOOR,
    PREEMPHASIS,
    FrontendConfig,
    mel_filters,
)
from predictor.engine.types import Samples

WINDOWS_AT_ONCE = 1 << 16
"""Analysis windows worked on together: 210 MB for each copy of their samples in float64."""


class Layout:
    """Where the clips of a batch lie in its buffer. Each begins on a whole hop, so that windows counted
    through the buffer are the clips' own; those that reach over a border are never looked at.

    Attributes:
        first_window: int64 [batch], of each clip in the buffer.
        n_windows: int64 [batch], at least one.
        n_frames: int64 [batch], stacked frames.
    """

    def __init__(self, config: FrontendConfig, clips: Sequence[Samples]) -> None:
        size, hop = config.window_samples, config.hop_samples
        self._clips = clips
        # A clip shorter than one window is padded with silence to one window.
        lengths = np.array([max(len(clip), size) for clip in clips], np.int64)
        hops = -(-lengths // hop)
        self._n_samples = int(hops.sum()) * hop
        self._starts = (np.cumsum(hops) - hops) * hop
        self.first_window = self._starts // hop
        self.n_windows = 1 + (lengths - size) // hop
        self.n_frames = -(-self.n_windows // config.lfr_n)

    def write(self, pinned: bool) -> Tensor:
        """The buffer, float32 [n_samples]: the clips, and silence between them."""
        buffer = torch.empty(self._n_samples, pin_memory=pinned)
        array = buffer.numpy()
        end = 0
        for start, clip in zip(self._starts.tolist(), self._clips, strict=True):
            array[end:start] = 0.0
            end = start + len(clip)
            array[start:end] = clip
        array[end:] = 0.0
        return buffer


class BatchFrontend:
    """Samples of a batch to normalised features.

    Up to the power spectrum in float64, as in :class:`~predictor.engine.frontend.Frontend` and for the same
    reason: the rounding of loud harmonics must stay below the quietest bin. Sums over the spectrum have no
    cancellation, so that from the mel energies on float32 is exact to 1e-6.

    Args:
        config: sizes.
        cmvn: float32 [2, feature_size].
        device: to work on.
    """

    def __init__(
        self, config: FrontendConfig, cmvn: NDArray[np.float32], device: torch.device
    ) -> None:
        self.config = config
        self._n_fft = 1 << (config.window_samples - 1).bit_length()
        self._window = torch.from_numpy(np.hamming(config.window_samples)).to(device)
        filters = mel_filters(config, self._n_fft).astype(np.float32)
        self._mel_filters = torch.from_numpy(filters).to(device)
        self._shift, self._scale = torch.from_numpy(cmvn.copy()).to(device)
        self._around = torch.arange(config.lfr_m, device=device) - (config.lfr_m - 1) // 2

    def __call__(
        self, samples: Tensor, first_window: Tensor, n_windows: Tensor, frames: int
    ) -> Tensor:
        """Features of all clips, padded to the same length.

        Args:
            samples: float32 [n_samples], see :class:`Layout`.
            first_window: int64 [batch].
            n_windows: int64 [batch].
            frames: to pad to.

        Returns:
            float32 [batch, frames, feature_size]; the padding repeats the last window.
        """
        log_mel = self.log_mel(samples)
        centres = torch.arange(frames, device=samples.device) * self.config.lfr_n
        rows = (centres[:, None] + self._around).clamp(min=0)
        rows = torch.minimum(rows, n_windows[:, None, None] - 1) + first_window[:, None, None]
        features: Tensor = (log_mel[rows].flatten(2) + self._shift) * self._scale
        return features

    def log_mel(self, samples: Tensor) -> Tensor:
        """float32 [n_samples] → float32 [n_windows, n_mels], natural log of mel energies."""
        windows = samples.unfold(0, self.config.window_samples, self.config.hop_samples)
        energies = [
            self._power(some).float() @ self._mel_filters
            for some in torch.split(windows, WINDOWS_AT_ONCE)
        ]
        return torch.cat(energies).clamp(min=LOG_FLOOR).log()

    def _power(self, windows: Tensor) -> Tensor:
        """float32 [n_windows, window_samples] → power spectrum, float64 [n_windows, n_fft / 2 + 1]."""
        frames = windows.double() * INT16_SCALE
        frames = frames - frames.mean(dim=1, keepdim=True)
        first = frames[:, :1] * (1.0 - PREEMPHASIS)
        frames = torch.cat([first, frames[:, 1:] - PREEMPHASIS * frames[:, :-1]], dim=1)
        spectrum = torch.fft.rfft(frames * self._window, n=self._n_fft)
        return torch.view_as_real(spectrum).square().sum(dim=-1)
