"""The order of turns, and which clips go together."""

from dataclasses import dataclass

from predictor.server.clip_queue import ClipQueue


@dataclass(frozen=True)
class Clip:
    lane: str
    name: str
    duration: float = 1.0


def queue(*clips: Clip, max_clips: int = 8, max_seconds: float = 60) -> ClipQueue[Clip]:
    made: ClipQueue[Clip] = ClipQueue(max_clips, max_seconds)
    for clip in clips:
        made.put(clip)
    return made


def drained(made: ClipQueue[Clip]) -> list[str]:
    """Names of the clips of each batch, until nothing waits."""
    batches = []
    while made:
        batch, _ = made.next_batch()
        made.take(batch)
        batches.append(" ".join(clip.name for clip in batch))
    return batches


def test_lanes_take_turns() -> None:
    made = queue(
        *(Clip("a", f"a{i}", 20) for i in range(4)),
        *(Clip("b", f"b{i}", 20) for i in range(2)),
        Clip("c", "c0", 20),
        max_seconds=40,
    )
    # Of the second batch b's turn is longer ago than a's, and less waits for it.
    assert drained(made) == ["a0 b0", "c0 b1", "a1 a2", "a3"]


def test_a_short_request_passes_many_long_ones() -> None:
    made = queue(
        *(Clip(lane, f"{lane}{i}", 30) for lane in "abcdefgh" for i in range(2)), max_seconds=30
    )
    first, _ = made.next_batch()
    made.take(first)
    made.put(Clip("short", "s", 3))
    assert drained(made)[:3] == ["s", "b0", "a1"]


def test_short_requests_leave_half_of_the_turns_to_a_long_one() -> None:
    made = queue(*(Clip("long", f"l{i}", 30) for i in range(4)), max_seconds=30)
    batches = []
    for n in range(6):
        made.put(Clip(f"short {n}", f"s{n}", 3))
        batch, _ = made.next_batch()
        made.take(batch)
        batches.append(" ".join(clip.name for clip in batch))
    assert [name[0] for name in batches].count("l") == 3


def test_padding_counts() -> None:
    made = queue(
        Clip("a", "a", 20),
        Clip("b", "b", 12),
        Clip("c", "c", 15),
        Clip("d", "d", 70),
        max_seconds=50,
    )
    # 2 x 20 s fits, 3 x 20 s does not; what is longer than any batch goes alone.
    assert drained(made) == ["a b", "c", "d"]


def test_what_does_not_fit_lets_others_pass_for_one_batch() -> None:
    made = queue(Clip("a", "a", 10), Clip("b", "b", 18), Clip("c", "c", 9), max_seconds=30)
    assert drained(made) == ["a c", "b"]


def test_very_different_lengths_stay_apart() -> None:
    made = queue(
        Clip("a", "long", 20),
        Clip("b", "short", 1),
        Clip("c", "longish", 15),
        Clip("d", "brief", 2),
    )
    assert drained(made) == ["long longish", "short brief"]


def test_the_number_of_clips_is_limited() -> None:
    made = queue(*(Clip(f"l{i}", str(i), 0.1) for i in range(20)))
    assert [len(batch.split()) for batch in drained(made)] == [8, 8, 4]


def test_whether_there_is_room_for_more() -> None:
    assert queue(Clip("a", "a", 20)).next_batch()[1]
    assert queue(Clip("a", "a", 20), Clip("a", "b", 20)).next_batch()[1]
    assert not queue(Clip("a", "a", 31)).next_batch()[1]
    assert not queue(Clip("a", "a"), max_clips=1).next_batch()[1]


def test_the_seconds_that_wait() -> None:
    tenths = [Clip("a", str(i), 0.1) for i in range(10)]
    made = queue(*tenths, Clip("b", "b", 7))
    made.take(made.of_lane("b"))
    assert abs(made.seconds - 1) < 1e-9
    assert made.of_lane("b") == []
    made.take(tenths)
    assert made.seconds == 0
    assert not made
