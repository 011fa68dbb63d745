"""What a local service tells a person."""

from pipelines.rollout.target import Refused


class LocalError(Refused):
    """The service's daemon refuses, or something else answers in its place."""
