"""Models by version, alias or source."""

import re

import pytest

from pipelines.fetching.errors import FetchFailed
from pipelines.steps.fetch import fetch
from pipelines.steps.locate import locate
from pipelines.steps.prepare import prepare, storage_uri


@pytest.mark.parametrize("model", ["models:/sensevoice-small/1", "embedded"])
def test_a_version_is_found_where_the_cache_has_it(registered, registry_uri, cache, model):
    _, prepared = registered
    found = locate(model, registry_uri, cache, required=True)
    assert found is not None
    assert (found.directory, found.digest) == (prepared.directory, prepared.digest)


def test_an_alias_is_found(registered, registry_uri, cache):
    _, prepared = registered
    found = locate("models:/sensevoice-small@challenger", registry_uri, cache, required=True)
    assert found is not None
    assert found.digest == prepared.digest


def test_a_cache_that_lost_it_gets_it_from_the_registry(registered, registry_uri, tmp_path):
    _, prepared = registered
    found = locate("models:/sensevoice-small/1", registry_uri, tmp_path, required=True)
    assert found is not None
    assert found.digest == prepared.digest
    assert found.directory == tmp_path / "sensevoice-small" / prepared.digest
    assert (found.directory / "evaluation" / "manifest.jsonl").is_file()


def test_an_alias_that_no_version_has_is_nothing(registered, registry_uri, cache):
    assert locate("models:/sensevoice-small@nobody", registry_uri, cache, required=False) is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("models:/sensevoice-small/999", "has no such version"),
        ("models:/sensevoice-small@nobody", "has no alias @nobody; release a model first"),
        ("models:/another/1", "is not one of models:/sensevoice-small@alias"),
        ("models:/sensevoice-small", "is not one of models:/sensevoice-small@alias"),
        ("/no/such/folder", "is not a directory"),
    ],
)
def test_what_is_none_is_named(registered, registry_uri, cache, model, message):
    with pytest.raises(FetchFailed, match=re.escape(message)):
        locate(model, registry_uri, cache, required=True)


def test_a_directory_on_a_claim_is_served_from_the_claim(tmp_path):
    claim = tmp_path / "mounts" / "model-cache"
    prepared = prepare(fetch("embedded", claim), claim)
    found = storage_uri(prepared.directory, tmp_path / "mounts")
    assert found == f"pvc://model-cache/sensevoice-small/{prepared.digest}"
    assert storage_uri(prepared.directory) == str(prepared.directory)
