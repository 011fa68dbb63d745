"""The engine computes what FunASR computes."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.random_model import write_random_model
from pipelines.steps.parity import LONG, SETTINGS, SHORT, Parity, compare, real_clips
from predictor.engine.types import SAMPLE_RATE

N_CLIPS = 33


@pytest.fixture(scope="module")
def clips(demo_model_dir):
    return real_clips(demo_model_dir / "evaluation", N_CLIPS)


def test_clips_are_real_audio_of_every_length(clips):
    assert len(clips) == N_CLIPS
    seconds = [len(clip) / SAMPLE_RATE for clip in clips]
    assert seconds == [*LONG, *SHORT, *SHORT, *SHORT]
    assert (min(seconds), max(seconds)) == (0.3, 30.0)
    for clip in clips:
        assert clip.dtype == np.float32
        assert np.abs(clip).max() <= 1.5
    assert sum(np.abs(clip).max() > 0.01 for clip in clips) > 0.9 * N_CLIPS


def test_a_folder_without_audio_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        real_clips(tmp_path, 1)


def test_the_embedded_model_computes_what_funasr_computes(demo_model_dir, clips):
    pytest.importorskip("funasr")
    parity = compare(demo_model_dir, clips)
    assert parity.held, parity
    assert parity.n_clips == N_CLIPS


def test_the_full_size_network_computes_what_funasr_computes(reference_files, clips, tmp_path):
    pytest.importorskip("funasr")
    # Each setting once, and briefly; `make parity` takes all clips, whole.
    some = [clip[: 3 * SAMPLE_RATE] for clip in clips[-len(SETTINGS) :]]
    parity = compare(write_random_model(reference_files, tmp_path / "full-size"), some)
    assert parity.held, parity
    assert parity.parameters > 230e6


@pytest.mark.parametrize(
    "change",
    [
        {"features": 3e-3},
        {"features_beyond": 1e-4},
        {"logits": 2e-3},
        {"token_mismatches": 1},
        {"batch_mismatches": 1},
    ],
)
def test_any_difference_beyond_the_bars_fails(change):
    held = Parity(1, 1.0, 1, 1e-4, 0.0, logits=1e-4, token_mismatches=0, batch_mismatches=0)
    assert held.held
    assert not replace(held, **change).held
