"""Names of generated ConfigMaps, which end in a digest of their data: the chart computes them too."""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from manifests.chart_slots import MARKED, Include, mark, unmarked
from manifests.chart_tree import ABSENT
from manifests.render import Object

NAME_TEMPLATE = "sensevoice.name."

HELPERS = """\
{{- /* A generated ConfigMap's name with the digest of its data, as kustomize makes it: changed data makes
new pods. Takes a dict of name and data. */ -}}
{{- define "sensevoice.hashed" -}}
{{- $digest := toJson (dict "kind" "ConfigMap" "name" "" "data" .data) | sha256sum | trunc 10 -}}
{{- $digest = $digest | replace "0" "g" | replace "1" "h" | replace "3" "k" | replace "a" "m" -}}
{{- printf "%s-%s" .name ($digest | replace "e" "t") -}}
{{- end }}
"""


def digest(data: Any) -> str:
    """kustomize's digest of a ConfigMap: part of the SHA-256 of its JSON, in letters that make no words.

    kustomize means the name to count, but looks for it where it is not.
    """
    content = json.dumps(
        {"data": data, "kind": "ConfigMap", "name": ""},
        sort_keys=True,
        separators=(",", ":"),
        ensure_ascii=False,
    )
    # As Go writes JSON.
    for character in "<>&\u2028\u2029":
        content = content.replace(character, f"\\u{ord(character):04x}")
    hexadecimal = hashlib.sha256(content.encode()).hexdigest()[:10]
    return hexadecimal.translate(str.maketrans("013ae", "ghkmt"))


def generated(objects: Iterable[Object]) -> dict[str, str]:
    """Full name → name without the digest, of the generated ConfigMaps."""
    found: dict[str, str] = {}
    for each in objects:
        if each["kind"] == "ConfigMap":
            stem, _, end = each["metadata"]["name"].rpartition("-")
            if stem and end == digest(each.get("data", "")):
                found[each["metadata"]["name"]] = stem
    return found


def data_template(name: str) -> str:
    """The named template of a generated ConfigMap's data."""
    return f"sensevoice.data.{name}"


def name_template(name: str) -> str:
    """The named template of a generated ConfigMap's name."""
    return NAME_TEMPLATE + name


def definition(name: str) -> str:
    """The named template of a generated ConfigMap's name, from that of its data."""
    data = f'include "{data_template(name)}" . | fromYaml'
    return (
        f'{{{{- define "{name_template(name)}" -}}}}\n'
        f'{{{{- include "sensevoice.hashed" (dict "name" "{name}" "data" ({data})) -}}}}\n'
        "{{- end }}\n"
    )


def named(objects: Iterable[Object]) -> list[Object]:
    """The objects with templates for the generated names, wherever they are."""
    listed = list(objects)
    marks = {
        full: mark(f'{{{{ include "{name_template(stem)}" . }}}}')
        for full, stem in generated(listed).items()
    }
    return [_replaced(each, marks) for each in listed]


def stem(each: Object) -> str:
    """An object's name, without the digest if it is a generated one."""
    name = str(each["metadata"]["name"])
    return _generated_stem(name) or name


def split(each: Object) -> tuple[Object, Any]:
    """A generated ConfigMap, its data a template, and the data; ABSENT for other objects."""
    name = _generated_stem(str(each["metadata"]["name"]))
    if not name:
        return each, ABSENT
    return {**each, "data": Include(data_template(name))}, each["data"]


def _generated_stem(name: str) -> str:
    marked = MARKED.fullmatch(name)
    _, _, rest = unmarked(marked[1]).partition(NAME_TEMPLATE) if marked else ("", "", "")
    return rest.partition('"')[0]


def _replaced(value: Any, marks: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _replaced(each, marks) for key, each in value.items()}
    if isinstance(value, list):
        return [_replaced(each, marks) for each in value]
    return marks.get(value, value) if isinstance(value, str) else value
