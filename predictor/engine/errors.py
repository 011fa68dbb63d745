"""What can go wrong, each with the HTTP status, gRPC code and metric label it answers with.

A message is one sentence that names the field and the limit. It never holds audio or file contents.
"""

from typing import ClassVar


class SpeechError(Exception):
    """Base of every error this library raises on purpose.

    Attributes:
        http_status: status of a REST answer.
        grpc_code: name of a member of ``grpc.StatusCode``.
        reason: short label for metrics and machine-readable answers.
    """

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "internal"

    @property
    def message(self) -> str:
        return str(self)


class InvalidRequest(SpeechError):
    """The request's form is wrong: a missing or mistyped field, tensor or parameter."""

    http_status = 400
    grpc_code = "INVALID_ARGUMENT"
    reason = "invalid_request"


class InvalidOption(InvalidRequest):
    """An option is unknown or has a value outside its range."""

    reason = "invalid_option"


class InvalidAudio(InvalidRequest):
    """The bytes are not audio, are damaged or truncated, or hold no samples."""

    reason = "invalid_audio"


class AudioTooLong(InvalidRequest):
    """The audio lasts longer than the limit."""

    reason = "audio_too_long"


class AudioTooLarge(InvalidRequest):
    """The audio has more bytes than the limit."""

    http_status = 413
    reason = "audio_too_large"


class Overloaded(SpeechError):
    """More is waiting than is let in; the client should come back after ``retry_after_seconds``."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    reason = "overloaded"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class InvalidModel(SpeechError):
    """A model directory is incomplete, damaged or of another architecture."""

    reason = "invalid_model"
