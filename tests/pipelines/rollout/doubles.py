"""A clock that only sleeping moves, a meter that reads a script, a registry that remembers."""

from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.rollout.target import Traffic, Unavailable


@dataclass
class FakeClock:
    """
    Attributes:
        seconds: since 1970; sleeping adds to them.
        slept: seconds, whatever somebody sets the clock to.
    """

    seconds: float = 1_800_000_000.0
    slept: float = 0.0

    def now(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.seconds += seconds
        self.slept += seconds

    def steady(self) -> float:
        return self.slept


@dataclass
class ScriptedMeter:
    """Attributes: script: revision and seconds → its traffic, or an error; asked: all it was asked."""

    script: Callable[[str, float], Traffic] = lambda revision, seconds: Traffic(200, 0, 0.2, 0.4)
    asked: list[tuple[str, float]] = field(default_factory=list)

    def measure(self, revision: str, seconds: float) -> Traffic:
        self.asked.append((revision, seconds))
        return self.script(revision, seconds)


@dataclass
class RecordingRegistry:
    """Attributes: told: outcomes in their order; outages: calls that still fail."""

    told: list[tuple[str, ...]] = field(default_factory=list)
    outages: int = 0

    def promoted(self, version: str) -> None:
        self._tell("promoted", version)

    def rejected(self, version: str, reason: str) -> None:
        self._tell("rejected", version, reason)

    def _tell(self, *what: str) -> None:
        if self.outages:
            self.outages -= 1
            raise Unavailable("the registry is out of reach")
        self.told.append(what)
