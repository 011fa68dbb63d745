import numpy as np
import pytest
from sklearn.metrics import recall_score

from pipelines.evaluation import bootstrap
from pipelines.evaluation.bootstrap import interval, mean_recall, ratio


def test_a_ratio_is_that_of_the_sums_not_the_mean_of_ratios():
    measured = ratio([1, 0, 3], [1, 5, 4])
    assert measured.value == pytest.approx(4 / 10)
    assert 0 <= measured.low <= measured.value <= measured.high <= 1


def test_equal_data_have_equal_intervals():
    errors, lengths = [0, 1, 4, 0, 2, 1], [5, 6, 9, 3, 8, 7]
    assert ratio(errors, lengths) == ratio(errors, lengths)


def test_the_interval_of_a_share_is_as_wide_as_theory_says():
    n, share = 400, 0.25
    measured = ratio([1] * 100 + [0] * 300, [1] * n)
    margin = 1.96 * np.sqrt(share * (1 - share) / n)
    assert measured.low == pytest.approx(share - margin, abs=0.01)
    assert measured.high == pytest.approx(share + margin, abs=0.01)


def test_the_interval_covers_the_truth_about_nineteen_times_in_twenty():
    generator = np.random.default_rng(1)
    truth, covered, trials = 0.1, 0, 150
    for _ in range(trials):
        lengths = generator.integers(5, 30, 120)
        measured = ratio(generator.binomial(lengths, truth).tolist(), lengths.tolist())
        covered += measured.low <= truth <= measured.high
    assert 0.88 <= covered / trials <= 0.99


def test_a_difference_is_judged_in_pairs():
    # The same hard utterances are hard for both, and each is a little better for one.
    hard = np.random.default_rng(2).integers(0, 40, 200)
    lengths = [50] * 200
    paired = ratio(((hard + 1) - hard).tolist(), lengths)
    assert (paired.low, paired.high) == pytest.approx((0.02, 0.02))
    alone = ratio(hard.tolist(), lengths)
    assert alone.high - alone.low > 0.05


def test_one_utterance_has_a_value_but_no_interval():
    measured = ratio([1], [4])
    assert (measured.value, measured.low, measured.high) == (0.25, None, None)


def test_utterances_that_agree_have_bounds_equal_to_the_value():
    measured = ratio([0, 0, 0], [3, 4, 5])
    assert (measured.value, measured.low, measured.high) == (0, 0, 0)


@pytest.mark.parametrize("samples", [(), ([],), ([1, 2], [1])])
def test_samples_that_are_empty_or_unequal_are_refused(samples):
    with pytest.raises(ValueError, match="one length above 0"):
        interval(lambda *arrays, axis: arrays[0].sum(axis=axis), *samples)


def test_batches_bound_the_memory_and_change_no_bound(monkeypatch):
    generator = np.random.default_rng(3)
    errors, lengths = generator.integers(0, 3, 60).tolist(), generator.integers(3, 9, 60).tolist()
    whole = ratio(errors, lengths)
    monkeypatch.setattr(bootstrap, "BATCH_VALUES", 60 * 7)
    batched = ratio(errors, lengths)
    assert batched.value == whole.value
    assert (batched.low, batched.high) == pytest.approx((whole.low, whole.high), abs=0.02)


def test_mean_recall_is_unweighted_accuracy():
    references = [0] * 6 + [1] * 3 + [2]
    predictions = [0, 0, 0, 0, 0, 1, 1, 1, 2, 0]
    hits = [
        reference == prediction
        for reference, prediction in zip(references, predictions, strict=True)
    ]
    measured = mean_recall(references, hits)
    assert measured.value == pytest.approx((5 / 6 + 2 / 3 + 0) / 3)
    assert measured.value == pytest.approx(recall_score(references, predictions, average="macro"))
    assert measured.low < measured.value < measured.high
    assert measured == mean_recall(references, hits)


def test_a_class_missing_from_a_draw_leaves_the_others_mean():
    # Of two utterances half of all draws lack one class; the value must stay a share.
    measured = mean_recall([0, 1], [True, False])
    assert (measured.value, measured.low, measured.high) == (0.5, 0, 1)
