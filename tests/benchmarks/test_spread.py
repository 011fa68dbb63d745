import pytest

from tests.benchmarks.spread import paired_ratio, percentile, spread


def test_a_spread_is_the_median_between_extremes():
    assert spread([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "n": 3}


def test_a_ratio_is_taken_within_rounds_so_that_drift_cancels():
    # The machine became four times slower in the last round: both slowed down, the ratio did not.
    ratio = paired_ratio([1.0, 1.0, 4.0], [2.0, 2.0, 8.0])
    assert ratio["median"] == ratio["min"] == ratio["max"] == 0.5


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_percentiles_are_measured_values(share, value):
    assert percentile(list(range(100, 0, -1)), share) == value


def test_the_percentile_of_one_value_is_that_value():
    assert percentile([7.0], 0.99) == 7.0
