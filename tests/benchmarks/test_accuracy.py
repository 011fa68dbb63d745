import numpy as np
import pytest

from pipelines.demo_model.scoring import Heard
from tests.benchmarks.accuracy import agreement, distance, embedded, full_size
from tests.benchmarks.clips import write_clips


def test_the_reference_agrees_with_itself(demo_model_dir):
    result = embedded(demo_model_dir, ("fp32",), limit=12)["fp32"]
    assert result["cer_points"] == 0.0
    assert set(result["agreement"].values()) == {1.0, 0.0}
    assert result["agreement"]["cer"] == 0.0
    assert result["batch_mismatches"]["mismatches"] == 0
    assert result["batch_mismatches"]["clips"] >= 12
    assert result["scores"]["cer"] < 0.5


def test_the_same_network_is_at_no_distance(random_model_dir, tmp_path):
    clips = [path for seconds in (2, 3) for path in write_clips(tmp_path, seconds, 1)]
    result = full_size(random_model_dir, ("fp32",), clips)["fp32"]
    assert (result["logit_max"], result["frames"], result["token_error_rate"]) == (0.0, 1.0, 0.0)


def test_distance_is_relative_and_counts_frames():
    reference = np.array([[4.0, 0.0], [0.0, 4.0], [4.0, 0.0], [4.0, 0.0]])
    other = np.array([[4.0, 0.0], [5.0, 4.0], [4.0, 0.0], [4.0, 0.0]])
    found = distance([reference], [other])
    assert found["logit_max"] == 5.0 / 4.0
    assert found["logit_rms"] == pytest.approx(5.0 / 8.0)
    assert found["frames"] == 0.75
    # 0 1 0 became 0.
    assert found["token_error_rate"] == pytest.approx(2 / 3)


def test_agreement_is_by_tag_and_text():
    one = [Heard("a b", "en", "HAPPY", "Speech"), Heard("", "nospeech", "SAD", "BGM")]
    other = [Heard("a c", "en", "HAPPY", "Speech"), Heard("", "nospeech", "HAPPY", "BGM")]
    assert agreement(one, other) == {
        "text": 0.5,
        "language": 1.0,
        "emotion": 0.5,
        "event": 1.0,
        "cer": 0.5,
    }
