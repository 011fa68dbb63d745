"""JSON schemas of the chart's values, each with an example that is no default."""

from typing import Any

QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|[KMGTP]i?|k)?$"
HOST = r"^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?$"
NAME = r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"
URL = r"^https?://[^\s\"\\]+$"
DURATION = r"^([0-9]+(h|m|s))+$"


def text(pattern: str, example: str) -> dict[str, Any]:
    """A string, as a pattern describes it."""
    return {"type": "string", "pattern": pattern, "examples": [example]}


def integer(minimum: int, example: int) -> dict[str, Any]:
    """An integer, at least the minimum."""
    return {"type": "integer", "minimum": minimum, "examples": [example]}


def strings(example: dict[str, str]) -> dict[str, Any]:
    """A map of strings."""
    return {"type": "object", "additionalProperties": {"type": "string"}, "examples": [example]}


def items(each: dict[str, Any], example: list[Any]) -> dict[str, Any]:
    """A list."""
    return {"type": "array", "items": each, "examples": [example]}
