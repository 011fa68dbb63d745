"""Scores against worked examples."""

import pytest

from pipelines.demo_model.scoring import Heard, by_language, score


def test_spaces_and_case_do_not_count():
    wanted = [Heard("turn on", "en", "HAPPY", "Speech")]
    got = [Heard("Turnon", "en", "SAD", "BGM")]
    scores = score(wanted, got)
    assert scores.cer == 0
    assert (scores.language, scores.emotion, scores.event) == (1, 0, 0)
    assert scores.empty is None


def test_errors_are_weighted_by_length():
    wanted = [Heard("一二三四", "zh", "SAD", "Speech"), Heard("五", "zh", "SAD", "Speech")]
    got = [Heard("一二三", "zh", "SAD", "Speech"), Heard("五", "zh", "SAD", "Speech")]
    assert score(wanted, got).cer == pytest.approx(1 / 5)


def test_clips_without_speech_count_for_tags_and_empty_text():
    wanted = [Heard("", "nospeech", "EMO_UNKNOWN", "Cough")] * 2
    got = [Heard("", "nospeech", "NEUTRAL", "Cough"), Heard("a", "en", "NEUTRAL", "Speech")]
    scores = score(wanted, got)
    assert scores.cer is None
    assert scores.emotion is None
    assert (scores.language, scores.event, scores.empty) == (0.5, 0.5, 0.5)


def test_groups():
    wanted = [Heard("a", "en", "SAD", "Speech"), Heard("", "nospeech", "EMO_UNKNOWN", "BGM")]
    assert set(by_language(wanted, wanted)) == {"en", "nospeech", "speech", "all"}
