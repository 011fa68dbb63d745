import json
import logging

import pytest

from pipelines.rollout.report import Report


@pytest.fixture
def path(tmp_path):
    return tmp_path / "decisions.jsonl"


def test_a_decision_is_told_to_all_three(world, path, caplog):
    report = Report(world.service, world.time.now, path)
    with caplog.at_level(logging.INFO, "pipelines.rollout"):
        report.tell("RolloutStarted", "版本 7", percent=5)
        report.tell("RolloutRejected", "too slow", warning=True)
    assert world.service.events == [
        ("RolloutStarted", "版本 7", False),
        ("RolloutRejected", "too slow", True),
    ]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == report.lines
    assert lines[0] == {
        "time": "2027-01-15T08:00:00.000+00:00",
        "reason": "RolloutStarted",
        "message": "版本 7",
        "percent": 5,
    }
    assert [(one.levelname, one.message) for one in caplog.records] == [
        ("INFO", "sensevoice: RolloutStarted: 版本 7"),
        ("WARNING", "sensevoice: RolloutRejected: too slow"),
    ]


def test_lines_of_a_killed_rollout_are_kept(world, path):
    Report(world.service, world.time.now, path).tell("RolloutStarted", "first")
    Report(world.service, world.time.now, path).tell("RolloutResumed", "second")
    told = [json.loads(line)["reason"] for line in path.read_text().splitlines()]
    assert told == ["RolloutStarted", "RolloutResumed"]


def test_without_a_path_the_lines_are_kept_in_memory_alone(world):
    report = Report(world.service, world.time.now, None)
    report.tell("RolloutStarted", "x")
    assert [line["reason"] for line in report.lines] == ["RolloutStarted"]


def test_a_path_that_cannot_be_written_is_known_at_once(world, tmp_path):
    with pytest.raises(FileNotFoundError):
        Report(world.service, world.time.now, tmp_path / "missing" / "decisions.jsonl")


def test_a_disk_that_is_full_halfway_ends_no_rollout(tmp_path, caplog, world):
    folder = tmp_path / "decisions"
    folder.mkdir()
    report = Report(world.service, lambda: 0.0, folder / "lines")
    (folder / "lines").unlink()
    folder.rmdir()
    report.tell("RolloutStarted", "told all the same")
    assert world.service.reasons == ["RolloutStarted"]
    assert len(report.lines) == 1
    assert "was not written" in caplog.text
