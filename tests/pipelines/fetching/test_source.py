from pathlib import Path

import pytest

from pipelines.fetching.errors import FetchFailed
from pipelines.fetching.source import SENSEVOICE_SMALL, HubSource, LocalSource, parse


@pytest.mark.parametrize("scheme", ["modelscope", "hf"])
@pytest.mark.parametrize("revision", ["master", "v1.0", "feature/x", "a" * 40])
def test_a_hub_source_names_scheme_repository_and_revision(scheme, revision, tmp_path):
    written = f"{scheme}://iic/Sense.Voice-Small@{revision}"
    source = parse(written, tmp_path)
    assert source == HubSource(scheme, "iic/Sense.Voice-Small", revision)
    assert str(source) == written
    assert source.immutable is (revision == "a" * 40)


def test_the_published_model_is_pinned_to_a_commit(tmp_path):
    source = parse(SENSEVOICE_SMALL, tmp_path)
    assert isinstance(source, HubSource)
    assert source.immutable


def test_a_claim_is_found_under_the_mount_root(tmp_path):
    (tmp_path / "models" / "mine").mkdir(parents=True)
    source = parse("pvc://models/mine", tmp_path)
    assert source == LocalSource("pvc://models/mine", tmp_path / "models" / "mine")


def test_a_path_becomes_absolute(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse("model", Path("/nowhere")) == LocalSource(
        str(tmp_path / "model"), tmp_path / "model"
    )


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("modelscope://iic/SenseVoiceSmall", "needs its revision"),
        ("modelscope://SenseVoiceSmall@master", "is not one of"),
        ("modelscope://../x@master", "is not one of"),
        ("hf://a/b@../../x", "is not one of"),
        ("s3://bucket/model", "is not one of"),
        ("pvc://claim/../../etc", "without '..'"),
        ("pvc://", "without '..'"),
        ("pvc://claim/missing", "is not a directory"),
        ("/no/such/directory", "is not a directory"),
        ("", "is not one of"),
    ],
)
def test_anything_else_is_refused_with_what_would_do(source, complaint, tmp_path):
    with pytest.raises(FetchFailed, match=complaint):
        parse(source, tmp_path)
