"""What ships in predictor/demo_model: whole, small, balanced, and as good as its card says."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipelines.demo_model.evaluate import evaluate
from predictor.engine.checkpoint import INT8_WEIGHTS, WEIGHTS, read_manifest, verify
from predictor.engine.quantize import quantize
from predictor.engine.transcribe import Engine

MODEL = Path(__file__).parents[3] / "predictor" / "demo_model"
LANGUAGES = ("zh", "en", "ja", "ko", "yue")
MAX_BYTES = 16 << 20

MAX_CER = 0.12
MAX_CER_OF_A_LANGUAGE = 0.18
MIN_LANGUAGE = 0.95
MIN_EVENT = 0.95
MIN_EMOTION = 0.80


@pytest.fixture(scope="module")
def rows():
    with (MODEL / "evaluation" / "manifest.jsonl").open(encoding="utf-8") as manifest:
        return [json.loads(line) for line in manifest]


@pytest.fixture(scope="module")
def engine():
    return Engine(MODEL)


@pytest.fixture(scope="module")
def scores(engine):
    return evaluate(engine, MODEL / "evaluation")


def test_everything_fits(rows):
    assert sum(path.stat().st_size for path in MODEL.rglob("*") if path.is_file()) <= MAX_BYTES


def test_model_is_what_its_manifest_says():
    manifest = read_manifest(MODEL)
    verify(MODEL, manifest, manifest.files)
    assert manifest.name == "sensevoice-demo"
    assert manifest.licence == "Apache-2.0"
    assert "Not for production" in manifest.notice


def test_the_int8_weights_are_those_of_the_trained_ones():
    written, expected = load_file(MODEL / INT8_WEIGHTS), quantize(load_file(MODEL / WEIGHTS))
    assert written.keys() == expected.keys()
    assert all(np.array_equal(written[name], expected[name]) for name in written)


def test_nothing_is_compiled_for_one_cpu():
    """The embedded model starts on whatever machine it is copied to."""
    assert read_manifest(MODEL).compiled_for == ""


def test_manifest_rows_have_their_keys_and_clips(rows):
    assert len(rows) == 150
    for row in rows:
        assert set(row) == {"audio", "text", "language", "emotion", "event"}
        assert (MODEL / "evaluation" / row["audio"]).is_file()
    names = [row["audio"] for row in rows]
    assert len(set(names)) == len(names)
    assert {path.name for path in (MODEL / "evaluation").glob("*.opus")} == set(names)


def test_clips_are_balanced(rows):
    speech = Counter((row["language"], row["emotion"]) for row in rows if row["text"])
    assert len(speech) == len(LANGUAGES) * 4
    assert len(set(speech.values())) == 1
    silent = [row for row in rows if not row["text"]]
    assert {row["language"] for row in silent} == {"nospeech"}
    assert len({row["event"] for row in silent}) == 8


def test_clips_decode(engine, rows):
    for row in rows[::10]:
        transcript = engine.transcribe((MODEL / "evaluation" / row["audio"]).read_bytes())
        assert 0.5 < transcript.duration < 12


def test_text_meets_the_bar(scores):
    assert scores["speech"].cer <= MAX_CER
    for language in LANGUAGES:
        assert scores[language].cer <= MAX_CER_OF_A_LANGUAGE, language


def test_tags_meet_the_bars(scores):
    assert scores["all"].language >= MIN_LANGUAGE
    assert scores["all"].event >= MIN_EVENT
    assert scores["speech"].emotion >= MIN_EMOTION


def test_nothing_is_read_into_clips_without_speech(scores):
    assert scores["nospeech"].empty >= 0.9


def test_card_is_filled(scores):
    card = (MODEL / "README.md").read_text(encoding="utf-8")
    line = next(line for line in card.splitlines() if line.startswith("| shipped clips | speech |"))
    assert f"{scores['speech'].cer:.1%}" in line
