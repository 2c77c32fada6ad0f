"""Names of batch axes: their checks, sizes, and the place of an example along them."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import named_axis_size
from covector.numpy.promote import constant
from covector.ops import collective as col
from covector.ops.elementwise import add, mul

__all__ = ["axis_index", "axis_size"]


def axis_size(axis_name: Any) -> Any:
    """The size of a batch axis.

    Args:
        axis_name: its name in an enclosing `vmap`, or a tuple of names.

    Returns:
        A Python integer.

    Raises:
        NameError: if no enclosing `vmap` has the name.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x / lax.axis_size("i"), axis_name="i")(cnp.ones(4))
    Array([0.25, 0.25, 0.25, 0.25], dtype=float32)
    """
    return product(only_named("axis_size", axis_name))


def axis_index(axis_name: Any) -> Any:
    """The number of the present example along a batch axis.

    Args:
        axis_name: its name in an enclosing `vmap`, or a tuple of names.

    Returns:
        An int32 scalar.

    Raises:
        NameError: if no enclosing `vmap` has the name.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x + lax.axis_index("i"), axis_name="i")(cnp.zeros(3))
    Array([0., 1., 2.], dtype=float32)
    """
    names = only_named("axis_index", axis_name)
    if not names:
        return constant(0, dtypes.int32)
    index = col.axis_index(axis_name=names[0])
    for name in names[1:]:
        index = mul(index, constant(named_axis_size(name), dtypes.int32))
        index = add(index, col.axis_index(axis_name=name))
    return index


# --- checks ---------------------------------------------------------------------------------------


def in_scope(what: str, axis_name: Any) -> tuple[Any, ...]:
    """Axis names as a tuple without duplicates, all of them in scope."""
    several = isinstance(axis_name, (tuple, list))
    names = tuple(cast("Sequence[Any]", axis_name)) if several else (axis_name,)
    for name in names:
        if not isinstance(name, int):
            named_axis_size(name)
    if len(set(names)) < len(names):
        raise ValueError(
            compose(f"lax.{what}: axis names must differ", found=repr(names), line=here())
        )
    return names


def only_named(what: str, axis_name: Any) -> tuple[Any, ...]:
    """Axis names as `in_scope` gives them, positions refused."""
    names = in_scope(what, axis_name)
    if any([isinstance(name, int) for name in names]):
        raise TypeError(
            compose(
                f"lax.{what} takes names of vmap axes, not positions",
                found=repr(axis_name),
                line=here(),
            )
        )
    return names


def product(names: Sequence[Any]) -> Any:
    """The number of examples along several axes."""
    return math.prod([named_axis_size(name) for name in names])


def no_groups(what: str, axis_index_groups: Any) -> None:
    """Raises unless no groups are given."""
    if axis_index_groups is not None:
        raise NotImplementedError(
            compose(
                f"lax.{what}: axis_index_groups is not supported under vmap",
                found=repr(axis_index_groups),
                fix="split the batch axis in two, and name them in two nested vmaps",
                line=here(),
            )
        )


def group_size(axis_index_groups: Sequence[Sequence[int]]) -> int:
    """The size of each group; they must cover the indices of the axis once."""
    members = [i for group in axis_index_groups for i in group]
    if sorted(members) != list(range(len(members))):
        raise ValueError(
            compose(
                "axis_index_groups must cover all indices of the axis exactly once",
                found=repr(axis_index_groups),
                line=here(),
            )
        )
    return len(axis_index_groups[0]) if axis_index_groups else 0


def position(what: str, axis: int, count: int, x: Any) -> int:
    """A position among `count`, counted from the start."""
    place = operator.index(axis)
    if not -count <= place < count:
        raise ValueError(
            compose(
                f"lax.{what}: axis {axis} is out of bounds",
                found=f"an operand {x.aval}",
                fix=f"give an axis from {-count} to {count - 1}" if count else "",
                line=here(),
            )
        )
    return place % count
