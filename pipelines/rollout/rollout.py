"""A candidate's way to all users, or back: acquire → 0 % and replay → steps → promote, or roll back.

The state is on the service, in the same write as the share it speaks of. So a rollout that was killed is
finished by the next run with the same candidate, from the step that it was in; a run with another
candidate first finishes a dead one, by rolling it back unless its promotion was decided. Whoever ends
otherwise leaves the users on a revision that was verified: the stable one has at least its share, and
the candidate no more than it had earned.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.rollout.answers import Answers, BadAnswer
from pipelines.rollout.drive import Drive, NotSettled, Rejected
from pipelines.rollout.lease import (
    ChangedElsewhere,
    Clock,
    Lease,
    RolloutRunning,
    new_state,
    patiently,
)
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import Clip
from pipelines.rollout.report import Report
from pipelines.rollout.state import Candidate, RolloutState, read_state
from pipelines.rollout.target import (
    Conflict,
    Observed,
    Registry,
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


def roll_out(
    target: Target,
    meter: TrafficMeter,
    registry: Registry,
    candidate: Candidate,
    plan: Plan,
    clips: Sequence[Clip],
    *,
    report: Path | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Move the users to the candidate step by step, or back where a bound is broken.

    Where nothing serves yet, the candidate gets the service at once: its answers are held to the clips'
    labels alone, and one that fails is reported, for there is nothing to go back to.

    Args:
        clips: replayed at 0 %; none: readiness and identity are all that is asked there.
        report: JSON lines are appended here.

    Raises:
        RolloutRunning: another candidate's rollout holds the service.
        ChangedElsewhere: someone else changed the service meanwhile. Their change stays; the candidate's
            share is taken back where they did not set it themselves.
        Superseded: another process drives this rollout now.
        Unavailable: the service's keeper, for too long. Run it again.
        NotSettled: a promotion or rollback did not take effect in time. Run it again.
        InvalidState: the service carries a state that cannot be read.
    """
    clock = clock or Clock()
    run = _Run(target, meter, registry, plan, clips, clock, Report(target, clock.now, report))
    try:
        return run.roll_out(candidate)
    finally:
        run.answers.close()


def rollback(
    target: Target,
    meter: TrafficMeter,
    registry: Registry,
    to: Candidate,
    plan: Plan,
    *,
    report: Path | None = None,
    clock: Clock | None = None,
) -> Outcome:
    """Back to a version that served before, in one step: ready, and answering with the right model, but
    neither replayed nor baked. What serves now becomes ``previous``.

    Raises:
        See :func:`roll_out`.
    """
    return roll_out(target, meter, registry, to, plan.at_once(), (), report=report, clock=clock)


def abandon(
    target: Target,
    meter: TrafficMeter,
    registry: Registry,
    version: str,
    plan: Plan,
    *,
    report: Path | None = None,
    clock: Clock | None = None,
) -> Outcome | None:
    """Finish what a dead rollout of ``version`` left: rolled back, or promoted where that was decided.

    For the exit handler of a pipeline. Waits until the dead rollout's lease has run out.

    Returns:
        None where no rollout of the version is unfinished.

    Raises:
        See :func:`roll_out`.
    """
    clock = clock or Clock()
    run = _Run(target, meter, registry, plan, (), clock, Report(target, clock.now, report))
    try:
        return run.abandon(version)
    finally:
        run.answers.close()


class _Run:
    """One process's attempt."""

    def __init__(
        self,
        target: Target,
        meter: TrafficMeter,
        registry: Registry,
        plan: Plan,
        clips: Sequence[Clip],
        clock: Clock,
        report: Report,
    ) -> None:
        self.target = target
        self.meter = meter
        self.registry = registry
        self.plan = plan
        self.clips = clips
        self.clock = clock
        self.report = report
        self.answers = Answers(plan.model_name, plan.request_timeout_seconds)

    def roll_out(self, candidate: Candidate) -> Outcome:
        while True:
            seen = self._settled()
            prior = read_state(self.target.name, seen.state)
            try:
                if prior is None or prior.finished:
                    if self._serves(seen, candidate):
                        return self._already(candidate)
                    return self._finish(self._begin(seen, candidate, prior))
                self._refuse_or_wait(prior, candidate)
                if prior.alive(self.clock.now()):
                    continue
                lease = self._take_over(seen, prior)
                if prior.candidate == candidate:
                    return self._finish(lease)
                self._abandon(lease, f"its rollout died, and that of {candidate.version} began")
            except (Conflict, Unavailable) as error:
                self._pause_after(error)

    def abandon(self, version: str) -> Outcome | None:
        while True:
            seen = patiently(self.plan, self.clock, self.target.observe)
            state = read_state(self.target.name, seen.state)
            if state is None or state.finished or state.candidate.version != version:
                return None
            if state.alive(self.clock.now()):
                self.clock.sleep(self.plan.poll_seconds)
                continue
            try:
                return self._abandon(self._take_over(seen, state), "its rollout died")
            except Conflict as error:
                self._pause_after(error)

    def _pause_after(self, error: Exception) -> None:
        """A conflict is decided again. So is a first write without an answer: it may have been made, and
        is then found as a rollout of this candidate whose owner is gone."""
        if isinstance(error, Unavailable):
            raise error
        self.clock.sleep(self.plan.poll_seconds)

    def _settled(self) -> Observed:
        deadline = self.clock.now() + self.plan.ready_timeout_seconds
        while True:
            seen = patiently(self.plan, self.clock, self.target.observe)
            prior = read_state(self.target.name, seen.state)
            if seen.settled or (prior and not prior.finished):
                return seen
            if self.clock.now() > deadline:
                raise NotSettled(
                    f"{self.target.name}: its controller has not acted on its last change"
                )
            self.clock.sleep(self.plan.poll_seconds)

    def _serves(self, seen: Observed, candidate: Candidate) -> bool:
        """All users have the candidate already."""
        if seen.stable is None or seen.stable.percent != 100 or seen.stable.url is None:
            return False
        if candidate.image and (seen.candidate or seen.image != candidate.image):
            return False
        try:
            return self.answers.identity(seen.stable.url).digest == candidate.digest
        except BadAnswer:
            return False

    def _already(self, candidate: Candidate) -> Outcome:
        self.registry.promoted(candidate.version)
        message = f"version {candidate.version} serves all users already"
        self.report.tell("RolloutNotNeeded", message)
        return Outcome("promoted", candidate.version, message, self.report.lines)

    def _begin(self, seen: Observed, candidate: Candidate, prior: RolloutState | None) -> Lease:
        state = new_state(candidate, self.plan, self.clock, seen, prior)
        if seen.stable and seen.stable.url:
            try:
                digest = self.answers.identity(seen.stable.url).digest
            except BadAnswer:  # A broken stable revision must not keep its cure away.
                digest = ""
            state = state.model_copy(update={"stable_digest": digest})
        lease = self._first_write(seen, state)
        self.report.tell(
            "RolloutStarted",
            f"version {candidate.version} ({candidate.digest[:12]}) against "
            f"{state.stable or 'nothing: the first release'}",
            rollout=state.rollout,
        )
        return lease

    def _first_write(self, seen: Observed, state: RolloutState) -> Lease:
        """Raises: Conflict."""

        def once() -> Lease:
            now = self.target.observe()
            if (
                now.state == state.model_dump_json()
            ):  # A try without an answer was made all the same.
                return Lease(self.target, self.plan, self.clock, state)
            return Lease.begin(self.target, self.plan, self.clock, seen, state)

        return patiently(self.plan, self.clock, once)

    def _refuse_or_wait(self, prior: RolloutState, candidate: Candidate) -> None:
        """Raises: RolloutRunning."""
        if not prior.alive(self.clock.now()):
            return
        if prior.candidate != candidate:
            raise RolloutRunning(
                f"{self.target.name}: rollout {prior.rollout} of version {prior.candidate.version} "
                f"({prior.phase}, {prior.owner}) holds the service; wait for its end, or try again "
                f"{prior.lease:.0f} s after its process died"
            )
        self.clock.sleep(self.plan.poll_seconds)

    def _take_over(self, seen: Observed, prior: RolloutState) -> Lease:
        """Raises: Conflict, Unavailable, ChangedElsewhere."""
        try:
            lease = Lease.take_over(self.target, self.plan, self.clock, seen, prior)
        except ChangedElsewhere as error:
            self._stop(Lease(self.target, self.plan, self.clock, prior), error)
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

    def _finish(self, lease: Lease) -> Outcome:
        return self._guarded(lease, _steps)

    def _guarded(self, lease: Lease, go: "Callable[[Drive], str]") -> Outcome:
        drive = Drive(
            lease, self.answers, self.meter, self.registry, self.plan, self.clock, self.report
        )
        drive.clips = self.clips
        try:
            reason = go(drive)
        except ChangedElsewhere as error:
            self._stop(lease, error)
            raise
        outcome: Literal["promoted", "rejected"] = (
            "promoted" if lease.state.phase == "promoted" else "rejected"
        )
        return Outcome(outcome, lease.state.candidate.version, reason, self.report.lines)

    def _stop(self, lease: Lease, error: ChangedElsewhere) -> None:
        lease.stop(str(error))
        self.report.tell("RolloutStopped", str(error), warning=True)


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
