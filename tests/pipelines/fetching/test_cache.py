"""Small files are replaced whole or not at all."""

import errno
import os

import pytest

from pipelines.fetching.cache import read_text, write_text


def test_a_write_that_fails_leaves_the_old_text_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "refs" / "master"
    write_text(path, "old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("pipelines.fetching.cache.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_text(path, "new")
    assert [found.name for found in path.parent.iterdir()] == ["master"]
    assert read_text(path) == "old"


def test_a_damaged_text_is_text_that_means_nothing(tmp_path):
    (tmp_path / "note").write_bytes(b"\xff\xfe")
    assert read_text(tmp_path / "note") == "\ufffd\ufffd"
    for nowhere in ("none", "a\0b", "note/below"):
        assert read_text(tmp_path / nowhere) == ""
