import pytest
import yaml

from tests.benchmarks.models import cached, digest, without_dither


def test_a_digest_follows_names_and_content(tmp_path):
    file = tmp_path / "config"
    file.write_text("one")
    before = digest([file], ["word"])
    assert before == digest([file], ["word"])
    assert before != digest([file], ["another word"])
    file.write_text("two")
    assert before != digest([file], ["word"])


def test_a_model_is_made_once_and_its_stale_predecessor_removed(tmp_path):
    made = []

    def make(folder):
        made.append(folder)
        folder.mkdir()
        (folder / "model").write_text("weights")

    first = cached(tmp_path, "hub", "1", make)
    assert cached(tmp_path, "hub", "1", make) == first
    assert len(made) == 1
    second = cached(tmp_path, "hub", "2", make)
    assert sorted(tmp_path.iterdir()) == [second]


def test_half_a_model_is_none(tmp_path):
    def fail(folder):
        folder.mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        cached(tmp_path, "hub", "1", fail)
    assert not (tmp_path / "hub-1").exists()


def test_a_config_without_dither_keeps_the_rest(tmp_path):
    (tmp_path / "config.yaml").write_text("frontend_conf: {lfr_m: 7}\nmodel: SenseVoiceSmall\n")
    without_dither(tmp_path, ncpu=2)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {
        "frontend_conf": {"lfr_m": 7, "dither": 0.0},
        "model": "SenseVoiceSmall",
        "ncpu": 2,
    }
