"""The model directory's config and the choice of evaluation clips."""

import random
from collections import Counter

import pytest
import yaml

pytest.importorskip("pypinyin", reason="pypinyin is needed by the recipe only")

from pipelines.demo_model import package
from pipelines.demo_model.events import EVENTS
from pipelines.demo_model.grammar import LANGUAGES
from pipelines.demo_model.prosody import EMOTIONS
from pipelines.demo_model.train import network_config
from predictor.engine.config import read_config


def test_engine_reads_the_config_as_trained(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(package.model_config(1353)))
    _, network = read_config(path, 1353)
    assert network == network_config(1353)


def rows():
    speech = [
        {"text": "x", "language": language, "emotion": emotion, "event": "Speech", "audio": f"{i}"}
        for language in LANGUAGES
        for emotion in EMOTIONS
        for i in range(15)
    ]
    silent = [
        {
            "text": "",
            "language": "nospeech",
            "emotion": "EMO_UNKNOWN",
            "event": event,
            "audio": f"{i}",
        }
        for event in EVENTS
        for i in range(13)
    ]
    return speech + silent


def test_chosen_clips_are_balanced():
    chosen = package.choose(rows(), random.Random(1))
    assert len(chosen) == 150
    speech = Counter((row["language"], row["emotion"]) for row in chosen if row["text"])
    assert set(speech.values()) == {package.CLIPS_PER_MOOD}
    events = Counter(row["event"] for row in chosen if not row["text"])
    assert set(events) == set(EVENTS)
    assert min(events.values()) >= 2


def test_the_seed_decides():
    assert package.choose(rows(), random.Random(1)) == package.choose(rows(), random.Random(1))
    assert package.choose(rows(), random.Random(1)) != package.choose(rows(), random.Random(2))
