"""JSON bodies with megabytes of base64 in them, read without stopping the rest of the server.

A JSON parser holds the interpreter's lock until it is done: most of a second for 100 MiB of base64,
in which no probe is answered, whatever thread it runs in. So long strings are lifted out of the text
first, which costs a search for their quotes, and stay where they are as views of the body.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from predictor.engine.errors import AudioTooLarge, InvalidRequest

Text: TypeAlias = str | memoryview
"""A JSON string: as it is, or the ASCII bytes of a long one that was lifted out."""

LONG_BYTES = 64 * 1024
"""Strings from here on are lifted out."""

MAX_STRINGS = 10_000
"""Strings looked at; a body of more has no long ones worth the search."""

MAX_BACKSLASHES = 64
"""Longest run of backslashes followed."""

MAX_REST_BYTES = 8 * 1024 * 1024
"""Most JSON left after lifting: about a twentieth of a second of parsing."""


@dataclass(frozen=True, slots=True)
class JsonBody:
    """A parsed body. ``value`` holds a short stand-in for each string in ``lifted``."""

    value: Any
    lifted: dict[str, memoryview] = field(default_factory=dict)

    def text(self, string: str) -> Text:
        """The string that ``string``, found in ``value``, is or stands for."""
        return self.lifted.get(string, string)


def parse_json(body: bytes) -> JsonBody:
    """Parse a request's body.

    Raises:
        InvalidRequest: it is not JSON.
        AudioTooLarge: it holds too many numbers to parse in one go.
    """
    rest, lifted = _lift(body) if len(body) >= LONG_BYTES else (body, {})
    if len(rest) > MAX_REST_BYTES:
        raise AudioTooLarge(
            f"body: {len(rest)} bytes of JSON beside base64 strings, the limit is "
            f"{MAX_REST_BYTES} bytes; send tensors of numbers as binary data"
        )
    try:
        return JsonBody(orjson.loads(rest), lifted)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"body: not valid JSON: {error.msg}") from None


def _lift(body: bytes) -> tuple[bytes, dict[str, memoryview]]:
    view = memoryview(body)
    kept: list[bytes | memoryview] = []
    lifted: dict[str, memoryview] = {}
    done = position = 0
    for _ in range(MAX_STRINGS):
        opening = body.find(b'"', position)
        closing = _closing_quote(body, opening + 1) if opening >= 0 else -1
        if closing < 0:
            break
        position = closing + 1
        # A string with escapes is not base64 as we take it; the JSON parser reads it.
        if closing - opening > LONG_BYTES and body.find(b"\\", opening, closing) < 0:
            name = f"\x00{len(lifted)}"
            lifted[name] = view[opening + 1 : closing]
            kept += (view[done:opening], orjson.dumps(name))
            done = position
    kept.append(view[done:])
    return b"".join(kept), lifted


def _closing_quote(body: bytes, start: int) -> int:
    """Index of the first quote from ``start`` on that no backslash escapes; -1 where there is none,
    or none that is worth looking for."""
    while (quote := body.find(b'"', start)) >= 0:
        before = body[max(start, quote - MAX_BACKSLASHES) : quote]
        n_backslashes = len(before) - len(before.rstrip(b"\\"))
        if n_backslashes == MAX_BACKSLASHES:
            return -1
        if n_backslashes % 2 == 0:
            return quote
        start = quote + 1
    return -1
