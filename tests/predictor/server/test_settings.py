"""Flags win over variables, variables over defaults; nothing unknown is taken."""

from pathlib import Path

import pytest

from predictor.server import settings as module
from predictor.server.settings import Settings


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SENSEVOICE_{name.upper()}", raising=False)


def test_a_flag_wins_over_a_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_command_line([]).http_port == 8080
    monkeypatch.setenv("SENSEVOICE_HTTP_PORT", "9000")
    assert Settings.from_command_line([]).http_port == 9000
    assert Settings.from_command_line(["--http_port=9001"]).http_port == 9001


def test_the_flags_that_kserve_gives_its_servers() -> None:
    given = ["--model_name=other", "--http_port", "8082", "--grpc_port=8083"]
    settings = Settings.from_command_line(given)
    assert (settings.model_name, settings.http_port, settings.grpc_port) == ("other", 8082, 8083)


@pytest.mark.parametrize(
    "flags",
    [
        ["--no_such=1"],
        ["--http=1"],
        ["loose"],
        ["--http_port=70000"],
        ["--device=tpu"],
        ["--precision=int4"],
        ["--network_threads=0"],
        ["--max_audio_seconds=0"],
        ["--model_dir=/no/such/folder"],
        ["--model_name=a/b"],
        ["--log_format=xml"],
        ["--otlp_endpoint=collector:4317"],
        ["--trace_sample_ratio=1.5"],
        ["--log_transcripts=true", "--access_log=false"],
        ["--grpc_port=8080"],
    ],
)
def test_wrong_flags_end_the_process(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        Settings.from_command_line(flags)
    assert caught.value.code == 2
    assert flags[0].split("=")[0].lstrip("-") in capsys.readouterr().err


def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SENSEVOICE_MAX_BATCH_CLIPS", "none")
    with pytest.raises(SystemExit):
        Settings.from_command_line([])
    assert "SENSEVOICE_MAX_BATCH_CLIPS" in capsys.readouterr().err


def test_variables_that_kubernetes_sets_for_a_service_do_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SENSEVOICE_PORT", "tcp://10.0.0.1:80")
    monkeypatch.setenv("SENSEVOICE_SERVICE_PORT_HTTP", "80")
    assert Settings.from_command_line([]).http_port == 8080


def test_hosts_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENSEVOICE_ALLOWED_URL_HOSTS", "a.example, B.example")
    assert Settings.from_command_line([]).allowed_url_hosts == ("a.example", "b.example")
    flags = ["--allowed_url_hosts=c.example,d.example"]
    assert Settings.from_command_line(flags).allowed_url_hosts == ("c.example", "d.example")
    monkeypatch.setenv("SENSEVOICE_ALLOWED_URL_HOSTS", "")
    assert Settings.from_command_line([]).allowed_url_hosts == ()


def test_hosts_that_are_none_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        Settings.from_command_line(["--allowed_url_hosts=a.example,https://b.example/x"])
    told = capsys.readouterr().err
    assert "--allowed_url_hosts (SENSEVOICE_ALLOWED_URL_HOSTS)" in told
    assert "'https://b.example/x' is neither host nor host:port" in told


def test_the_mounted_model_is_served_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "MOUNTED_MODEL", tmp_path / "absent")
    assert Settings.from_command_line([]).model_dir == module.EMBEDDED_MODEL
    monkeypatch.setattr(module, "MOUNTED_MODEL", tmp_path)
    assert Settings.from_command_line([]).model_dir == tmp_path


def test_every_setting_is_documented(capsys: pytest.CaptureFixture[str]) -> None:
    assert all(field.description for field in Settings.model_fields.values())
    with pytest.raises(SystemExit) as caught:
        Settings.from_command_line(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(f"--{name}" in printed for name in Settings.model_fields)
