"""Pytrees: nested containers of arrays, flattened to lists of leaves and put together again.

optree does the work; this wrapper gives it JAX's behaviour. Nodes are tuples, lists, dicts (leaves
in the order of sorted keys, which must be sortable), `OrderedDict`, `defaultdict`, named tuples,
None (without leaves) and registered classes. All else is a leaf: subclasses of the containers,
deques and struct sequences among it.
"""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any

import optree

from covector.core.errors import compose
from covector.core.treenodes import (
    NAMESPACE,
    DictKey,
    FlattenedIndexKey,
    GetAttrKey,
    KeyPath,
    Partial,
    SequenceKey,
    flatten_one_level,
    flatten_one_level_with_keys,
    is_tree_node,
    keystr,
    node_type,
    on_registration,
    register_dataclass,
    register_pytree_node,
    register_pytree_node_class,
    register_pytree_with_keys,
    register_pytree_with_keys_class,
    register_static,
    sorted_keys,
    static,
)

__all__ = [
    "DictKey",
    "FlattenedIndexKey",
    "GetAttrKey",
    "KeyPath",
    "Partial",
    "PyTreeDef",
    "SequenceKey",
    "broadcast",
    "broadcast_prefix",
    "flatten",
    "flatten_one_level",
    "flatten_one_level_with_keys",
    "flatten_with_path",
    "is_tree_node",
    "keystr",
    "leaves",
    "leaves_with_path",
    "map",
    "map_with_path",
    "register_dataclass",
    "register_pytree_node",
    "register_pytree_node_class",
    "register_pytree_with_keys",
    "register_pytree_with_keys_class",
    "register_static",
    "static",
    "structure",
    "unflatten",
]

PyTreeDef = optree.PyTreeSpec
"""The structure of a pytree; has `num_leaves`, `num_nodes`, `children()`, `unflatten(leaves)`."""

IsLeaf = Callable[[Any], bool] | None

_optree_flatten: Any = optree.tree_flatten
_LEAF: PyTreeDef = _optree_flatten(0)[1]

# Structures that were looked at, and the equal ones that make dicts in the order of their keys.
_examined: dict[PyTreeDef, PyTreeDef] = {}
_MAX_EXAMINED = 2048
# Classes whose instances were found to be leaves: most calls are with a single array.
_leaf_types: set[type] = set()
on_registration(_leaf_types.clear)


def flatten(tree: Any, is_leaf: IsLeaf = None) -> tuple[list[Any], PyTreeDef]:
    """The leaves of a pytree, and its structure.

    Args:
        tree: the pytree.
        is_leaf: says of a node that it is to be taken as a leaf.

    Raises:
        ValueError: the keys of a dict cannot be sorted.

    Example:
        >>> flatten({"b": 2, "a": (1, None)})
        ([1, 2], PyTreeSpec({'a': (*, None), 'b': *}))
    """
    if is_leaf is None and type(tree) in _leaf_types:
        return [tree], _LEAF
    leaves, treedef = _optree_flatten(tree, is_leaf, namespace=NAMESPACE)
    try:
        known = _examined.get(treedef)
    except (TypeError, ValueError):  # auxiliary data that does not hash or compare
        known = None
    if known is not None:
        return leaves, known
    return _examine(tree, is_leaf, leaves, treedef)


def _examine(
    tree: Any, is_leaf: IsLeaf, leaves: list[Any], treedef: PyTreeDef
) -> tuple[list[Any], PyTreeDef]:
    """Make good what optree and JAX see differently in a structure met for the first time."""
    if treedef == _LEAF:
        if is_leaf is None:
            _leaf_types.add(tree.__class__)
        return leaves, _LEAF
    survey = _Survey()
    treedef.walk(leaves, survey.visit)
    if survey.foreign:
        return flatten(tree, functools.partial(_is_foreign_or, is_leaf))
    canonical = treedef.transform(_with_sorted_dict) if survey.dicts else treedef
    if survey.plain:
        if len(_examined) >= _MAX_EXAMINED:
            _examined.clear()
        _examined[treedef] = canonical
    return leaves, canonical


class _Survey:
    """What kinds of nodes a structure has."""

    __slots__ = ("dicts", "foreign", "plain")

    def __init__(self) -> None:
        self.dicts = False
        self.foreign = False
        # Whether remembering the structure keeps nothing alive but itself.
        self.plain = True

    def visit(self, kind: type, data: Any, _children: Any) -> None:
        if kind is tuple or kind is list:
            return
        if kind is dict or kind is defaultdict:
            keys = data if kind is dict else data[1]
            sorted_keys(keys)
            self.dicts = self.dicts or len(keys) > 1
            self.plain = self.plain and _is_plain(keys)
        elif kind is deque or optree.is_structseq_class(kind):
            self.foreign = True
        else:
            self.plain = self.plain and _is_plain(data)


_PLAIN = frozenset((type(None), bool, int, float, str, bytes, type))


def _is_plain(data: Any) -> bool:
    kind = data.__class__
    if kind is tuple or kind is list:
        return all(_is_plain(entry) for entry in data)
    return kind in _PLAIN


def _is_foreign(node: Any) -> bool:
    return isinstance(node, deque) or optree.is_structseq_instance(node)


def _is_foreign_or(is_leaf: IsLeaf, node: Any) -> bool:
    return _is_foreign(node) or (is_leaf is not None and is_leaf(node))


def _with_sorted_dict(one_level: PyTreeDef) -> PyTreeDef:
    """optree remembers in which order keys were inserted; JAX makes dicts in the sorted one."""
    if one_level.type is not dict and one_level.type is not defaultdict:
        return one_level
    node: Any = one_level.unflatten([0] * one_level.num_children)
    items = [(key, node[key]) for key in one_level.entries()]
    same = dict(items) if one_level.type is dict else defaultdict(node.default_factory, items)
    return _optree_flatten(same, namespace=NAMESPACE)[1]


def unflatten(treedef: PyTreeDef, leaves: Iterable[Any]) -> Any:
    """The pytree of a structure and leaves.

    Raises:
        ValueError: there are not as many leaves as the structure has.

    Example:
        >>> unflatten(structure((0, [0])), [1, 2])
        (1, [2])
    """
    return treedef.unflatten(leaves)


def leaves(tree: Any, is_leaf: IsLeaf = None) -> list[Any]:
    """The leaves of a pytree."""
    return flatten(tree, is_leaf)[0]


def structure(tree: Any, is_leaf: IsLeaf = None) -> PyTreeDef:
    """The structure of a pytree."""
    return flatten(tree, is_leaf)[1]


def map(  # noqa: A001 - JAX's name
    f: Callable[..., Any], tree: Any, *rest: Any, is_leaf: IsLeaf = None
) -> Any:
    """Apply a function to corresponding leaves of pytrees.

    Args:
        f: takes a leaf of `tree`, and what stands in its place in each of `rest`.
        tree: gives the structure of the result.
        rest: pytrees that have `tree` as a prefix.
        is_leaf: says of a node of `tree` that it is to be taken as a leaf.

    Raises:
        ValueError: one of `rest` has another structure; the message names the place.

    Example:
        >>> map(lambda x, y: x + y, [1, (2,)], [10, (20,)])
        [11, (22,)]
    """
    first, treedef = flatten(tree, is_leaf)
    if not rest:
        return treedef.unflatten([f(leaf) for leaf in first])
    columns = [
        _corresponding(tree, treedef, other, is_leaf, f"tree argument {i} of map")
        for i, other in enumerate(rest, 1)
    ]
    return treedef.unflatten([f(*row) for row in zip(first, *columns, strict=True)])


def _corresponding(
    tree: Any, treedef: PyTreeDef, other: Any, is_leaf: IsLeaf, what: str
) -> list[Any]:
    """What stands in `other` in place of each leaf of `tree`."""
    others, other_def = flatten(other, is_leaf)
    if other_def == treedef:
        return others
    pairs: list[tuple[Any, Any]] = []
    _match(tree, other, (), _Matching(is_leaf, "the first tree", what, pairs))
    return [subtree for _, subtree in pairs]


def broadcast_prefix(
    prefix: Any,
    tree: Any,
    what: str = "prefix",
    *,
    is_leaf: IsLeaf = None,
    none_is_leaf: bool = True,
) -> list[Any]:
    """For each leaf of a pytree, the leaf of a prefix that stands for it.

    Args:
        prefix: a pytree whose leaves stand for whole subtrees of `tree`.
        tree: the pytree.
        what: what messages call the prefix.
        is_leaf: says of a node of `prefix` that it is to be taken as a leaf.
        none_is_leaf: whether None in `prefix` stands for a subtree, as in `in_axes`, or for None.

    Raises:
        ValueError: the structures differ; the message names the place.

    Example:
        >>> broadcast_prefix((0, None), ({"a": 1, "b": 2}, [3]))
        [0, 0, None]
    """
    stop = is_leaf
    if none_is_leaf:
        stop = functools.partial(_is_none_or, is_leaf)
    pairs: list[tuple[Any, Any]] = []
    _match(prefix, tree, (), _Matching(stop, what, "the value it is for", pairs))
    result: list[Any] = []
    for leaf, subtree in pairs:
        result.extend([leaf] * len(flatten(subtree)[0]))
    return result


def _is_none_or(is_leaf: IsLeaf, node: Any) -> bool:
    return node is None or (is_leaf is not None and is_leaf(node))


def broadcast(prefix_tree: Any, full_tree: Any, is_leaf: IsLeaf = None) -> Any:
    """The prefix, extended to the structure of the full pytree.

    Args:
        prefix_tree: a pytree whose leaves stand for whole subtrees of `full_tree`.
        full_tree: gives the structure of the result.
        is_leaf: says of a node of either that it is to be taken as a leaf.

    Raises:
        ValueError: the structures differ; the message names the place.

    Example:
        >>> broadcast((1, 2), ([7, 8], {"a": 9}))
        ([1, 1], {'a': 2})
    """
    pairs: list[tuple[Any, Any]] = []
    _match(prefix_tree, full_tree, (), _Matching(is_leaf, "the prefix", "the full tree", pairs))
    result: list[Any] = []
    for leaf, subtree in pairs:
        result.extend([leaf] * len(flatten(subtree, is_leaf)[0]))
    return structure(full_tree, is_leaf).unflatten(result)


class _Matching:
    """What it takes to go through a prefix and a full tree side by side."""

    __slots__ = ("full_name", "is_leaf", "pairs", "prefix_name")

    def __init__(
        self, is_leaf: IsLeaf, prefix_name: str, full_name: str, pairs: list[tuple[Any, Any]]
    ) -> None:
        self.is_leaf = is_leaf
        self.prefix_name = prefix_name
        self.full_name = full_name
        self.pairs = pairs

    def error(self, path: KeyPath, prefix: str, full: str) -> ValueError:
        place = keystr(path)
        return ValueError(
            compose(
                f"{self.prefix_name} does not fit {self.full_name}: pytree structures differ "
                + (f"at {place}" if place else "at the top"),
                found=f"{prefix} in {self.prefix_name}, {full} in {self.full_name}",
                fix="give both the same containers down to there",
            )
        )


def _match(prefix: Any, full: Any, path: KeyPath, matching: _Matching) -> None:
    if matching.is_leaf is not None and matching.is_leaf(prefix):
        matching.pairs.append((prefix, full))
        return
    if node_type(prefix.__class__) is None:
        matching.pairs.append((prefix, full))
        return
    if type(prefix) is not type(full):
        raise matching.error(path, type(prefix).__name__, f"{type(full).__name__} {full!r:.60}")
    prefix_children, prefix_data = flatten_one_level_with_keys(prefix)
    full_children, full_data = flatten_one_level_with_keys(full)
    name = type(prefix).__name__
    if len(prefix_children) != len(full_children):
        raise matching.error(
            path,
            _node_text(name, prefix_children, prefix_data),
            _node_text(name, full_children, full_data),
        )
    if prefix_data != full_data:
        raise matching.error(path, f"{name} with {prefix_data!r}", f"{name} with {full_data!r}")
    for (step, prefix_child), (_, full_child) in zip(prefix_children, full_children, strict=True):
        _match(prefix_child, full_child, (*path, step), matching)


def _node_text(name: str, children: list[Any], data: Any) -> str:
    count = f"{name} of {len(children)}"
    return count if data is None else f"{count} with {data!r}"


# ---- paths


def flatten_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> tuple[list[tuple[KeyPath, Any]], PyTreeDef]:
    """The leaves of a pytree with the path to each, and its structure.

    Args:
        tree: the pytree.
        is_leaf: says of a node that it is to be taken as a leaf.
        is_leaf_takes_path: call it with the path and the node.

    Example:
        >>> flatten_with_path({"a": [1]})[0]
        [((DictKey(key='a'), SequenceKey(idx=0)), 1)]
    """
    if is_leaf is None:
        return leaves_with_path(tree), structure(tree)
    if is_leaf_takes_path:
        return leaves_with_path(tree, is_leaf, True), _structure_by_path(tree, (), is_leaf)
    return leaves_with_path(tree, is_leaf), structure(tree, is_leaf)


def leaves_with_path(
    tree: Any, is_leaf: Callable[..., bool] | None = None, is_leaf_takes_path: bool = False
) -> list[tuple[KeyPath, Any]]:
    """The leaves of a pytree with the path to each; arguments as for `flatten_with_path`."""
    found: list[tuple[KeyPath, Any]] = []
    if is_leaf is None or is_leaf_takes_path:
        stop = is_leaf
    else:
        stop = functools.partial(_without_path, is_leaf)
    _walk(tree, (), stop, found)
    return found


def map_with_path(
    f: Callable[..., Any],
    tree: Any,
    *rest: Any,
    is_leaf: Callable[..., bool] | None = None,
    is_leaf_takes_path: bool = False,
) -> Any:
    """Like `map`, with a function that takes the path to the leaf first.

    Args:
        f: takes the path, a leaf of `tree`, and what stands in its place in each of `rest`.
        tree: gives the structure of the result.
        rest: pytrees that have `tree` as a prefix.
        is_leaf: says of a node of `tree` that it is to be taken as a leaf.
        is_leaf_takes_path: call it with the path and the node.

    Raises:
        ValueError: one of `rest` has another structure; the message names the place.

    Example:
        >>> map_with_path(lambda path, x: keystr(path), {"a": [1, 2]})
        {'a': ["['a'][0]", "['a'][1]"]}
    """
    found, treedef = flatten_with_path(tree, is_leaf, is_leaf_takes_path)
    skeleton = treedef.unflatten([_PLACE] * len(found))
    columns = [
        _corresponding(skeleton, treedef, other, _is_place, f"tree argument {i} of map_with_path")
        for i, other in enumerate(rest, 1)
    ]
    paths_and_leaves = zip(*found, strict=True) if found else ((), ())
    return treedef.unflatten([f(*row) for row in zip(*paths_and_leaves, *columns, strict=True)])


class _Place:
    """Stands where a leaf belongs."""


_PLACE = _Place()


def _is_place(node: Any) -> bool:
    return node is _PLACE


def _without_path(is_leaf: Callable[[Any], bool], _path: KeyPath, node: Any) -> bool:
    return is_leaf(node)


def _structure_by_path(node: Any, path: KeyPath, is_leaf: Callable[..., bool]) -> PyTreeDef:
    if is_leaf(path, node) or node_type(node.__class__) is None:
        return _LEAF
    one_level = structure(node, lambda other: other is not node)
    parts = iter(
        [
            _structure_by_path(child, (*path, step), is_leaf)
            for step, child in flatten_one_level_with_keys(node)[0]
        ]
    )
    return one_level.transform(None, lambda _: next(parts))


def _walk(
    node: Any,
    path: KeyPath,
    is_leaf: Callable[[KeyPath, Any], bool] | None,
    found: list[tuple[KeyPath, Any]],
) -> None:
    if (is_leaf is not None and is_leaf(path, node)) or node_type(node.__class__) is None:
        found.append((path, node))
        return
    for step, child in flatten_one_level_with_keys(node)[0]:
        _walk(child, (*path, step), is_leaf, found)
