"""What a rollout moves: a service with a stable and a candidate revision, wherever it runs."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What a revision serves.

    Attributes:
        storage_uri: where its model directory is, such as ``pvc://model-cache/sensevoice-small/<digest>``.
        digest: sha256 of the model's files, which the predictor tells in the header ``x-model-digest``.
        image: the predictor's image; None: the specification is to name none, so that the service's
            default runs.
    """

    storage_uri: str
    digest: str
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Revision:
    """One generation of the service's pods.

    Attributes:
        name: the controller's name for it; the header ``x-revision`` of its answers where it has one.
        ready: it can answer.
        percent: its share of the traffic.
        url: reaches it alone; None where nothing does.
        failure: why it will not become ready; empty while it may.
        waiting: what it waits for to become ready, where that is known.
        caveat: why users may not reach it although it has its share; empty where they do.
    """

    name: str
    ready: bool
    percent: int
    url: str | None
    failure: str = ""
    waiting: str = ""
    caveat: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """A service at one moment.

    Attributes:
        version: changes with every change of the object.
        fingerprint: digest of the part of the specification that people write (all but the canary's share):
            differs from what the rollout wrote where someone else changed the service.
        settled: the controller has acted on the latest specification; nothing else below can be trusted
            before. A candidate that is to have no user may still be starting.
        storage_uri: of the specification's model, the newest.
        image: of the specification's model; None where it names none.
        percent: the canary's share that the specification asks for; None: no canary, the newest has all.
        stable: serves the users; None where nothing does.
        candidate: the newest revision where it is not the stable one; None where it is.
        state: what the rollout last wrote down; None where it never did.
    """

    version: str
    fingerprint: str
    settled: bool
    storage_uri: str
    image: str | None
    percent: int | None
    stable: Revision | None
    candidate: Revision | None
    state: str | None


class Conflict(Exception):
    """The service changed since it was observed: observe again, and decide again."""


class Unavailable(Exception):
    """The service's keeper does not answer now; trying again may help."""


class Refused(Exception):
    """Trying again does not help; the message tells a person what to change."""


class Target(Protocol):
    """A service that can be rolled out. Calls are safe to repeat, and may raise ``Refused``."""

    name: str

    def observe(self) -> Observed:
        """Raises: Unavailable."""

    def write(
        self, seen: Observed, *, state: str, percent: int | None, model: ServedModel | None = None
    ) -> Observed:
        """Write all of it at once, or nothing.

        Args:
            seen: what the decision was made on.
            state: kept with the service.
            percent: the canary's share; None ends the canary: the newest revision has all.
            model: a new candidate; None leaves the model.

        Returns:
            The service as written; its controller has not acted yet.

        Raises:
            Conflict: it has changed since ``seen``.
            Unavailable: no answer; the change may have been made.
        """

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        """Tell those who watch the service. Never raises.

        Args:
            reason: one CamelCase word, such as ``RolloutStepPassed``.
        """


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one revision answered during a stretch of time.

    Attributes:
        requests: how many.
        errors: answers with status 5xx, and requests without an answer.
        p95_s, p99_s: seconds to answer; None where that is not known, as without requests.
        stale: nothing has been counted lately, so that nothing is known of the end of the time.
    """

    requests: int
    errors: int
    p95_s: float | None
    p99_s: float | None
    stale: bool = False

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


class TrafficMeter(Protocol):
    """Measures users' traffic by revision; may raise ``Refused``."""

    def measure(self, revision: str, seconds: float) -> Traffic:
        """The last ``seconds`` of a revision.

        Raises:
            Unavailable: nothing can be measured now.
        """


class Registry(Protocol):
    """Where versions are kept; told of every outcome. Calls are safe to repeat, and raise ``Unavailable``
    where another try may help, ``Refused`` where none does."""

    def promoted(self, version: str) -> None:
        """The version serves all users: alias ``champion``; the former champion becomes ``previous``."""

    def rejected(self, version: str, reason: str) -> None:
        """The version was rolled back, and why."""
