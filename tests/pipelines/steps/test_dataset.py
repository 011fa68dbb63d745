import shutil
import wave
from pathlib import Path

import pytest

from pipelines.data.adapter import InvalidDataset
from pipelines.data.digest import digest
from pipelines.data.manifest import InvalidManifest, read_audio, read_manifest
from pipelines.steps.dataset import dataset


@pytest.fixture
def crema_d(tmp_path):
    """A tiny tree of a public set, as it unpacks."""
    folder = tmp_path / "CREMA-D" / "AudioWAV"
    folder.mkdir(parents=True)
    for number, emotion in enumerate(("ANG", "HAP", "NEU", "SAD"), 1):
        with wave.open(str(folder / f"1001_DFA_{emotion}_XX.wav"), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(bytes([number]) * 640)
    return folder.parent


def test_the_embedded_set_is_the_whole_of_it(tmp_path, demo_model_dir):
    mark = dataset("embedded", None, tmp_path / "data")
    original = read_manifest(demo_model_dir / "evaluation")
    written = read_manifest(tmp_path / "data")
    assert len(written) == len(original) == 150
    for one, other in zip(written, original, strict=True):
        assert Path(one.audio).is_absolute()
        assert one.model_copy(update={"audio": other.audio}) == other
        assert read_audio(tmp_path / "data", one) == read_audio(
            demo_model_dir / "evaluation", other
        )
    assert mark == digest(demo_model_dir / "evaluation")


def test_a_limit_keeps_the_languages_of_the_embedded_set(tmp_path):
    whole = dataset("embedded", None, tmp_path / "all")
    part = dataset("embedded", None, tmp_path / "part", limit=15)
    utterances = read_manifest(tmp_path / "part")
    assert len(utterances) == 15
    assert {one.language for one in utterances} == {"zh", "en", "yue", "ja", "ko", "nospeech"}
    assert part != whole


def test_a_manifest_elsewhere_gives_the_same_digest(tmp_path, demo_model_dir):
    shutil.copytree(demo_model_dir / "evaluation", tmp_path / "copy")
    expected = dataset("embedded", None, tmp_path / "data", limit=5)
    assert dataset(str(tmp_path / "copy"), None, tmp_path / "one", limit=5) == expected
    file = tmp_path / "copy" / "manifest.jsonl"
    assert dataset(str(file), None, tmp_path / "two", limit=5) == expected
    first = read_manifest(tmp_path / "two")[0]
    assert Path(first.audio).parent == tmp_path / "copy"


def test_a_relative_manifest_gives_absolute_audio(tmp_path, demo_model_dir, monkeypatch):
    monkeypatch.chdir(demo_model_dir)
    dataset("evaluation", None, tmp_path / "data", limit=1)
    first = read_manifest(tmp_path / "data")[0]
    assert Path(first.audio).parent == demo_model_dir / "evaluation"


def test_a_uri_stays_as_it_is(tmp_path):
    source = tmp_path / "set.jsonl"
    source.write_text('{"audio": "https://host.invalid/a.wav", "text": "hello"}\n')
    dataset(str(source), None, tmp_path / "data")
    assert read_manifest(tmp_path / "data") == read_manifest(source)


def test_a_public_set_is_adapted(tmp_path, crema_d):
    mark = dataset("crema-d", crema_d, tmp_path / "data", limit=2)
    assert [one.emotion for one in read_manifest(tmp_path / "data")] == ["ANGRY", "NEUTRAL"]
    shutil.move(crema_d, tmp_path / "moved")
    assert dataset("crema-d", tmp_path / "moved", tmp_path / "data", limit=2) == mark


def test_the_digest_follows_the_audio(tmp_path, crema_d):
    before = dataset("crema-d", crema_d, tmp_path / "data")
    clip = crema_d / "AudioWAV" / "1001_DFA_SAD_XX.wav"
    clip.write_bytes(clip.read_bytes()[:-2] + b"\x00\x01")
    assert dataset("crema-d", crema_d, tmp_path / "data") != before


def test_a_root_goes_with_public_sets_alone(tmp_path):
    with pytest.raises(InvalidDataset, match="data 'crema-d': root is missing"):
        dataset("crema-d", None, tmp_path / "data")
    with pytest.raises(InvalidDataset, match="data 'embedded': takes no root"):
        dataset("embedded", tmp_path, tmp_path / "data")


@pytest.mark.parametrize("source", ["", "timit", "/no/such/manifest.jsonl"])
def test_an_unknown_source_is_refused_with_those_there_are(tmp_path, source):
    with pytest.raises(InvalidDataset, match="nor a set's name: embedded, aishell-1") as raised:
        dataset(source, None, tmp_path / "data")
    assert repr(source) in str(raised.value)
    assert not (tmp_path / "data").exists()


def test_a_negative_limit_is_refused(tmp_path):
    with pytest.raises(InvalidDataset, match="limit: must be 0"):
        dataset("embedded", None, tmp_path / "data", limit=-1)


def test_a_manifest_whose_audio_is_gone_is_refused(tmp_path):
    source = tmp_path / "set.jsonl"
    source.write_text('{"audio": "gone.wav"}\n')
    with pytest.raises(InvalidManifest, match=r"audio of 'gone\.wav': .*gone\.wav"):
        dataset(str(source), None, tmp_path / "data")


def test_a_directory_without_a_manifest_is_refused(tmp_path):
    with pytest.raises(InvalidManifest, match=r"manifest\.jsonl: .*No such file"):
        dataset(str(tmp_path), None, tmp_path / "data")
