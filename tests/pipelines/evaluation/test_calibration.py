import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.calibration import BINS, calibration_error, reliability
from pipelines.evaluation.results import Bin


def test_a_hand_example():
    bins = reliability([0.95, 0.96, 0.94, 0.98, 0.55, 0.57], [True, True, True, False, True, False])
    assert [one.count for one in bins] == [2, 4]
    assert bins[0].confidence == pytest.approx(0.56)
    assert bins[0].accuracy == 0.5
    assert bins[1].confidence == pytest.approx(0.9575)
    assert bins[1].accuracy == 0.75
    assert calibration_error(bins) == pytest.approx((2 * 0.06 + 4 * 0.2075) / 6)


def test_certain_and_right_is_perfect_and_certain_and_wrong_the_worst():
    assert calibration_error(reliability([1.0, 1.0], [True, True])) == 0
    assert calibration_error(reliability([1.0, 1.0], [False, False])) == 1


def test_nothing_to_judge_is_the_worst_not_the_best():
    assert reliability([], []) == []
    assert calibration_error([]) == 1


def test_a_probability_that_rounding_lifted_above_one_still_counts():
    assert reliability([1.0000002], [True]) == [Bin(confidence=1.0, accuracy=1.0, count=1)]


def test_honest_probabilities_have_a_small_error():
    generator = np.random.default_rng(0)
    confidences = generator.uniform(0, 1, 20_000)
    correct = generator.uniform(0, 1, 20_000) < confidences
    bins = reliability(confidences.tolist(), correct.tolist())
    assert len(bins) == BINS
    assert calibration_error(bins) < 0.02
    boastful = reliability(np.sqrt(confidences).tolist(), correct.tolist())
    assert calibration_error(boastful) > 0.1


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1))
def test_every_prediction_is_in_one_bin(predictions):
    confidences, correct = zip(*predictions, strict=True)
    bins = reliability(confidences, correct)
    assert sum(one.count for one in bins) == len(predictions)
    assert sum(one.count * one.accuracy for one in bins) == pytest.approx(sum(correct))
    assert 0 <= calibration_error(bins) <= 1 + 1e-9
