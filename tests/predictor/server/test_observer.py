"""From a request's start to its end, whatever becomes of it."""

import asyncio

import pytest

from predictor.engine.errors import InvalidAudio, Overloaded
from predictor.engine.types import StageTimes, Tag, Transcript
from predictor.server.batching import Batch
from predictor.server.observer import (
    CANCELLED,
    OK,
    Observer,
    Observers,
    RequestRecord,
    current,
    observed,
)

TAG = Tag("en", 1.0)
BATCH = Batch(1, 1.0, 1.0, started=0, ended=1, waits=[])


class Told(Observer):
    def __init__(self, calls, name=""):
        self.calls = calls
        self.name = name

    def on_start(self, record):
        self.calls.append((self.name, "start", record.reason))

    def on_decoded(self, record, since, reason):
        self.calls.append((self.name, "decoded", reason))

    def on_batch(self, batch):
        self.calls.append((self.name, "batch", batch))

    def on_end(self, record):
        self.calls.append((self.name, "end", record.reason))


async def test_a_record_follows_its_request_into_its_tasks():
    async def work(name):
        with observed(Observer(), RequestRecord("rest_v1", id=name)):
            await asyncio.sleep(0)
            found = await asyncio.create_task(asyncio.sleep(0, current()))
            inner = current()
            return found is inner and inner is not None and inner.id == name

    assert await asyncio.gather(*(work(str(i)) for i in range(3))) == [True] * 3
    assert current() is None


def test_a_request_that_is_left_is_a_cancelled_one():
    calls = []
    with (
        pytest.raises(asyncio.CancelledError),
        observed(Told(calls), RequestRecord("grpc_v2")) as record,
    ):
        raise asyncio.CancelledError
    assert calls == [("", "start", CANCELLED), ("", "end", CANCELLED)]
    assert record.outcome == "cancelled"
    assert record.seconds > 0


@pytest.mark.parametrize(
    ("reason", "outcome"),
    [(OK, "ok"), (Overloaded.reason, "rejected"), (InvalidAudio.reason, "error")],
)
def test_reasons_are_grouped_into_outcomes(reason, outcome):
    assert RequestRecord("rest_v2", reason=reason).outcome == outcome


def test_a_record_sums_up_its_items():
    record = RequestRecord("rest_v2")
    item = Transcript("", TAG, TAG, TAG, duration=2.0, times=StageTimes(queue=0.5))
    record.add([item, InvalidAudio("damaged"), item])
    assert (record.n_items, len(record.transcripts)) == (3, 2)
    assert record.audio_seconds == 4
    assert record.times == StageTimes(queue=1.0)


def test_all_of_several_are_told_in_order():
    calls = []
    several = Observers(Told(calls, "first"), Told(calls, "second"))
    record = RequestRecord("rest_v2")
    several.on_start(record)
    several.on_decoded(record, 0.0, OK)
    several.on_batch(BATCH)
    several.on_end(record)
    assert [(name, what) for name, what, _ in calls] == [
        (name, what)
        for what in ("start", "decoded", "batch", "end")
        for name in ("first", "second")
    ]


def test_one_that_fails_costs_nobody_else_anything(caplog):
    class Failing(Observer):
        def on_start(self, record):
            raise OSError(record)

        on_decoded = on_batch = on_end = on_start

    class Broken(Failing):
        def on_decoded(self, record, since, reason):
            raise MemoryError

    calls = []
    several = Observers(Broken(), Told(calls), Broken())
    with observed(several, RequestRecord("rest_v2", path="/of/a/client")) as record:
        several.on_decoded(record, 0.0, OK)
        several.on_batch(BATCH)
    assert [what for _, what, _ in calls] == ["start", "decoded", "batch", "end"]
    assert caplog.text.count("an observer failed: OSError at") == 6
    assert caplog.text.count("an observer failed: MemoryError at") == 2
    assert "client" not in caplog.text
