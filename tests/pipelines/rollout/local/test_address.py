"""The daemon's address: written in one step, for its owner alone."""

import stat
from pathlib import Path

import pytest

from pipelines.rollout.local.address import (
    ADDRESS,
    Address,
    read_address,
    remove_address,
    write_address,
)

ONE = Address("http://127.0.0.1:1", "http://127.0.0.1:2", "one")


def test_it_is_read_as_written(tmp_path: Path) -> None:
    write_address(tmp_path, ONE)
    assert read_address(tmp_path) == ONE
    again = Address("http://127.0.0.1:3", "http://127.0.0.1:4", "two")
    write_address(tmp_path, again)
    assert read_address(tmp_path) == again
    assert [path.name for path in tmp_path.iterdir()] == [ADDRESS]


def test_its_token_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_address(tmp_path, ONE)
    assert stat.S_IMODE((tmp_path / ADDRESS).stat().st_mode) == 0o600


def test_there_is_none_before_and_after(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_address(tmp_path)
    write_address(tmp_path, ONE)
    remove_address(tmp_path)
    remove_address(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_address(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"url": "x"}'])
def test_another_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / ADDRESS).write_text(text)
    with pytest.raises(ValueError, match=f"{ADDRESS}: not an address"):
        read_address(tmp_path)
