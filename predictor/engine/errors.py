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
        retry_after_seconds: when to come back; None where coming back changes nothing.
    """

    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    reason: ClassVar[str] = "internal"
    retry_after_seconds: int | None = None

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
    """More is waiting than is let in."""

    http_status = 429
    grpc_code = "RESOURCE_EXHAUSTED"
    reason = "overloaded"

    def __init__(self, message: str, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OutOfMemory(SpeechError):
    """The memory for a batch of clips could not be had; fewer clips may fit, or the same ones later."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    reason = "out_of_memory"


class DeviceLost(SpeechError):
    """The GPU answers this process no more, whatever it is asked; only a new process can use it."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    reason = "device_lost"


class InvalidModel(SpeechError):
    """A model directory is incomplete, damaged or of another architecture."""

    reason = "invalid_model"
