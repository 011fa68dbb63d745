"""Synthesised sounds: the same for the same seed, audible, of the asked length."""

import numpy as np
import pytest

pytest.importorskip("scipy", reason="scipy is needed by the recipe only")

from pipelines.demo_model import augment
from pipelines.demo_model.events import EVENTS, RATE, sound


@pytest.mark.parametrize("event", EVENTS)
def test_same_seed_same_sound(event):
    first, second = (sound(event, np.random.default_rng(3), 1.5) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, sound(event, np.random.default_rng(4), 1.5))


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("seconds", [0.8, 3.5])
def test_length_level_and_type(event, seconds):
    samples = sound(event, np.random.default_rng(1), seconds)
    assert samples.dtype == np.float32
    assert len(samples) == int(seconds * RATE)
    assert np.abs(samples).max() == pytest.approx(0.7, abs=1e-3)
    assert np.isfinite(samples).all()


def test_augmentation_is_deterministic_bounded_and_never_silent():
    silence = np.zeros(RATE, np.float32)
    for seed in range(20):
        out = augment.augment(silence, np.random.default_rng(seed))
        np.testing.assert_array_equal(out, augment.augment(silence, np.random.default_rng(seed)))
        assert len(out) == RATE
        assert np.abs(out).max() <= 1
        assert augment.rms(out) > 10 ** (augment.FLOOR_DB[0] / 20) / 2


def test_mixing_keeps_the_ratio():
    rng = np.random.default_rng(0)
    speech = rng.standard_normal(RATE).astype(np.float32)
    noise = rng.standard_normal(RATE).astype(np.float32)
    mixture = augment.mixed(speech, noise, 10.0)
    assert 20 * np.log10(augment.rms(speech) / augment.rms(mixture - speech)) == pytest.approx(10)
