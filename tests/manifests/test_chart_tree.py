"""Trees of conditions say of every world that they were made from what was true there."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.chart_tree import (
    ABSENT,
    Branch,
    Components,
    Leaf,
    Rule,
    World,
    in_order,
    learn,
    merge,
    resolve,
)

NAMES = ("a", "b", "c")
ANY = Components(NAMES, {})
WORLDS = [World(each) for size in range(4) for each in combinations(NAMES, size)]

SCALARS = st.sampled_from([0, 1, False, True, "", "0", None])
ITEMS = st.fixed_dictionaries({"name": st.sampled_from("xyz")}, optional={"value": SCALARS})
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(ITEMS, max_size=3, unique_by=lambda item: item["name"])
        | st.dictionaries(st.sampled_from("pqr"), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.lists(VALUES | st.just(ABSENT), min_size=len(WORLDS), max_size=len(WORLDS)))
def test_a_tree_keeps_every_sample(values):
    samples = dict(zip(WORLDS, values, strict=True))
    tree = merge(samples, ANY)
    for world, value in samples.items():
        assert repr(_in_key_order(resolve(tree, world))) == repr(_in_key_order(value))


def _in_key_order(value):
    """Maps have no order; lists have one. By ``repr``, 1 is not True."""
    if isinstance(value, dict):
        return {key: _in_key_order(value[key]) for key in sorted(value)}
    return [_in_key_order(each) for each in value] if isinstance(value, list) else value


def test_the_later_component_has_the_last_word():
    samples = {World(): 1, World("a"): 2, World("b"): 3}
    tree = merge(samples, ANY)
    assert resolve(tree, World("ab")) == 3
    assert resolve(tree, World("ac")) == 2


def test_what_two_components_make_together_is_a_rule_of_both():
    samples = {World(): 1, World("a"): 2, World("b"): 3, World("ab"): 4}
    rules = learn(samples, ANY)
    assert rules[0] == Rule((World("ab"),), 4)
    assert resolve(Leaf(rules), World("abc")) == 4


def test_a_field_of_a_component_needs_no_condition_within_its_object():
    samples = {World(): ABSENT, World("a"): {"x": 1, "y": 1}, World("ab"): {"x": 1, "y": 2}}
    tree = merge(samples, ANY)
    assert isinstance(tree, Branch)
    assert tree.present == (Rule((World("a"),), True),)
    assert tree.entries["x"] == Leaf((Rule((World(),), 1),))
    assert tree.entries["y"] == Leaf((Rule((World("b"),), 2), Rule((World(),), 1)))


def test_items_that_components_add_stand_together():
    samples = {
        World(): [{"name": "x"}],
        World("a"): [{"name": "x"}, {"name": "y"}],
        World("b"): [{"name": "x"}, {"name": "z"}],
    }
    assert resolve(merge(samples, ANY), World("ab")) == [
        {"name": "x"},
        {"name": "y"},
        {"name": "z"},
    ]


def test_what_a_component_requires_is_not_said_again():
    components = Components(NAMES, {"b": World("a")})
    samples = {World(): 1, World("a"): 2, World("ab"): 3}
    assert learn(samples, components)[0] == Rule((World("b"),), 3)


@pytest.mark.parametrize(
    ("sequences", "expected"),
    [
        (["xy", "xzy"], list("xzy")),
        (["x", "xa", "xb"], list("xab")),
        (["xy", "yx"], None),
        ([], []),
    ],
)
def test_orders_are_joined_unless_they_contradict(sequences, expected):
    assert in_order(sequences) == expected
