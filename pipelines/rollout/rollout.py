"""A candidate's way to all users, or back: acquire → 0 % and replay → steps → promote, or roll back.

The state is on the service, in the same write as the share it speaks of. So a rollout that was killed is
finished by the next run with the same candidate, from the step that it was in; a run with another
candidate first finishes a dead one, by rolling it back unless its promotion was decided. Whoever ends
otherwise leaves the users on a revision that was verified: the stable one has at least its share, and
the candidate no more than it had earned. Whoever ends with an error, or is told to end, first gives all
users of a candidate that is half judged back to the stable revision, and lets go: the next run with it
begins at 0 %, at once. The exception's notes, an event and the report say who serves the users then, and
how to finish it, also where nothing could be written any more.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipelines.rollout.answers import Answers
from pipelines.rollout.attempt import Attempt, Outcome
from pipelines.rollout.patience import Clock
from pipelines.rollout.plan import Plan
from pipelines.rollout.replay import Clip
from pipelines.rollout.report import Report
from pipelines.rollout.state import Candidate
from pipelines.rollout.target import Registry, Target, TrafficMeter

__all__ = ["Outcome", "abandon", "roll_out", "rollback"]


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
    with _attempt(target, meter, registry, plan, clips, report, clock) as attempt:
        return attempt.roll_out(candidate)


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
    version: str | None,
    plan: Plan,
    *,
    report: Path | None = None,
    clock: Clock | None = None,
) -> Outcome | None:
    """Finish what a dead rollout of ``version`` left: rolled back, or promoted where that was decided.

    For the exit handler of a pipeline. Waits until the dead rollout's lease has run out.

    Args:
        version: None: whichever it is, unless it still lives after one lease.

    Returns:
        None where no rollout of the version is unfinished.

    Raises:
        See :func:`roll_out`.
    """
    with _attempt(target, meter, registry, plan, (), report, clock) as attempt:
        return attempt.abandon(version)


@contextmanager
def _attempt(
    target: Target,
    meter: TrafficMeter,
    registry: Registry,
    plan: Plan,
    clips: Sequence[Clip],
    report: Path | None,
    clock: Clock | None,
) -> Iterator[Attempt]:
    clock = clock or Clock()
    answers = Answers(plan.model_name, plan.request_timeout_seconds)
    lines = Report(target, clock.now, report)
    try:
        yield Attempt(target, meter, registry, plan, clips, clock, lines, answers)
    finally:
        answers.close()
