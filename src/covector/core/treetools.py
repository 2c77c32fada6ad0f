"""Reductions and rearrangements of pytrees, for users; nothing in the compiler needs them."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from covector.core.errors import compose
from covector.core.pytree import IsLeaf, PyTreeDef, flatten, leaves, structure

T = TypeVar("T")


def all(tree: Any, *, is_leaf: IsLeaf = None) -> bool:  # noqa: A001 - JAX's name
    """Whether all leaves are true."""
    return builtins.all(leaves(tree, is_leaf))


_UNSPECIFIED: Any = object()


def reduce(
    function: Callable[[T, Any], T],
    tree: Any,
    initializer: Any = _UNSPECIFIED,
    is_leaf: IsLeaf = None,
) -> T:
    """Combine the leaves from left to right.

    Args:
        function: takes the value so far and the next leaf.
        tree: the pytree.
        initializer: the value to begin with; the first leaf when left out.
        is_leaf: says of a node that it is to be taken as a leaf.

    Raises:
        TypeError: there are no leaves, and no initializer.

    Example:
        >>> reduce(lambda a, b: a + b, [1, (2, 3)])
        6
    """
    values = leaves(tree, is_leaf)
    if initializer is _UNSPECIFIED:
        return functools.reduce(function, values)
    return functools.reduce(function, values, initializer)


def reduce_associative(
    operation: Callable[[T, T], T],
    tree: Any,
    *,
    identity: Any = _UNSPECIFIED,
    is_leaf: IsLeaf = None,
) -> T:
    """Combine the leaves pairwise, in a balanced tree.

    Args:
        operation: an associative function of two leaves.
        tree: the pytree.
        identity: the result when there are no leaves.
        is_leaf: says of a node that it is to be taken as a leaf.

    Raises:
        TypeError: there are no leaves, and no identity.

    Example:
        >>> reduce_associative(lambda a, b: f"({a}{b})", ["a", "b", "c", "d"])
        '((ab)(cd))'
    """
    values = leaves(tree, is_leaf)
    if not values:
        if identity is _UNSPECIFIED:
            raise TypeError("reduce_associative of a tree without leaves needs an identity")
        return identity
    while len(values) > 1:
        pairs = [operation(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def transpose(
    outer_treedef: PyTreeDef, inner_treedef: PyTreeDef | None, pytree_to_transpose: Any
) -> Any:
    """Turn a tree of trees inside out.

    Args:
        outer_treedef: the structure of the outer tree.
        inner_treedef: the structure of each inner tree; taken from the first one when None.
        pytree_to_transpose: an outer tree of inner trees.

    Returns:
        An inner tree of outer trees.

    Raises:
        TypeError: the tree is not an outer tree of inner trees.

    Example:
        >>> transpose(structure([0, 0]), structure((0, 0)), [(1, 2), (3, 4)])
        ([1, 3], [2, 4])
    """
    values, treedef = flatten(pytree_to_transpose)
    if inner_treedef is None:
        inner_treedef = structure(outer_treedef.flatten_up_to(pytree_to_transpose)[0])
    expected = outer_treedef.compose(inner_treedef)
    if treedef != expected:
        raise TypeError(
            compose(
                f"transpose needs a tree of structure {expected}",
                found=str(treedef),
                fix="check that all inner trees have the same structure",
            )
        )
    width = inner_treedef.num_leaves
    columns = [values[i::width] for i in range(width)]
    return inner_treedef.unflatten([outer_treedef.unflatten(column) for column in columns])


def all_leaves(iterable: Iterable[Any], is_leaf: IsLeaf = None) -> bool:
    """Whether every element of an iterable is a leaf."""
    elements = list(iterable)
    found = leaves(elements, lambda x: x is not elements and is_leaf is not None and is_leaf(x))
    return len(found) == len(elements) and builtins.all(
        a is b for a, b in zip(found, elements, strict=True)
    )


def treedef_tuple(treedefs: Iterable[PyTreeDef]) -> PyTreeDef:
    """The structure of a tuple of trees with these structures.

    Example:
        >>> treedef_tuple([structure(0), structure([0])])
        PyTreeSpec((*, [*]))
    """
    parts = list(treedefs)
    if not parts:
        return structure(())
    remaining = iter(parts)
    return structure((0,) * len(parts)).transform(None, lambda _: next(remaining))


def treedef_children(treedef: PyTreeDef) -> list[PyTreeDef]:
    """The structures of the children of the top node."""
    return treedef.children()


def treedef_is_leaf(treedef: PyTreeDef) -> bool:
    """Whether a structure is a single leaf (or None, which has no children either)."""
    return treedef.num_nodes == 1
