"""Stuck threads are seen by whoever asks, and told to the log once."""

import threading
import time
from collections.abc import Iterator
from unittest.mock import Mock

import pytest

from predictor.server import health as health_module
from predictor.server.health import Activity, Health, WatchedPool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    made = threading.Event()
    yield made
    made.set()


def until(condition) -> None:
    while not condition():
        time.sleep(0.005)


def test_only_what_is_late_is_overdue(gate):
    activity = Activity()

    def work(seconds: float) -> None:
        with activity.due_in(seconds):
            gate.wait()

    late, early = (threading.Thread(target=work, args=(seconds,)) for seconds in (0.01, 3600))
    late.start(), early.start()
    until(activity.overdue)
    assert activity.overdue() == [late.ident]
    gate.set()
    late.join(), early.join()
    assert activity.overdue() == []


def test_what_fails_is_no_longer_due():
    activity = Activity()
    with pytest.raises(SystemExit), activity.due_in(0):
        raise SystemExit
    assert activity.overdue() == []


def test_a_pool_is_in_trouble_once_all_its_threads_are_stuck(gate):
    pool = WatchedPool(2, "decode", stuck_seconds=0.01)
    first = pool.submit(gate.wait)
    until(pool._activity.overdue)
    assert pool.trouble() == ""
    assert pool.submit(lambda a, b: (a, b), 1, b=2).result() == (1, 2)
    second = pool.submit(gate.wait)
    until(pool.trouble)
    assert "all 2 threads decode have been at one task for more than 0.01 s" in pool.trouble()
    assert "wait" in pool.trouble(), "it does not say where"
    gate.set()
    assert first.result()
    assert second.result()
    assert pool.trouble() == ""
    pool.shutdown()


def test_the_log_is_told_once_when_trouble_begins_and_when_it_ends(caplog):
    troubles = {"a": "", "b": ""}
    checks = (lambda name=name: troubles[name] for name in troubles)
    health = Health(*checks, end=pytest.fail)
    assert health.is_good
    troubles["b"] = "b is stuck"
    assert not health.is_good
    troubles["a"] = "a is stuck, too"
    assert not health.is_good
    troubles.update(a="", b="")
    assert health.is_good
    assert health.is_good
    assert [record.getMessage() for record in caplog.records] == [
        "not live: b is stuck",
        "live again: what was stuck goes on",
    ]


def test_who_is_not_live_again_in_time_ends_itself(caplog):
    ended = threading.Event()
    trouble = ["stuck"]
    health = Health(lambda: trouble[0], end=ended.set, end_seconds=0.01)
    assert not health.is_good
    assert ended.wait(60)
    assert "not live for 0.01 s: the process ends itself" in caplog.text


def test_who_is_live_again_in_time_does_not_end_itself(monkeypatch):
    timers = []
    monkeypatch.setattr(
        health_module.threading, "Timer", lambda *told: timers.append(told) or Mock()
    )
    trouble = ["stuck"]
    health = Health(lambda: trouble[0], end=pytest.fail)
    assert not health.is_good
    trouble[0] = ""
    assert health.is_good
    ((seconds, fire),) = timers
    assert seconds == health_module.END_SECONDS
    fire()
