from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from predictor.client import Patience, Unavailable
from predictor.client.patience import JITTER, Attempts


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def busy(**headers):
    return httpx.Response(503, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_an_answer_is_given_back():
    for status in (200, 301, 400, 404, 500):
        response = httpx.Response(status)
        assert Attempts(Patience()).next_step(response) is response


def test_pauses_double_up_to_the_longest_until_patience_ends():
    clock, waits = Clock(), []
    attempts = Attempts(Patience(60, waits.append), clock)

    def ask_on():
        while True:
            clock.now += attempts.next_step(busy())

    with pytest.raises(Unavailable, match="gave up after"):
        ask_on()
    expected = [0.5, 1, 2, 4, 8, 8, 8, 8, 8, 8]
    for wait, pause in zip(waits, expected, strict=False):
        assert pause <= wait.seconds <= pause * (1 + JITTER)
    assert 8 <= len(waits) <= 10
    assert clock.now <= 60
    assert waits[0].waited == 0
    assert waits[-1].waited > waits[1].waited


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_as_seconds_and_as_a_date(form):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20.5), usegmt=True)
    pause = Attempts(Patience()).next_step(busy(retry_after="20" if form == "seconds" else date))
    assert 19 <= pause <= 20 * (1 + JITTER) + 1


@pytest.mark.parametrize("value", ["soon", "-5", "", "1.5", "Wed, 99 Foo 2020"])
def test_a_retry_after_that_nobody_can_read_is_no_reason_to_give_up(value):
    assert 0.5 <= Attempts(Patience()).next_step(busy(retry_after=value)) <= 0.5 * (1 + JITTER)


def test_a_date_gone_by_means_now():
    assert Attempts(Patience()).next_step(busy(retry_after="Wed, 21 Oct 2015 07:28:00 GMT")) == 0


def test_no_patience_is_one_attempt():
    with pytest.raises(Unavailable) as gone:
        Attempts(Patience(0)).next_step(busy())
    assert gone.value.message == "Service Unavailable"
