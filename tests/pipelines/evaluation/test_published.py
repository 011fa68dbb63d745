"""The authors' figures."""

from pipelines.data.registry import ADAPTERS
from pipelines.evaluation.normalization import METRICS
from pipelines.evaluation.published import PUBLISHED

WITHOUT_ADAPTER = {"mer2023", "msp-podcast"}


def test_figures_are_keyed_by_the_names_of_the_adapters() -> None:
    assert set(PUBLISHED) - WITHOUT_ADAPTER <= set(ADAPTERS)


def test_parts_of_a_set_are_keyed_by_the_slices_that_the_adapter_makes() -> None:
    for one in PUBLISHED.values():
        assert set(one.error_rates) <= set(METRICS)
        assert {name.split()[0] for name in one.noise} <= set(METRICS)
    assert PUBLISHED["librispeech"].noise == {"en clean": 0.0315, "en other": 0.0718}
    assert PUBLISHED["wenetspeech"].noise == {"zh net": 0.0784, "zh meeting": 0.0744}


def test_figures_are_shares_and_emotion_has_both_or_neither() -> None:
    for one in PUBLISHED.values():
        accuracies = [one.unweighted_accuracy, one.weighted_accuracy]
        known = [value for value in accuracies if value is not None]
        assert len(known) in {0, 2}
        assert all(0 < rate < 0.2 for rate in (*one.error_rates.values(), *one.noise.values()))
        assert all(0.4 < value < 1 for value in known)
