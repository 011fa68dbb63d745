"""Sounds that are not speech, synthesised from noise, pulses and notes.

Every generator takes a seeded random generator and a length in samples (16 kHz) and returns float32
samples with a peak of 0.7.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import butter, lfilter, sosfilt

Samples = NDArray[np.float32]
Signal = NDArray[np.float64]

RATE = 16_000
_MAJOR = (0, 2, 4, 5, 7, 9, 11, 12)
_MINOR = (0, 2, 3, 5, 7, 8, 10, 12)


def band(signal: Signal, low: float, high: float) -> Signal:
    """Second-order band pass, edges in hertz."""
    sections = butter(2, [low, min(high, 7900.0)], "band", fs=RATE, output="sos")
    filtered: Signal = sosfilt(sections, signal)
    return filtered


def _voiced(
    rng: Generator, pitch: Signal, formants: list[tuple[float, float]], breath: float
) -> Signal:
    """Pulses at ``pitch`` (hertz, one value a sample) through resonances (centre, width in hertz)."""
    phase = np.cumsum(pitch) / RATE
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source: Signal = lfilter([1.0], [1.0, -0.9], pulses) + breath * 0.1 * rng.standard_normal(
        len(pitch)
    )
    out = np.zeros_like(source)
    for centre, width in formants:
        radius = np.exp(-np.pi * width / RATE)
        poles = [1.0, -2 * radius * np.cos(2 * np.pi * centre / RATE), radius**2]
        out += lfilter([1.0 - radius], poles, source)
    return out


def applause(rng: Generator, n: int) -> Signal:
    """Many short claps, each a burst of band-limited noise."""
    out = np.zeros(n)
    for _ in range(max(8, int(n / RATE * rng.uniform(30, 140)))):
        length = int(rng.uniform(0.006, 0.02) * RATE)
        start = int(rng.integers(0, max(1, n - length)))
        length = min(length, n - start)
        centre = rng.uniform(900, 2600)
        decay = np.exp(-np.arange(length) / (length / 4))
        clap = band(rng.standard_normal(length), centre * 0.6, centre * 1.7)
        out[start : start + length] += rng.uniform(0.2, 1.0) * clap * decay
    return out


def laughter(rng: Generator, n: int) -> Signal:
    """Runs of short "ha" syllables, four to six a second, falling in pitch."""
    out = np.zeros(n)
    at = int(rng.uniform(0, 0.15) * RATE)
    speaker = rng.uniform(140, 320)
    while at < n - 3000:
        period = int(rng.uniform(0.16, 0.26) * RATE)
        syllables = int(rng.integers(4, 9))
        for k in range(syllables):
            length = min(int(period * rng.uniform(0.5, 0.65)), n - at)
            if length < 600:
                break
            t = np.arange(length) / length
            pitch = speaker * (1.25 - 0.06 * k) * (1 - 0.15 * t)
            vowel = _voiced(
                rng, pitch, [(rng.uniform(650, 850), 100), (1250, 140), (2600, 250)], 0.4
            )
            aspiration = 0.05 * band(rng.standard_normal(length), 700, 5000) * (t < 0.35)
            out[at : at + length] += (
                vowel / (np.abs(vowel).max() + 1e-9) * np.sin(np.pi * t) + aspiration
            )
            at += period
        at += int(rng.uniform(0.2, 0.5) * RATE)
    return out


def cry(rng: Generator, n: int) -> Signal:
    """Long wails with vibrato and an arch of pitch, parted by sobbing breaths."""
    out = np.zeros(n)
    at = int(rng.uniform(0, 0.1) * RATE)
    speaker = rng.uniform(300, 520)
    while at < n - 6000:
        length = min(int(rng.uniform(0.6, 1.3) * RATE), n - at)
        t = np.arange(length) / length
        vibrato = 1 + 0.04 * np.sin(2 * np.pi * rng.uniform(5, 9) * t * length / RATE)
        pitch = speaker * (1 + 0.35 * np.sin(np.pi * t) ** 0.8) * vibrato
        wail = _voiced(rng, pitch, [(rng.uniform(800, 1100), 120), (1500, 160), (3000, 250)], 0.2)
        out[at : at + length] += wail / (np.abs(wail).max() + 1e-9) * np.sqrt(np.sin(np.pi * t))
        at += length
        gasp = min(int(rng.uniform(0.15, 0.45) * RATE), n - at)
        if gasp > 200:
            shape = np.sin(np.pi * np.arange(gasp) / gasp)
            out[at : at + gasp] += 0.1 * band(rng.standard_normal(gasp), 800, 5000) * shape
            at += gasp
    return out


def cough(rng: Generator, n: int) -> Signal:
    """One to three explosive bursts with a short voiced tail, then a pause."""
    out = np.zeros(n)
    at = int(rng.uniform(0, 0.2) * RATE)
    while at < n - 5000:
        for _ in range(int(rng.integers(1, 4))):
            length = min(int(rng.uniform(0.12, 0.3) * RATE), n - at)
            if length < 800:
                break
            t = np.arange(length) / length
            burst = band(rng.standard_normal(length), 300, 3500) * np.exp(-t * 4)
            voice = _voiced(
                rng, np.full(length, rng.uniform(110, 220)), [(550, 150), (1300, 200)], 0.5
            )
            voice *= 0.4 / (np.abs(voice).max() + 1e-9)
            out[at : at + length] += burst + voice * np.exp(-t * 2.5)
            at += length + int(rng.uniform(0.05, 0.15) * RATE)
        at += int(rng.uniform(0.4, 1.0) * RATE)
    return out


def sneeze(rng: Generator, n: int) -> Signal:
    """A rising voiced gasp, then one long high burst, once in the clip."""
    out = np.zeros(n)
    start = int(rng.uniform(0, 0.2) * n)
    gasp = min(int(rng.uniform(0.3, 0.6) * RATE), (n - start) // 2)
    rise = np.linspace(0.1, 1, gasp)
    voice = _voiced(
        rng, np.linspace(180, rng.uniform(280, 380), gasp), [(800, 120), (1300, 150)], 0.4
    )
    voice *= 0.4 / (np.abs(voice).max() + 1e-9)
    out[start : start + gasp] = (0.15 * band(rng.standard_normal(gasp), 800, 5000) + voice) * rise
    start += gasp
    length = min(int(rng.uniform(0.25, 0.5) * RATE), n - start)
    t = np.arange(length) / length
    out[start : start + length] += (
        1.3 * band(rng.standard_normal(length), 1800, 7500) * np.exp(-3 * t)
    )
    return out


def breath(rng: Generator, n: int) -> Signal:
    """Slow swells of soft noise: in (brighter) and out (darker)."""
    inward = band(rng.standard_normal(n), 900, 5500)
    outward = band(rng.standard_normal(n), 300, 2500)
    cycle = np.sin(np.pi * np.arange(n) / RATE / rng.uniform(0.7, 1.5) + rng.uniform(0, 3))
    swell: Signal = inward * np.maximum(cycle, 0) ** 2 + outward * np.maximum(-cycle, 0) ** 2
    return swell


def bgm(rng: Generator, n: int) -> Signal:
    """Plucked chords over a bass and, often, a beat."""
    out = np.zeros(n)
    step = int(60 / rng.uniform(80, 150) * RATE / rng.choice([1, 2]))
    root = rng.uniform(110, 330)
    scale = _MAJOR if rng.random() < 0.6 else _MINOR
    brightness = rng.uniform(0.3, 0.85)
    drums = rng.random() < 0.6
    for at in range(0, n, step):
        notes = [
            int(scale[rng.integers(0, 8)]) + 12 * int(rng.integers(0, 2))
            for _ in range(rng.integers(1, 4))
        ]
        for semitones in (*notes, -12):
            length = min(n - at, int(step * rng.uniform(1.2, 3)))
            t = np.arange(length) / RATE
            frequency = root * 2 ** (semitones / 12)
            phase = rng.uniform(0, 6)
            partials = [
                brightness**k * np.sin(2 * np.pi * frequency * (k + 1) * t + phase)
                for k in range(6)
                if frequency * (k + 1) < RATE / 2
            ]
            envelope = np.exp(-t * rng.uniform(1, 5)) * np.minimum(1, t * 200)
            out[at : at + length] += np.sum(partials, axis=0) * envelope
        if drums:
            length = min(n - at, 1500)
            hit = rng.standard_normal(length) * np.exp(-np.arange(length) / 250)
            out[at : at + length] += rng.uniform(0.5, 1.5) * hit
    return out


def noise(rng: Generator, n: int) -> Signal:
    """White, brown or pink-like noise with slow swell, or mains hum: nothing to recognise."""
    kind = rng.integers(0, 4)
    white = rng.standard_normal(n)
    if kind == 0:
        return white
    if kind == 1:
        return np.asarray(lfilter([1.0], [1.0, -rng.uniform(0.9, 0.99)], white))
    if kind == 2:
        swell = 1 + 0.5 * np.sin(2 * np.pi * rng.uniform(0.1, 0.6) * np.arange(n) / RATE)
        return np.asarray(lfilter([1.0], [1.0, -rng.uniform(0.4, 0.8)], white) * swell)
    t = np.arange(n) / RATE
    mains = rng.choice([50.0, 60.0])
    hum = sum(np.sin(2 * np.pi * mains * k * t + rng.uniform(0, 6)) / k for k in range(1, 6))
    return np.asarray(hum + 0.3 * white, dtype=np.float64)


EVENTS: dict[str, Callable[[Generator, int], Signal]] = {
    "BGM": bgm,
    "Laughter": laughter,
    "Applause": applause,
    "Cry": cry,
    "Cough": cough,
    "Sneeze": sneeze,
    "Breath": breath,
    "Event_UNK": noise,
}
"""Generators by the event's tag; plain noise and near silence are ``Event_UNK``."""


def sound(event: str, rng: Generator, seconds: float) -> Samples:
    """One clip of ``event``, peak 0.7."""
    signal = EVENTS[event](rng, int(seconds * RATE))
    levelled: Samples = (signal * 0.7 / (np.abs(signal).max() + 1e-9)).astype(np.float32)
    return levelled
