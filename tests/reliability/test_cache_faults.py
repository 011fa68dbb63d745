"""The model cache: its volume vanishes, fills up, is damaged, or has many users; the hub fails."""

import errno
import random
import resource
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipelines.fetching.errors import CacheUnavailable, DiskFull, FetchFailed, HubUnavailable
from pipelines.steps.fetch import fetch
from pipelines.steps.prepare import prepare
from predictor.engine.checkpoint import read_manifest, verify
from predictor.engine.transcribe import Engine
from tests.pipelines.fetching.loopback import loopback_hub

PROMISE = (
    "No half of a model is ever taken for a whole one, whatever happens to the cache or the hub; "
    "once it has passed, the next run finishes"
)


@pytest.fixture
def hub(random_source_dir, monkeypatch, tmp_path):
    with loopback_hub(random_source_dir, monkeypatch, tmp_path / "home") as hub:
        yield hub


@pytest.fixture(params=["modelscope", "hf"])
def source(request, hub):
    return f"{request.param}://someone/model@{hub.commit}"


def have(source, cache):
    """Fetched, prepared, and all of it verified: the digest."""
    fetched = fetch(source, cache)
    prepared = prepare(fetched, cache)
    manifest = read_manifest(prepared.directory)
    verify(prepared.directory, manifest, manifest.files)
    assert manifest.digest == prepared.digest
    return prepared.digest


def whole(cache):
    """What a reader of the cache would take for a model."""
    fetched = [p for p in cache.glob("hub/*/*/*") if p.name[0] != "." and p.name != "refs"]
    prepared = [p for p in cache.glob("sensevoice-small/*") if p.name[0] != "."]
    return fetched + prepared


@contextmanager
def largest_file(size):
    """The kernel refuses to write beyond it, in the middle of a write."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@pytest.mark.promise(PROMISE)
def test_a_cache_that_vanishes_in_a_download(hub, source, tmp_path, tried):
    cache = tmp_path / "cache"

    def vanish(name):
        if name == "model.pt":
            shutil.rmtree(cache, ignore_errors=True)

    hub.halfway = vanish
    with pytest.raises(FetchFailed, match=str(cache)):
        fetch(source, cache)
    assert whole(cache) == []
    hub.halfway = lambda name: None
    have(source, cache)
    tried["vanished volumes"] += 1


@pytest.mark.promise(PROMISE)
def test_a_cache_that_vanishes_before_the_model_is_prepared(hub, tmp_path, tried):
    source, cache = f"modelscope://someone/model@{hub.commit}", tmp_path / "cache"
    fetched = fetch(source, cache)
    shutil.rmtree(cache)
    with pytest.raises(FetchFailed):
        prepare(fetched, cache)
    assert whole(cache) == []
    have(source, cache)
    tried["vanished volumes"] += 1


@pytest.mark.promise(PROMISE)
def test_a_disk_that_is_full_anywhere_in_a_write(hub, source, tmp_path, effort, tried):
    size = len(hub.files["model.pt"])
    chance = random.Random(7)  # places, no secrets
    for number in range(effort(2, 12)):
        cache = tmp_path / f"cache-{number}"
        with largest_file(chance.randrange(size // 20, size)), pytest.raises(DiskFull) as told:
            have(source, cache)
        assert "make room" in str(told.value)
        assert all(path.parent.name != "sensevoice-small" for path in whole(cache))
        have(source, cache)
        shutil.rmtree(cache)
        tried["full disks"] += 1


def broken(path, chance):
    """One damage to a file, or all of it gone."""
    content = bytearray(path.read_bytes())
    how = chance.choice(["flip", "cut", "empty", "gone"])
    if how == "gone":
        path.unlink()
        return
    if how == "flip" and content:
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes({"flip": content, "cut": content[: len(content) // 2], "empty": b""}[how])


@pytest.mark.promise(PROMISE)
def test_a_cache_that_is_damaged_anywhere_is_mended(hub, tmp_path, effort, tried):
    source, cache = "modelscope://someone/model@master", tmp_path / "cache"
    digest = have(source, cache)
    chance = random.Random(11)
    for _ in range(effort(12, 150)):
        files = sorted(path for path in cache.rglob("*") if path.is_file())
        for path in chance.sample(files, chance.randrange(1, 4)):
            broken(path, chance)
            tried["damaged files"] += 1
        assert have(source, cache) == digest


@pytest.mark.promise(PROMISE)
def test_a_hub_with_too_many_requests_is_waited_for_and_then_named(hub, source, tmp_path, tried):
    hub.error_status = 429
    hub.errors["model.pt"] = 1
    have(source, tmp_path / "cache")
    hub.errors["listing"] = 10**6
    with pytest.raises(HubUnavailable):
        fetch(source, tmp_path / "empty")
    tried["refusals of the hub"] += 2


@pytest.mark.promise(PROMISE)
@pytest.mark.parametrize("number", [errno.EROFS, errno.ESTALE, errno.EIO, errno.EACCES])
def test_a_volume_that_refuses_is_named(number, hub, tmp_path, monkeypatch, tried):
    """Where the file system itself answers so; the refusal is put before the first change of the cache."""
    cache = tmp_path / "cache"

    def refuse(path, *rest, **more):
        raise OSError(number, "injected", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refuse)
        with pytest.raises(CacheUnavailable, match=str(cache)):
            fetch(f"modelscope://someone/model@{hub.commit}", cache)
    have(f"modelscope://someone/model@{hub.commit}", cache)
    tried["refusing volumes"] += 1


@pytest.mark.promise(PROMISE)
def test_many_processes_of_which_some_are_killed(hub, tmp_path, effort, tried):
    if not effort(0, 1):
        pytest.skip("starts processes; make test has two such in tests/pipelines/fetching")
    chance = random.Random(13)
    source = f"modelscope://someone/model@{hub.commit}"
    for number in range(4):
        cache = tmp_path / f"cache-{number}"
        command = [sys.executable, "-m", "pipelines.fetching", source, "--cache", str(cache)]
        hub.stalled.clear()
        hub.go_on.clear()
        hub.stalls = "model.pt"
        running = [subprocess.Popen(command, stderr=subprocess.DEVNULL) for _ in range(3)]
        assert hub.stalled.wait(120)
        victim = chance.choice(running)
        victim.send_signal(signal.SIGKILL)
        hub.stalls = ""
        hub.go_on.set()
        ended = {process.wait(180) for process in running if process is not victim}
        victim.wait(60)
        assert ended == {0}
        have(source, cache)
        tried["killed processes"] += 1


@pytest.mark.promise("A model that is served goes on being served when its directory is gone")
def test_a_served_model_outlives_its_directory(demo_model_dir, tmp_path, tried):
    served = shutil.copytree(demo_model_dir, tmp_path / "model")
    engine = Engine(served)
    clip = min((demo_model_dir / "evaluation").rglob("*.opus")).read_bytes()
    before = engine.transcribe(clip)
    shutil.rmtree(served)
    after = engine.transcribe(clip)
    assert (after.text, after.segments) == (before.text, before.segments)
    tried["requests"] += 1
