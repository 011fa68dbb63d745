"""Which plots there are."""

from pipelines.evaluation import figures
from pipelines.evaluation.figures import MAX_SLICES
from pipelines.evaluation.published import PUBLISHED, Published
from pipelines.evaluation.results import Evaluation


def test_words_are_shown_by_language_kind_of_error_and_slice(evaluation: Evaluation) -> None:
    titles = [one.title for one in figures.of_words(evaluation, Published())]
    assert titles == [
        "Error rate by language",
        "What the errors are",
        "Error rate by duration",
        "Error rate by noise",
        "Error rate by emotion",
    ]


def test_words_stand_beside_champion_and_published_figures(evaluation: Evaluation) -> None:
    (first, *_) = figures.of_words(evaluation, PUBLISHED["common-voice"])
    assert "(champion 0.00%) (published 10.78%)" in first.alt
    by_noise = list(figures.of_words(evaluation, PUBLISHED["librispeech"]))[3]
    assert "(published 7.18%)" in by_noise.alt


def test_every_kind_of_tag_has_confusion_f1_and_calibration(evaluation: Evaluation) -> None:
    titles = [one.title for one in figures.of_tags(evaluation)]
    assert len(titles) == 3 * len(figures.TAGS)
    assert all(any(title.startswith(name) for title in titles) for name in figures.TAGS.values())
    alts = {one.title: one.alt for one in figures.of_tags(evaluation)}
    assert "ANGRY taken for SAD: 5" in alts["Emotion, four classes: confusion"]


def test_a_tag_that_nobody_labelled_has_no_plots(evaluation: Evaluation) -> None:
    tags = evaluation.tags.model_copy(update={"emotion_four": None, "emotion_open": None})
    titles = [one.title for one in figures.of_tags(evaluation.model_copy(update={"tags": tags}))]
    assert len(titles) == 6
    assert not [title for title in titles if title.startswith("Emotion")]


def test_too_many_slices_are_cut_to_the_largest_and_the_note_says_so(
    evaluation: Evaluation,
) -> None:
    rate = evaluation.accuracy.languages["zh"]
    slices = {
        f"zh {number}": rate.model_copy(update={"utterances": number})
        for number in range(MAX_SLICES + 5)
    }
    accuracy = evaluation.accuracy.model_copy(update={"slices": {"noise": slices}})
    changed = evaluation.model_copy(update={"accuracy": accuracy})
    last = list(figures.of_words(changed, Published()))[-1]
    assert f"The largest {MAX_SLICES} of {MAX_SLICES + 5} slices." in last.note
    assert "zh 4 (4)" not in last.alt
    assert "zh 5 (5)" in last.alt


def test_speed_is_told_for_the_candidate_alone_where_there_is_no_champion(
    evaluation: Evaluation,
) -> None:
    assert evaluation.speed is not None
    assert "champion" in figures.of_speed(evaluation.speed).alt
    alone = evaluation.speed.model_copy(update={"champion": None, "ratios": {}})
    assert "champion" not in figures.of_speed(alone).alt
