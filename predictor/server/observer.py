"""What the server tells whoever measures it; ``predictor.server.metrics`` listens."""

from typing import Protocol

from predictor.engine.types import StageTimes

OK = ""
CANCELLED = "cancelled"
"""Beside the reasons of errors, what may become of a request."""


class Observer(Protocol):
    """Called in the event loop; must be quick."""

    def on_transcribed(self, times: StageTimes, audio_seconds: float) -> None:
        """A request's audio has been transcribed; ``times`` are the sums over its items."""

    def on_request(self, protocol: str, reason: str, seconds: float) -> None:
        """A request that began ``seconds`` ago has its answer, or will never have one.

        Args:
            protocol: ``rest_v1``, ``rest_v2`` or ``grpc_v2``.
            reason: of a ``SpeechError``, or ``OK`` or ``CANCELLED``.
            seconds: since it began.
        """
