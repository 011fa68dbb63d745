"""Both hubs' own SDKs against a hub on the loopback, with everything that goes wrong."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.fetching.errors import FetchFailed, HubUnavailable
from pipelines.steps.fetch import Fetched, fetch

NEEDED = {
    "model.pt",
    "config.yaml",
    "am.mvn",
    "demo.bpe.model",
    "configuration.json",
    "README.md",
}


@pytest.fixture(params=["modelscope", "hf"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def source(scheme: str, hub) -> str:
    return f"{scheme}://someone/model@{hub.commit}"


@pytest.fixture
def moving(scheme: str, hub) -> str:
    return f"{scheme}://someone/model@master"


@pytest.fixture
def leave(monkeypatch: pytest.MonkeyPatch, new_port: Callable[[], int]) -> Callable[[], None]:
    """Point both SDKs at a port where nobody listens."""

    def point() -> None:
        nobody = f"http://127.0.0.1:{new_port()}"
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", nobody)
        monkeypatch.setenv("HF_ENDPOINT", nobody)

    return point


def whole_directories(cache: Path) -> list[Path]:
    """What a reader of the cache would take for a fetched model."""
    return [path for path in cache.glob("hub/*/*/*") if not path.name.startswith((".", "refs"))]


def partial_bytes(cache: Path) -> int:
    partial = cache.glob("hub/*/*/.*.partial")
    files = [path for folder in partial for path in folder.rglob("*incomplete") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def check(fetched: Fetched, hub) -> None:
    assert set(fetched.files) == NEEDED
    for name, digest in fetched.files.items():
        content = (fetched.directory / name).read_bytes()
        assert content == hub.files[name]
        assert hashlib.sha256(content).hexdigest() == digest
    names = {path.name for path in fetched.directory.iterdir()}
    assert names == NEEDED | {"fetched.json"}


def test_only_the_needed_files_are_fetched_and_their_digests_recorded(hub, source, tmp_path):
    fetched = fetch(source, tmp_path)
    check(fetched, hub)
    assert fetched.source == source
    assert fetched.revision == hub.commit
    assert hub.asked_for("example.mp3") == []


def test_a_commit_that_is_here_is_not_asked_for_again(hub, source, tmp_path):
    first = fetch(source, tmp_path)
    hub.asked.clear()
    assert fetch(source, tmp_path) == first
    assert hub.asked == []


def test_a_commit_that_is_here_needs_no_hub(hub, source, leave, tmp_path):
    first = fetch(source, tmp_path)
    leave()
    assert fetch(source, tmp_path) == first


def test_a_branch_is_resolved_and_not_downloaded_twice(hub, scheme, moving, tmp_path):
    first = fetch(moving, tmp_path)
    assert first.source == f"{scheme}://someone/model@{hub.commit}"
    hub.asked.clear()
    assert fetch(moving, tmp_path) == first
    assert hub.asked == [("listing", 0)]


def test_a_branch_that_moved_is_fetched_anew_beside_the_old_commit(hub, moving, tmp_path):
    old = fetch(moving, tmp_path)
    hub.commit = "c" * 40
    hub.files["configuration.json"] = b'{"new": true}'
    new = fetch(moving, tmp_path)
    check(new, hub)
    assert new.revision == "c" * 40
    assert old.directory.is_dir()


def test_a_branch_means_what_it_last_meant_while_the_hub_is_away(
    hub, moving, leave, tmp_path, caplog
):
    first = fetch(moving, tmp_path)
    leave()
    assert fetch(moving, tmp_path) == first
    assert f"using commit {hub.commit}" in caplog.text


def test_a_hub_that_is_away_is_named_where_the_cache_is_empty(source, leave, tmp_path):
    leave()
    with pytest.raises(HubUnavailable, match=r"(?s)127\.0\.0\.1.*someone/model.*try again later"):
        fetch(source, tmp_path)
    assert whole_directories(tmp_path) == []


def test_a_revision_that_the_hub_does_not_have_is_refused_at_once(hub, scheme, tmp_path):
    with pytest.raises(FetchFailed, match=r"model@v9.*check owner, model and revision") as refusal:
        fetch(f"{scheme}://someone/model@v9", tmp_path)
    assert not isinstance(refusal.value, HubUnavailable)
    assert len(hub.asked) == 1


def test_a_repository_without_weights_is_no_model(hub, source, tmp_path):
    del hub.files["model.pt"]
    with pytest.raises(FetchFailed, match=r"has no model\.pt"):
        fetch(source, tmp_path)


def test_passing_errors_of_the_hub_are_waited_out(hub, source, tmp_path):
    hub.errors.update({"listing": 2, "config.yaml": 1, "model.pt": 2})
    check(fetch(source, tmp_path), hub)
    assert len(hub.asked_for("listing")) == 3
    assert len(hub.asked_for("model.pt")) == 3


def test_errors_that_stay_name_the_hub_and_the_file(hub, source, tmp_path):
    hub.errors["am.mvn"] = 1000
    with pytest.raises(HubUnavailable, match=r"(?s)127\.0\.0\.1.*am\.mvn.*try again later"):
        fetch(source, tmp_path)
    assert 2 <= len(hub.asked_for("am.mvn")) <= 10
    assert whole_directories(tmp_path) == []
    hub.errors.clear()
    check(fetch(source, tmp_path), hub)


def test_altered_content_is_refused(hub, source, tmp_path):
    content = hub.files["model.pt"]
    hub.served["model.pt"] = content[:-1] + bytes([content[-1] ^ 1])
    with pytest.raises(FetchFailed, match=r"model\.pt.*not what (the hub|it) lists"):
        fetch(source, tmp_path)
    assert whole_directories(tmp_path) == []
    hub.served.clear()
    check(fetch(source, tmp_path), hub)


def test_a_small_altered_file_is_refused_too(hub, source, tmp_path):
    hub.served["configuration.json"] = b"[]"
    with pytest.raises(FetchFailed, match=r"configuration\.json.*not what (the hub|it) lists"):
        fetch(source, tmp_path)


def test_a_file_shorter_than_listed_is_refused(hub, source, tmp_path):
    hub.served["model.pt"] = hub.files["model.pt"][:-100]
    with pytest.raises(FetchFailed, match=r"model\.pt"):
        fetch(source, tmp_path)
    assert whole_directories(tmp_path) == []


def test_a_download_that_breaks_off_goes_on_where_it_was(hub, tmp_path):
    hub.cuts["model.pt"] = 2
    check(fetch(f"modelscope://someone/model@{hub.commit}", tmp_path), hub)
    first, second, third = hub.asked_for("model.pt")
    assert first == 0 < second < third


def test_a_hub_that_stops_sending_is_given_up(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("modelscope_hub._legacy_api.DOWNLOAD_TIMEOUT", 0.3)
    hub.stalls = "model.pt"
    with pytest.raises(HubUnavailable, match=r"(?s)127\.0\.0\.1.*model\.pt.*try again later"):
        fetch(f"modelscope://someone/model@{hub.commit}", tmp_path)
    assert whole_directories(tmp_path) == []


def test_a_file_damaged_in_the_cache_is_the_only_one_fetched_again(hub, source, tmp_path, caplog):
    first = fetch(source, tmp_path)
    (first.directory / "am.mvn").write_bytes(b"rot")
    hub.asked.clear()
    assert fetch(source, tmp_path) == first
    check(first, hub)
    assert "am.mvn: missing or altered" in caplog.text
    assert {kind for kind, _ in hub.asked} == {"listing", "am.mvn"}


def test_a_killed_fetch_leaves_nothing_whole_and_the_next_one_goes_on(hub, source, tmp_path):
    # Longer than the 10 MB that the libraries read before they write.
    hub.files["model.pt"] = os.urandom(1 << 20) * 40
    hub.stalls = "model.pt"
    command = [sys.executable, "-m", "pipelines.fetching", source, "--cache", str(tmp_path)]
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        deadline = time.monotonic() + 60
        while not (hub.stalled.is_set() and partial_bytes(tmp_path)):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, "the download did not begin"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
    assert whole_directories(tmp_path) == []
    hub.stalls = ""
    hub.go_on.set()
    check(fetch(source, tmp_path), hub)
    first, second = hub.asked_for("model.pt")
    assert first == 0
    if source.startswith("modelscope"):
        # The Hugging Face library begins a file anew where its first process was killed.
        assert second > 0
    assert list(tmp_path.glob("hub/*/*/.*.partial")) == []
