"""Values and the release's namespace put into the objects of a build, in place of what was there."""

import copy
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.chart_names import stem
from manifests.chart_slots import Use, either, fragment, is_literal, mark
from manifests.chart_tree import ABSENT, World, canonical
from manifests.chart_values import Place, Value, literal, spans
from manifests.render import Object

NAMESPACE = "sensevoice"
"""The namespace of the manifests that becomes that of the release; others stay as they are."""

NAMESPACE_FIELDS = ("namespace", "namespaces", "kubernetes.io/metadata.name")
"""Keys of fields, and of terms of selectors, that hold a namespace."""

NAMESPACE_TEXTS = (
    re.compile(rf"(?<=[a-z0-9]\.){NAMESPACE}(?=:\d|\.svc\b|$)"),
    re.compile(rf'(?<=namespace="){NAMESPACE}(?=")'),
    re.compile(rf"(?<=--namespace=){NAMESPACE}$"),
    re.compile(rf"(?<=/var/log/pods/){NAMESPACE}(?=_)"),
)
"""A Service's address; a term of a query; a flag; the files of a node's logs."""


@dataclass
class _Text:
    """A field's text, and the templates that come in the place of parts of it."""

    container: Any
    key: Any
    templates: dict[tuple[int, int], str] = field(default_factory=dict)

    def replace(self) -> None:
        for (start, end), template in sorted(self.templates.items(), reverse=True):
            text = self.container[self.key]
            self.container[self.key] = text[:start] + mark(template) + text[end:]


class Injection:
    """Puts values into objects.

    Args:
        values: the chart's.
        builds: components of each build that the chart is made from → its objects.

    Raises:
        ValueError: a value has a place that no build has.
    """

    def __init__(self, values: Sequence[Value], builds: Mapping[World, Iterable[Object]]) -> None:
        self.values = values
        self.literals: dict[str, dict[str, tuple[Any, list[World]]]] = {
            value.path: {} for value in values
        }
        seen: set[Place] = set()
        for world, objects in builds.items():
            for each in objects:
                for value, place, container, key in self._fields(each):
                    for found in _found(place, container, key):
                        seen.add(place)
                        known = literal(value, found)
                        _, worlds = self.literals[value.path].setdefault(
                            canonical(known), (known, [])
                        )
                        if world not in worlds:
                            worlds.append(world)
        for value in values:
            for place in {place for place in value.places if place.pointer} - seen:
                raise ValueError(f"{value.path}: no build has {place}")

    def default(self, value: Value) -> Any:
        """What values.yaml has: what the manifests have, where all components leave it alone."""
        return (
            value.unset
            if self.optional(value)
            else next(iter(self.literals[value.path].values()))[0]
        )

    def choices(self, value: Value) -> dict[Any, list[World]]:
        """What the field is where the value is not set → the smallest builds that have it so."""
        return {
            known: [world for world in worlds if not any(other < world for other in worlds)]
            for known, worlds in self.literals[value.path].values()
            if isinstance(known, str | int | float) and known != ""
        }

    def optional(self, value: Value) -> bool:
        """Whether the value, unset, leaves the field to the components, or to the release's namespace."""
        literals = [known for known, _ in self.literals[value.path].values()]
        return (
            len(literals) != 1
            or not is_literal(literals[0])
            or any(pattern.search(str(literals[0])) for pattern in NAMESPACE_TEXTS)
        )

    def apply(self, each: Object) -> Object:
        """A copy of an object with slots and marks."""
        changed = copy.deepcopy(each)
        fields: list[tuple[Any, Any, Value, Place]] = []
        texts: dict[tuple[int, Any], _Text] = {}
        for value, place, container, key in list(self._fields(changed)):
            if place.pattern is None:
                fields.append((container, key, value, place))
                continue
            text = texts.setdefault((id(container), key), _Text(container, key))
            for start, end in spans(place, container[key]):
                text.templates[start, end] = self._within(
                    value, place, container[key][start:end], text.templates.get((start, end))
                )
        for container, key, start, end in _namespaces(changed):
            text = texts.setdefault((id(container), key), _Text(container, key))
            text.templates[start, end] = "{{ .Release.Namespace }}"
        for text in texts.values():
            text.replace()
        for container, key, value, place in fields:
            [found] = _found(place, container, key)
            as_text = place.text or isinstance(found, str)
            container[key] = Use(value, found, self.optional(value), as_text, place.omit)
        return changed

    def _within(self, value: Value, place: Place, was: str, other: str | None) -> str:
        """The template of a part of a text, from that of a value before it in the table, if any."""
        if was.startswith(place.prefix):
            plain = was.removeprefix(place.prefix)
            return place.prefix + fragment(value, plain, optional=self.optional(value))
        return either(value, place.prefix, was if other is None else other)

    def _fields(self, each: Object) -> Iterator[tuple[Value, Place, Any, Any]]:
        for value in self.values:
            for place in value.places:
                for container, key in place.fields(each, stem(each)):
                    yield value, place, container, key


def _found(place: Place, container: Any, key: Any) -> list[Any]:
    if place.pattern is None:
        return [container[key] if _has(container, key) else ABSENT]
    texts = (container[key][start:end] for start, end in spans(place, container[key]))
    return [
        text.removeprefix(place.prefix) if text.startswith(place.prefix) else "" for text in texts
    ]


def _has(container: Any, key: Any) -> bool:
    return key in container if isinstance(container, dict) else True


def _namespaces(each: Object) -> Iterator[tuple[Any, Any, int, int]]:
    if each["kind"] == "Namespace" and each["metadata"]["name"] == NAMESPACE:
        yield each["metadata"], "name", 0, len(NAMESPACE)
    yield from _namespace_texts(each, in_values=False)


def _namespace_texts(value: Any, *, in_values: bool) -> Iterator[tuple[Any, Any, int, int]]:
    """Where in an object the namespace is named; ``in_values``: in a selector's list of namespaces."""
    entries: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, Mapping) else enumerate(value)
    )
    for key, entry in entries:
        if isinstance(entry, str):
            if entry == NAMESPACE and (in_values or key in NAMESPACE_FIELDS):
                yield value, key, 0, len(entry)
            for pattern in NAMESPACE_TEXTS:
                for match in pattern.finditer(entry):
                    yield value, key, *match.span()
        elif isinstance(entry, dict | list):
            selects = isinstance(value, Mapping) and value.get("key") in NAMESPACE_FIELDS
            lists = key in NAMESPACE_FIELDS or (selects and key == "values")
            yield from _namespace_texts(entry, in_values=lists)
