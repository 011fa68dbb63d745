"""The moves of a rollout that holds its lease: await, replay, climb, promote, reject."""

from collections.abc import Sequence
from dataclasses import replace

from pipelines.rollout.answers import Answers, Asked, BadAnswer
from pipelines.rollout.judge import Judgement, judge
from pipelines.rollout.lease import Lease
from pipelines.rollout.patience import Clock, patiently
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import Clip, judge_replay, replay
from pipelines.rollout.report import Report
from pipelines.rollout.target import Observed, Registry, Revision, TrafficMeter, Unavailable


class Rejected(Exception):
    """The candidate is not to serve; says why."""


class NotSettled(Exception):
    """The controller did not do in time what was written; says what is missing."""


class Drive:
    """
    Attributes:
        clips: replayed at 0 %.
    """

    def __init__(
        self,
        lease: Lease,
        answers: Answers,
        meter: TrafficMeter,
        registry: Registry,
        plan: Plan,
        clock: Clock,
        report: Report,
    ) -> None:
        self.lease = lease
        self.clips: Sequence[Clip] = ()
        self._answers = answers
        self._meter = meter
        self._registry = registry
        self._plan = plan
        self._clock = clock
        self._report = report

    def climb(self) -> None:
        """Every step from the state's to the last before 100 %.

        Raises:
            Rejected: a bound is broken, or it did not become ready.
        """
        if self.lease.state.percent is None:
            self._replay(*self._await(None))
            return
        steps = self._plan.steps[:-1]
        # A plan may have changed since the state was written; the replay is done again then.
        at = self.lease.state.percent
        for percent in steps[steps.index(at) if at in steps else 0 :]:
            if percent != self.lease.state.percent:
                self.lease.write(percent=percent)
            seen, candidate = self._await(percent)
            if percent == 0:
                self._replay(seen, candidate)
            else:
                self._bake(percent)

    def promote(self) -> str:
        """All users to the candidate, verified, and the registry told.

        Raises:
            Rejected: it does not take effect, and the former revision still serves.
            NotSettled: it does not take effect.
        """
        version = self.lease.state.candidate.version
        if self.lease.state.phase != "promoting" or self.lease.state.percent is not None:
            self.lease.write(phase="promoting", percent=None)
        try:
            seen, _ = self._await(None)
        except Rejected as error:
            former = self.lease.look().stable
            if former is not None and former.name == self.lease.state.stable:
                raise
            raise NotSettled(f"promotion of version {version}: {error}") from error
        patiently(self._plan, self._clock, lambda: self._registry.promoted(version))
        self.lease.write(phase="promoted")
        name = seen.stable.name if seen.stable else ""
        message = f"version {version} serves all users as {name}"
        self._report.tell("RolloutPromoted", message, revision=name)
        return message

    def reject(self, reason: str) -> str:
        """All users back to the stable revision, verified, and the registry told. Where nothing served
        before, the candidate stays as it is.

        Raises:
            NotSettled: it does not take effect.
        """
        state = self.lease.state
        version = state.candidate.version
        if state.phase != "rolling_back":
            percent = 0 if state.stable else None
            self.lease.write(phase="rolling_back", percent=percent, reason=reason)
            self._report.tell("RolloutRollingBack", reason, warning=True)
        if state.stable:
            self._await_stable()
        patiently(self._plan, self._clock, lambda: self._registry.rejected(version, reason))
        self.lease.write(phase="rejected")
        rest = f"{state.stable} serves all users" if state.stable else "nothing served before it"
        self._report.tell("RolloutRejected", f"version {version}: {reason}; {rest}", warning=True)
        return reason

    def _await(self, percent: int | None) -> tuple[Observed, Revision]:
        """The candidate's revision, ready, with its share, and with answers that are its own.

        Args:
            percent: its share; None: all.

        Raises:
            Rejected: it cannot become so, or not in time.
        """
        deadline = self._clock.steady() + self._plan.ready_timeout_seconds
        while True:
            seen = self.lease.look()
            revision = seen.candidate or seen.stable
            if seen.settled and seen.candidate and self.lease.state.phase == "rolling":
                self._refuse_another(seen.candidate)
            missing = self._missing(seen, revision, percent)
            if not missing and revision is not None:
                if revision.name != self.lease.state.revision:
                    self.lease.write(revision=revision.name)
                return seen, revision
            if seen.settled and seen.candidate and seen.candidate.failure:
                raise Rejected(f"{seen.candidate.name}: {seen.candidate.failure}")
            if self._clock.steady() > deadline:
                raise Rejected(f"after {self._plan.ready_timeout_seconds:.0f} s {missing}")
            self._clock.sleep(self._plan.poll_seconds)

    def _missing(self, seen: Observed, revision: Revision | None, percent: int | None) -> str:
        """What keeps it from being judged; empty: nothing."""
        if not seen.settled:
            return "the controller has not acted on the last change"
        if revision is None or (percent is not None and seen.candidate is None):
            return "there is no revision of the candidate"
        if not revision.ready:
            return f"{revision.name} is not ready" + (revision.waiting and f": {revision.waiting}")
        if percent is None and seen.candidate:
            return f"{revision.name} is still a candidate"
        wanted = {revision.name: 100}
        if percent is not None:
            wanted = {revision.name: percent, self.lease.state.stable: 100 - percent}
        found = {each.name: each.percent for each in (seen.candidate, seen.stable) if each}
        if found != wanted:
            return f"the traffic is {_shares(found)}, not {_shares(wanted)}"
        return self._stranger(Asked(revision, self.lease.state.candidate.digest))

    def _refuse_another(self, revision: Revision) -> None:
        """Raises: Rejected: it is not the revision that was verified."""
        known = self.lease.state.revision
        if known and revision.name != known:
            raise Rejected(
                f"revision {revision.name} has taken the place of {known}, which was being judged"
            )

    def _stranger(self, asked: Asked) -> str:
        """Why its answers may not be its own; empty where they are."""
        revision = asked.revision
        if revision.url is None:
            return f"{revision.name} has no URL of its own to be asked at"
        try:
            return asked.stranger(self._answers.identity(revision.url))
        except BadAnswer as error:
            return f"{revision.name} does not answer: {error}"

    def _await_stable(self) -> None:
        """Until all users have the revision of before, and it answers where it did so before.

        Raises:
            NotSettled: they do not have it in time.
        """
        state = self.lease.state
        deadline = self._clock.steady() + self._plan.ready_timeout_seconds
        while True:
            seen = self.lease.look()
            back, missing = False, "the controller has not acted on the rollback"
            if seen.settled and seen.stable:
                back = (seen.stable.name, seen.stable.percent) == (state.stable, 100)
                missing = f"{seen.stable.name} has {seen.stable.percent} % of the traffic"
            if back and seen.stable:
                known = state.stable_digest and seen.stable.url
                missing = self._stranger(Asked(seen.stable, state.stable_digest)) if known else ""
            if not missing:
                return
            if self._clock.steady() > deadline:
                message = f"rollback: after {self._plan.ready_timeout_seconds:.0f} s {missing}"
                if back:  # All that a rollback can do; it must not keep the next candidate away.
                    self._report.tell("RolloutStableBroken", message, warning=True)
                    return
                message += f"; expected {state.stable} with all traffic"
                self._report.tell("RolloutStuck", message, warning=True)
                raise NotSettled(message)
            self._clock.sleep(self._plan.poll_seconds)

    def _replay(self, seen: Observed, candidate: Revision) -> None:
        """Raises: Rejected."""
        if not self.clips:
            self._report.tell("RolloutStepPassed", f"{candidate.name} answers; no clips to replay")
            return
        state, stable = self.lease.state, None
        if seen.candidate and seen.stable:
            stable = Asked(seen.stable, state.stable_digest)
        mine = Asked(candidate, state.candidate.digest)
        found = replay(self._answers, self.clips, mine, stable, self.lease.look)
        verdict = judge_replay(self._plan.replay, found)
        if verdict.outcome == "fail":
            raise Rejected(verdict.reason)
        self._report.tell("RolloutStepPassed", verdict.reason, percent=self.lease.state.percent)

    def _bake(self, percent: int) -> None:
        """Measure until the bake is over and the last measurement passed.

        Raises:
            Rejected: too many measurements failed, or proved nothing.
        """
        began = self._clock.steady()
        failures = inconclusive = 0
        self._report.tell("RolloutStepStarted", f"{percent} % to the candidate", percent=percent)
        while True:
            self._rest(min(self._plan.interval_seconds, self._plan.bake_seconds))
            found = self._measure(self._clock.steady() - began)
            over = self._clock.steady() - began >= self._plan.bake_seconds
            if found.outcome == "pass" and over:
                self._report.tell(
                    "RolloutStepPassed", f"{percent} %: {found.reason}", percent=percent
                )
                return
            if found.outcome == "fail":
                failures += 1
                message = f"{percent} %: {found.reason}"
                self._report.tell(
                    "RolloutMeasurementFailed", message, warning=True, percent=percent
                )
            if found.outcome == "inconclusive" and over:
                inconclusive += 1
            if failures > self._plan.failure_limit:
                raise Rejected(f"at {percent} %: {found.reason}")
            if inconclusive > self._plan.inconclusive_limit:
                raise Rejected(f"inconclusive at {percent} %: {found.reason}")

    def _rest(self, seconds: float) -> None:
        """Wait, and go on telling that the rollout lives."""
        until = self._clock.steady() + seconds
        while (left := until - self._clock.steady()) > 0:
            self._clock.sleep(min(left, self._plan.poll_seconds))
            self.lease.look()

    def _measure(self, seconds: float) -> Judgement:
        """Of the time since the shares took effect.

        Raises:
            Rejected: the candidate failed for good, or another revision took its place.
        """
        seen, state = self.lease.look(), self.lease.state
        if seen.settled and seen.candidate:
            self._refuse_another(seen.candidate)
            if seen.candidate.failure:
                raise Rejected(f"{seen.candidate.name}: {seen.candidate.failure}")
        # One that ended may count no requests: its meter stands still, while users meet errors.
        if seen.settled and (missing := self._missing(seen, seen.candidate, state.percent)):
            return Judgement("fail", missing)
        try:
            mine = self._meter.measure(state.revision, seconds)
            theirs = self._meter.measure(state.stable, seconds)
        except Unavailable as error:
            return Judgement("inconclusive", f"nothing can be measured: {error}")
        # A stable revision that is broken must not keep its cure away.
        dead = not theirs.requests and not state.stable_digest
        found = judge(self._plan, None if dead else theirs, mine)
        if not mine.requests and seen.candidate and seen.candidate.caveat:
            found = replace(found, reason=f"{found.reason}; {seen.candidate.caveat}")
        if found.outcome == "pass" and not seen.settled:
            return Judgement("inconclusive", "the controller is at work on the service")
        return found


def _shares(percents: dict[str, int]) -> str:
    return ", ".join(f"{percent} % to {name}" for name, percent in percents.items())
