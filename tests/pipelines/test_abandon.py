import pytest

from pipelines import abandon
from pipelines.rollout.rollout import Outcome
from pipelines.rollout.target import Unavailable


def test_nobody_at_the_service_is_told(tmp_path, capsys):
    words = ["--service", f"local://{tmp_path}", "--tracking-uri", "http://127.0.0.1:1"]
    assert abandon.main(words) == 1
    assert capsys.readouterr().err.startswith("error: GET /service of local/")


def test_a_service_of_no_known_form_is_told(capsys):
    assert abandon.main(["--service", "sensevoice"]) == 1
    assert "is neither kserve://namespace/name nor local://" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, "kserve://a/b: no rollout was left half done"),
        (Outcome("rejected", "7", "its rollout died", []), "version 7 rejected: its rollout died"),
    ],
)
def test_what_was_done_is_printed(found, said, monkeypatch, capsys):
    monkeypatch.setattr(abandon, "abandon", lambda *given, **named: found)
    assert abandon.main(["--service", "kserve://a/b"]) == 0
    assert capsys.readouterr().out.strip() == said


def test_what_is_left_is_told_with_the_error(monkeypatch, capsys):
    error = Unavailable("no answer")
    error.add_note("5 % of the users on version 7")

    def fail(*given, **named):
        raise error

    monkeypatch.setattr(abandon, "abandon", fail)
    assert abandon.main([]) == 1
    assert capsys.readouterr().err == "error: no answer\n5 % of the users on version 7\n"
