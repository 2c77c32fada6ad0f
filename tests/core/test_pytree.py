"""Pytrees against jax.tree, over generated trees and the corner cases."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import operator
import pickle
import time
from typing import Any, NamedTuple

import hypothesis.strategies as st
import jax
import pytest
from hypothesis import given

from covector import tree, tree_util
from covector.core import pytree


class Pair(NamedTuple):
    first: Any
    second: Any


class Box:
    """Registered on both sides, by position."""

    def __init__(self, label, *children):
        self.label = label
        self.children = children

    def __eq__(self, other):
        return (self.label, self.children) == (other.label, other.children)

    def __hash__(self):
        return hash((self.label, self.children))


@dataclasses.dataclass
class State:
    position: Any
    velocity: Any
    name: str = dataclasses.field(default="", metadata={"static": True})


@dataclasses.dataclass(frozen=True)
class Mode:
    name: str


class Keyed:
    def __init__(self, value):
        self.value = value


class SubDict(dict):
    pass


class SubList(list):
    pass


for module in (tree_util, jax.tree_util):
    module.register_pytree_node(
        Box, lambda box: (box.children, box.label), lambda label, children: Box(label, *children)
    )
    module.register_dataclass(State)
    module.register_static(Mode)
    module.register_pytree_with_keys(
        Keyed,
        lambda node, module=module: (((module.GetAttrKey("value"), node.value),), None),
        lambda _, children: Keyed(*children),
    )


leaf_values = st.one_of(st.integers(0, 9), st.floats(0, 1), st.text("ab", max_size=2))
string_keys = st.text("abcd", min_size=1, max_size=2)


def containers(children):
    dicts = st.one_of(
        st.dictionaries(string_keys, children, max_size=3),
        st.dictionaries(st.integers(0, 5), children, max_size=3),
    )
    sequences = st.lists(children, max_size=3)
    return st.one_of(
        sequences,
        sequences.map(tuple),
        dicts,
        dicts.map(lambda d: collections.OrderedDict(reversed(d.items()))),
        dicts.map(lambda d: collections.defaultdict(list, reversed(d.items()))),
        dicts.map(SubDict),
        sequences.map(SubList),
        sequences.map(collections.deque),
        st.builds(Pair, children, children),
        sequences.map(lambda values: Box("label", *values)),
        st.builds(State, children, children, st.text("xy", max_size=1)),
        st.builds(Mode, st.text("pq", max_size=1)),
        st.builds(Keyed, children),
        st.builds(tree_util.Partial, st.just(max), children),
    )


trees = st.recursive(st.one_of(leaf_values, st.none()), containers, max_leaves=12)
jax.tree_util.register_pytree_with_keys(
    tree_util.Partial,
    lambda partial: (
        (
            (jax.tree_util.GetAttrKey("args"), partial.args),
            (jax.tree_util.GetAttrKey("keywords"), partial.keywords),
        ),
        partial.func,
    ),
    lambda func, children: tree_util.Partial(func, *children[0], **children[1]),
)


def same_leaves(ours, theirs):
    return len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True))


def path_text(path):
    return tree_util.keystr(path), tree_util.keystr(path, simple=True, separator="/")


def jax_path_text(path):
    return jax.tree_util.keystr(path), jax.tree_util.keystr(path, simple=True, separator="/")


def shape_of(value):
    """A description of a tree that tells containers and the order of dict keys apart."""
    kind = type(value)
    if isinstance(value, dict):
        entries = [(key, shape_of(entry)) for key, entry in value.items()]
        return kind, getattr(value, "default_factory", None), entries
    if isinstance(value, (list, tuple)):
        return kind, [shape_of(entry) for entry in value]
    if kind is Box:
        return kind, value.label, [shape_of(entry) for entry in value.children]
    if kind is State:
        return kind, value.name, shape_of(value.position), shape_of(value.velocity)
    if kind is Keyed:
        return kind, shape_of(value.value)
    if kind is tree_util.Partial:
        return kind, value.func, shape_of(value.args), shape_of(value.keywords)
    return kind, value


@given(trees)
def test_leaves_and_rebuilding_agree_with_jax(value):
    leaves, treedef = tree.flatten(value)
    jax_leaves, jax_treedef = jax.tree.flatten(value)
    assert same_leaves(leaves, jax_leaves)
    assert treedef.num_leaves == jax_treedef.num_leaves == len(leaves)
    assert treedef.num_nodes == jax_treedef.num_nodes
    assert tree_util.treedef_is_leaf(treedef) == jax.tree_util.treedef_is_leaf(jax_treedef)
    replaced = list(range(len(leaves)))
    rebuilt = tree.unflatten(treedef, replaced)
    assert shape_of(rebuilt) == shape_of(jax.tree.unflatten(jax_treedef, replaced))
    assert tree.structure(rebuilt) == treedef
    assert hash(tree.structure(rebuilt)) == hash(treedef)


@given(trees, trees)
def test_equality_of_structures_agrees_with_jax(one, other):
    ours = tree.structure(one) == tree.structure(other)
    assert ours == (jax.tree.structure(one) == jax.tree.structure(other))


@given(trees)
def test_paths_agree_with_jax(value):
    found, treedef = tree.flatten_with_path(value)
    expected, _ = jax.tree_util.tree_flatten_with_path(value)
    assert [path_text(path) for path, _ in found] == [jax_path_text(path) for path, _ in expected]
    assert same_leaves([leaf for _, leaf in found], tree.leaves(value))
    assert treedef == tree.structure(value)


@given(trees)
def test_is_leaf_agrees_with_jax(value):
    def is_leaf(node):
        return isinstance(node, (tuple, Box)) or node is None

    leaves, treedef = tree.flatten(value, is_leaf)
    jax_leaves, jax_treedef = jax.tree.flatten(value, is_leaf)
    assert same_leaves(leaves, jax_leaves)
    assert treedef.num_nodes == jax_treedef.num_nodes
    assert same_leaves([x for _, x in tree.leaves_with_path(value, is_leaf)], jax_leaves)


@given(trees)
def test_is_leaf_with_path_agrees_with_jax(value):
    def is_leaf(path, node):
        # Not the arguments of a Partial: it cannot be rebuilt from anything else.
        named = path and type(path[-1]).__name__ == "GetAttrKey"
        return not named and (len(path) >= 2 or isinstance(node, tuple))

    found, treedef = tree.flatten_with_path(value, is_leaf, is_leaf_takes_path=True)
    expected, jax_treedef = jax.tree.flatten_with_path(value, is_leaf, is_leaf_takes_path=True)
    assert [path_text(path) for path, _ in found] == [jax_path_text(path) for path, _ in expected]
    assert same_leaves([x for _, x in found], [x for _, x in expected])
    numbers = list(range(len(found)))
    assert shape_of(treedef.unflatten(numbers)) == shape_of(jax_treedef.unflatten(numbers))


@given(trees)
def test_children_agree_with_jax(value):
    ours = tree_util.treedef_children(tree.structure(value))
    theirs = jax.tree_util.treedef_children(jax.tree.structure(value))
    assert [c.num_leaves for c in ours] == [c.num_leaves for c in theirs]
    assert tree_util.is_tree_node(type(value)) == jax.tree_util.is_tree_node(type(value))
    if tree_util.is_tree_node(type(value)):
        children, aux = tree_util.flatten_one_level(value)
        jax_children, jax_aux = jax.tree_util.flatten_one_level(value)
        assert same_leaves(list(children), list(jax_children))
        if type(value) not in (list, tuple):
            assert aux == jax_aux


@given(trees)
def test_map_over_equal_structures(value):
    doubled = tree.map(lambda x: [x, x], value)
    result = tree.map(lambda a, b: (a, b), value, doubled)
    expected = jax.tree.map(lambda a, b: (a, b), value, doubled)
    assert shape_of(result) == shape_of(expected)


@given(trees, trees)
def test_map_refuses_what_jax_refuses(value, other):
    try:
        expected = jax.tree.map(lambda a, b: (a, b), value, other)
    except ValueError:
        with pytest.raises(ValueError, match="pytree structures differ"):
            tree.map(lambda a, b: (a, b), value, other)
    else:
        assert shape_of(tree.map(lambda a, b: (a, b), value, other)) == shape_of(expected)


@given(trees)
def test_map_with_path(value):
    def join(path, x, y):
        return (tree_util.keystr(path), x, y)

    def jax_join(path, x, y):
        return (jax.tree_util.keystr(path), x, y)

    result = tree.map_with_path(join, value, value)
    assert shape_of(result) == shape_of(jax.tree.map_with_path(jax_join, value, value))


@given(trees, st.data())
def test_broadcasting_of_prefixes_agrees_with_jax(value, data):
    # A prefix: the same tree, with some subtrees replaced by a leaf.
    prefix = tree.map(lambda x: x, value, is_leaf=lambda node: data.draw(st.booleans()))
    prefix = tree.map(lambda x: "here", prefix, is_leaf=lambda node: node is None)
    full = tree.map(lambda x: 0, value)
    try:
        expected = jax.tree.broadcast(prefix, full)
    except ValueError:
        with pytest.raises(ValueError, match="pytree structures differ"):
            tree.broadcast(prefix, full)
        return
    assert shape_of(tree.broadcast(prefix, full)) == shape_of(expected)
    flat = pytree.broadcast_prefix(prefix, full, none_is_leaf=False)
    assert flat == jax.tree.leaves(expected)


@given(st.recursive(st.integers(0, 9), containers, max_leaves=6))
def test_reductions_agree_with_jax(value):
    def pair(a, b):
        return (a, b)

    assert tree.all(value) == jax.tree.all(value)
    assert tree.reduce(pair, value, 0) == jax.tree.reduce(pair, value, 0)
    words = tree.map(str, value)
    joined = tree.reduce_associative(operator.add, words, identity="")
    assert joined == jax.tree.reduce_associative(operator.add, words, identity="")


def test_reductions_of_nothing():
    with pytest.raises(TypeError):
        tree.reduce(max, [])
    with pytest.raises(TypeError, match="identity"):
        tree.reduce_associative(max, [])


def test_struct_sequences_and_deques_are_leaves():
    now, queue = time.gmtime(), collections.deque([1, 2])
    value = [now, {"a": queue}, (queue, None)]
    for _ in range(2):  # the second time the structure is known
        leaves, treedef = tree.flatten(value)
        assert same_leaves(leaves, [now, queue, queue])
        assert treedef.unflatten([1, 2, 3]) == [1, {"a": 2}, (3, None)]
    assert same_leaves(tree.leaves(value, lambda x: isinstance(x, tuple)), [now, queue, value[2]])


def test_known_structures_do_not_hide_foreign_nodes():
    # optree's structures of a tuple and of a struct sequence differ; so must what is remembered.
    tree.flatten([(1, 2)])
    assert tree.leaves([collections.deque([1, 2])]) == [collections.deque([1, 2])]


@pytest.mark.parametrize(
    "value",
    [
        {1: 0, "a": 1},
        [{(1,): 0, "b": 1}],
        collections.defaultdict(int, {1: 0, "a": 1}),
        {1: 0, None: 1},
    ],
)
def test_dict_keys_that_do_not_sort_are_refused(value):
    for _ in range(2):
        with pytest.raises(ValueError, match="must be sortable"):
            tree.flatten(value)
    with pytest.raises((ValueError, TypeError)):
        jax.tree.flatten(value)


def test_dicts_are_rebuilt_in_the_order_of_keys():
    for value in ({"b": 1, "a": 2}, {"a": 2, "b": 1}):
        rebuilt = tree.map(lambda x: x, value)
        assert list(rebuilt) == list(jax.tree.map(lambda x: x, value)) == ["a", "b"]


def test_auxiliary_data_need_not_hash():
    value = Box([1, 2], 3, 4)
    leaves, treedef = tree.flatten((value, {"b": 1, "a": 2}))
    assert leaves == [3, 4, 2, 1]
    rebuilt = treedef.unflatten(leaves)
    assert rebuilt[0].label == [1, 2]
    assert list(rebuilt[1]) == ["a", "b"]


def test_structures_are_not_kept_alive():
    import gc
    import weakref

    def fun():
        return 0

    tree.flatten(tree_util.Partial(fun, 1))
    reference = weakref.ref(fun)
    del fun
    gc.collect()
    assert reference() is None


def test_registering_twice_is_refused():
    for kind in (Box, dict, tuple, type(None)):
        with pytest.raises(ValueError, match="registered as a pytree node already"):
            tree_util.register_pytree_node(kind, lambda x: ((), None), lambda aux, c: None)
    with pytest.raises(TypeError, match="is a class"):
        tree_util.register_pytree_node(3, lambda x: ((), None), lambda aux, c: None)


def test_a_class_seen_as_a_leaf_can_be_registered():
    class Late:
        def __init__(self, value):
            self.value = value

    late = Late(1)
    assert tree.leaves(late) == [late]
    assert tree.leaves([late]) == [late]
    tree_util.register_pytree_node(Late, lambda x: ((x.value,), None), lambda _, c: Late(*c))
    assert tree.leaves(late) == [1]
    assert tree.leaves([late]) == [1]


def test_a_registered_named_tuple_is_treated_as_registered():
    class Special(NamedTuple):
        x: int
        y: int

    tree_util.register_pytree_node(Special, lambda s: ((s.x,), s.y), lambda y, c: Special(c[0], y))
    assert tree.leaves([Special(1, 2)]) == [1]
    assert tree.map(lambda x: x + 1, Special(1, 2)) == Special(2, 2)
    assert tree_util.keystr(tree.leaves_with_path(Special(1, 2))[0][0]) == "[<flat index 0>]"


def test_decorated_classes():
    @tree_util.register_pytree_node_class
    class Plain:
        def __init__(self, x):
            self.x = x

        def tree_flatten(self):
            return (self.x,), "aux"

        @classmethod
        def tree_unflatten(cls, aux, children):
            assert aux == "aux"
            return cls(*children)

    @tree_util.register_pytree_with_keys_class
    class WithKeys:
        def __init__(self, x):
            self.x = x

        def tree_flatten_with_keys(self):
            return ((tree_util.GetAttrKey("x"), self.x),), None

        @classmethod
        def tree_unflatten(cls, aux, children):
            return cls(*children)

    assert tree.map(lambda x: x + 1, Plain(1)).x == 2
    assert tree.map(lambda x: x + 1, WithKeys(1)).x == 2
    assert tree_util.keystr(tree.leaves_with_path([WithKeys(1)])[0][0]) == "[0].x"


def test_dataclass_fields():
    @functools.partial(
        tree_util.register_dataclass, data_fields=["x"], meta_fields=["n"], drop_fields=["cache"]
    )
    @dataclasses.dataclass
    class Model:
        x: Any
        n: int
        cache: Any = None
        derived: Any = dataclasses.field(init=False, default=7)

    model = tree.map(lambda x: x * 2, Model(3, 4, cache="old"))
    assert (model.x, model.n, model.cache, model.derived) == (6, 4, None, 7)

    @dataclasses.dataclass
    class Field:
        x: Any
        op: str = tree.static(default="add")

    tree_util.register_dataclass(Field)
    assert tree.leaves(Field(1)) == [1]
    assert tree.structure(Field(1)) != tree.structure(Field(1, "mul"))


def test_dataclass_registration_checks_names():
    @dataclasses.dataclass
    class Model:
        x: Any
        n: int

    cases = [((["x"], []), "missing or unknown: n"), ((["x", "n"], ["n"]), "name a field twice")]
    for (data, meta), message in cases:
        with pytest.raises(ValueError, match=message):
            tree_util.register_dataclass(Model, data, meta)
    with pytest.raises(TypeError, match="both data_fields and meta_fields"):
        tree_util.register_dataclass(Model, ["x"])
    with pytest.raises(TypeError, match="no dataclass"):
        tree_util.register_dataclass(type("NotOne", (), {}))


def test_partial():
    inner = tree_util.Partial(lambda a, b, c: (a, b, c), 1)
    outer = tree_util.Partial(inner, 2)
    assert outer(3) == (1, 2, 3)
    assert tree.leaves(outer) == [1, 2]
    plain = functools.partial(lambda a, b: (a, b), 1)
    wrapped = tree_util.Partial(plain, 2)
    assert wrapped() == (1, 2)
    assert tree.leaves(wrapped) == [2]
    assert tree.structure(wrapped) == tree.structure(tree_util.Partial(plain, 5))


def test_transpose_agrees_with_jax():
    value = {"a": (1, [2, 3]), "b": (4, [5, 6])}
    outer, inner = {"a": 0, "b": 0}, (0, [0, 0])
    ours = tree.transpose(tree.structure(outer), tree.structure(inner), value)
    theirs = jax.tree.transpose(jax.tree.structure(outer), jax.tree.structure(inner), value)
    assert ours == theirs == ({"a": 1, "b": 4}, [{"a": 2, "b": 5}, {"a": 3, "b": 6}])
    assert tree.transpose(tree.structure(outer), None, value) == ours
    with pytest.raises(TypeError, match="transpose needs a tree of structure"):
        tree.transpose(tree.structure(outer), tree.structure((0, 0)), value)


def test_small_functions():
    assert tree_util.all_leaves([1, 2.0, "a"])
    assert not tree_util.all_leaves([1, [2]])
    assert not tree_util.all_leaves([1, None])
    assert tree_util.all_leaves([1, [2]], is_leaf=lambda x: isinstance(x, list))
    parts = [tree.structure(0), tree.structure([0, None])]
    assert tree_util.treedef_tuple(parts) == tree.structure((0, [0, None]))
    assert tree_util.treedef_tuple([]) == tree.structure(())
    with pytest.raises(ValueError, match="a leaf has no children"):
        tree_util.flatten_one_level(3)


def test_the_facades_have_jaxs_names():
    beyond_us = {"default_registry", "KeyEntry"}
    for ours, theirs in [(tree, jax.tree), (tree_util, jax.tree_util)]:
        names = {name for name in dir(theirs) if not name.startswith("_")}
        assert names - beyond_us <= set(ours.__all__)


def test_structures_pickle_and_copy():
    treedef = tree.structure({"a": (1, None), "b": Pair(2, [3])})
    assert pickle.loads(pickle.dumps(treedef)) == treedef  # noqa: S301 - our own bytes
    assert copy.deepcopy(treedef) == treedef


def test_prefix_errors_say_where():
    with pytest.raises(ValueError, match=r"in_axes does not fit (.|\n)*at \[0\]\['a'\]") as caught:
        pytree.broadcast_prefix(({"a": [0, 1]},), ({"a": [1, 2, 3]},), "in_axes")
    assert "list of 2 in in_axes" in str(caught.value)
    assert "list of 3" in str(caught.value)
    with pytest.raises(ValueError, match=r"tuple argument|tree argument 1 of map: (.|\n)*at \[1\]"):
        tree.map(lambda a, b: a, (1, (2, 3)), (1, 2))
    with pytest.raises(ValueError, match=r"\('a',\)(.|\n)*\('b',\)"):
        tree.map(lambda a, b: a, {"a": 1}, {"b": 1})
    with pytest.raises(ValueError, match="leaves"):
        tree.structure((1, 2)).unflatten([1])


def test_none_in_a_prefix():
    assert pytree.broadcast_prefix((0, None), ([1, 2], [3, 4])) == [0, 0, None, None]
    assert pytree.broadcast_prefix(None, {"a": 1, "b": None}) == [None]
    assert pytree.broadcast_prefix((0, None), (1, None)) == [0]
    with pytest.raises(ValueError, match="NoneType in prefix"):
        pytree.broadcast_prefix((0, None), (1, 2), none_is_leaf=False)
    assert pytree.broadcast_prefix([(0, 1), None], [2, 3], is_leaf=lambda x: x == (0, 1)) == [
        (0, 1),
        None,
    ]
