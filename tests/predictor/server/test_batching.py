"""The queue: order, batches, fairness, cancellation, refusal, and failures that stay alone.

The network is a gate here: a test looks at what has gathered before it, then lets it through.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import pytest

from predictor.engine.errors import InvalidAudio, Overloaded
from predictor.server.batching import Batcher, Done, Lane


@dataclass(frozen=True)
class Clip:
    name: str
    duration: float = 1.0


class Gate:
    """Stands for the network: gives each clip's name back, batch by batch, when it is opened."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.spoilt: set[str] = set()
        self._open = threading.Semaphore(0)
        self._entered = threading.Semaphore(0)

    def __call__(self, clips: list[Clip]) -> list[str]:
        self.batches.append([clip.name for clip in clips])
        self._entered.release()
        self._open.acquire()
        if bad := self.spoilt & {clip.name for clip in clips}:
            raise InvalidAudio(f"audio: {', '.join(sorted(bad))}")
        return [clip.name.upper() for clip in clips]

    async def entered(self) -> None:
        """Until a batch stands before the gate."""
        await asyncio.to_thread(self._entered.acquire)

    def open(self, times: int = 1000) -> None:
        self._open.release(times)


Queue = Batcher[Clip, str]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


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
    future = await batcher.lane().submit(Clip("first"))
    await gate.entered()
    return future


async def submit(lane: Lane[Clip, str], *clips: Clip) -> list["asyncio.Future[Done[str]]"]:
    return [await lane.submit(clip) for clip in clips]


async def results(futures: list["asyncio.Future[Done[str]]"]) -> list[str]:
    return [done.result for done in await asyncio.gather(*futures)]


async def test_each_clip_gets_its_own_result(batcher: Queue, gate: Gate) -> None:
    gate.open()
    lanes = [batcher.lane() for _ in range(5)]
    futures = []
    for i in range(40):
        futures.append(await lanes[i % 5].submit(Clip(f"c{i}", 1 + i % 7)))
        if len(futures) % 4 == 0:
            await asyncio.gather(*futures)
    assert await results(futures) == [f"C{i}" for i in range(40)]
    done = await futures[0]
    assert done.queue_seconds >= 0


async def test_what_waits_goes_together_the_shortest_first(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    a, b = batcher.lane(), batcher.lane()
    futures = await submit(a, Clip("a1", 4), Clip("a2", 3)) + await submit(b, Clip("b1", 2.5))
    gate.open()
    assert await results([held, *futures]) == ["FIRST", "A1", "A2", "B1"]
    assert gate.batches == [["first"], ["b1", "a2", "a1"]]


async def test_a_batch_holds_at_most_so_many_clips(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    futures = []
    for i in range(6):
        futures += await submit(batcher.lane(), Clip(f"c{i}"))
    gate.open()
    await results([held, *futures])
    assert [len(batch) for batch in gate.batches] == [1, 4, 2]


async def test_padding_counts_in_a_batch_s_length(gate: Gate) -> None:
    batcher = queue(gate, max_batch_seconds=50.0)
    held = await hold(batcher, gate)
    futures = []
    for name, seconds in (("a", 20), ("b", 12), ("c", 15), ("d", 70)):
        futures += await submit(batcher.lane(), Clip(name, seconds))
    gate.open()
    await results([held, *futures])
    # 2 x 20 s fits, 3 x 20 s does not; what is longer than any batch runs alone.
    assert gate.batches == [["first"], ["b", "a"], ["c"], ["d"]]
    batcher.close()


async def test_clips_of_very_different_lengths_stay_apart(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    futures = []
    for name, seconds in (("long", 20), ("short", 1), ("longish", 15), ("brief", 2)):
        futures += await submit(batcher.lane(), Clip(name, seconds))
    gate.open()
    await results([held, *futures])
    assert gate.batches == [["first"], ["longish", "long"], ["short", "brief"]]


async def test_a_long_recording_does_not_starve_a_short_one(gate: Gate, until: Until) -> None:
    batcher = queue(gate, max_batch_clips=2)
    held = await hold(batcher, gate)
    long = batcher.lane()
    pending = asyncio.ensure_future(submit(long, *(Clip(f"l{i}", 30) for i in range(6))))
    await until(lambda: len(long.waiting) == 2)
    short = (await submit(batcher.lane(), Clip("s", 30)))[0]
    gate.open(2)
    assert (await short).result == "S"
    assert gate.batches[1] == ["l0", "s"]
    gate.open()
    await results([held, *(await pending)])
    batcher.close()


async def test_a_lane_has_a_window(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    lane = batcher.lane()
    futures = await submit(lane, *(Clip(f"c{i}") for i in range(4)))
    fifth = asyncio.ensure_future(lane.submit(Clip("c4")))
    await asyncio.sleep(0)
    assert not fifth.done()
    gate.open()
    assert (await (await fifth)).result == "C4"
    await results([held, *futures])


async def test_cancelled_clips_are_dropped_and_make_room(batcher: Queue, gate: Gate) -> None:
    held = await hold(batcher, gate)
    gone, stays = batcher.lane(), batcher.lane()
    cancelled = await submit(gone, Clip("gone", 99), Clip("gone too", 99))
    with pytest.raises(Overloaded):
        await batcher.lane().submit(Clip("refused"))
    for future in cancelled:
        future.cancel()
    await asyncio.sleep(0)
    kept = await submit(stays, Clip("kept"))
    gate.open()
    assert await results([held, *kept]) == ["FIRST", "KEPT"]
    assert gate.batches == [["first"], ["kept"]]


async def test_a_full_queue_refuses_new_requests_but_not_old_ones(
    batcher: Queue, gate: Gate
) -> None:
    held = await hold(batcher, gate)
    old = batcher.lane()
    futures = await submit(old, Clip("a", 60), Clip("b", 60))
    with pytest.raises(Overloaded, match="120 seconds of audio are waiting, the limit is 100") as e:
        await batcher.lane().submit(Clip("c"))
    assert e.value.retry_after_seconds >= 1
    with pytest.raises(Overloaded):
        batcher.check_room()
    futures += await submit(old, Clip("d", 60))
    gate.open()
    assert await results([held, *futures]) == ["FIRST", "A", "B", "D"]
    batcher.check_room()


async def test_a_clip_that_fails_fails_alone(batcher: Queue, gate: Gate) -> None:
    gate.spoilt = {"bad"}
    held = await hold(batcher, gate)
    futures = []
    for name in ("a", "bad", "c"):
        futures += await submit(batcher.lane(), Clip(name))
    gate.open()
    outcomes = await asyncio.gather(held, *futures, return_exceptions=True)
    assert isinstance(outcomes[2], InvalidAudio)
    assert [o.result for o in outcomes if isinstance(o, Done)] == ["FIRST", "A", "C"]
    assert gate.batches == [["first"], ["a", "bad", "c"], ["a"], ["bad"], ["c"]]


async def test_a_wrong_number_of_results_is_nobody_s_result() -> None:
    batcher: Queue = Batcher(
        lambda clips: ["x", "y"], max_batch_clips=4, max_batch_seconds=60, max_queue_seconds=60
    )
    with pytest.raises(RuntimeError, match="2 results for 1 clips"):
        await (await batcher.lane().submit(Clip("a")))
    batcher.close()


async def test_closing_refuses_what_waits_and_what_comes(gate: Gate) -> None:
    batcher = queue(gate)
    held = await hold(batcher, gate)
    waiting = (await submit(batcher.lane(), Clip("waits")))[0]
    closing = asyncio.ensure_future(asyncio.to_thread(batcher.close))
    with pytest.raises(Overloaded, match="stopping"):
        await waiting
    gate.open()
    await closing
    assert (await held).result == "FIRST"
    with pytest.raises(Overloaded, match="stopping"):
        await batcher.lane().submit(Clip("late"))
