"""Synthetic speakers: espeak-ng (all languages), flite (English) and Open JTalk (Japanese).

Training hears these; Festival and Hibari speak in held-out sets only.
"""

import functools
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import resample_poly

from pipelines.demo_model.espeak import Espeak
from pipelines.demo_model.grammar import Sentence, Split
from pipelines.demo_model.prosody import PROSODY, Prosody

SAMPLE_RATE = 16_000

Samples = NDArray[np.float32]

ESPEAK_LANGUAGES = {
    "zh": ("cmn-latn-pinyin",),
    "en": ("en-us", "en-us", "en"),
    "ja": ("ja",),
    "ko": ("ko",),
    "yue": ("yue",),
}
"""espeak-ng language voices; a repeated one is drawn more often."""

ESPEAK_VARIANTS: dict[Split, tuple[str, ...]] = {
    "test": (
        "m6",
        "m8",
        "f3",
        "f5",
        "klatt4",
        "adam",
        "belinda",
        "ed",
        "robert",
        "Diogo",
        "Andrea",
        "john",
    ),
    "dev": ("m5", "f4", "marco", "edward", "steph3", "klatt5"),
    "train": (
        *("m1", "m2", "m3", "m4", "m7", "f1", "f2", "klatt", "klatt2", "klatt3", "klatt6"),
        *("Alex", "Alicia", "Andy", "Annie", "antonio", "aunty", "benjamin", "boris", "caleb"),
        *("david", "Denis", "edward2", "Gene", "Gene2", "Gustave", "Henrique", "Hugo", "iven"),
        *("iven2", "iven3", "iven4", "Jacky", "kaukovalta", "Lee", "linda", "marcelo", "Mario"),
        *("max", "Michael", "michel", "miguel", "mike", "Mr", "Nguyen", "pablo", "paul", "pedro"),
        *("quincy", "RicishayMax", "RicishayMax2", "rob", "robosoft3", "robosoft4", "robosoft5"),
        *("steph", "steph2", "Storm", "Tweaky", "travis", "victor", "Zac", "anika", "AnxiousAndy"),
        *("grandma", "grandpa", "norbert", "sandro", "shelby"),
    ),
}
"""espeak-ng speaker variants of each split. Whispers, croaks and robots without pitch are left out."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Speech with the time of each unit of its sentence."""

    samples: Samples
    """Mono, 16 kHz, peak 0.7."""
    spans: list[tuple[float, float]]
    """Start and end of each unit, in seconds."""


_WORDS_PER_MINUTE = {"zh": 190, "en": 165, "ja": 170, "ko": 165, "yue": 175}
"""Plain rate: what espeak-ng counts as words are syllables in zh and yue."""


class SilentVoice(RuntimeError):
    """A synthesiser gave no sound."""


@functools.cache
def _espeak() -> Espeak:
    return Espeak()


def espeak(sentence: Sentence, voice: str, prosody: Prosody, formant: float = 1.0) -> Utterance:
    """``voice`` is ``language+variant``; ``formant`` scales the vocal tract (and pitch), not the tempo."""
    samples, rate, words = _espeak().say(
        sentence.spoken,
        voice,
        rate=_WORDS_PER_MINUTE[sentence.language] * prosody.tempo / formant,
        pitch=50 + 8 * prosody.semitones,
        pitch_range=50 * prosody.spread,
    )
    words = [(offset, seconds / formant) for offset, seconds in words]
    return _utterance(sentence, samples, rate * formant, words, prosody)


_HIBARI_RATE = 24_000
FLITE_PITCH_HZ = {"kal16": 105.0, "awb": 130.0, "rms": 100.0, "slt": 175.0}
"""Mean pitch of flite's English voices."""


def flite(sentence: Sentence, voice: str, prosody: Prosody, formant: float = 1.0) -> Utterance:
    pitch = FLITE_PITCH_HZ[voice] * 2 ** (prosody.semitones / 12)
    settings = (
        f"int_f0_target_mean={pitch:.1f}",
        f"int_f0_target_stddev={14 * prosody.spread:.1f}",
        f"duration_stretch={formant / prosody.tempo:.3f}",
    )
    options = [part for setting in settings for part in ("--setf", setting)]
    command = ["flite", "-voice", voice, *options, "-t", sentence.spoken, "-o"]
    samples, rate = _run_to_file(command)
    return _utterance(sentence, samples, rate * formant, [], prosody)


def open_jtalk(sentence: Sentence, prosody: Prosody, formant: float = 1.0) -> Utterance:
    """The voice "mei", which ``pyopenjtalk-plus`` carries."""
    import pyopenjtalk

    voice = Path(pyopenjtalk.__file__).parent / "htsvoice" / "mei_normal.htsvoice"
    dictionary = "/var/lib/mecab/dic/open-jtalk/naist-jdic"
    manner = {"-fm": prosody.semitones, "-r": prosody.tempo / formant, "-jf": prosody.spread}
    options = [part for name, value in manner.items() for part in (name, f"{value:.2f}")]
    command = ["open_jtalk", "-x", dictionary, "-m", str(voice), *options, "-ow"]
    samples, rate = _run_to_file(command, sentence.text.encode())
    return _utterance(sentence, samples, rate * formant, [], prosody)


def festival(sentence: Sentence, voice: str) -> Utterance:
    """A festival voice (``ked_diphone``, ``cmu_us_slt_arctic_hts``) in its plain manner."""
    command = ["text2wave", "-eval", f"(voice_{voice})", "-o"]
    samples, rate = _run_to_file(command, sentence.spoken.encode())
    return _utterance(sentence, samples, rate, [], PROSODY["NEUTRAL"])


def hibari(sentence: Sentence, voice: str) -> Utterance:
    """A neural English voice of ``hibari-tts`` (``heart``)."""
    samples = _hibari(voice)(sentence.spoken).astype(np.float32)
    return _utterance(sentence, samples, _HIBARI_RATE, [], PROSODY["NEUTRAL"])


@functools.cache
def _hibari(voice: str) -> Callable[[str], Samples]:
    from hibari import Hibari

    speak: Callable[[str], Samples] = Hibari(voice)
    return speak


def _run_to_file(command: Sequence[str], content: bytes | None = None) -> tuple[Samples, int]:
    """Run a synthesiser whose last argument is the file to write."""
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        subprocess.run([*command, file.name], input=content, check=True, capture_output=True)
        samples, rate = soundfile.read(file.name, dtype="float32")
    return samples, rate


def resampled(samples: Samples, rate: float, target: int = SAMPLE_RATE) -> Samples:
    ratio = Fraction(target / rate).limit_denominator(300)
    out: Samples = resample_poly(samples, ratio.numerator, ratio.denominator).astype(np.float32)
    return out


def _utterance(
    sentence: Sentence,
    samples: Samples,
    rate: float,
    words: list[tuple[int, float]],
    prosody: Prosody,
) -> Utterance:
    """To 16 kHz, trimmed, with the loudness slope, and units' times from the words' starts.

    Between two known word starts (or, where the synthesiser tells none, between the first and the last
    sound) time runs evenly over the characters of the spoken form.
    """
    samples = resampled(samples, rate)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max(initial=1e-6))
    if len(loud) < SAMPLE_RATE // 10:
        raise SilentVoice(f"no speech for {sentence.spoken!r}")
    first, last = int(loud[0]), int(loud[-1]) + 1
    samples = samples[first:last]
    length = len(samples) / SAMPLE_RATE
    anchors = {0: 0.0}
    for offset, seconds in words:
        time = seconds - first / SAMPLE_RATE
        if offset > max(anchors) and max(anchors.values()) < time < length:
            anchors[offset] = time
    anchors[len(sentence.spoken.rstrip())] = length
    offsets = np.cumsum([0, *(len(unit.spoken) for unit in sentence.units)])
    times = np.interp(offsets, list(anchors), list(anchors.values()))
    slope = np.linspace(-prosody.slope_db / 2, prosody.slope_db / 2, len(samples))
    samples = samples * (10 ** (slope / 20)).astype(np.float32)
    samples *= 0.7 / np.abs(samples).max()
    spans = [(float(start), float(end)) for start, end in pairwise(times)]
    return Utterance(samples, spans)
