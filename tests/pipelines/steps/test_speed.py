"""Models timed in real processes."""

import math
from pathlib import Path

import pytest

from pipelines.data.manifest import Utterance, write_manifest
from pipelines.evaluation.results import Speed
from pipelines.steps import speed as step
from pipelines.steps.speed import WorkerFailed, speed


def sane(one: Speed) -> bool:
    values = one.model_dump().values()
    return all(math.isfinite(v) and v > 0 for v in values) and one.p50_s <= one.p95_s


@pytest.fixture
def damaged_set(demo_model_dir: Path, tmp_path: Path) -> Path:
    """A clip that is no audio, one that is not there, and one that is well."""
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    well = demo_model_dir / "evaluation" / "en-001.opus"
    audios = {"damaged": "noise.wav", "missing": "missing.wav", "well": str(well)}
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, [Utterance(id=name, audio=path) for name, path in audios.items()])
    return manifest


def test_candidate_and_champion_are_timed_over_the_same_clips(
    random_model_dir: Path, demo_model_dir: Path
) -> None:
    found = speed(random_model_dir, demo_model_dir, demo_model_dir / "evaluation", 3, rounds=2)
    assert found.clips == 3
    assert found.audio_s > 0
    assert "CPUs" in found.machine
    assert found.champion is not None
    assert sane(found.candidate)
    assert sane(found.champion)
    assert set(found.ratios) == set(Speed.model_fields)
    # Two layers of 32 against the whole model: no noise turns that round.
    assert found.ratios["memory_mb"] < 1


def test_clips_that_are_damaged_or_missing_are_left_out(
    random_model_dir: Path, damaged_set: Path
) -> None:
    found = speed(random_model_dir, None, damaged_set, rounds=1)
    assert found.clips == 1
    assert sane(found.candidate)
    assert found.champion is None
    assert found.ratios == {}


def test_a_set_without_a_clip_that_can_be_transcribed_is_refused(
    random_model_dir: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "manifest.jsonl"
    write_manifest(manifest, [Utterance(id="a", audio="a.wav")])
    with pytest.raises(ValueError, match="no clip of 20 can be read"):
        speed(random_model_dir, None, manifest)
    (tmp_path / "a.wav").write_bytes(b"no audio")
    with pytest.raises(ValueError, match="can transcribe no clip of 1"):
        speed(random_model_dir, None, manifest)


def test_a_model_that_does_not_load_is_named_with_the_reason(
    demo_model_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(WorkerFailed, match="not a prepared model directory") as caught:
        speed(tmp_path / "empty", None, demo_model_dir / "evaluation", clips=1)
    assert str(tmp_path / "empty") in str(caught.value)


def test_a_model_that_hangs_is_ended(
    random_model_dir: Path, demo_model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "ANSWER_SECONDS", 0.01)
    with pytest.raises(WorkerFailed, match="ended with status -9"):
        speed(random_model_dir, None, demo_model_dir / "evaluation", clips=1)


@pytest.mark.parametrize("wrong", [{"clips": 0}, {"rounds": 0}])
def test_nothing_to_measure_is_refused(demo_model_dir: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        speed(demo_model_dir, None, demo_model_dir / "evaluation", **wrong)
