"""Synthesis. Needs the speech synthesisers' binaries."""

import ctypes
import random
import shutil

import numpy as np
import pytest

pytest.importorskip("pypinyin", reason="pypinyin is needed by the recipe only")

from pipelines.demo_model import voices
from pipelines.demo_model.espeak import EspeakError
from pipelines.demo_model.grammar import LANGUAGES, grammar
from pipelines.demo_model.prosody import PROSODY


def has_espeak():
    try:
        ctypes.CDLL("libespeak-ng.so.1")
    except OSError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not has_espeak(), reason="espeak-ng is not installed")
needs_flite = pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")


def sentence(language, seed=1):
    return grammar(language).sample(random.Random(seed))


def test_no_voice_is_in_two_splits():
    splits = [set(variants) for variants in voices.ESPEAK_VARIANTS.values()]
    assert sum(map(len, splits)) == len(set.union(*splits))
    assert len(voices.ESPEAK_VARIANTS["test"]) >= 10


@needs_espeak
@pytest.mark.parametrize("language", LANGUAGES)
def test_units_follow_one_another_within_the_sound(language):
    said = voices.espeak(
        sentence(language), f"{voices.ESPEAK_LANGUAGES[language][0]}+m1", PROSODY["NEUTRAL"]
    )
    ends = [0.0, *(end for _, end in said.spans)]
    assert len(said.spans) == len(sentence(language).units)
    for (start, end), previous in zip(said.spans, ends[:-1], strict=True):
        assert start == pytest.approx(previous)
        assert end >= start
    assert ends[-1] == pytest.approx(len(said.samples) / voices.SAMPLE_RATE, abs=0.01)


@needs_espeak
def test_emotions_differ_in_tempo_and_slope():
    lengths, slopes = {}, {}
    for emotion, prosody in PROSODY.items():
        samples = voices.espeak(sentence("en"), "en-us+m1", prosody).samples
        half = len(samples) // 2
        lengths[emotion] = len(samples)
        slopes[emotion] = np.std(samples[half:]) / np.std(samples[:half])
    assert lengths["SAD"] > lengths["NEUTRAL"] > lengths["HAPPY"] > lengths["ANGRY"]
    assert slopes["HAPPY"] > slopes["NEUTRAL"] > slopes["SAD"]


@needs_espeak
def test_formant_scaling_keeps_the_tempo():
    plain, scaled = (
        len(voices.espeak(sentence("ko"), "ko+m1", PROSODY["NEUTRAL"], formant).samples)
        for formant in (1.0, 1.1)
    )
    assert scaled == pytest.approx(plain, rel=0.05)


@needs_espeak
def test_unknown_voice_is_named():
    with pytest.raises(EspeakError, match="nobody"):
        voices.espeak(sentence("en"), "nobody", PROSODY["NEUTRAL"])


@needs_flite
def test_flite_speaks_english():
    said = voices.flite(sentence("en"), "awb", PROSODY["SAD"])
    assert len(said.samples) > voices.SAMPLE_RATE // 2
