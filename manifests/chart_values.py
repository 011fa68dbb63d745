"""What can be set in the Helm chart: a value, and the places in the manifests that it goes to."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from manifests.chart_tree import ABSENT
from manifests.render import Object

MORE = "+"
"""The end of a pointer to entries that a map may have beside its own."""


@dataclass(frozen=True)
class Place:
    """Fields of objects.

    Args:
        objects: shell pattern of ``Kind/name``.
        pointer: JSON pointer; ``name=sensevoice`` is the item of a list whose field is so, ``*`` any key
            or item, a ``+`` at the end more entries of a map. Empty: whether the object is made.
        pattern: regular expression; its first group is what is replaced in the field's text. None: the
            whole field.
        create: the field is also set where the manifests do not have it.
        prefix: begins the part of the text. Where the manifests' does not begin so, the value, set, takes
            the place of what is there.
        text: the field is a string, whatever the value is.
        omit: a value that leaves the field out.
    """

    objects: str
    pointer: str
    pattern: str | None = None
    create: bool = False
    prefix: str = ""
    text: bool = False
    omit: str | None = None

    def fields(self, each: Object, name: str) -> Iterator[tuple[Any, Any]]:
        """Containers and the key or index in them, where this place is in an object of a name."""
        if self.pointer and fnmatchcase(f"{each['kind']}/{name}", self.objects):
            *way, last = (
                part.replace("~1", "/").replace("~0", "~") for part in self.pointer.split("/")[1:]
            )
            yield from _walk(each, way, last, self.create)


def _walk(container: Any, way: list[str], last: str, create: bool) -> Iterator[tuple[Any, Any]]:
    if way:
        for key in _keys(container, way[0]):
            yield from _walk(container[key], way[1:], last, create)
        return
    keys = _keys(container, last)
    if not keys and isinstance(container, dict) and (create or last == MORE):
        keys = [last]
    for key in keys:
        yield container, key


def _keys(container: Any, part: str) -> list[Any]:
    if isinstance(container, dict):
        return list(container) if part == "*" else [part] if part in container else []
    if not isinstance(container, list):
        return []
    if part == "*":
        return list(range(len(container)))
    name, _, wanted = part.partition("=")
    return [
        index
        for index, item in enumerate(container)
        if isinstance(item, dict) and str(item.get(name)) == wanted
    ]


@dataclass(frozen=True)
class Value:
    """A value of the chart.

    Args:
        path: where it is in values.yaml, with dots.
        description: one or two sentences.
        schema: JSON schema (draft 7) of it where it is set; ``examples`` holds one that is no default.
        places: what it sets.
    """

    path: str
    description: str
    schema: Mapping[str, Any]
    places: tuple[Place, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for a value that goes into texts and could break out of them."""
        safe = self.kind in ("integer", "number", "boolean") or {"pattern", "enum"} & set(
            self.schema
        )
        if any(place.pattern is not None for place in self.places) and not safe:
            raise ValueError(f"{self.path} goes into texts: its schema needs a pattern")

    @property
    def kind(self) -> str:
        """Its JSON type."""
        return str(self.schema["type"])

    @property
    def unset(self) -> Any:
        """What stands in values.yaml where it has no default of its own."""
        return {"string": "", "array": [], "object": {}}.get(self.kind)

    @property
    def sample(self) -> Any:
        """One that is no default."""
        return self.schema["examples"][0]


def spans(place: Place, text: Any) -> list[tuple[int, int]]:
    """Where in a field's text a place with a pattern is."""
    if place.pattern is None or not isinstance(text, str):
        return []
    return [match.span(1) for match in re.finditer(place.pattern, text, re.MULTILINE)]


def literal(value: Value, found: Any) -> Any:
    """What the manifests say, in the value's own type: settings are numbers, but texts in a ConfigMap.

    Raises:
        ValueError: the text is no such number.
    """
    if not isinstance(found, str) or found is ABSENT or not found:
        return found
    if value.kind == "boolean":
        return {"true": True, "false": False}[found.lower()]
    if value.kind in ("integer", "number"):
        number = float(found)
        return int(number) if number.is_integer() else number
    return found
