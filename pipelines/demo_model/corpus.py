"""The corpus: which clips there are, and their making.

A seed decides everything but the phases and the noise inside espeak-ng's voices, which the library
carries from one utterance to the next.

A corpus directory holds ``train.jsonl`` with ``train.features`` (log-mel frames, float16, 80 values a
frame, clips one after the other) and, for each held-out set, a folder with ``manifest.jsonl`` and FLAC
clips. Training clips are kept as features only.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray

from pipelines.demo_model import augment, events, voices
from pipelines.demo_model.grammar import LANGUAGES, Split, grammar
from pipelines.demo_model.prosody import EMOTIONS, emotional_prosody
from predictor.engine.frontend import Frontend, FrontendConfig

Engine = Literal["espeak", "flite", "open_jtalk", "festival", "hibari", "event"]

N_MELS = 80
_BGM_SHARE = 0.1
"""Share of speech clips with music under the speech; their event is BGM."""
_OTHER_ENGINES: dict[str, tuple[Engine, float]] = {
    "en": ("flite", 0.12),
    "ja": ("open_jtalk", 0.12),
}
"""Second engine of a language's training clips, and its share."""
_FLITE_TRAINING_VOICES = ("kal16", "awb", "rms")
_UNSEEN_ENGLISH: tuple[tuple[Engine, str], ...] = (
    ("flite", "slt"),
    ("festival", "ked_diphone"),
    ("festival", "cmu_us_slt_arctic_hts"),
    ("hibari", "heart"),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """One clip to make. Its random choices come from ``seed`` and its own name."""

    seed: int
    name: str
    split: Split
    language: str
    """One of the five, or ``nospeech``."""
    engine: Engine
    voice: str
    """Empty: drawn from the split's voices."""
    emotion: str
    event: str
    noise_db: float | None = None
    """Held-out clips: power ratio of speech to added noise."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A finished clip: what is heard in it, and when."""

    language: str
    emotion: str
    event: str
    units: list[tuple[str, str, float, float]]
    """Plain form, normalised form, start and end in seconds of every unit."""
    speaker: str

    @property
    def text(self) -> str:
        return "".join(unit[0] for unit in self.units)


def training_plans(seed: int, per_language: int, per_event: int) -> list[Plan]:
    plans = []
    for language in LANGUAGES:
        other, share = _OTHER_ENGINES.get(language, ("espeak", 0.0))
        for i in range(per_language):
            rng = random.Random(f"{seed}-plan-{language}-{i}")
            plans.append(
                Plan(
                    seed,
                    f"{language}-{i:05d}",
                    "train",
                    language,
                    other if rng.random() < share else "espeak",
                    "",
                    EMOTIONS[i % len(EMOTIONS)],
                    "BGM" if rng.random() < _BGM_SHARE else "Speech",
                )
            )
    plans += [
        Plan(seed, f"{event}-{i:05d}", "train", "nospeech", "event", "", "EMO_UNKNOWN", event)
        for event in events.EVENTS
        for i in range(per_event)
    ]
    random.Random(f"{seed}-order").shuffle(plans)
    return plans


def held_out_plans(seed: int, split: Split, per_language: int, per_event: int) -> list[Plan]:
    """Speech of unseen voices saying unseen sentences, emotions balanced, and events.

    In every ten clips one has music under the speech and one has noise.
    """
    plans = [
        Plan(
            seed,
            f"{language}-{i:03d}",
            split,
            language,
            "espeak",
            "",
            EMOTIONS[i % len(EMOTIONS)],
            "BGM" if i % 10 == 3 else "Speech",
            noise_db=15.0 if i % 10 == 8 else None,
        )
        for language in LANGUAGES
        for i in range(per_language)
    ]
    plans += [
        Plan(seed, f"{event}-{i:03d}", split, "nospeech", "event", "", "EMO_UNKNOWN", event)
        for event in events.EVENTS
        for i in range(per_event)
    ]
    return plans


def unseen_engine_plans(seed: int, per_voice: int) -> list[Plan]:
    """English of synthesisers and voices that training has not heard, in their plain manner."""
    return [
        Plan(seed, f"en-{voice}-{i:03d}", "test", "en", engine, voice, "NEUTRAL", "Speech")
        for engine, voice in _UNSEEN_ENGLISH
        for i in range(per_voice)
    ]


def make(plan: Plan) -> tuple[Clip, augment.Samples]:
    """The clip and its samples (16 kHz)."""
    rng = random.Random(f"{plan.seed}-{plan.split}-{plan.name}")
    generator = np.random.default_rng(rng.randrange(2**32))
    training = plan.split == "train"
    if plan.engine == "event":
        samples = events.sound(plan.event, generator, rng.uniform(0.8, 3.5))
        clip = Clip(plan.language, plan.emotion, plan.event, [], "synthetic")
    else:
        clip, samples = _speech(plan, rng)
        if plan.event == "BGM":
            music = events.sound("BGM", generator, len(samples) / augment.RATE + 0.01)
            mixture = augment.mixed(samples, music[: len(samples)], rng.uniform(6, 14))
            samples = mixture.astype(np.float32)
    if training:
        samples = augment.augment(samples, generator)
    else:
        if plan.noise_db is not None:
            noise = events.sound("Event_UNK", generator, len(samples) / augment.RATE + 0.01)
            mixture = augment.mixed(samples, noise[: len(samples)], plan.noise_db)
            samples = mixture.astype(np.float32)
        samples = augment.floor(samples * (0.7 / np.abs(samples).max()), generator)
    if plan.event == "Event_UNK" and rng.random() < 0.3:
        samples *= 10 ** rng.uniform(-3, -1.5)  # near silence
        samples = augment.floor(samples, generator)
    return clip, samples


def _speech(plan: Plan, rng: random.Random) -> tuple[Clip, augment.Samples]:
    sentence = grammar(plan.language).sample(rng, plan.split)
    prosody = emotional_prosody(plan.emotion, rng)
    formant = rng.uniform(0.9, 1.12) if plan.split == "train" else 1.0
    voice = plan.voice
    if plan.engine == "espeak":
        variant = rng.choice(voices.ESPEAK_VARIANTS[plan.split])
        voice = f"{rng.choice(voices.ESPEAK_LANGUAGES[plan.language])}+{variant}"
        said = voices.espeak(sentence, voice, prosody, formant)
    elif plan.engine == "flite":
        voice = voice or rng.choice(_FLITE_TRAINING_VOICES)
        said = voices.flite(sentence, voice, prosody, formant)
    elif plan.engine == "open_jtalk":
        voice = "mei"
        said = voices.open_jtalk(sentence, prosody, formant)
    elif plan.engine == "festival":
        said = voices.festival(sentence, voice)
    else:
        said = voices.hibari(sentence, voice)
    before, after = rng.uniform(0.05, 0.4), rng.uniform(0.05, 0.4)
    units = [
        (unit.text, unit.itn, round(start + before, 3), round(end + before, 3))
        for unit, (start, end) in zip(sentence.units, said.spans, strict=True)
    ]
    clip = Clip(plan.language, plan.emotion, plan.event, units, f"{plan.engine}:{voice}")
    return clip, augment.padded(said.samples, before, after)


def frontend() -> Frontend:
    """The engine's filter bank; its normalisation is not used here."""
    config = FrontendConfig()
    return Frontend(config, np.zeros((2, config.feature_size), np.float32))


def log_mel(samples: augment.Samples) -> NDArray[np.float16]:
    """[frames, 80], the engine's log-mel energies."""
    features: NDArray[np.float16] = frontend().log_mel(samples).astype(np.float16)
    return features


def _features(plan: Plan) -> tuple[Clip, NDArray[np.float16]]:
    clip, samples = make(plan)
    return clip, log_mel(samples)


def _one_thread() -> None:
    torch.set_num_threads(1)


def build_training(directory: Path, plans: Sequence[Plan], workers: int) -> Iterator[int]:
    """Write the training clips; yields the number done, now and then."""
    directory.mkdir(parents=True, exist_ok=True)
    offset = 0
    with (
        (directory / "train.features").open("wb") as features_file,
        (directory / "train.jsonl").open("w", encoding="utf-8") as index,
        get_context("spawn").Pool(workers, _one_thread) as pool,
    ):
        for done, (clip, features) in enumerate(pool.imap(_features, plans, chunksize=16), 1):
            features_file.write(features.tobytes())
            row = {**asdict(clip), "offset": offset, "frames": len(features)}
            index.write(json.dumps(row, ensure_ascii=False) + "\n")
            offset += len(features)
            if done % 1000 == 0 or done == len(plans):
                yield done


def build_held_out(directory: Path, plans: Sequence[Plan], workers: int) -> None:
    """Write a held-out set: FLAC clips and ``manifest.jsonl``."""
    directory.mkdir(parents=True, exist_ok=True)
    with (
        (directory / "manifest.jsonl").open("w", encoding="utf-8") as manifest,
        get_context("spawn").Pool(workers, _one_thread) as pool,
    ):
        for plan, (clip, samples) in zip(plans, pool.imap(make, plans, chunksize=4), strict=True):
            name = f"{plan.name}.flac"
            soundfile.write(directory / name, samples, augment.RATE, subtype="PCM_16")
            row = {
                "audio": name,
                "text": clip.text,
                "language": clip.language,
                "emotion": clip.emotion,
                "event": clip.event,
            }
            manifest.write(json.dumps(row, ensure_ascii=False) + "\n")
