from pathlib import Path

import pytest

from pipelines.data.adapter import InvalidDataset
from pipelines.data.convert import convert
from pipelines.data.manifest import read_manifest
from pipelines.data.registry import find


@pytest.fixture
def casia(tmp_path, audio):
    for speaker in ("liuchanhg", "wangzhe"):
        for number in range(201, 204):
            audio(tmp_path / "CASIA" / speaker / "sad" / f"{number}.wav")
    return tmp_path / "CASIA"


def test_a_limit_spreads_over_the_set(tmp_path, casia):
    manifest = tmp_path / "a" / "new" / "set.jsonl"
    written = convert(find("casia"), casia, manifest, limit=2)
    assert [one.id for one in written] == ["liuchanhg/sad/201", "wangzhe/sad/201"]
    assert read_manifest(manifest) == written


def test_no_limit_and_a_large_one_take_all(tmp_path, casia):
    assert len(convert(find("casia"), casia, tmp_path / "set.jsonl")) == 6
    assert len(convert(find("casia"), casia, tmp_path / "set.jsonl", limit=99)) == 6


def test_a_negative_limit_is_refused(tmp_path, casia):
    with pytest.raises(InvalidDataset, match=r"limit: must be 0 \(all\) or more, not -1"):
        convert(find("casia"), casia, tmp_path / "set.jsonl", limit=-1)


def test_a_relative_root_gives_absolute_audio(tmp_path, casia, monkeypatch):
    monkeypatch.chdir(tmp_path)
    convert(find("casia"), Path("CASIA"), Path("set.jsonl"))
    first = read_manifest(tmp_path / "set.jsonl")[0]
    assert first.audio == str(casia / "liuchanhg/sad/201.wav")


def test_converting_twice_gives_the_same_file(tmp_path, casia):
    convert(find("casia"), casia, tmp_path / "one.jsonl")
    convert(find("casia"), casia, tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
