"""``python -m predictor transcribe`` and ``prepare``, as a shell runs them."""

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from predictor.__main__ import main
from predictor.engine.checkpoint import read_manifest
from predictor.engine.cpu import multiplies_int8

RATE = 16_000


def read_terminal(controller: int) -> bytes:
    """What a closed terminal still holds; empty at its end, which Linux tells as an error."""
    try:
        return os.read(controller, 4096)
    except OSError:
        return b""


@pytest.fixture(scope="module")
def clip(demo_model_dir: Path) -> Path:
    return next((demo_model_dir / "evaluation").glob("en-001.*"))


@pytest.fixture
def run(
    demo_model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The function that transcribes with the embedded model → status, stdout, stderr."""

    def transcribe(*arguments: object) -> tuple[int, str, str]:
        words = ["transcribe", f"--model_dir={demo_model_dir}", *map(str, arguments)]
        status = main(words)
        return status, *capsys.readouterr()

    return transcribe


def test_text_with_tags(run, clip):
    status, out, err = run(clip)
    assert status == 0
    assert re.fullmatch(r".+  \[en \d+% [A-Z]+ \d+% Speech \d+%\]\n", out)
    assert "not for production" in err.lower()


def test_json_is_one_object_a_line(run, clip):
    status, out, _ = run("--format=json", "--timestamps=word", "--distributions", clip, clip)
    first, second = (json.loads(line) for line in out.splitlines())
    assert status == 0
    assert first["file"] == str(clip)
    assert first["text"] == second["text"] != ""
    assert first["segments"][0]["words"]
    assert sum(first["emotion"]["distribution"].values()) == pytest.approx(1, abs=1e-3)


def test_subtitles(run, clip):
    _, out, _ = run("--format=srt", clip)
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\n.+\n", out)


def test_normalisation_and_language_reach_the_engine(run, clip):
    _, plain, _ = run("--no-itn", "--format=json", clip)
    _, written, _ = run("--format=json", clip)
    assert json.loads(plain)["text"] != json.loads(written)["text"]
    _, out, _ = run("--language=zh,ja", "--format=json", clip)
    assert json.loads(out)["language"]["label"] in {"zh", "ja", "nospeech"}


def test_a_file_that_is_not_audio_fails_alone(run, clip, tmp_path):
    bad = tmp_path / "notes.txt"
    bad.write_text("not audio")
    status, out, err = run(bad, clip, tmp_path / "missing.wav")
    assert status == 1
    assert out.startswith(f"{clip}: ")
    assert f"{bad}: audio: not in a known audio format" in err
    assert "missing.wav" in err


def test_an_unknown_language_is_refused_before_loading(run, clip):
    status, out, err = run("--language=xx", clip)
    assert (status, out) == (2, "")
    assert "'xx'" in err
    assert "yue" in err


def test_a_directory_without_a_model_is_named(run, clip, tmp_path):
    status, _, err = run(f"--model_dir={tmp_path}", clip)
    assert status == 2
    assert str(tmp_path) in err


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_every_precision_of_a_cpu_can_be_asked_for(run, clip, precision):
    _, expected, _ = run("--format=json", clip)
    status, out, _ = run("--format=json", f"--precision={precision}", clip)
    assert status == 0
    assert json.loads(out)["language"]["label"] == json.loads(expected)["language"]["label"] == "en"


def test_an_unknown_precision_is_refused(run, clip, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("--precision=int4", clip)
    assert "int8" in capsys.readouterr().err


def test_a_bar_on_a_terminal_for_long_audio(demo_model_dir, tmp_path):
    long = tmp_path / "long.wav"
    noise = np.random.default_rng(0).normal(0, 0.1, 70 * RATE)
    soundfile.write(long, noise, RATE)
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    command = [sys.executable, "-m", "predictor", "transcribe", "--segmentation=overlap"]
    done = subprocess.run(
        [*command, f"--model_dir={demo_model_dir}", str(long)],
        stdout=subprocess.PIPE,
        stderr=terminal,
        check=True,
    )
    os.close(terminal)
    shown = b"".join(iter(lambda: read_terminal(controller), b"")).decode()
    assert "long.wav" in shown
    assert "/70" in shown
    assert b"long.wav" not in done.stdout


def test_prepare(random_source_dir, tmp_path, capsys):
    destination = tmp_path / "model"
    words = ["prepare", str(random_source_dir), str(destination), "--revision=v1"]
    assert main(words) == 0
    manifest = read_manifest(destination)
    assert manifest.version == "v1"
    assert manifest.digest in capsys.readouterr().out
    assert main(["prepare", str(tmp_path), str(tmp_path / "other")]) == 1
    assert "bpe.model" in capsys.readouterr().err


def test_what_prepare_compiles_can_be_declined(random_source_dir, tmp_path):
    digests = set()
    for flag in ("--compile", "--no-compile"):
        destination = tmp_path / flag.strip("-")
        assert main(["prepare", str(random_source_dir), str(destination), flag]) == 0
        manifest = read_manifest(destination)
        assert bool(manifest.compiled_for) is (flag == "--compile" and multiplies_int8())
        digests.add(manifest.digest)
    assert len(digests) == 1


def test_no_command_is_told_what_there_is(capsys):
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "transcribe" in capsys.readouterr().err
