"""Only files are opened, and none that is larger than it may be."""

import os

import pytest

from predictor.engine.errors import InvalidModel
from predictor.engine.files import read_regular


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    with pytest.raises(InvalidModel, match="file: 5 bytes, the limit is 4"):
        read_regular(path, 4)


def test_a_link_is_as_good_as_its_file(tmp_path):
    """Model caches and Kubernetes' volumes are full of them."""
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    assert read_regular(tmp_path / "link", 5) == b"12345"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (os.mkfifo, "not a regular file"),
        (os.mkdir, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to("path"), "cannot be opened: Too many levels"),
        (lambda path: None, "missing from"),
    ],
)
def test_what_is_no_file_is_refused_at_once(tmp_path, make, message):
    path = tmp_path / "path"
    make(path)
    with pytest.raises(InvalidModel, match=f"^path: {message}"):
        read_regular(path, 5)
