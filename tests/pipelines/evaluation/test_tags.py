import pytest

from pipelines.evaluation.tags import FAILED, answers, measure


def language(row, name, reference, recognised, confidence=0.9):
    rest = "xx" if recognised != "xx" else "yy"
    tags = {"language": {recognised: confidence, rest: 1 - confidence}}
    return row(name, language=reference, tags=tags)


def test_a_confusion_matrix_by_hand(row):
    pairs = [("en", "en"), ("en", "en"), ("en", "zh"), ("zh", "zh"), ("yue", "zh"), ("yue", "yue")]
    hypotheses = [language(row, str(n), *pair) for n, pair in enumerate(pairs)]
    measured = measure(hypotheses).language
    assert measured.labels == ["en", "yue", "zh"]
    assert measured.confusion == [[2, 0, 1], [0, 1, 1], [0, 0, 1]]
    assert measured.utterances == 6
    assert measured.weighted_accuracy.value == pytest.approx(4 / 6)
    assert measured.unweighted_accuracy.value == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    f1 = {"en": 2 * 2 / (2 * 2 + 1), "yue": 2 / 3, "zh": 2 / (2 + 2)}
    assert measured.f1 == pytest.approx(f1)
    assert measured.macro_f1 == pytest.approx(sum(f1.values()) / 3)
    assert measured.weighted_f1 == pytest.approx((3 * f1["en"] + 2 * f1["yue"] + f1["zh"]) / 6)
    assert measured.weighted_accuracy.low < 4 / 6 < measured.weighted_accuracy.high
    assert measured.calibration_error == pytest.approx(0.9 - 4 / 6)
    (one_bin,) = measured.reliability
    assert (one_bin.count, one_bin.accuracy) == (6, pytest.approx(4 / 6))


def test_a_label_that_only_the_model_uses_is_a_column_but_no_class(row):
    measured = measure([language(row, "a", "en", "en"), language(row, "b", "en", "ja")]).language
    assert measured.labels == ["en", "ja"]
    assert measured.confusion == [[1, 1], [0, 0]]
    assert set(measured.f1) == {"en"}
    assert measured.unweighted_accuracy.value == 0.5


def test_a_failure_is_wrong_under_every_protocol_and_has_no_confidence(row):
    labels = {"language": "en", "emotion": "HAPPY", "event": "Speech"}
    tags = {
        "language": {"en": 1.0},
        "emotion": {"HAPPY": 1.0, "SAD": 0.0, "ANGRY": 0.0, "NEUTRAL": 0.0},
        "event": {"Speech": 1.0},
    }
    measured = measure([row("a", tags=tags, **labels), row("b", error="broken", **labels)])
    for one in (measured.language, measured.emotion_four, measured.emotion_open, measured.event):
        assert one.utterances == 2
        assert FAILED in one.labels
        assert one.weighted_accuracy.value == 0.5
        assert one.unweighted_accuracy.value == 0.5
        assert sum(part.count for part in one.reliability) == 1
        assert one.calibration_error == 0


def test_nothing_but_failures_is_uncalibrated(row):
    measured = measure([row("a", error="broken", language="en")]).language
    assert measured.confusion == [[0, 0], [1, 0]]
    assert measured.labels == ["ERROR", "en"]
    assert (measured.weighted_accuracy.value, measured.calibration_error) == (0, 1)


def emotion(row, name, reference, **distribution):
    return row(name, emotion=reference, tags={"emotion": distribution})


def test_four_classes_bans_every_other_answer_and_renormalises(row):
    happy = emotion(
        row, "a", "HAPPY", HAPPY=0.2, SAD=0.1, ANGRY=0.1, NEUTRAL=0.0, EMO_UNKNOWN=0.5, OTHER=0.1
    )
    (four,) = answers([happy], "emotion_four")
    assert (four.label, four.correct) == ("HAPPY", True)
    assert four.confidence == pytest.approx(0.5)
    (open_answer,) = answers([happy], "emotion_open")
    assert (open_answer.label, open_answer.correct) == ("EMO_UNKNOWN", False)
    assert open_answer.confidence == 0.5


def test_four_classes_counts_only_references_among_the_four(row):
    spread = {"HAPPY": 0.4, "SAD": 0.1, "ANGRY": 0.1, "NEUTRAL": 0.1, "FEARFUL": 0.3}
    hypotheses = [
        emotion(row, str(n), reference, **spread)
        for n, reference in enumerate(["HAPPY", "FEARFUL", "EMO_UNKNOWN", None])
    ]
    measured = measure(hypotheses)
    assert measured.emotion_four.utterances == 1
    assert measured.emotion_open.utterances == 2
    assert measured.emotion_open.confusion == [[0, 1], [0, 1]]


def test_four_probabilities_of_zero_are_all_alike(row):
    none = emotion(row, "a", "SAD", HAPPY=0.0, SAD=0.0, ANGRY=0.0, NEUTRAL=0.0, EMO_UNKNOWN=1.0)
    (answer,) = answers([none], "emotion_four")
    assert answer.confidence == 0.25


def test_an_unknown_event_is_an_event_of_its_own(row):
    tags = {"event": {"Event_UNK": 0.7, "Speech": 0.3}}
    measured = measure([row("a", event="Event_UNK", tags=tags)]).event
    assert measured.f1 == {"Event_UNK": 1.0}


def test_kinds_without_labels_are_not_measured(row):
    measured = measure([language(row, "a", "en", "en")])
    assert measured.language is not None
    assert measured.emotion_four is measured.emotion_open is measured.event is None


def test_equal_tables_have_equal_measures(row):
    hypotheses = [language(row, str(n), "en", "en" if n % 3 else "zh") for n in range(30)]
    assert measure(hypotheses) == measure(hypotheses)
