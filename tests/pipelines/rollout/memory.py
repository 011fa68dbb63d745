"""A service in memory with the semantics of an InferenceService in Knative mode."""

import hashlib
from collections.abc import Callable
from typing import Any

from pipelines.rollout.target import Conflict, Observed, Revision, ServedModel


class MemoryService:
    """Implements ``Target`` with the semantics of an InferenceService in Knative mode.

    Attributes:
        model, image, other: what people write into the specification, beside the share.
        lag: looks until the controller has acted on a change.
        failures: storage URI → why its revisions will not become ready.
        never_ready: storage URIs whose revisions go on starting.
        shares: what the users have, after each of the controller's acts; ``watch`` is told of each.
        writes: state and share of each write that was made.
        hook: called with ``observe`` or ``write``, its number from 1, and ``before`` or ``after``; what it
            raises is raised.
    """

    name = "sensevoice"

    def __init__(self, url: str) -> None:
        self.url = url
        self.model, self.image, self.other = "", None, ""
        self.percent: int | None = None
        self.state: str | None = None
        self.lag = 2
        self.failures: dict[str, str] = {}
        self.never_ready: set[str] = set()
        self.shares: list[dict[str, int]] = []
        self.watch: Callable[[dict[str, int]], None] = lambda shares: None
        self.writes: list[tuple[str, int | None]] = []
        self.events: list[tuple[str, str, bool]] = []
        self.hook: Callable[[str, int, str], None] = lambda call, number, when: None
        self.models: dict[str, str] = {}
        self.calls = {"observe": 0, "write": 0}
        self._version = 0
        self._pending = 0
        self._template: object = None
        self._made: object = None
        self._newest = self._ready = self._rolled = self._former = ""

    def release(self, storage_uri: str) -> None:
        """The service serves its first model."""
        self.model, self._template = storage_uri, object()
        self._act()

    def observe(self) -> Observed:
        return self._call("observe", self._look)

    def write(
        self, seen: Observed, *, state: str, percent: int | None, model: ServedModel | None = None
    ) -> Observed:
        def made() -> Observed:
            if seen.version != str(self._version):
                raise Conflict("the service changed since it was observed")
            self.state = state
            self._version += 1
            if model:
                self.model, self.image = model.storage_uri, model.image
                self._template = object()
            if model or percent != self.percent:
                self._pending = self.lag
            self.percent = percent
            self.writes.append((state, percent))
            return self._seen()

        return self._call("write", made)

    def record(self, reason: str, message: str, *, warning: bool = False) -> None:
        self.events.append((reason, message, warning))

    def roll_over(self) -> None:
        """A new revision of the same model, as an upgrade of the controller makes one."""
        self._template = object()
        self._version += 1
        self._pending = self.lag

    def edit(self, **changes: Any) -> None:
        """Someone else's change of the fields that are named."""
        for name, value in changes.items():
            setattr(self, name, value)
        if {"model", "image", "other"} & set(changes):
            self._template = object()
        self._version += 1
        self._pending = self.lag

    @property
    def users(self) -> dict[str, int]:
        """Storage URI → percent of the users."""
        shares = self.shares[-1] if self.shares else {}
        return {self.models[name]: share for name, share in shares.items() if share}

    @property
    def reasons(self) -> list[str]:
        return [reason for reason, _, _ in self.events]

    def _call(self, call: str, carry_out: Callable[[], Observed]) -> Observed:
        self.calls[call] += 1
        number = self.calls[call]
        self.hook(call, number, "before")
        found = carry_out()
        self.hook(call, number, "after")
        return found

    def _look(self) -> Observed:
        if self._pending:
            self._pending -= 1
            if not self._pending:
                self._act()
        return self._seen()

    def _act(self) -> None:
        """What KServe and Knative do about the specification."""
        self._version += 1
        if self._made is not self._template:
            self._made = self._template
            self._newest = f"{self.name}-{len(self.models) + 1:05d}"
            self.models[self._newest] = self.model
        if self.models[self._newest] not in {*self.failures, *self.never_ready}:
            self._ready = self._newest
        if not self._ready:
            return
        if self.percent in (None, 100) or not self._rolled:
            if self._rolled != self._ready:
                self._former, self._rolled = self._rolled, self._ready
            self._route({self._ready: 100})
            return
        if self._rolled == self._ready == self._newest and self._former:
            self._rolled = self._former
        shares = {self._rolled: 100 - self.percent}
        shares[self._ready] = shares.get(self._ready, 0) + self.percent
        self._route(shares)

    def _route(self, shares: dict[str, int]) -> None:
        self.shares.append(shares)
        self.watch(shares)

    def _seen(self) -> Observed:
        stable = self._revision(self._rolled) if self._rolled else None
        candidate = None
        if self._newest and self._newest != self._rolled:
            candidate = self._revision(self._newest)
        starting = candidate and not candidate.ready and not candidate.failure
        return Observed(
            version=str(self._version),
            fingerprint=hashlib.sha256(
                f"{self.model} {self.image} {self.other}".encode()
            ).hexdigest(),
            settled=not self._pending and not (starting and self.percent != 0),
            storage_uri=self.model,
            image=self.image,
            percent=self.percent,
            stable=stable,
            candidate=candidate,
            state=self.state,
        )

    def _revision(self, name: str) -> Revision:
        uri = self.models[name]
        ready = uri not in self.never_ready and uri not in self.failures
        share = self.shares[-1].get(name, 0) if self.shares else 0
        url = f"{self.url}/{name}" if ready else None
        return Revision(name, ready, share, url, self.failures.get(uri, ""))
