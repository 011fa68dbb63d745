"""What waits for the network, in the order of turns: a plain data structure, for one thread at a time.

Every request has a lane. One lane's first clip begins a batch; whatever has a similar length joins it, from
every lane in turn, up to a limit on padded audio. Of two batches one begins with the lane whose turn is
longest ago, and one with the lane in which least waits: hours of audio, of however many requests, delay a
short one by two batches, and are themselves delayed by short ones to half of their speed, but no more.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterator
from typing import Generic, Protocol, TypeVar

SHORTEST_SHARE = 0.5
"""A clip joins a batch only if it lasts at least this share of the longest one: its padding never
costs more than itself."""


class Waiting(Hashable, Protocol):
    """Something that waits in a lane."""

    @property
    def lane(self) -> Hashable: ...

    @property
    def duration(self) -> float:
        """Seconds."""


W = TypeVar("W", bound=Waiting)


class ClipQueue(Generic[W]):
    """Lanes with waiting clips.

    Args:
        max_batch_clips: most clips in a batch.
        max_batch_seconds: most audio in a batch, padding counted. A longer clip goes alone.

    Attributes:
        seconds: audio that waits.
        max_batch_seconds: the limit, which may be moved.
    """

    def __init__(self, max_batch_clips: int, max_batch_seconds: float) -> None:
        self._max_batch_clips = max_batch_clips
        self.max_batch_seconds = max_batch_seconds
        # In the order of their turns; none is empty.
        self._lanes: OrderedDict[Hashable, deque[W]] = OrderedDict()
        self._least_first = False
        self.seconds = 0.0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def put(self, clip: W) -> None:
        self._lanes.setdefault(clip.lane, deque()).append(clip)
        self.seconds += clip.duration

    def of_lane(self, lane: Hashable) -> list[W]:
        """What waits in a lane."""
        return list(self._lanes.get(lane, ()))

    def take(self, clips: Collection[W]) -> None:
        """Take waiting clips out; their lanes go behind the others."""
        taken = set(clips)
        self._least_first = not self._least_first
        for lane in dict.fromkeys(clip.lane for clip in clips):
            left = deque(clip for clip in self._lanes[lane] if clip not in taken)
            if left:
                self._lanes[lane] = left
                self._lanes.move_to_end(lane)
            else:
                del self._lanes[lane]
        self.seconds -= sum(clip.duration for clip in clips)
        if not self._lanes:
            self.seconds = 0.0  # What rounding has left.
            self._least_first = False

    def in_turns(self) -> Iterator[W]:
        """Every lane's first clip, every lane's second clip, ..."""
        waiting = list(self._lanes.values())
        if self._least_first:
            waiting.sort(key=lambda lane: sum(clip.duration for clip in lane))
        lanes = [iter(lane) for lane in waiting]
        while lanes:
            turn = [(lane, next(lane, None)) for lane in lanes]
            yield from (clip for _, clip in turn if clip is not None)
            lanes = [lane for lane, clip in turn if clip is not None]

    def next_batch(self) -> tuple[list[W], bool]:
        """The clips to run next, still in the queue, and whether another one like them would fit."""
        chosen: list[W] = []
        shortest = longest = 0.0
        for clip in self.in_turns():
            low, high = min(shortest or clip.duration, clip.duration), max(longest, clip.duration)
            if chosen and (not self._fits(len(chosen) + 1, high) or low < SHORTEST_SHARE * high):
                continue
            chosen.append(clip)
            shortest, longest = low, high
            if not self._fits(len(chosen) + 1, longest):
                return chosen, False
        return chosen, True

    def _fits(self, n_clips: int, longest: float) -> bool:
        return n_clips <= self._max_batch_clips and n_clips * longest <= self.max_batch_seconds
