import runpy

import pytest

from pipelines.data.manifest import read_manifest
from pipelines.data.registry import ADAPTERS


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the command in this process: → exit status, standard output, standard error."""

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["pipelines.data", *map(str, arguments)])
        status = 0
        try:
            runpy.run_module("pipelines.data", run_name="__main__")
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return command


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_help_lists_every_set_with_where_to_get_it(run, arguments):
    status, out, _ = run(*arguments)
    assert not status
    for one in ADAPTERS.values():
        assert f"  {one.name} " in out
        assert one.source in out
        assert one.terms in out


def test_a_set_is_converted(run, tmp_path, audio):
    for number in range(201, 205):
        audio(tmp_path / f"CASIA/wangzhe/happy/{number}.wav")
    manifest = tmp_path / "out.jsonl"
    status, out, _ = run("casia", tmp_path / "CASIA", manifest, "--limit", "2")
    assert not status
    assert f"2 utterances of CASIA emotional corpus in {manifest}" in out
    assert [one.emotion for one in read_manifest(manifest)] == ["HAPPY", "HAPPY"]


def test_what_is_wrong_goes_to_standard_error_without_a_traceback(run, tmp_path):
    status, out, error = run("casia", tmp_path / "CASIA", tmp_path / "out.jsonl")
    assert (status, out) == (1, "")
    assert error.startswith(f"CASIA emotional corpus: no folder {tmp_path / 'CASIA'}. Expected")
    status, _, error = run("timit", tmp_path, tmp_path / "out.jsonl")
    assert status == 1
    assert "no data set 'timit'" in error
    assert not (tmp_path / "out.jsonl").exists()
