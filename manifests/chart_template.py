"""A tree of conditions as the text of a Helm template."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from manifests.chart_slots import MARKED, Include, Use, is_set, scalar, unmarked
from manifests.chart_tree import ABSENT, Branch, Leaf, Node, Rule, World
from manifests.chart_values import MORE

Lines = list[str]

PLAIN = re.compile(r"[A-Za-z/][\w ./:@=-]+")
"""Strings that need no quotes, whoever reads them, unless PyYAML thinks otherwise."""

CONTROL = re.compile(r"\s*\{\{- (if|else|end)\b")


class _Dumper(yaml.SafeDumper):
    """Blocks for texts of several lines, quotes for what some reader may take for a number."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # Of several line ends at its end, a template's whitespace control would leave one.
    block = "\n" in text and not text.endswith("\n\n") and text == text.lstrip()
    style = "|" if block else None if PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _represent_text)


def enabled(component: str) -> str:
    """The switch of a component: its name in camel case, as values are named."""
    return f".Values.{camel(component)}.enabled"


def camel(name: str) -> str:
    """A component's name as values are named: scaleToZero."""
    head, *tail = name.split("-")
    return head + "".join(map(str.capitalize, tail))


def condition(conditions: Sequence[World], order: Sequence[str]) -> str:
    """A template's expression: one of the sets of components is on. Empty: always."""
    if World() in conditions:
        return ""
    each = [
        _call("and", [enabled(name) for name in sorted(world, key=order.index)])
        for world in sorted(conditions, key=lambda world: sorted(map(order.index, world)))
    ]
    return _call("or", each)


def presence(rules: Sequence[Rule], order: Sequence[str]) -> str | None:
    """A template's expression: the thing is there. Empty: always; None: never."""
    if not rules:
        return None
    rule, *others = rules
    here = condition(rule.conditions, order)
    there = rule.value is not ABSENT
    if not here:
        return "" if there else None
    rest = presence(others, order)
    if there:
        return "" if rest == "" else here if rest is None else _call("or", [here, rest])
    if rest is None:
        return None
    return _call("and", [f"not {_nested(here)}", rest] if rest else [f"not {_nested(here)}"])


def _call(function: str, arguments: Sequence[str]) -> str:
    if len(arguments) == 1:
        return arguments[0]
    return " ".join([function, *map(_nested, arguments)])


def _nested(call: str) -> str:
    return f"({call})" if " " in call else call


def choice(alternatives: Sequence[tuple[str, Lines]], indent: int) -> Lines:
    """The lines of the first alternative whose condition holds; no condition always holds."""
    first, *others = alternatives
    if not first[0]:
        return first[1]
    if not first[1] and len(others) == 1 and not others[0][0]:
        return choice([(f"not {_nested(first[0])}", others[0][1])], indent)
    margin = " " * indent
    lines = [f"{margin}{{{{- if {first[0]} }}}}", *first[1]]
    for test, body in others:
        if test:
            lines += [f"{margin}{{{{- else if {test} }}}}", *body]
        else:
            lines += [f"{margin}{{{{- else }}}}", *body] if body else []
            break
    return [*lines, f"{margin}{{{{- end }}}}"]


def joined(blocks: Iterable[Lines]) -> Lines:
    """The lines of entries; neighbours under the same single condition share it."""
    lines: Lines = []
    shared = ""
    for block in blocks:
        margin = block[0][: len(block[0]) - len(block[0].lstrip())] if block else ""
        single = (
            bool(block)
            and block[0].startswith(f"{margin}{{{{- if ")
            and not any(line.startswith(f"{margin}{{{{- else") for line in block)
        )
        if single and block[0] == shared:
            lines[-1:] = block[1:]
        else:
            lines += block
        shared = block[0] if single else ""
    return lines


class Writer:
    """Writes trees; ``order`` is that of the components."""

    def __init__(self, order: Sequence[str]) -> None:
        self.order = order

    def entry(self, key: str, node: Node, indent: int) -> Lines:
        """A map's entry, under its conditions."""
        there = presence(_presence_rules(node), self.order)
        if there is None:
            return []
        if isinstance(node, Leaf):
            return self._leaf(key, node, there, indent)
        lines = _label(key, indent)
        lines += (
            self.items(node.entries, indent) if node.is_list else self.map(node.entries, indent + 2)
        )
        return choice([(there, lines)], indent)

    def entries(self, node: Node, indent: int) -> Lines:
        """The entries of a map that is there."""
        if isinstance(node, Branch):
            return self.map(node.entries, indent)
        value = next(rule.value for rule in node.rules if rule.value is not ABSENT)
        return dump(value, indent)

    def map(self, entries: dict[str, Node], indent: int) -> Lines:
        """A map's entries."""
        return joined(self.entry(key, node, indent) for key, node in entries.items())

    def items(self, entries: dict[str, Node], indent: int) -> Lines:
        """A list's items."""
        return joined(self._item(node, indent) for node in entries.values())

    def _item(self, node: Node, indent: int) -> Lines:
        if isinstance(node, Leaf):
            return choice(
                [
                    (condition(rule.conditions, self.order), _item(rule.value, indent))
                    for rule in node.rules
                ],
                indent,
            )
        there = presence(node.present, self.order)
        return (
            [] if there is None else choice([(there, self._item_map(node.entries, indent))], indent)
        )

    def _item_map(self, entries: dict[str, Node], indent: int) -> Lines:
        """An item that is a map; the dash goes before an entry that is always there."""
        written = [self.entry(key, node, indent + 2) for key, node in entries.items()]
        first = next(index for index, each in enumerate(written) if not CONTROL.match(each[0]))
        head = written.pop(first)
        head[0] = f"{' ' * indent}- {head[0].lstrip()}"
        return [*head, *joined(written)]

    def _leaf(self, key: str, node: Leaf, there: str, indent: int) -> Lines:
        if isinstance(node.rules[0].value, Include):
            template = node.rules[0].value.template
            nested = f'{{{{- include "{template}" . | nindent {indent + 2} }}}}'
            return [*_label(key, indent), " " * (indent + 2) + nested]
        uses = [rule.value for rule in node.rules if isinstance(rule.value, Use)]
        bodies = [
            (condition(rule.conditions, self.order), _literal(key, rule.value, indent))
            for rule in node.rules
        ]
        if not uses:
            return choice(bodies, indent)
        use = uses[0]
        body = use_lines(key, use, indent)
        if use.omit:
            body = choice([(f"ne .Values.{use.value.path} {json.dumps(use.omit)}", body)], indent)
        if use.optional:
            body = choice([(is_set(use.value), body), *bodies], indent)
        return choice([(there, body)], indent)


def use_lines(key: str, use: Use, indent: int) -> Lines:
    """A map's entry whose value comes from the chart's values."""
    reference = f".Values.{use.value.path}"
    if key == MORE:
        return [f"{' ' * indent}{{{{- toYaml {reference} | nindent {indent} }}}}"]
    [label] = _label(key, indent)
    if use.value.kind in ("object", "array"):
        margin = indent + (2 if use.value.kind == "object" else 0)
        return [label, f"{' ' * margin}{{{{- toYaml {reference} | nindent {margin} }}}}"]
    return [f"{label} {scalar(use.value, text=use.text)}"]


def _label(key: str, indent: int) -> Lines:
    return [dump({key: None}, indent)[0].removesuffix(" null")]


def _presence_rules(node: Node) -> tuple[Rule, ...]:
    return node.rules if isinstance(node, Leaf) else node.present


def _literal(key: str, value: Any, indent: int) -> Lines:
    literal = value.literal if isinstance(value, Use) else value
    return [] if literal is ABSENT else dump({key: literal}, indent)


def _item(value: Any, indent: int) -> Lines:
    return [] if value is ABSENT else dump([value], indent)


def dump(value: Any, indent: int) -> Lines:
    """YAML lines; templates' delimiters in it are data, those between marks are templates."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=float("inf"), allow_unicode=True)
    parts = MARKED.split(text)
    parts[::2] = [part.replace("{{", '{{ "{{" }}') for part in parts[::2]]
    parts[1::2] = map(unmarked, parts[1::2])
    return [" " * indent + line if line else line for line in "".join(parts).splitlines()]
