"""Users ask a real server, and know who answered."""

import threading

import pytest

from pipelines.local import users
from pipelines.local.users import Users


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(users, "PAUSE_SECONDS", 0.01)


def until(condition):
    deadline = threading.Event()
    for _ in range(3000):
        if condition():
            return
        deadline.wait(0.01)
    raise AssertionError


def test_they_count_answers_by_status_and_revision(demo_served, demo_model_dir):
    clips = [path.read_bytes() for path in sorted((demo_model_dir / "evaluation").glob("en-*"))[:2]]
    with Users(demo_served.http, "sensevoice", clips) as asking:
        until(lambda: asking.answered.total() >= 3)
    assert set(asking.answered) == {(200, "")}
    total = asking.answered.total()
    assert asking.summary == f"{total} requests, 0 failed (no revision: {total})"


def test_before_the_first_answer_nothing_counts_and_afterwards_all(
    demo_served, new_port, monkeypatch
):
    """A service that is not there yet fails nobody."""
    with Users(f"http://127.0.0.1:{new_port()}", "sensevoice", [b""]) as asking:
        until(lambda: asking._thread.is_alive())
    assert asking.answered.total() == 0
    assert asking.summary == "0 requests, 0 failed (nobody served)"
    with Users(demo_served.http, "sensevoice", [b"no audio"]) as refused:
        refused.answered[200, "a"] += 1
        until(lambda: refused.answered.total() >= 3)
    statuses = {status for status, _ in refused.answered} - {200}
    assert statuses == {400}
    assert f"{refused.answered.total() - 1} failed" in refused.summary
