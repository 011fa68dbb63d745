"""The document: decisions in, shares out; and what a crash leaves of it."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.rollout.local.document import (
    DOCUMENT,
    Document,
    InvalidDocument,
    Model,
    read_document,
    write_document,
)

OLD = Model(storage_uri="/models/old", digest="old")
NEW = Model(storage_uri="/models/new", digest="new")


def decide(document: Document, percent: int | None, model: Model | None = None) -> Document:
    return document.rewritten("sensevoice", state="s", percent=percent, model=model)


@pytest.fixture
def served() -> Document:
    """The first release, ready."""
    return decide(Document(), None, OLD).with_newest_ready()


def test_the_first_generation_becomes_stable_once_it_is_ready() -> None:
    document = decide(Document(), None, OLD)
    assert (document.stable, document.candidate) == (None, document.newest)
    ready = document.with_newest_ready()
    assert ready.stable == ready.newest
    assert (ready.candidate, ready.shares) == (None, {"sensevoice-00001": 100})
    assert ready.version == document.version + 1
    assert ready.with_newest_ready() is ready


def test_a_candidate_has_its_share_once_it_was_ready(served: Document) -> None:
    starting = decide(served, 25, NEW)
    assert starting.shares == {"sensevoice-00001": 100, "sensevoice-00002": 0}
    ready = starting.with_newest_ready()
    assert ready.shares == {"sensevoice-00001": 75, "sensevoice-00002": 25}
    assert decide(ready, 50).shares == {"sensevoice-00001": 50, "sensevoice-00002": 50}
    assert decide(ready, 0).shares == {"sensevoice-00001": 100, "sensevoice-00002": 0}


def test_no_share_promotes_the_newest_once_it_is_ready(served: Document) -> None:
    starting = decide(served, None, NEW)
    assert starting.shares == {"sensevoice-00001": 100, "sensevoice-00002": 0}
    promoted = starting.with_newest_ready()
    assert promoted.shares == {"sensevoice-00002": 100}
    assert promoted.generations == [promoted.newest]


def test_a_whole_share_does_not_promote(served: Document) -> None:
    whole = decide(decide(served, 0, NEW).with_newest_ready(), 100)
    assert whole.shares == {"sensevoice-00001": 0, "sensevoice-00002": 100}
    assert whole.with_newest_ready().stable == served.stable


@pytest.mark.parametrize(
    "changed",
    [{"storage_uri": "/models/other"}, {"digest": "other"}, {"image": "/usr/bin/python3"}],
)
def test_another_model_is_another_specification(served: Document, changed: dict) -> None:
    document = decide(served, 0, OLD.model_copy(update=changed))
    assert document.newest.name == "sensevoice-00002"
    assert document.fingerprint != served.fingerprint


def test_the_same_model_may_go_better_in_another_generation(served: Document) -> None:
    document = decide(served, 0, OLD)
    assert document.newest.name == "sensevoice-00002"
    assert not document.newest.was_ready
    assert document.stable == served.stable
    assert document.fingerprint == served.fingerprint


def test_another_share_makes_no_generation(served: Document) -> None:
    document = decide(served, 5)
    assert (document.newest, document.candidate) == (served.newest, None)
    assert document.version == served.version + 1


def test_a_candidate_that_is_replaced_leaves(served: Document) -> None:
    again = decide(decide(served, 0, NEW), 0, OLD)
    assert [each.name for each in again.generations] == ["sensevoice-00001", "sensevoice-00003"]


@pytest.mark.parametrize("field", ["storage_uri", "image"])
def test_a_relative_path_is_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="must be an absolute path, not 'some/where'"):
        Model(**{**OLD.model_dump(), field: "some/where"})


def test_it_is_read_as_written(served: Document, tmp_path: Path) -> None:
    assert read_document(tmp_path) == Document()
    document = served.rewritten("sensevoice", state='{"é": "电"}', percent=5, model=NEW)
    write_document(tmp_path, document)
    assert read_document(tmp_path) == document


def test_a_write_that_fails_leaves_the_former_document(
    served: Document, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_document(tmp_path, served)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_document(tmp_path, decide(served, 5, NEW))
    assert read_document(tmp_path) == served


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "document: Invalid JSON"), ('{"percent": 101}', "percent: Input should be less")],
)
def test_a_document_of_another_kind_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / DOCUMENT).write_text(text)
    with pytest.raises(InvalidDocument, match=f"{DOCUMENT}: {says}"):
        read_document(tmp_path)
