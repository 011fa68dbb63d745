"""The command line, in processes of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.fetching.__main__ import main


def command(source: str, cache: Path) -> list[str]:
    return [sys.executable, "-m", "pipelines.fetching", source, "--cache", str(cache)]


def answer(output: str) -> dict[str, str]:
    line = json.loads(output)
    assert isinstance(line, dict)
    return line


@pytest.mark.parametrize("scheme", ["modelscope", "hf"])
def test_two_processes_at_once_make_one_download_and_one_directory(hub, scheme, tmp_path):
    source = f"{scheme}://someone/model@{hub.commit}"
    running = [
        subprocess.Popen(
            command(source, tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = []
    for process in running:
        output, log = process.communicate(timeout=120)
        assert process.returncode == 0, log
        answers.append(answer(output))
    assert answers[0] == answers[1]
    assert answers[0]["source"] == source
    assert answers[0]["revision"] == hub.commit
    assert answers[0]["storage_uri"] == answers[0]["directory"]
    assert hub.asked_for("model.pt") == [0]
    models = [p.name for p in (tmp_path / "sensevoice-small").iterdir() if p.name[0] != "."]
    assert models == [answers[0]["digest"]]


def test_a_second_run_asks_for_nothing_and_prints_the_same(hub, tmp_path, capsys):
    source = f"modelscope://someone/model@{hub.commit}"
    assert main([source, "--cache", str(tmp_path)]) == 0
    first = answer(capsys.readouterr().out)
    manifest = json.loads(Path(first["directory"], "model-manifest.json").read_text())
    assert manifest["source"] == source
    assert manifest["revision"] == hub.commit
    assert manifest["licence"] == "model-license"
    hub.asked.clear()
    assert main([source, "--cache", str(tmp_path)]) == 0
    assert answer(capsys.readouterr().out) == first
    assert hub.asked == []


def test_a_source_that_cannot_be_had_is_told_in_a_sentence(tmp_path, capsys):
    assert main(["modelscope://someone/model", "--cache", str(tmp_path)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "needs its revision" in printed.err


def run_on_own_disk(source: str, options: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """The command with a cache on a disk of its own, and then what is left there."""
    folder.mkdir()
    script = (
        f'mount -t tmpfs -o {options} none "$1" || exit 77\n'
        '"${@:2}"; status=$?\n'
        'cd "$1"; find . -type f -size +0 >&2; exit $status'
    )
    unshare = ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash", str(folder)]
    done = subprocess.run(
        [*unshare, *command(source, folder)], capture_output=True, text=True, timeout=120
    )
    if done.returncode == 77 or done.stderr.startswith("unshare:"):
        pytest.skip("needs the right to mount a small disk")
    return done


@pytest.mark.parametrize("scheme", ["modelscope", "hf"])
def test_a_disk_that_fills_up_in_a_download_is_told_and_cleaned(hub, scheme, tmp_path):
    source = f"{scheme}://someone/model@{hub.commit}"
    done = run_on_own_disk(source, "size=200k", tmp_path / "cache")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "make room" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_disk_that_fills_up_in_preparing_is_told_and_cleaned(random_source_dir, tmp_path):
    done = run_on_own_disk(str(random_source_dir), "size=200k", tmp_path / "cache")
    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")


def test_a_volume_that_is_read_only_is_named(random_source_dir, tmp_path):
    done = run_on_own_disk(str(random_source_dir), "ro", tmp_path / "cache")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: the model cache {tmp_path / 'cache'}: ")
    assert "Read-only file system" in done.stderr
    assert "mounted, and writable" in done.stderr
