"""Shapes with sizes that are known when an exported function is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from covector.core import pytree
from covector.core.dims import Dim
from covector.core.errors import compose
from covector.core.shapes import parse_dim
from covector.core.trace import aval_of
from covector.transforms.stages import ShapeDtypeStruct, shapes_only

_COMMA = re.compile(r",(?![^(]*\))")


def is_symbolic_dim(size: Any) -> bool:
    """Whether an entry of a shape is symbolic.

    Example:
        >>> [is_symbolic_dim(n) for n in symbolic_shape("batch, 3")]
        [True, False]
    """
    return isinstance(size, Dim)


def symbolic_shape(shape_spec: str | None, *, like: Sequence[Any] | None = None) -> tuple[Any, ...]:
    """A shape from its text.

    Sizes of one name are equal in all shapes. They are at least 0, and known when the exported
    function is called.

    Args:
        shape_spec: sizes between commas: integers, names, and arithmetic on them (`+ - * // %`,
            `max`, `min`); `_` for the size that `like` has there, `...` for all that `like` has
            there. `None` is `...`.
        like: a shape.

    Returns:
        A tuple of integers and symbolic sizes.

    Raises:
        ValueError: if the text cannot be read, or asks for more than `like` has.

    Example:
        >>> symbolic_shape("batch, 2*n, 3")
        (batch, 2*n, 3)
        >>> symbolic_shape("batch, ...", like=(8, 28, 28))
        (batch, 28, 28)
    """
    text = "..." if shape_spec is None else shape_spec.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1].strip()
    items = [item.strip() for item in _COMMA.split(text)] if text else []
    if items and not items[-1]:
        items.pop()
    known = None if like is None else list(like)
    if items.count("...") > 1 or (known is None and {"...", "_"} & {*items}):
        raise _unreadable(text, known)
    if "..." in items:
        place = items.index("...")
        count = len(known or ()) - len(items) + 1
        items[place : place + 1] = ["_"] * count
        if count < 0:
            raise _unreadable(text, known)
    if known is not None and len(known) != len(items):
        raise _unreadable(text, known)
    return tuple([known[k] if known and t == "_" else parse_dim(t) for k, t in enumerate(items)])


def _unreadable(text: str, like: list[Any] | None) -> ValueError:
    return ValueError(
        compose(
            f"cannot read {text!r} as a shape",
            found="no shape that it is like" if like is None else f"it should be like {like}",
            fix="write a size for each axis; `_` and one `...` stand for those of `like`",
        )
    )


def symbolic_args_specs(args: Any, shapes_specs: Any) -> Any:
    """Arguments with symbolic shapes, for `export`.

    Args:
        args: a pytree of arrays or `ShapeDtypeStruct`s.
        shapes_specs: what `symbolic_shape` reads for each, or for all below a node: a prefix of
            the structure of `args`.

    Returns:
        A pytree of `ShapeDtypeStruct`s.

    Raises:
        ValueError: if a text cannot be read, or the structures do not go together.

    Example:
        >>> import numpy as np
        >>> symbolic_args_specs((np.zeros((2, 3), np.float32), np.float32(1)), ("n, ...", ""))
        (ShapeDtypeStruct(shape=(n, 3), dtype=float32), ShapeDtypeStruct(shape=(), dtype=float32))
    """
    leaves, tree = pytree.flatten(shapes_only((args,), {})[0][0])
    specs = pytree.broadcast_prefix(shapes_specs, args, is_leaf=lambda x: x is None)
    found: list[Any] = []
    for leaf, spec in zip(leaves, specs, strict=True):
        aval = aval_of(leaf)
        shape = symbolic_shape(spec, like=aval.shape)
        found.append(ShapeDtypeStruct(shape, aval.dtype, aval.weak_type))
    return pytree.unflatten(tree, found)
