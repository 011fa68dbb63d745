"""What the server itself can answer beside the engine's errors, and how any exception becomes one."""

import logging
import re
import reprlib
import traceback

from predictor.engine.errors import AudioTooLarge, InvalidRequest, Overloaded, SpeechError
from predictor.server.sdk import InvalidInput, ModelNotFound, ModelNotReady

logger = logging.getLogger("kserve.predictor")


MAX_QUOTE = 40
MAX_SENTENCE = 400
"""Characters."""

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
"""Characters that would break a line, or a terminal that shows it."""

LONG_WORD = re.compile(rf"(\S{{{MAX_QUOTE}}})\S{{{MAX_QUOTE},}}")


class UnknownModel(SpeechError):
    """No model of this name, or no such version of it."""

    http_status = 404
    grpc_code = "NOT_FOUND"
    reason = "unknown_model"


class NotReady(SpeechError):
    """The model is still loading, or the server is stopping."""

    http_status = 503
    grpc_code = "UNAVAILABLE"
    reason = "not_ready"
    retry_after_seconds = 1


class Stalled(InvalidRequest):
    """A body that has begun and does not go on."""

    http_status = 408
    grpc_code = "DEADLINE_EXCEEDED"
    reason = "stalled"


class InternalError(SpeechError):
    """Something failed that should not have; the log knows more than the answer."""


def quoted(value: object) -> str:
    """A client's own word in an error, cut short: it may be audio in the wrong place."""
    # Of a list with a million elements, too, no more is written than is shown.
    text = repr(value[: MAX_QUOTE + 1]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= MAX_QUOTE else f"{text[:MAX_QUOTE]}..."


def sentence(error: SpeechError) -> str:
    """What an answer says of an error, in one line, however much a client made it quote."""
    return LONG_WORD.sub(r"\1...", CONTROL.sub(" ", error.message))[:MAX_SENTENCE]


def answer_headers(error: SpeechError) -> dict[str, str]:
    """Headers that a REST answer with this error has."""
    headers: dict[str, str] = {}
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    if isinstance(error, AudioTooLarge | Overloaded | Stalled):
        # The rest of the body may still be on its way, and nobody will read it.
        headers["connection"] = "close"
    return headers


def as_speech_error(error: Exception, request_id: str) -> SpeechError:
    """The error to answer with. One that nobody foresaw is logged here, once.

    Its message is neither answered nor logged: it may quote the input.
    """
    if isinstance(error, SpeechError):
        return error
    if isinstance(error, InvalidInput):
        return InvalidRequest(str(error))
    if isinstance(error, ModelNotFound):
        return UnknownModel(str(error))
    if isinstance(error, ModelNotReady):
        return NotReady(str(error))
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("request %s failed: %s at\n%s", request_id, type(error).__name__, frames)
    return InternalError(f"internal error; the server's log tells more under request {request_id}")
