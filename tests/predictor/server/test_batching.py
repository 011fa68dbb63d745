"""Who is let in, what runs with whom, what leaves early, and failures that stay alone.

The network is a gate here: a test looks at what has gathered before it, then lets it through.
"""

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from predictor.engine.errors import DeviceLost, InvalidAudio, OutOfMemory, Overloaded
from predictor.server import batch_limit
from predictor.server.batching import Batch, Batcher
from predictor.server.errors import NotReady
from predictor.server.lane import Done, Lane, Withdrawn


@dataclass(frozen=True)
class Clip:
    name: str
    duration: float = 1.0


class Gate:
    """Stands for the network: gives each clip's name back, batch by batch, when it is opened."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.spoilt: set[str] = set()
        self.memory_seconds = math.inf
        self._open = threading.Semaphore(0)
        self._entered = threading.Semaphore(0)

    def __call__(self, clips: list[Clip]) -> list[str]:
        self.batches.append([clip.name for clip in clips])
        self._entered.release()
        self._open.acquire()
        if bad := self.spoilt & {clip.name for clip in clips}:
            raise InvalidAudio(f"audio: {', '.join(sorted(bad))}")
        if len(clips) * max(clip.duration for clip in clips) > self.memory_seconds:
            raise OutOfMemory("no memory")
        return [clip.name.upper() for clip in clips]

    async def entered(self) -> None:
        """Until a batch stands before the gate."""
        await asyncio.to_thread(self._entered.acquire)

    def open(self, times: int = 1000) -> None:
        self._open.release(times)


Queue = Batcher[Clip, str]


@pytest.fixture
def gate() -> Gate:
    return Gate()


def queue(gate: Gate, **limits: float) -> Queue:
    given = {"max_batch_clips": 4, "max_batch_seconds": 60.0, "max_queue_seconds": 100.0, **limits}
    given["max_batch_clips"] = int(given["max_batch_clips"])
    return Batcher(gate, **given)  # type: ignore[arg-type]


@pytest.fixture
def batcher(gate: Gate) -> Iterator[Queue]:
    made = queue(gate)
    yield made
    gate.open()
    made.close()


async def hold(batcher: Queue, gate: Gate) -> "asyncio.Future[Done[str]]":
    """Occupies the network, so that what comes next waits in the queue."""
    future = batcher.lane().put(Clip("first"))
    await gate.entered()
    return future


def submit(lane: Lane[Clip, str], *clips: Clip) -> list["asyncio.Future[Done[str]]"]:
    return [lane.put(clip) for clip in clips]


async def results(futures: list["asyncio.Future[Done[str]]"]) -> list[str]:
    return [done.result for done in await asyncio.gather(*futures)]


async def test_each_clip_gets_its_own_result(batcher: Queue, gate: Gate) -> None:
    gate.open()
    lanes = [batcher.lane() for _ in range(5)]
    futures = []
    for i in range(40):
        futures.append(lanes[i % 5].put(Clip(f"c{i}", 1 + i % 7)))
        if len(futures) % 4 == 0:
            await asyncio.gather(*futures)
    assert await results(futures) == [f"C{i}" for i in range(40)]
    done = await futures[0]
    assert done.queue_seconds >= 0
    assert done.batch_seconds > 0


async def test_what_waits_goes_together_the_shortest_first(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    a, b = batcher.lane(), batcher.lane()
    futures = submit(a, Clip("a1", 4), Clip("a2", 3)) + submit(b, Clip("b1", 2.5))
    gate.open()
    assert await results([held, *futures]) == ["FIRST", "A1", "A2", "B1"]
    assert gate.batches == [["first"], ["b1", "a2", "a1"]]


async def test_a_batch_holds_at_most_so_many_clips(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    futures = []
    for i in range(6):
        futures += submit(batcher.lane(), Clip(f"c{i}"))
    gate.open()
    await results([held, *futures])
    assert [len(batch) for batch in gate.batches] == [1, 4, 2]


async def test_padding_counts_in_a_batch_s_length(gate: Gate) -> None:
    batcher = queue(gate, max_batch_seconds=50.0)
    held = await hold(batcher, gate)
    futures = []
    for name, seconds in (("a", 20), ("b", 12), ("c", 15), ("d", 70)):
        futures += submit(batcher.lane(), Clip(name, seconds))
    gate.open()
    await results([held, *futures])
    # 2 x 20 s fits, 3 x 20 s does not; what is longer than any batch runs alone.
    assert gate.batches == [["first"], ["b", "a"], ["c"], ["d"]]
    batcher.close()


async def test_clips_of_very_different_lengths_stay_apart(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    futures = []
    for name, seconds in (("long", 20), ("short", 1), ("longish", 15), ("brief", 2)):
        futures += submit(batcher.lane(), Clip(name, seconds))
    gate.open()
    await results([held, *futures])
    assert gate.batches == [["first"], ["longish", "long"], ["short", "brief"]]


async def test_a_long_recording_does_not_starve_a_short_one(gate: Gate) -> None:
    batcher = queue(gate, max_queue_seconds=1000)
    held = await hold(batcher, gate)
    long = submit(batcher.lane(), *(Clip(f"l{i}", 30) for i in range(4)))
    short = submit(batcher.lane(), Clip("s", 2))
    also_long = submit(batcher.lane(), Clip("other", 30))
    gate.open()
    await results([held, *long, *short, *also_long])
    assert gate.batches == [["first"], ["l0", "other"], ["s"], ["l1", "l2"], ["l3"]]
    batcher.close()


async def test_a_lane_has_room_for_two_batches(gate: Gate) -> None:
    batcher = queue(gate, max_batch_seconds=2)
    held = await hold(batcher, gate)
    lane = batcher.lane()
    futures = submit(lane, *(Clip(f"c{i}") for i in range(3)))
    assert lane.has_room
    futures += submit(lane, Clip("c3"))
    assert not lane.has_room
    waiting = asyncio.ensure_future(lane.room())
    gate.open(2)
    await results([held, *futures[:2]])
    await waiting
    assert lane.has_room
    gate.open()
    await results(futures)
    batcher.close()


async def test_what_is_withdrawn_makes_room(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    lane = batcher.lane()
    gone = submit(lane, Clip("gone", 99), Clip("gone too", 99))
    kept = submit(lane, Clip("kept"))
    assert not lane.has_room
    with pytest.raises(Overloaded):
        batcher.lane()
    lane.withdraw(gone)
    assert lane.has_room
    assert batcher.queue_seconds == 1
    batcher.lane()
    gate.open()
    assert await results([held, *kept]) == ["FIRST", "KEPT"]
    assert gate.batches == [["first"], ["kept"]]


async def test_what_a_request_leaves_behind_goes_with_it(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    with batcher.lane(expected_seconds=50) as lane:
        submit(lane, Clip("gone", 9))
        assert batcher.queue_seconds == 59
        assert batcher.n_requests == 2
    assert batcher.queue_seconds == 0
    assert batcher.n_requests == 1
    with pytest.raises(Withdrawn):
        lane.put(Clip("late"))
    gate.open()
    await held
    assert gate.batches == [["first"]]


async def test_results_that_nobody_wants_are_dropped(
    batcher: Queue, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.spoilt = {"bad"}
    lane = batcher.lane()
    futures = submit(lane, Clip("bad"))
    await gate.entered()
    lane.withdraw(futures)
    gate.open()
    assert await results(submit(lane, Clip("next"))) == ["NEXT"]
    assert caplog.text == ""


async def test_a_full_queue_refuses_new_requests_but_not_old_ones(
    batcher: Queue, gate: Gate
) -> None:
    held = await hold(batcher, gate)
    old = batcher.lane()
    futures = submit(old, Clip("a", 60), Clip("b", 60))
    with pytest.raises(Overloaded, match="120 seconds of audio are waiting, the limit is 100") as e:
        batcher.lane()
    assert e.value.retry_after_seconds >= 1
    with pytest.raises(Overloaded):
        batcher.check_room()
    futures += submit(old, Clip("d", 60))
    gate.open()
    assert await results([held, *futures]) == ["FIRST", "A", "B", "D"]
    batcher.lane()


async def test_audio_that_is_still_being_decoded_counts(batcher: Queue, gate: Gate) -> None:
    first, _ = batcher.lane(expected_seconds=70), batcher.lane(expected_seconds=30)
    assert batcher.queue_seconds == 100
    with pytest.raises(Overloaded, match="100 seconds"):
        batcher.lane()
    first.arrived(60)
    assert batcher.queue_seconds == 40
    # Never more than a lane can hold: an hour's file takes its turns, and waits outside meanwhile.
    batcher.lane(expected_seconds=3600)
    assert batcher.queue_seconds == 40 + 75
    first.arrived(60)
    assert batcher.queue_seconds == 30 + 75


async def test_an_idle_queue_holds_nothing_whatever_the_order(batcher: Queue, gate: Gate) -> None:
    lanes = [batcher.lane(expected_seconds=seconds) for seconds in (0.1, 0.2, 0.3, 1e-3)]
    for lane, seconds in zip(lanes, (0.1, 0.2, 0.3, 1e-3), strict=True):
        lane.arrived(seconds)
    assert batcher.queue_seconds == 0


async def test_a_batch_waits_for_audio_that_is_expected(gate: Gate) -> None:
    batcher = queue(gate, batch_wait_seconds=3600)
    gate.open()
    early, late = batcher.lane(), batcher.lane(expected_seconds=1)
    futures = submit(early, Clip("early"))
    futures += submit(late, Clip("late"))
    late.arrived(1)
    assert await results(futures) == ["EARLY", "LATE"]
    assert gate.batches == [["early", "late"]]
    # Nothing is expected any more, so nothing waits.
    assert await results(submit(early, Clip("alone"))) == ["ALONE"]
    batcher.close()


async def test_a_batch_without_room_does_not_wait(gate: Gate) -> None:
    batcher = queue(gate, batch_wait_seconds=3600, max_batch_seconds=2)
    gate.open()
    batcher.lane(expected_seconds=1)
    assert await results(submit(batcher.lane(), Clip("a"), Clip("b"))) == ["A", "B"]
    batcher.close()


async def test_a_wait_ends_when_its_time_is_over(gate: Gate) -> None:
    batcher = queue(gate, batch_wait_seconds=0.001)
    gate.open()
    batcher.lane(expected_seconds=1)
    assert await results(submit(batcher.lane(), Clip("a"))) == ["A"]
    batcher.close()


async def test_a_batch_is_told_once_it_has_run(gate: Gate) -> None:
    seen: list[Batch] = []
    batcher = Batcher(
        gate, max_batch_clips=4, max_batch_seconds=60, max_queue_seconds=60, on_batch=seen.append
    )
    held = await hold(batcher, gate)
    futures = submit(batcher.lane(owner="owner"), Clip("a", 4), Clip("b", 3))
    gate.open()
    await results([held, *futures])
    assert [(b.n_clips, b.audio_seconds, b.padded_seconds) for b in seen] == [(1, 1, 1), (2, 7, 8)]
    assert [owner for batch in seen for owner, _ in batch.waits] == [None, "owner", "owner"]
    for batch in seen:
        assert all(since <= batch.started <= batch.ended for _, since in batch.waits)
    batcher.close()


async def test_a_clip_that_fails_fails_alone(batcher: Queue, gate: Gate) -> None:
    gate.spoilt = {"bad"}
    held = await hold(batcher, gate)
    futures = []
    for name in ("a", "bad", "c"):
        futures += submit(batcher.lane(), Clip(name))
    gate.open()
    outcomes = await asyncio.gather(held, *futures, return_exceptions=True)
    assert isinstance(outcomes[2], InvalidAudio)
    assert [o.result for o in outcomes if isinstance(o, Done)] == ["FIRST", "A", "C"]
    assert gate.batches == [["first"], ["a", "bad", "c"], ["a"], ["bad", "c"], ["bad"], ["c"]]
    assert batcher.trouble() == ""


async def test_what_does_not_fit_the_memory_is_halved_until_it_does(
    batcher: Queue, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    gate.memory_seconds = 5
    held = await hold(batcher, gate)
    futures = []
    for name in "abcd":
        futures += submit(batcher.lane(), Clip(name, 3))
    gate.open()
    assert await results([held, *futures]) == ["FIRST", "A", "B", "C", "D"]
    assert gate.batches[1:] == [list("abcd"), list("ab"), ["a"], ["b"], list("cd"), ["c"], ["d"]]
    assert "4 clips, 12 s with padding" in caplog.text
    # No batch is made that large again.
    assert batcher.batch_seconds == 3
    del gate.batches[:]
    futures = [future for name in "ef" for future in submit(batcher.lane(), Clip(name, 2))]
    assert await results(futures) == ["E", "F"]
    assert gate.batches == [["e"], ["f"]]


async def test_a_clip_that_does_not_fit_fails_alone_and_shrinks_nothing(
    batcher: Queue, gate: Gate
) -> None:
    gate.memory_seconds = 5
    gate.open()
    with pytest.raises(OutOfMemory):
        await batcher.lane().put(Clip("a", 6))
    assert batcher.batch_seconds == 60
    assert await results(submit(batcher.lane(), Clip("b", 5))) == ["B"]


async def test_a_memory_that_nothing_fits_any_more_is_seen(batcher: Queue, gate: Gate) -> None:
    batcher._stuck_seconds = 0
    gate.memory_seconds = 0.5
    gate.open()
    lane = batcher.lane()
    for _ in range(batch_limit.STARVED_CLIPS):
        assert batcher.trouble() == ""
        with pytest.raises(OutOfMemory):
            await lane.put(Clip("a"))
    assert batcher.trouble() == "for 0 s no clip has fit in the memory"
    await results(submit(lane, Clip("b", 0.1)))
    assert batcher.trouble() == ""


async def test_a_lost_device_is_not_asked_again_by_the_batch(batcher: Queue, gate: Gate) -> None:
    def lost(clips: list[Clip]) -> list[str]:
        gate.batches.append([clip.name for clip in clips])
        raise DeviceLost("gone")

    held = await hold(batcher, gate)
    futures = [future for name in "ab" for future in submit(batcher.lane(), Clip(name))]
    batcher._recognize = lost
    gate.open()
    await held
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [DeviceLost, DeviceLost]
    assert gate.batches == [["first"], ["a", "b"]]
    assert batcher.trouble() == "gone"


async def test_a_batch_that_takes_too_long_is_seen_until_it_is_done(gate: Gate, until: Any) -> None:
    batcher = queue(gate, stuck_seconds=0.01)
    assert batcher.trouble() == ""
    future = batcher.lane().put(Clip("a", 0.01))
    await gate.entered()
    await until(lambda: bool(batcher.trouble()))
    assert batcher.trouble().startswith("a batch has taken 0.01 s beyond the length of its audio\n")
    assert "self._open.acquire()" in batcher.trouble(), "it does not say where"
    gate.open()
    await future
    await until(lambda: not batcher.trouble())
    batcher.close()


async def test_a_long_batch_may_take_as_long_as_its_audio(gate: Gate) -> None:
    batcher = queue(gate, stuck_seconds=0.01)
    future = batcher.lane().put(Clip("a", 3600))
    await gate.entered()
    (due,) = batcher._activity._due.values()
    assert due > time.monotonic() + 3000
    gate.open()
    await future
    batcher.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_thread_that_ends_is_seen(until: Any) -> None:
    def end(clips: list[Clip]) -> list[str]:
        raise SystemExit

    batcher: Queue = Batcher(end, max_batch_clips=4, max_batch_seconds=60, max_queue_seconds=60)
    batcher.lane().put(Clip("a"))
    await until(lambda: bool(batcher.trouble()))
    batcher.close()
    # The process's exit status is to tell of it.
    assert batcher.trouble() == "a thread that runs batches has ended"


async def test_threads_that_end_with_the_batcher_are_no_trouble(gate: Gate) -> None:
    batcher = queue(gate)
    batcher.close()
    assert not batcher.trouble()


async def test_a_stuck_thread_is_left_behind(gate: Gate) -> None:
    batcher = queue(gate)
    future = batcher.lane().put(Clip("a"))
    await gate.entered()
    await asyncio.to_thread(batcher.close, 0.01)
    gate.open()
    assert (await future).result == "A"


async def test_a_wrong_number_of_results_is_nobody_s_result() -> None:
    batcher: Queue = Batcher(
        lambda clips: ["x", "y"], max_batch_clips=4, max_batch_seconds=60, max_queue_seconds=60
    )
    with pytest.raises(RuntimeError, match="2 results for 1 clips"):
        await batcher.lane().put(Clip("a"))
    batcher.close()


async def test_long_requests_leave_room_for_short_ones(gate: Gate) -> None:
    batcher = queue(gate, max_batch_seconds=5, max_queue_seconds=100)
    held = await hold(batcher, gate)
    hours = [batcher.lane(3600) for _ in range(8)]
    with pytest.raises(Overloaded, match="the limit is 75 for a request as long as this"):
        batcher.lane(3600)
    short = [batcher.lane(10) for _ in range(2)]
    with pytest.raises(Overloaded, match="100 seconds of audio are waiting, the limit is 100;"):
        batcher.lane(1)
    gate.open()
    await held
    for lane in (*hours, *short):
        with lane:
            pass
    assert batcher.queue_seconds == 0
    batcher.close()


async def test_one_request_never_fills_the_queue(gate: Gate) -> None:
    """As on a GPU, whose batches are as long as its queue."""
    batcher = queue(gate, max_batch_seconds=600, max_queue_seconds=600)
    with batcher.lane(3600):
        assert batcher.queue_seconds < 600
        batcher.check_room(10)
    batcher.close()


async def test_closing_refuses_what_waits_and_what_comes(gate: Gate) -> None:
    batcher = queue(gate)
    held = await hold(batcher, gate)
    lane = batcher.lane()
    waiting = lane.put(Clip("waits"))
    closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
    with pytest.raises(NotReady, match="stopping"):
        await waiting
    gate.open()
    await closing
    assert (await held).result == "FIRST"
    with pytest.raises(NotReady, match="stopping"):
        lane.put(Clip("late"))
    with pytest.raises(NotReady, match="stopping"):
        batcher.lane()
    with pytest.raises(NotReady, match="stopping"):
        batcher.check_room()
