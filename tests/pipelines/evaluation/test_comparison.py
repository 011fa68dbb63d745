import pytest

from pipelines.evaluation.accuracy import measure
from pipelines.evaluation.comparison import compare
from pipelines.evaluation.results import Flip

SURE = {"HAPPY": 0.7, "SAD": 0.1, "ANGRY": 0.1, "NEUTRAL": 0.1}
SAD = {"HAPPY": 0.1, "SAD": 0.7, "ANGRY": 0.1, "NEUTRAL": 0.1}


def zh(row, name, recognised, emotion=SURE, **options):
    tags = {"language": {"zh": 1.0}, "emotion": emotion, "event": {"Speech": 1.0}}
    labels = {"language": "zh", "emotion": "HAPPY", "event": "Speech"}
    return row(name, "一二三四", recognised, tags=tags, **(labels | options))


def test_a_model_does_not_differ_from_itself(row):
    table = [zh(row, str(n), "一二三" if n % 2 else "一二三四") for n in range(10)]
    compared = compare(table, table)
    assert compared.flips == []
    assert compared.changed_texts == 0
    for difference in (*compared.error_rates.values(), *compared.tags.values()):
        delta = difference.delta
        assert (delta.value, delta.low, delta.high) == (0, 0, 0)
        assert difference.candidate == difference.champion
    assert set(compared.tags) == {"language", "emotion_four", "event"}


def test_differences_by_hand(row):
    candidate = [
        zh(row, "a", "一二三四"),
        zh(row, "b", "一二", emotion=SAD),
        row("c", "go home", "go", language="en"),
    ]
    champion = [
        zh(row, "a", "一二三，四"),
        zh(row, "b", "一二三"),
        row("c", "go home", "go home", language="en"),
    ]
    compared = compare(candidate, champion)
    chinese = compared.error_rates["zh"]
    assert (chinese.candidate, chinese.champion) == (2 / 8, 1 / 8)
    assert chinese.delta.value == pytest.approx(1 / 8)
    assert (chinese.delta.low, chinese.delta.high) == (0, 0.25)
    assert chinese.utterances == 2
    assert compared.error_rates["en"].delta.value == 0.5
    emotion = compared.tags["emotion_four"]
    assert (emotion.candidate, emotion.champion, emotion.delta.value) == (0.5, 1, -0.5)
    assert emotion.utterances == 2
    assert compared.flips == [
        Flip(id="b", kind="emotion", reference="HAPPY", champion="HAPPY", candidate="SAD")
    ]
    # Punctuation is no change; "b" and "c" are.
    assert compared.changed_texts == pytest.approx(2 / 3)


def test_rates_are_those_of_the_measures(row):
    candidate = [zh(row, str(n), "一二三四"[: n % 5]) for n in range(20)]
    champion = [zh(row, str(n), "一二三四"[: 1 + n % 4]) for n in range(20)]
    difference = compare(candidate, champion).error_rates["zh"]
    assert difference.candidate == measure(candidate).languages["zh"].rate.value
    assert difference.champion == measure(champion).languages["zh"].rate.value


def test_the_pairs_find_a_small_but_steady_regression(row):
    # Utterances differ widely in difficulty; the candidate has one error more in most of them.
    texts = ["一" * (n % 21) + "二" * (40 - n % 21) for n in range(100)]
    worse = [text.replace("一", "三", 1) if n % 3 else text for n, text in enumerate(texts)]
    reference = "一" * 20 + "二" * 20
    champion = [row(str(n), reference, text, language="zh") for n, text in enumerate(texts)]
    candidate = [row(str(n), reference, text, language="zh") for n, text in enumerate(worse)]
    delta = compare(candidate, champion).error_rates["zh"].delta
    assert 0 < delta.low <= delta.value <= delta.high
    alone = measure(champion).languages["zh"].rate
    assert alone.low < measure(candidate).languages["zh"].rate.value < alone.high


def test_the_order_of_the_rows_does_not_matter(row):
    candidate = [zh(row, str(n), "一二三四"[: n % 5]) for n in range(8)]
    champion = [zh(row, str(n), "一二三", emotion=SAD) for n in range(8)]
    assert compare(candidate, champion[::-1]) == compare(candidate, champion)


def test_a_failure_flips_every_tag_and_changes_the_text(row):
    compared = compare([zh(row, "a", "一二三四")], [zh(row, "a", "一二三四")])
    assert not compared.flips
    failed = row("a", "一二三四", error="broken", language="zh", emotion="HAPPY", event="Speech")
    compared = compare([failed], [zh(row, "a", "一二三四")])
    assert {(flip.kind, flip.candidate) for flip in compared.flips} == {
        ("language", "ERROR"),
        ("emotion", "ERROR"),
        ("event", "ERROR"),
    }
    assert compared.changed_texts == 1
    assert compared.error_rates["zh"].candidate == 1
    assert compared.tags["event"].delta.value == -1


def test_tables_of_different_utterances_are_refused_by_name(row):
    both, more = zh(row, "a", "一"), [zh(row, f"x{n}", "一") for n in range(7)]
    with pytest.raises(
        ValueError, match=r"only the candidate's .* 7 utterances: 'x0', .* and 2 mor"
    ):
        compare([both, *more], [both])
    with pytest.raises(ValueError, match=r"only the champion's table holds 1 utterance: 'x0'$"):
        compare([both], [both, more[0]])


def test_tables_with_different_labels_are_refused_by_name(row):
    with pytest.raises(ValueError, match=r"labels differ for 1 utterance: 'a'"):
        compare([zh(row, "a", "一")], [zh(row, "a", "一", noise="street")])


def test_empty_tables_are_refused():
    with pytest.raises(ValueError, match="no utterances"):
        compare([], [])
