"""One process's attempt at a service: hold it, finish what a dead one left, drive the candidate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.rollout.answers import Answers, Asked, BadAnswer
from pipelines.rollout.drive import Drive, NotSettled, Rejected
from pipelines.rollout.ending import ending, told
from pipelines.rollout.lease import (
    ChangedElsewhere,
    Lease,
    RolloutRunning,
    Superseded,
    new_state,
)
from pipelines.rollout.patience import Clock, patiently, undisturbed
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import Clip
from pipelines.rollout.report import Report
from pipelines.rollout.state import Candidate, RolloutState, read_state
from pipelines.rollout.target import (
    Observed,
    Refused,
    Registry,
    Revision,
    Target,
    TrafficMeter,
    Unavailable,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """
    Attributes:
        outcome: ``promoted``: the candidate serves all users; ``rejected``: none.
        reason: why it was rejected, or how it was promoted.
        lines: the report, a decision each.
    """

    outcome: Literal["promoted", "rejected"]
    version: str
    reason: str
    lines: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Attempt:
    """Everything that one process needs for it."""

    target: Target
    meter: TrafficMeter
    registry: Registry
    plan: Plan
    clips: Sequence[Clip]
    clock: Clock
    report: Report
    answers: Answers

    def roll_out(self, candidate: Candidate) -> Outcome:
        return undisturbed(self.clock, self.plan.poll_seconds, lambda: self._roll_out(candidate))

    def _roll_out(self, candidate: Candidate) -> Outcome:
        while True:
            seen = self._settled()
            prior = read_state(self.target.name, seen.state)
            if prior is None or prior.finished:
                if self._serves(seen, candidate):
                    return self._already(candidate)
                return self._finish(self._begin(seen, candidate, prior))
            if prior.alive(self.clock.now()):
                self._refuse_another(prior, candidate)
                self.clock.sleep(self.plan.poll_seconds)
                continue
            lease = self._take_over(seen, prior)
            if prior.candidate == candidate:
                return self._finish(lease)
            self._clear(lease, f"its rollout died, and that of {candidate.version} began")

    def abandon(self, version: str | None) -> Outcome | None:
        return undisturbed(self.clock, self.plan.poll_seconds, lambda: self._abandon_left(version))

    def _abandon_left(self, version: str | None) -> Outcome | None:
        began = self.clock.steady()
        while True:
            seen = patiently(self.plan, self.clock, self.target.observe)
            state = read_state(self.target.name, seen.state)
            if state is None or state.finished or version not in (None, state.candidate.version):
                return None
            if not state.alive(self.clock.now()):
                return self._abandon(self._take_over(seen, state), "its rollout died")
            if version is None and self.clock.steady() - began > state.lease:
                return None  # Its process lives.
            self.clock.sleep(self.plan.poll_seconds)

    def _settled(self) -> Observed:
        deadline = self.clock.steady() + self.plan.ready_timeout_seconds
        while True:
            seen = patiently(self.plan, self.clock, self.target.observe)
            prior = read_state(self.target.name, seen.state)
            if seen.settled or (prior and not prior.finished):
                return seen
            if self.clock.steady() > deadline:
                raise NotSettled(
                    f"{self.target.name}: its controller has not acted on its last change"
                )
            self.clock.sleep(self.plan.poll_seconds)

    def _serves(self, seen: Observed, candidate: Candidate) -> bool:
        """All users have the candidate already."""
        if seen.stable is None or seen.stable.percent != 100:
            return False
        if candidate.image and (seen.candidate or seen.image != candidate.image):
            return False
        return self._digest(seen.stable) == candidate.digest

    def _digest(self, revision: Revision) -> str:
        """Of the model that a revision serves; empty where its own answer does not tell."""
        if revision.url is None:
            return ""
        try:
            found = self.answers.identity(revision.url)
        except BadAnswer:  # A broken stable revision must not keep its cure away.
            return ""
        return "" if Asked(revision, "").stranger(found) else found.digest

    def _already(self, candidate: Candidate) -> Outcome:
        patiently(self.plan, self.clock, lambda: self.registry.promoted(candidate.version))
        message = f"version {candidate.version} serves all users already"
        self.report.tell("RolloutNotNeeded", message)
        return Outcome("promoted", candidate.version, message, self.report.lines)

    def _begin(self, seen: Observed, candidate: Candidate, prior: RolloutState | None) -> Lease:
        digest = self._digest(seen.stable) if seen.stable else ""
        state = new_state(candidate, self.plan, self.clock, seen, prior, digest)
        lease = Lease.begin(self.target, self.plan, self.clock, seen, state)
        self.report.tell(
            "RolloutStarted",
            f"version {candidate.version} ({candidate.digest[:12]}) against "
            f"{state.stable or 'nothing: the first release'}",
            rollout=state.rollout,
        )
        return lease

    def _refuse_another(self, prior: RolloutState, candidate: Candidate) -> None:
        """Raises: RolloutRunning."""
        if prior.candidate != candidate:
            raise RolloutRunning(
                f"{self.target.name}: rollout {prior.rollout} of version {prior.candidate.version} "
                f"({prior.phase}, {prior.owner}) holds the service; wait for its end, or try again "
                f"{prior.lease:.0f} s after its process died"
            )

    def _take_over(self, seen: Observed, prior: RolloutState) -> Lease:
        """Raises: Conflict, Unavailable, ChangedElsewhere."""
        try:
            lease = Lease.take_over(self.target, self.plan, self.clock, seen, prior)
        except ChangedElsewhere as error:
            self._stop(Lease(self.target, self.plan, self.clock, prior), error)
            raise
        except (Refused, Unavailable, KeyboardInterrupt, SystemExit) as error:
            error.add_note(ending(self.target.name, prior, told(error)))
            raise
        self.report.tell(
            "RolloutResumed",
            f"rollout {prior.rollout} of version {prior.candidate.version} was left {prior.phase} by "
            f"{prior.owner}",
            rollout=prior.rollout,
        )
        return lease

    def _abandon(self, lease: Lease, reason: str) -> Outcome:
        if lease.state.phase == "rolling":
            return self._guarded(lease, lambda drive: drive.reject(reason))
        return self._finish(lease)

    def _clear(self, lease: Lease, reason: str) -> None:
        """Out of the way of another candidate.

        Raises:
            NotSettled: the users are not back at the stable revision.
        """
        try:
            self._abandon(lease, reason)
        except (NotSettled, Refused) as error:
            if isinstance(error, NotSettled) and lease.state.phase != "promoting":
                raise
            # Neither a candidate that broke once it was promoted, nor a registry that has lost its
            # version, must keep its cure away.
            lease.write(phase="stopped", reason=str(error))
            self.report.tell("RolloutStopped", str(error), warning=True)

    def _finish(self, lease: Lease) -> Outcome:
        return self._guarded(lease, _steps)

    def _guarded(self, lease: Lease, go: Callable[[Drive], str]) -> Outcome:
        drive = Drive(
            lease, self.answers, self.meter, self.registry, self.plan, self.clock, self.report
        )
        drive.clips = self.clips
        try:
            reason = go(drive)
        except ChangedElsewhere as error:
            self._stop(lease, error)
            raise
        except Superseded:
            raise
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            self._let_go(lease, error)
            raise
        outcome: Literal["promoted", "rejected"] = (
            "promoted" if lease.state.phase == "promoted" else "rejected"
        )
        return Outcome(outcome, lease.state.candidate.version, reason, self.report.lines)

    def _let_go(self, lease: Lease, error: BaseException) -> None:
        """Whatever ended it, users do not stay on a candidate that is half judged, and a person is told."""
        failure = ""
        try:
            lease.let_go()
        except (Exception, KeyboardInterrupt, SystemExit) as another:
            failure = told(another)
        note = ending(self.target.name, lease.state, failure, lease.unsure)
        error.add_note(note)
        self.report.tell("RolloutInterrupted", f"{told(error)}; {note}", warning=True)

    def _stop(self, lease: Lease, error: ChangedElsewhere) -> None:
        message = str(error)
        try:
            lease.stop(message)
        except (Exception, KeyboardInterrupt, SystemExit) as failure:
            note = ending(self.target.name, lease.state, told(failure), lease.unsure)
            error.add_note(note)
            message += f"; {note}"
        self.report.tell("RolloutStopped", message, warning=True)


def _steps(drive: Drive) -> str:
    """From whichever phase the state is in; returns the reason of the outcome."""
    try:
        if drive.lease.state.phase == "rolling":
            drive.climb()
        if drive.lease.state.phase != "rolling_back":
            return drive.promote()
    except Rejected as error:
        return drive.reject(str(error))
    return drive.reject(drive.lease.state.reason)
