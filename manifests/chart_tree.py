"""Builds of the same objects with different components on, merged into one tree of conditions.

A world is the set of components that a build was made with. Where all worlds agree the tree says it
once; where they do not, rules tell which components make which value. A component's rule goes before
those of the components that come earlier, as kustomize lets the later one have the last word; what two
components make only together becomes a rule of both.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any

World = frozenset[str]
"""Names of the components of a build."""

MERGE_KEYS = ("name", "containerPort", "mountPath", "alert", "record", "port", "type", "ip")
"""Fields that tell the items of a list apart, the first that does for all items in all builds."""


class Slot:
    """Base of what takes the place of a value and must be found in the tree by itself."""


class Absent(Enum):
    """There is no value."""

    ABSENT = 0


ABSENT = Absent.ABSENT


@dataclass(frozen=True)
class Rule:
    """A value, and the sets of components of which one must be on for it to hold."""

    conditions: tuple[World, ...]
    value: Any

    def holds(self, world: World) -> bool:
        """Whether one of the sets is on in a world; the empty set always is."""
        return any(condition <= world for condition in self.conditions)


@dataclass(frozen=True)
class Leaf:
    """A value that is taken as a whole; of the rules the first that holds counts, none means absent."""

    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Branch:
    """A map, or a list whose items have keys; the rules tell whether it is there at all: True or ABSENT."""

    present: tuple[Rule, ...]
    entries: dict[str, "Node"]
    is_list: bool


Node = Leaf | Branch


@dataclass(frozen=True)
class Components:
    """The order of components, and what each cannot be without.

    Args:
        order: names, the one that has the last word last.
        requires: name → components that it builds upon.
    """

    order: Sequence[str]
    requires: Mapping[str, World]

    def closure(self, names: Iterable[str]) -> World:
        """The names with all that they require."""
        world = frozenset(names)
        while (
            wider := world.union(*(self.requires.get(name, World()) for name in world))
        ) != world:
            world = wider
        return world

    def reduced(self, world: World) -> World:
        """The names without those that others of them require anyway."""
        implied = (self.closure([name]) - {name} for name in world)
        return world.difference(*implied)

    def ordered(self, world: World) -> list[str]:
        """The names, the one that has the last word last."""
        return sorted(world, key=self.order.index)

    def rank(self, world: World) -> tuple[int, ...]:
        """Sort key: the larger has the last word."""
        return tuple(sorted(map(self.order.index, world), reverse=True))


def decide(rules: Sequence[Rule], world: World) -> Any:
    """The value in a world: that of the first rule that holds, else ABSENT."""
    return next((rule.value for rule in rules if rule.holds(world)), ABSENT)


def learn(samples: Mapping[World, Any], components: Components) -> tuple[Rule, ...]:
    """The shortest rules that give each world of the samples its value.

    What all worlds of the samples have in common is taken for granted: the rules of a field hold where
    the object around it is there.
    """
    if len({canonical(value) for value in samples.values()}) == 1:
        return (Rule((World(),), next(iter(samples.values()))),)
    common = frozenset.intersection(*samples)
    ranked: dict[World, Any] = {}

    def rules() -> list[Rule]:
        return [
            Rule((world,), ranked[world])
            for world in sorted(ranked, key=components.rank, reverse=True)
        ]

    for world in sorted(samples, key=lambda each: (len(each), components.rank(each))):
        if canonical(decide(rules(), world)) != canonical(samples[world]):
            ranked[components.reduced(world - common)] = samples[world]
    joined: list[Rule] = []
    for rule in rules():
        if joined and canonical(joined[-1].value) == canonical(rule.value):
            rule = Rule(joined.pop().conditions + rule.conditions, rule.value)
        joined.append(rule)
    return tuple(joined)


def merge(samples: Mapping[World, Any], components: Components) -> Node:
    """One tree of a value in several worlds, ABSENT where it is not there."""
    found = {world: value for world, value in samples.items() if value is not ABSENT}
    differ = len({canonical(value) for value in found.values()}) > 1
    if differ or any(map(has_slot, found.values())):
        if all(isinstance(value, dict) and value for value in found.values()):
            return _branch(samples, found, dict, components)
        keyed = _keyed(found)
        if keyed is not None:
            return _branch(samples, keyed, list, components)
    return Leaf(learn(samples, components))


def _branch(
    samples: Mapping[World, Any],
    found: Mapping[World, dict[str, Any]],
    kind: type,
    components: Components,
) -> Node:
    order = (
        in_order(list(found.values()))
        if kind is list
        else list(dict.fromkeys(chain(*found.values())))
    )
    if order is None:
        return Leaf(learn(samples, components))
    entries = {
        key: merge({world: value.get(key, ABSENT) for world, value in found.items()}, components)
        for key in order
    }
    there = {world: ABSENT if value is ABSENT else True for world, value in samples.items()}
    return Branch(learn(there, components), entries, kind is list)


def resolve(node: Node, world: World) -> Any:
    """The value in a world, also in one that the tree was not made from."""
    if isinstance(node, Leaf):
        return decide(node.rules, world)
    if decide(node.present, world) is not True:
        return ABSENT
    found = {key: resolve(entry, world) for key, entry in node.entries.items()}
    found = {key: value for key, value in found.items() if value is not ABSENT}
    return list(found.values()) if node.is_list else found


def has_slot(value: Any) -> bool:
    """Whether there is a slot somewhere in a value."""
    if isinstance(value, dict):
        return any(map(has_slot, value.values()))
    if isinstance(value, list):
        return any(map(has_slot, value))
    return isinstance(value, Slot)


def _keyed(found: Mapping[World, Any]) -> dict[World, dict[str, Any]] | None:
    """Lists as maps by merge key, else by the whole item; None where neither tells items apart."""
    if not all(isinstance(value, list) and value for value in found.values()):
        return None
    keys = [
        _field(name)
        for name in MERGE_KEYS
        if all(isinstance(item, dict) and name in item for each in found.values() for item in each)
    ]
    for key in [*keys, canonical]:
        maps = {world: {key(item): item for item in value} for world, value in found.items()}
        if all(len(maps[world]) == len(found[world]) for world in found):
            return maps
    return None


def _field(name: str) -> Callable[[Any], str]:
    return lambda item: f"{name}={item[name]}"


def in_order(sequences: Sequence[Iterable[str]]) -> list[str] | None:
    """All keys so that each sequence's order is kept, as near to the first seen order as can be.

    Returns None where the sequences contradict each other.
    """
    before: dict[str, set[str]] = {}
    for sequence in sequences:
        previous: str | None = None
        for key in sequence:
            before.setdefault(key, set())
            if previous is not None:
                before[key].add(previous)
            previous = key
    ordered: list[str] = []
    while before:
        ready = next((key for key, earlier in before.items() if earlier <= set(ordered)), None)
        if ready is None:
            return None
        ordered.append(ready)
        del before[ready]
    return ordered


def canonical(value: Any) -> str:
    """Text that is equal for equal values, whatever the order of their keys."""
    return json.dumps(value, sort_keys=True, default=repr)
