"""How a rollout goes about it: steps, patience, and the bounds that a candidate is held to."""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Percent = Annotated[int, Field(ge=0, le=100)]


class InvalidPlan(ValueError):
    """Names the file, the field and what is wrong with it."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TagFlips(_Section):
    """Largest shares of the clips whose tag differs from the stable revision's. The defaults let a
    retrained model change its mind on what is hard, and stop one that lost a head."""

    language: Share = 0.05
    """Largest share of the clips whose language differs from the stable revision's."""

    emotion: Share = 0.25
    """The same for emotion, of which a retrained model may change its mind."""

    event: Share = 0.1
    """The same for the event."""


class ReplayBounds(_Section):
    """What the candidate's answers to evaluation clips are held to before any user reaches it."""

    clips: Annotated[int, Field(ge=1)] = 40
    """Clips to replay, spread evenly over the evaluation set."""

    max_errors: Count = 0
    """Clips that the candidate may fail to answer."""

    max_tag_flips: TagFlips = TagFlips()
    """Largest shares of tags that differ from the stable revision's."""

    max_changed_texts: Share = 0.5
    """Largest share of clips whose normalised text differs from the stable revision's. Texts that
    changed for the better count too: ``max_cer`` tells the two apart."""

    max_cer: Annotated[float, Field(ge=0)] = 0.3
    """Largest character error rate against the clips' labels, where they have any. All languages
    together, without spaces, punctuation and case: a net for damaged weights, not a benchmark."""

    max_latency_ratio: Annotated[float, Field(gt=0)] = 1.7
    """Largest median, over the clips, of the candidate's seconds divided by the stable revision's."""


class Plan(_Section):
    """A rollout's steps and bounds. Measurements reach back to when a step's shares took effect."""

    steps: tuple[Percent, ...] = (0, 5, 25, 50, 100)
    """The candidate's share of the users' traffic, in percent, rising; 0 replays clips, 100 promotes."""

    bake_seconds: Seconds = 300
    """Shortest time at each step between 0 and 100 %."""

    interval_seconds: Seconds = 15
    """Between two measurements."""

    failure_limit: Count = 1
    """Failed measurements in one step that are forgiven: one more, and the candidate is rolled back."""

    inconclusive_limit: Count = 20
    """Measurements after a step's bake that may be neither passed nor failed, each prolonging the step;
    one more, and the candidate is rolled back as not proven."""

    min_requests: Count = 30
    """Requests that a revision must have answered to be judged. 0 judges by whatever there is, and goes
    by the replay alone where there are no users."""

    max_error_rate: Share = 0.01
    """Largest share of the candidate's answers that are errors (status 5xx, or no answer)."""

    max_error_rate_increase: Share = 0.005
    """Largest error rate beyond the stable revision's in the same time."""

    max_p95_ratio: Annotated[float, Field(gt=0)] = 1.5
    """Largest 95th percentile of latency, divided by the stable revision's in the same time."""

    max_p99_ratio: Annotated[float, Field(gt=0)] = 2.0
    """The same for the 99th percentile."""

    ready_timeout_seconds: Seconds = 900
    """Longest time for a change to take effect: pods started, shares moved, the right answers given.
    Beyond Knative's own progress deadline of 600 s, so that its reason is told rather than ours."""

    unavailable_timeout_seconds: Seconds = 120
    """Longest time that the service's keeper may be out of reach; beyond it the rollout ends and can be
    run again."""

    request_timeout_seconds: Seconds = 60
    """Longest time for one answer of a revision, a start from zero included."""

    lease_seconds: Seconds = 120
    """A rollout that has not written down that it lives for so long is dead, and may be taken over. To
    be far longer than the clocks of two machines differ, and twice ``request_timeout_seconds``: a
    rollout that awaits an answer writes nothing."""

    poll_seconds: Seconds = 2
    """Between two looks at the service."""

    model_name: Annotated[str, Field(min_length=1)] = "sensevoice"
    """The model's name in the predictor's URLs."""

    replay: ReplayBounds = ReplayBounds()
    """Bounds of the replay at 0 %."""

    @model_validator(mode="after")
    def _rises_from_0_to_100(self) -> Self:
        if list(self.steps) != sorted(set(self.steps)) or {0, 100} - set(self.steps):
            raise ValueError(f"steps must rise from 0 to 100, not {list(self.steps)}")
        return self

    def at_once(self) -> "Plan":
        """From 0 % to all in one step."""
        return self.model_copy(update={"steps": (0, 100)})


def make_plan(changes: Mapping[str, Any]) -> Plan:
    """A plan of what it names, and defaults.

    Raises:
        InvalidPlan: an unknown field, or one out of its range.
    """
    try:
        return Plan.model_validate(dict(changes))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, ("plan", *problem["loc"])))
        raise InvalidPlan(f"{where}: {problem['msg']}") from error
