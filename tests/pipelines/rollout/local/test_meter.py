"""The meter: counts, percentiles and the window."""

import pytest

from pipelines.rollout.local import meter as module
from pipelines.rollout.local.meter import Meter
from pipelines.rollout.target import Traffic


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock)


def test_requests_errors_and_percentiles_by_revision(meter: Meter) -> None:
    for milliseconds in range(1, 101):
        meter.add("a", milliseconds / 1000, is_error=milliseconds > 97)
    meter.add("b", 7.0, is_error=False)
    assert meter.measure("a", 60) == Traffic(requests=100, errors=3, p95_s=0.095, p99_s=0.099)
    assert meter.measure("b", 60) == Traffic(requests=1, errors=0, p95_s=7.0, p99_s=7.0)


def test_an_unknown_revision_answered_nothing(meter: Meter) -> None:
    nothing = Traffic(requests=0, errors=0, p95_s=None, p99_s=None)
    assert meter.measure("nobody", 60) == nothing
    meter.add("a", 1.0, is_error=True)
    meter.forget("a")
    meter.forget("a")
    assert meter.measure("a", 60) == nothing


def test_only_the_last_seconds_are_measured(meter: Meter, clock: Clock) -> None:
    meter.add("a", 1.0, is_error=True)
    clock.now += 10
    meter.add("a", 2.0, is_error=False)
    assert meter.measure("a", 9.9) == Traffic(requests=1, errors=0, p95_s=2.0, p99_s=2.0)
    assert meter.measure("a", 10).requests == 2


def test_what_is_kept_is_bounded(
    meter: Meter, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter.add("a", 1.0, is_error=False)
    clock.now += module.WINDOW_SECONDS + 1
    meter.add("a", 1.0, is_error=False)
    assert meter.measure("a", 10 * module.WINDOW_SECONDS).requests == 1
    monkeypatch.setattr(module, "MAX_REQUESTS", 3)
    for _ in range(5):
        meter.add("b", 1.0, is_error=False)
    assert meter.measure("b", 60).requests == 3
