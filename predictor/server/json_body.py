"""JSON bodies with megabytes of base64 in them, read without stopping the rest of the server.

A JSON parser holds the interpreter's lock until it is done: most of a second for 100 MiB of base64,
in which no probe is answered, whatever thread it runs in. So long strings are lifted out of the text
first, which costs a search for their quotes, and stay where they are as views of the body.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from predictor.engine.errors import AudioTooLarge, InvalidRequest

Text: TypeAlias = str | memoryview
"""A JSON string: as it is, or the ASCII bytes of a long one that was lifted out."""

LONG_BYTES = 64 * 1024
"""Strings from here on are lifted out."""

MAX_QUOTES = 20_000
"""Quotes looked at: a body with more of them in front of a long string is not worth the search."""

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
    done = 0
    quotes = _quotes(body)
    for opening, closing in zip(quotes, quotes, strict=False):
        # A string with escapes is not base64 as we take it; the JSON parser reads it.
        if closing - opening > LONG_BYTES and body.find(b"\\", opening, closing) < 0:
            name = f"\x00{len(lifted)}"
            lifted[name] = view[opening + 1 : closing]
            kept += (view[done:opening], orjson.dumps(name))
            done = closing + 1
    kept.append(view[done:])
    return b"".join(kept), lifted


def _quotes(body: bytes) -> Iterator[int]:
    """Indexes of the quotes that no backslash escapes, as far as they are worth looking for."""
    quote = -1
    for _ in range(MAX_QUOTES):
        quote = body.find(b'"', quote + 1)
        before = body[max(0, quote - MAX_BACKSLASHES) : max(0, quote)]
        n_backslashes = len(before) - len(before.rstrip(b"\\"))
        if quote < 0 or n_backslashes == MAX_BACKSLASHES:
            return
        if n_backslashes % 2 == 0:
            yield quote
