"""A service while one rollout holds it: every look makes sure that nothing changed but by our hand."""

import os
import socket
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from pipelines.rollout.patience import FIRST_RETRY_SECONDS, Clock, patiently, undisturbed
from pipelines.rollout.plan import Plan
from pipelines.rollout.state import Candidate, RolloutState, read_state
from pipelines.rollout.target import Observed, ServedModel, Target

T = TypeVar("T")

HEARTBEATS = 4
"""Written in the time of one lease: three may fail."""

LET_GO_SECONDS = 10.0
"""Longest time for the last word of a process that ends; a pod has 30 s by default."""


class RolloutRunning(Exception):
    """Another rollout holds the service; names it."""


class Superseded(Exception):
    """Another process has taken this rollout over, because this one had not written for a lease's time."""


class ChangedElsewhere(Exception):
    """Someone else changed the service; says what."""


def _claim(
    target: Target,
    plan: Plan,
    clock: Clock,
    seen: Observed,
    state: RolloutState,
    model: ServedModel | None = None,
) -> Observed:
    """Write a new owner's state, if nothing changed since ``seen``. A try whose answer was lost is found as
    made by the next one.

    Raises:
        Conflict: it changed.
        Unavailable: see :func:`patiently`; the write may have been made.
    """
    text = state.model_dump_json()

    def once() -> Observed:
        now = target.observe()
        if now.state == text:
            return now
        return target.write(seen, state=text, percent=state.percent, model=model)

    return patiently(plan, clock, once)


class Lease:
    """The right to change a service, kept alive by writing.

    Attributes:
        state: as last written.
        unsure: what was to be written last, where no answer says whether it was.
    """

    def __init__(self, target: Target, plan: Plan, clock: Clock, state: RolloutState) -> None:
        self._target = target
        self._plan = plan
        self._clock = clock
        self.state = state
        self.unsure: RolloutState | None = None

    @classmethod
    def begin(
        cls, target: Target, plan: Plan, clock: Clock, seen: Observed, fresh: RolloutState
    ) -> "Lease":
        """State, model and share of a new rollout in one write.

        Raises:
            Conflict: the service changed since ``seen``.
            Unavailable: for too long; the write may have been made.
        """
        written = _claim(target, plan, clock, seen, fresh, fresh.model)
        held = fresh.model_copy(update={"fingerprint": written.fingerprint})
        return cls(target, plan, clock, held)

    @classmethod
    def take_over(
        cls, target: Target, plan: Plan, clock: Clock, seen: Observed, prior: RolloutState
    ) -> "Lease":
        """A dead rollout, to be finished by this process.

        Raises:
            Conflict, Unavailable: see :meth:`begin`.
            ChangedElsewhere: someone changed the service meanwhile.
        """
        lease = cls(target, plan, clock, prior)
        lease._check(seen)
        mine = prior.model_copy(
            update={
                "owner": new_owner(),
                "heartbeat": clock.now(),
                "lease": plan.lease_seconds,
                "fingerprint": prior.fingerprint or seen.fingerprint,
            }
        )
        _claim(target, plan, clock, seen, mine)
        lease.state = mine
        return lease

    def look(self) -> Observed:
        """The service; it also learns that the rollout lives.

        Raises:
            Superseded: another process drives this rollout now.
            ChangedElsewhere: the specification, the share or the state is not what was written.
            Unavailable: see :func:`patiently`.
        """
        seen = patiently(self._plan, self._clock, self._target.observe)
        self._check(seen)
        since = self._clock.now() - self.state.heartbeat
        if 0 <= since < self._plan.lease_seconds / HEARTBEATS:
            return seen
        return self.write()  # Also where the clock was set back.

    def write(self, **changes: Any) -> Observed:
        """Write the state with ``changes``, and the share in it.

        Raises:
            Superseded, ChangedElsewhere, Unavailable: see :meth:`look`.
        """
        wanted = self.state.model_copy(update={**changes, "heartbeat": self._clock.now()})
        text = wanted.model_dump_json()

        def once() -> Observed:
            seen = self._target.observe()
            if seen.state == text:  # An earlier try that got no answer was made all the same.
                return seen
            self._check(seen)
            return self._target.write(seen, state=text, percent=wanted.percent)

        self.unsure = wanted
        written = self._undisturbed(once)
        self.state, self.unsure = wanted, None
        return written

    def stop(self, reason: str) -> None:
        """Let go of a service that someone else changed. Their change stays. The candidate's share goes
        back to the stable revision where it is still the one that this rollout wrote; a share that they
        set themselves is theirs.

        Raises:
            Unavailable: see :func:`patiently`.
        """

        def once() -> None:
            seen = self._target.observe()
            state = read_state(self._target.name, seen.state)
            if state and (state.rollout, state.owner) != (self.state.rollout, self.state.owner):
                return
            # A write without an answer may be the last that was made.
            last = state or self.state
            ours = seen.percent == last.percent and seen.percent is not None
            percent = 0 if ours else seen.percent
            stopped = {"phase": "stopped", "reason": reason, "percent": percent}
            text = last.model_copy(update=stopped).model_dump_json()
            self._target.write(seen, state=text, percent=percent)

        self._undisturbed(once)

    def let_go(self) -> None:
        """End this process's part, so that the next one need not wait for the lease's end. A candidate that
        is still being judged has no user meanwhile, where there is a stable revision.

        Raises:
            Superseded, ChangedElsewhere: see :meth:`look`.
            Unavailable: for ``LET_GO_SECONDS``.
        """

        def once() -> None:
            seen = self._target.observe()
            found = read_state(self._target.name, seen.state)
            if found and (found.rollout, found.owner) == (self.state.rollout, self.state.owner):
                # A write without an answer may be the last that was made.
                known = {"fingerprint": self.state.fingerprint}
                self.state, self.unsure = found.model_copy(update=known), None
            self._check(seen)
            if self.state.finished:
                return
            left: dict[str, Any] = {"heartbeat": 0.0}
            if self.state.phase == "rolling" and self.state.stable:
                left["percent"] = 0
            wanted = self.state.model_copy(update=left)
            self.unsure = wanted
            text = wanted.model_dump_json()
            self._target.write(seen, state=text, percent=wanted.percent)
            self.state, self.unsure = wanted, None

        self._undisturbed(once, LET_GO_SECONDS)

    def _undisturbed(self, once: Callable[[], T], seconds: float | None = None) -> T:
        pause = min(self._plan.poll_seconds, FIRST_RETRY_SECONDS)
        return undisturbed(
            self._clock, pause, lambda: patiently(self._plan, self._clock, once, seconds)
        )

    def _check(self, seen: Observed) -> None:
        mine, name = self.state, self._target.name
        found = read_state(name, seen.state)
        if found is None:
            raise ChangedElsewhere(f"{name}: someone removed the rollout's state")
        if (found.rollout, found.owner) != (mine.rollout, mine.owner):
            raise Superseded(f"{name}: rollout {found.rollout} of {found.owner} has taken over")
        if seen.percent != mine.percent:
            raise ChangedElsewhere(
                f"{name}: someone set the canary's share to {_percent(seen.percent)}; the rollout had "
                f"set {_percent(mine.percent)}"
            )
        model = mine.model
        wanted = (model.storage_uri, model.image or seen.image)
        if (seen.storage_uri, seen.image) != wanted:
            raise ChangedElsewhere(
                f"{name}: someone set the model to {seen.storage_uri} (image {seen.image}); the rollout "
                f"had set {model.storage_uri} (image {model.image})"
            )
        if mine.fingerprint and seen.fingerprint != mine.fingerprint:
            raise ChangedElsewhere(
                f"{name}: someone changed the specification, other than its model and canary's share"
            )


def _percent(share: int | None) -> str:
    return "none (all to the newest revision)" if share is None else f"{share} %"


def new_owner() -> str:
    """A process, for a person to find and for no other to be."""
    return f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}"


def new_state(
    candidate: Candidate,
    plan: Plan,
    clock: Clock,
    seen: Observed,
    prior: RolloutState | None,
    stable_digest: str,
) -> RolloutState:
    """Of a rollout that begins: at 0 %, or with all of it where nothing serves."""
    return RolloutState(
        rollout=uuid.uuid4().hex[:12],
        owner=new_owner(),
        heartbeat=clock.now(),
        lease=plan.lease_seconds,
        candidate=candidate,
        phase="rolling",
        percent=0 if seen.stable else None,
        stable=seen.stable.name if seen.stable else "",
        stable_digest=stable_digest,
        stable_image=_stable_image(seen, prior),
    )


def _stable_image(seen: Observed, prior: RolloutState | None) -> str | None:
    """A candidate that was rolled back leaves its image in the specification."""
    rolled_back = prior is not None and prior.phase != "promoted" and seen.candidate is not None
    return prior.stable_image if prior and rolled_back else seen.image
