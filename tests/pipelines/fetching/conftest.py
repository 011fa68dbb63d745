"""A model hub on the loopback."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipelines.fetching.loopback import LoopbackHub, loopback_hub


@pytest.fixture
def hub(
    random_source_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[LoopbackHub]:
    """The hub of a tiny random model, to which both SDKs are pointed, with short pauses."""
    with loopback_hub(random_source_dir, monkeypatch, tmp_path) as hub:
        yield hub
