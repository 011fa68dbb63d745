"""Hostile files over HTTP, at a server that has to go on."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.reliability.hostile import bombs, formats, mutations
from tests.reliability.servers import resident_bytes

MAX_SECONDS = 20
ANSWER_SECONDS = 30.0
"""Longest time to an answer: three times what the server gives a decoder."""

GROWN_BYTES = 300 << 20
"""What the server may keep afterwards: a flood of large files leaves its allocator with free pages."""


@pytest.fixture(scope="module")
def served(start_server, demo_model_dir, tmp_path_factory) -> Iterator:
    log = tmp_path_factory.mktemp("hostile") / "log"
    yield from start_server(demo_model_dir, log, f"--max_audio_seconds={MAX_SECONDS}")


@pytest.fixture(scope="module")
def clip(demo_model_dir) -> bytes:
    return (demo_model_dir / "evaluation" / "en-001.opus").read_bytes()


def _files(n_fuzzed: int, size: int, step: int) -> Iterator[tuple[str, bytes]]:
    intact = formats.intact()
    for index in range(n_fuzzed):
        yield f"fuzz {index}", mutations.mutated(list(intact.values()), 1_000_000 + index)
    for name, bomb in list(bombs.ENDLESS.items())[::step]:
        yield name, bomb(20 * MAX_SECONDS)
    for name, bomb in list(bombs.COSTLY.items())[::step]:
        yield name, bomb(size)


@pytest.mark.promise(
    "Hostile files get an answer that is their own fault, soon, and nobody else notices"
)
def test_hostile_files_over_http(served, clip, effort, tried, measured):
    url = f"{served.http}/v1/audio/transcriptions"
    with httpx.Client(timeout=120) as client:

        def post(data: bytes) -> httpx.Response:
            return client.post(url, data={"model": "sensevoice"}, files={"file": ("a", data)})

        text = post(clip).json()["text"]
        assert text
        before = resident_bytes(served.process.pid)
        slowest, slowest_name = 0.0, ""
        for index, (name, data) in enumerate(
            _files(effort(20, 1_000), effort(50_000, 300_000), effort(9, 1))
        ):
            started = time.monotonic()
            answer = post(data)
            seconds = time.monotonic() - started
            tried["hostile requests"] += 1
            assert answer.status_code in {200, 400, 413}, (name, answer.status_code, answer.text)
            if answer.status_code != 200:
                assert answer.json()["error"]["message"].startswith("audio: "), (name, answer.text)
            slowest, slowest_name = max((slowest, slowest_name), (seconds, name))
            if index % effort(8, 1) == 0:
                tried["good clips in between"] += 1
                assert post(clip).json()["text"] == text, name
        grown = resident_bytes(served.process.pid) - before
    measured["slowest answer to a hostile file"] = f"{slowest:.1f} s ({slowest_name})"
    measured["memory kept by the server"] = f"{max(grown, 0) >> 20} MiB"
    assert slowest <= ANSWER_SECONDS, slowest_name
    assert grown <= GROWN_BYTES
    assert served.process.poll() is None
