"""What stands in an object where the chart computes something: slots for fields, marks within texts."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Any

from manifests.chart_tree import ABSENT, Slot
from manifests.chart_values import Value

MARKED = re.compile("\ue000([A-Za-z0-9_=-]*)\ue001")
"""A template within a text, encoded so that YAML needs to escape nothing of it."""


@dataclass(frozen=True)
class Use(Slot):
    """A field that a value sets.

    Args:
        value: the value.
        literal: what the manifests have there, ABSENT for nothing.
        optional: the value has no default of its own: unset, the field keeps the literal.
        text: the field is a string, whatever the value's type.
        omit: a value that leaves the field out.
    """

    value: Value
    literal: Any
    optional: bool
    text: bool
    omit: str | None

    def __repr__(self) -> str:
        """Short, and different for different slots: trees are compared by it."""
        return f"Use({self.value.path}, {json.dumps(self.literal, sort_keys=True, default=repr)})"


@dataclass(frozen=True)
class Include(Slot):
    """A map that is a named template, so that its digest can be a part of a name."""

    template: str


def mark(template: str) -> str:
    """A template as a part of a text."""
    return f"\ue000{urlsafe_b64encode(template.encode()).decode()}\ue001"


def unmarked(code: str) -> str:
    """The template that was marked."""
    return urlsafe_b64decode(code).decode()


def is_set(value: Value) -> str:
    """A template's expression: somebody gave the value. Empty strings, lists and maps are not given."""
    reference = f".Values.{value.path}"
    if value.kind in ("string", "array", "object"):
        return reference
    return f'not (kindIs "invalid" {reference})'


def scalar(value: Value, *, text: bool) -> str:
    """A template: the value as a YAML scalar.

    Large numbers pass through ``toJson``: Helm reads all as floats and prints them with exponents.
    """
    reference = f".Values.{value.path}"
    if value.kind == "string":
        return f"{{{{ {reference} | quote }}}}"
    return f"{{{{ toJson {reference}{' | quote' if text else ''} }}}}"


def fragment(value: Value, literal: str, *, optional: bool) -> str:
    """A template: the value within a longer text; unset, the literal.

    Args:
        literal: what the manifests have there.
        optional: the value may be unset.
    """
    if not optional:
        return within(value)
    if value.kind == "string":
        return f"{{{{ .Values.{value.path} | default {json.dumps(literal)} }}}}"
    return either(value, "", literal)


def either(value: Value, prefix: str, otherwise: str) -> str:
    """A template: the value after a prefix where it is set, else another template."""
    return (
        f"{{{{ if {is_set(value)} }}}}{prefix}{within(value)}{{{{ else }}}}{otherwise}{{{{ end }}}}"
    )


def within(value: Value) -> str:
    """A template: the value within a longer text."""
    reference = f".Values.{value.path}"
    return f"{{{{ {reference if value.kind == 'string' else f'toJson {reference}'} }}}}"


def is_literal(literal: Any) -> bool:
    """Whether there is something that can be a default."""
    return literal is not ABSENT and literal != ""
