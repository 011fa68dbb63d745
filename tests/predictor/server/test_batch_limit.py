"""Batches are smaller after a want of memory, and grow again; want without end is told."""

from types import SimpleNamespace

import pytest

from predictor.server import batch_limit
from predictor.server.batch_limit import RECOVERY_SECONDS, STARVED_CLIPS, BatchLimit
from predictor.server.clip_queue import ClipQueue
from predictor.server.lane import Shared


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The limit's clock, which stands still but when ``now`` is changed."""
    made = SimpleNamespace(now=1000.0)
    made.monotonic = lambda: made.now
    monkeypatch.setattr(batch_limit, "time", made)
    return made


@pytest.fixture
def limit() -> BatchLimit:
    return BatchLimit(Shared(ClipQueue(64, 60.0), 120.0))


def test_batches_are_smaller_than_one_that_did_not_fit(limit, caplog):
    limit.exceeded(4, 50.0)
    assert limit.seconds == 25
    assert "4 clips, 50 s with padding" in caplog.text
    # One that was made before does not raise it.
    limit.exceeded(3, 54.0)
    assert limit.seconds == 25


def test_batches_grow_again_once_the_memory_has_sufficed_for_a_time(limit, clock):
    limit.exceeded(2, 6.0)
    clock.now += RECOVERY_SECONDS - 1
    limit.grow()
    assert limit.seconds == 3
    clock.now += 1
    limits = []
    for _ in range(6):
        limit.grow()
        limits.append(limit.seconds)
        clock.now += RECOVERY_SECONDS
    assert limits == [6, 12, 24, 48, 60, 60]


def test_a_clip_alone_that_does_not_fit_makes_no_batch_smaller(limit):
    limit.exceeded(1, 30.0)
    assert limit.seconds == 60


def test_want_of_memory_lasts_from_the_first_clip_to_the_last(limit, clock):
    for _ in range(STARVED_CLIPS - 1):
        limit.exceeded(1, 30.0)
        clock.now += 10
        assert limit.starved_seconds == 0
    limit.exceeded(1, 30.0)
    assert limit.starved_seconds == 10 * (STARVED_CLIPS - 1)
    # Nobody has asked since: nothing more is known.
    clock.now += 3600
    assert limit.starved_seconds == 10 * (STARVED_CLIPS - 1)
    limit.kept()
    assert limit.starved_seconds == 0


def test_what_fits_in_between_shows_that_there_is_memory(limit, clock):
    for _ in range(3 * STARVED_CLIPS):
        limit.exceeded(1, 30.0)
        clock.now += 100
        limit.kept()
    assert limit.starved_seconds == 0
