"""What a rollout writes down on the service: enough for another process to finish it."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pipelines.rollout.target import ServedModel


class Candidate(BaseModel):
    """A registered version and where it is; see :class:`~pipelines.rollout.target.ServedModel`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    storage_uri: str
    digest: str
    image: str | None = None


class RolloutState(BaseModel):
    """
    Attributes:
        rollout: its id.
        owner: the process that drives it.
        heartbeat: when the owner last wrote, in seconds since 1970; 0: it let go of the rollout.
        lease: seconds after which an owner that has not written is dead.
        candidate: what is rolled out.
        phase: ``stopped``: someone else changed the service.
        percent: the candidate's share that was written together with this; None: all of it.
        reason: why it is rolled back, was rejected, or stopped.
        stable, stable_digest: the revision that served before, and its model's digest; empty where
            nothing served, or did not say.
        stable_image: the image that the specification named before; None where it named none.
        revision: the candidate's revision, once its answers were verified.
        fingerprint: of the specification with the candidate in it; empty until the write after the
            one that put it there.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rollout: str
    owner: str
    heartbeat: float
    lease: float
    candidate: Candidate
    phase: Literal["rolling", "promoting", "rolling_back", "promoted", "rejected", "stopped"]
    percent: int | None
    reason: str = ""
    stable: str = ""
    stable_digest: str = ""
    stable_image: str | None = None
    revision: str = ""
    fingerprint: str = ""

    @property
    def finished(self) -> bool:
        return self.phase in {"promoted", "rejected", "stopped"}

    @property
    def model(self) -> ServedModel:
        """As written into the specification."""
        one = self.candidate
        return ServedModel(one.storage_uri, one.digest, one.image or self.stable_image)

    def alive(self, now: float) -> bool:
        # A heartbeat far in the future is that of a clock which is wrong, and would never end.
        return abs(now - self.heartbeat) <= self.lease


class InvalidState(ValueError):
    """The service carries a rollout's state that nobody can read."""


def read_state(service: str, text: str | None) -> RolloutState | None:
    """
    Raises:
        InvalidState: not written by a rollout of this kind.
    """
    if text is None:
        return None
    try:
        return RolloutState.model_validate_json(text)
    except ValidationError as error:
        raise InvalidState(
            f"{service}: the state of a former rollout cannot be read ({error.errors()[0]['msg']}); see "
            "that no other release of this project is rolling out, remove it, and try again"
        ) from error
