import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.evaluation.accuracy import WORST, align, measure
from pipelines.evaluation.results import Accuracy, Failure


@pytest.mark.parametrize(
    ("language", "metric", "reference", "recognised", "counts"),
    [
        # units, substitutions, deletions, insertions
        ("zh", "CER", "今天天气很好。", "今天天汽好", (6, 1, 1, 0)),
        ("yue", "CER", "佢哋喺邊度", "佢地喺邊度呀", (5, 1, 0, 1)),
        ("ja", "CER", "ガッコウへ行く", "カッコウ行く", (7, 1, 1, 0)),
        ("ko", "CER", "안녕 하세요", "안녕하세오요", (5, 0, 0, 1)),
        ("en", "WER", "It's a small world", "it is the small small world", (5, 1, 0, 1)),
    ],
)
def test_errors_counted_by_hand(row, language, metric, reference, recognised, counts):
    measured = measure([row("a", reference, recognised, language=language)])
    rate = measured.languages[language]
    assert rate.metric == metric
    assert (rate.units, rate.substitutions, rate.deletions, rate.insertions) == counts
    assert rate.rate.value == pytest.approx(sum(counts[1:]) / counts[0])
    assert (rate.rate.low, rate.rate.high) == (None, None)


def test_the_rate_is_of_the_corpus_and_lies_in_its_interval(row):
    hypotheses = [
        row("a", "一", "二", language="zh"),
        row("b", "一二三四五六七八九", "一二三四五六七八九", language="zh"),
    ]
    rate = measure(hypotheses).languages["zh"]
    assert rate.utterances == 2
    assert rate.rate.value == pytest.approx(1 / 10)
    assert (rate.rate.low, rate.rate.high) == (0, 1)


def test_languages_do_not_mix(row):
    measured = measure(
        [row("a", "一二", "一二", language="zh"), row("b", "one two", "won", language="en")]
    )
    assert measured.languages["zh"].rate.value == 0
    assert measured.languages["en"].rate.value == 1


def test_slices_name_language_and_value(row):
    hypotheses = [
        row("a", "一", "一", language="zh", duration=1.99, noise="street", emotion="SAD"),
        row("b", "一", "", language="zh", duration=2.0, noise="street"),
        row("c", "one", "one", language="en", duration=30.0, emotion="SAD"),
        row("d", "one", "one", language="en", duration=7.0),
        row("e", "one", "one", language="en", duration=29.9),
    ]
    slices = measure(hypotheses).slices
    assert set(slices["duration"]) == {
        "zh 0-2 s",
        "zh 2-5 s",
        "en 5-10 s",
        "en 10-30 s",
        "en 30 s or more",
    }
    assert slices["noise"]["zh street"].utterances == 2
    assert slices["noise"]["zh street"].rate.value == 0.5
    assert set(slices["emotion"]) == {"zh SAD", "en SAD"}


def test_a_failure_counts_as_all_units_deleted_and_is_named(row):
    hypotheses = [
        row("good", "一二", "一二", language="zh", noise="street"),
        row("bad", "三四五", error="InvalidAudio: no audio", language="zh", noise="street"),
    ]
    measured = measure(hypotheses)
    assert measured.failures == [Failure(id="bad", error="InvalidAudio: no audio")]
    assert measured.languages["zh"].deletions == 3
    assert measured.languages["zh"].rate.value == pytest.approx(3 / 5)
    assert measured.slices["noise"]["zh street"].deletions == 3
    # Nobody knows how long it was.
    assert measured.slices["duration"]["zh 0-2 s"].utterances == 1


def test_silence_has_no_rate_but_made_up_text_is_told(row):
    hypotheses = [
        row("a", "", "", language="nospeech"),
        row("b", "", "谢谢观看", language="nospeech"),
        row("c", "", "。", language="nospeech"),
        row("d", "uh", "uh", language="en"),
        row("e", "", "thanks", language=None),
        row("f", None, "anything", language="en"),
        row("g", "", error="InvalidAudio: no audio", language="nospeech"),
    ]
    measured = measure(hypotheses)
    assert measured.languages == {}
    assert (measured.silent_utterances, measured.silent_with_text) == (6, 2)
    assert [one.id for one in measured.failures] == ["g"]


def test_the_worst_come_first_and_perfect_ones_never(row):
    hypotheses = [row(f"{n:02}", "一" * 30, "一" * (30 - n), language="zh") for n in range(25)]
    worst = measure(hypotheses).worst
    assert [one.errors for one in worst] == [*range(24, 24 - WORST, -1)]
    assert (worst[0].id, worst[0].rate) == ("24", pytest.approx(24 / 30))
    perfect = [row("a", "Hello!", "hello", language="en")]
    assert measure(perfect).worst == []


def test_the_worst_show_texts_as_compared(row):
    (worst,) = measure([row("a", "Hello, World!", "hello word", language="en")]).worst
    assert (worst.reference, worst.hypothesis) == ("hello world", "hello word")


@pytest.mark.parametrize("language", ["de", "nospeech", None])
def test_words_in_a_language_without_an_error_rate_are_refused_by_name(row, language):
    with pytest.raises(ValueError, match=r"'clip-7': text with language .*zh, yue, ja, ko, en"):
        measure([row("clip-7", "guten Tag", "guten Tag", language=language)])


def test_nothing_measured_is_an_empty_answer():
    assert measure([]) == Accuracy(
        languages={},
        slices={"duration": {}, "noise": {}, "emotion": {}},
        worst=[],
        failures=[],
        silent_utterances=0,
        silent_with_text=0,
    )


TEXTS = st.text("一二三四五abがか， ", max_size=12)


@given(TEXTS, st.sampled_from(["zh", "yue", "ja", "ko", "en"]))
def test_what_was_said_has_no_errors(row, text, language):
    assert sum(one.errors for one in align([row("a", text, text, language=language)])) == 0


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4))
def test_the_rate_is_all_errors_over_all_units(row, texts):
    hypotheses = [
        row(f"{n}", reference, recognised, language="zh")
        for n, (reference, recognised) in enumerate(texts)
    ]
    aligned = align(hypotheses)
    for one in aligned:
        normal = [c for c in one.hypothesis.text if c not in "， "]
        # Units that are matched or replaced stand on both sides.
        assert one.units - one.deletions + one.insertions == len(normal)
        assert abs(one.units - len(normal)) <= one.errors <= max(one.units, len(normal))
    measured = measure(hypotheses)
    if not aligned:
        assert measured.languages == {}
        return
    rate = measured.languages["zh"]
    errors = rate.substitutions + rate.deletions + rate.insertions
    assert rate.rate.value == pytest.approx(errors / rate.units)
    assert errors == sum(one.errors for one in aligned)
