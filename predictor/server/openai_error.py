"""Errors in the form of OpenAI's API, with the words of every other protocol."""

import re
from typing import Any

import orjson
from fastapi import Response

from predictor.engine.errors import InvalidRequest, Overloaded, SpeechError
from predictor.server.errors import UnknownModel, answer_headers, sentence

PARAMETER = re.compile(r"(?:option )?'?([a-z_]+)'?: ")
"""What a message begins with: the field it is about."""

FILE_WORDS = ("audio", "waveform")
"""What the engine calls the form's file."""


def error_value(error: SpeechError) -> dict[str, Any]:
    """``{"message", "type", "param", "code"}``. ``code`` is the reason that metrics count it under, but
    for a wrong model, which clients know as ``model_not_found``."""
    return {
        "message": sentence(error),
        "type": _kind(error),
        "param": _parameter(error),
        "code": "model_not_found" if isinstance(error, UnknownModel) else error.reason,
    }


def error_response(error: SpeechError, request_id: str) -> Response:
    """The whole answer."""
    return Response(
        orjson.dumps({"error": error_value(error)}),
        error.http_status,
        {**answer_headers(error), "x-request-id": request_id},
        media_type="application/json",
    )


def _kind(error: SpeechError) -> str:
    if isinstance(error, Overloaded):
        return "rate_limit_error"
    return "server_error" if error.http_status >= 500 else "invalid_request_error"


def _parameter(error: SpeechError) -> str | None:
    if isinstance(error, UnknownModel):
        return "model"
    match = PARAMETER.match(error.message) if isinstance(error, InvalidRequest) else None
    if match is None or match[1] == "body":
        return None
    return "file" if match[1] in FILE_WORDS else match[1]
