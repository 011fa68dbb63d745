"""Changes of a recording's surroundings: room, microphone, line, level, noise. Never of its tempo or
pitch, which carry the emotion."""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, fftconvolve, lfilter, sosfilt

from pipelines.demo_model import events

Samples = NDArray[np.float32]
Signal = NDArray[np.float64]

RATE = 16_000
FLOOR_DB = (-72.0, -58.0)
"""Level of the noise every clip gets: digital silence would give log energies no recording has."""


def rms(signal: Signal | Samples) -> float:
    return float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))) + 1e-9)


def floor(signal: Signal | Samples, rng: Generator) -> Samples:
    """``signal`` with a faint noise floor, within ±1."""
    level = 10 ** (rng.uniform(*FLOOR_DB) / 20)
    noisy = signal + level * rng.standard_normal(len(signal))
    return np.clip(noisy, -1, 1).astype(np.float32)


def padded(samples: Samples, before: float, after: float) -> Samples:
    """``samples`` between silences of the given seconds."""
    return np.pad(samples, (int(before * RATE), int(after * RATE)))


def mixed(signal: Signal | Samples, other: Samples, ratio_db: float) -> Signal:
    """``signal`` plus ``other`` so that the power ratio is ``ratio_db``."""
    gain = rms(signal) / rms(other) * 10 ** (-ratio_db / 20)
    return np.asarray(signal + gain * other, dtype=np.float64)


def room(signal: Signal, rng: Generator) -> Signal:
    """Light reverberation: a direct path and a decaying noise tail."""
    length = int(rng.uniform(0.08, 0.4) * RATE)
    response = rng.standard_normal(length) * np.exp(-np.arange(length) / (length / 6))
    response *= rng.uniform(0.1, 0.5) / np.sqrt(np.sum(response**2))
    response[0] = 1.0
    return np.asarray(fftconvolve(signal, response)[: len(signal)])


def equaliser(signal: Signal, rng: Generator) -> Signal:
    """A gentle random tilt: one zero, one pole."""
    zero, pole = rng.uniform(-0.5, 0.5), rng.uniform(-0.4, 0.4)
    return np.asarray(lfilter([1.0, zero], [1.0, pole], signal))


def telephone(signal: Signal, rng: Generator) -> Signal:
    """The band of an 8 kHz line."""
    edges = [rng.uniform(80, 300), rng.uniform(3300, 3900)]
    return np.asarray(sosfilt(butter(3, edges, "band", fs=RATE, output="sos"), signal))


def augment(samples: Samples, rng: Generator) -> Samples:
    """A random recording situation, for training. A quarter of the clips stays nearly clean."""
    signal = samples.astype(np.float64)
    if rng.random() < 0.75:
        if rng.random() < 0.35:
            signal = room(signal, rng)
        if rng.random() < 0.6:
            signal = equaliser(signal, rng)
        if rng.random() < 0.2:
            signal = telephone(signal, rng)
        if rng.random() < 0.5:
            background = events.sound("Event_UNK", rng, len(signal) / RATE + 0.01)[: len(signal)]
            signal = mixed(signal, background, rng.uniform(8, 35))
    signal *= 10 ** (rng.uniform(-18, -1) / 20) / (np.abs(signal).max() + 1e-9)
    return floor(signal, rng)
