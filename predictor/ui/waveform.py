"""An audio file → the outline of its waveform."""

import numpy as np

from predictor.engine.audio import decode
from predictor.engine.errors import SpeechError
from predictor.engine.types import SAMPLE_RATE

POINTS = 1200
"""Of the outline: a wide screen has no more columns to draw them in."""

STEP = SAMPLE_RATE // 100
"""Samples of 10 ms, the finest that is kept of a short file."""

MAX_SECONDS = 24 * 3600.0
"""The service has a limit of its own, which it names; this one only bounds memory."""


def outline(data: bytes) -> list[float]:
    """Largest magnitudes of equal parts of a file.

    Args:
        data: the whole file.

    Returns:
        At most :data:`POINTS` values in [0, 1], the loudest 1 unless all is silence; empty where the
        file cannot be decoded: what is wrong with it is for the service to say.
    """
    steps: list[np.ndarray] = []
    rest = np.zeros(0, np.float32)
    try:
        for block in decode(data, MAX_SECONDS):
            samples = np.concatenate([rest, np.abs(block[0])])
            whole = len(samples) // STEP * STEP
            steps.append(samples[:whole].reshape(-1, STEP).max(axis=1))
            rest = samples[whole:]
    except SpeechError:
        return []
    if len(rest):
        steps.append(rest.max(keepdims=True))
    peaks = np.concatenate(steps)
    if len(peaks) > POINTS:
        edges = np.linspace(0, len(peaks), POINTS, endpoint=False).astype(int)
        peaks = np.maximum.reduceat(peaks, edges)
    loudest = float(peaks.max())
    return [round(float(peak) / loudest, 3) if loudest else 0.0 for peak in peaks]
