"""Collective operations: communication among the examples of a `vmap` with an axis name.

Where an axis name is asked for, a tuple of names stands for their product, the last varying
fastest. `axis_index` and `axis_size` are in `axis_names.py`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import dtypes, pytree
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.source import here
from covector.core.trace import Tracer, named_axis_size
from covector.lax.axis_names import group_size, in_scope, no_groups, only_named, position, product
from covector.numpy.promote import convert, operand
from covector.ops import collective as col
from covector.ops.common import move_axis
from covector.ops.reduce import reduce_max, reduce_min, reduce_sum
from covector.ops.shape import reshape
from covector.ops.slices import slice_in_dim

__all__ = [
    "all_gather",
    "all_to_all",
    "pbroadcast",
    "pmax",
    "pmean",
    "pmin",
    "ppermute",
    "pshuffle",
    "psum",
    "psum_scatter",
    "pswapaxes",
]


# --- reductions ---------------------------------------------------------------------------------


def psum(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """The sum over all examples of a batch.

    Args:
        x: a pytree of arrays and numbers; booleans count as integers.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names; integers
            among them are positional axes of `x`, summed too.
        axis_index_groups: must be `None`, except for constants, which are multiplied by the size
            of a group.

    Returns:
        The sums. A constant (a number, or an array that is not traced) gives a constant: itself
        times the size of the axis.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x / lax.psum(x, "i"), axis_name="i")(cnp.array([1.0, 3.0]))
    Array([0.25, 0.75], dtype=float32)
    """
    names, positions = _reduced_axes("psum", axis_name, axis_index_groups)

    def total(leaf: Any) -> Any:
        if not isinstance(leaf, Tracer):
            return _constant_sum(leaf, names, positions, axis_index_groups)
        no_groups("psum", axis_index_groups)
        value = _countable(leaf)
        value = _reduce_positions("psum", reduce_sum, value, positions)
        for name in names:
            value = col.psum(value, axis_name=name)
        return value

    return pytree.map(total, x)


def _reduced_axes(what: str, axis_name: Any, axis_index_groups: Any) -> tuple[list[Any], list[int]]:
    """The named axes and the positional ones."""
    axes = in_scope(what, axis_name)
    names = [a for a in axes if not isinstance(a, int)]
    positions = [a for a in axes if isinstance(a, int)]
    if axis_index_groups is not None:
        group_size(axis_index_groups)
        if positions:
            raise ValueError(f"lax.{what}: axis_index_groups go with named axes only, got {axes}")
    return names, positions


def _countable(x: Any) -> Any:
    return convert(x, dtypes.int32) if dtypes.is_bool(x.dtype) else x


def _constant_sum(
    leaf: Any, names: Sequence[Any], positions: Sequence[int], axis_index_groups: Any
) -> Any:
    size = product(names) if axis_index_groups is None else group_size(axis_index_groups)
    value = operand(leaf, "lax.psum")
    if positions:
        value = _reduce_positions("psum", reduce_sum, _countable(value), positions)
    elif not dtypes.is_bool(value.dtype):
        value = leaf
    else:
        value = _countable(value)
    return value * size


def _reduce_positions(
    what: str, reduce: Callable[..., Any], x: Any, positions: Sequence[int]
) -> Any:
    if not positions:
        return x
    axes = tuple([position(what, p, x.ndim, x) for p in positions])
    return reduce(x, axes=axes)


def pmean(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """The mean over all examples of a batch.

    Args:
        x: a pytree of arrays and numbers.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        axis_index_groups: as in `psum`.

    Returns:
        The means; those of integers are floating.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x - lax.pmean(x, "i"), axis_name="i")(cnp.array([1.0, 3.0]))
    Array([-1.,  1.], dtype=float32)
    """
    count = psum(1, axis_name, axis_index_groups=axis_index_groups)
    sums = psum(x, axis_name, axis_index_groups=axis_index_groups)

    def mean(value: Any) -> Any:
        return value / count

    return pytree.map(mean, sums)


def pmax(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """The maximum over all examples of a batch.

    Unlike in JAX it can be differentiated: examples that attain it share the derivative.

    Args:
        x: a pytree of arrays and numbers.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names; integers
            among them are positional axes of `x`.
        axis_index_groups: must be `None`.

    Returns:
        The maxima.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x / lax.pmax(x, "i"), axis_name="i")(cnp.array([1.0, 4.0]))
    Array([0.25, 1.  ], dtype=float32)
    """
    return _extremum("pmax", col.pmax, reduce_max, x, axis_name, axis_index_groups)


def pmin(x: Any, axis_name: Any, *, axis_index_groups: Any = None) -> Any:
    """The minimum over all examples of a batch; otherwise like `pmax`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: x - lax.pmin(x, "i"), axis_name="i")(cnp.array([1.0, 4.0]))
    Array([0., 3.], dtype=float32)
    """
    return _extremum("pmin", col.pmin, reduce_min, x, axis_name, axis_index_groups)


def _extremum(
    what: str,
    named: Callable[..., Any],
    positional: Callable[..., Any],
    x: Any,
    axis_name: Any,
    axis_index_groups: Any,
) -> Any:
    names, positions = _reduced_axes(what, axis_name, axis_index_groups)
    no_groups(what, axis_index_groups)

    def extremum(leaf: Any) -> Any:
        value = _reduce_positions(what, positional, operand(leaf, f"lax.{what}"), positions)
        for name in names if isinstance(leaf, Tracer) else ():
            value = named(value, axis_name=name)
        return value

    return pytree.map(extremum, x)


# --- gathering and exchanging -------------------------------------------------------------------


def all_gather(
    x: Any, axis_name: Any, *, axis_index_groups: Any = None, axis: int = 0, tiled: bool = False
) -> Any:
    """The operands of all examples of a batch, together.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        axis_index_groups: must be `None`.
        axis: where the batch axis goes; with `tiled`, along which axis they are concatenated.
        tiled: concatenate along an axis of the operands instead of stacking along a new one.

    Returns:
        The same arrays in all examples.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if `axis` is out of bounds.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.all_gather(x, "i"), axis_name="i")(cnp.arange(2))
    Array([[0, 1],
           [0, 1]], dtype=int32)
    """
    names = only_named("all_gather", axis_name)
    no_groups("all_gather", axis_index_groups)

    def gather(leaf: Any) -> Any:
        value = operand(leaf, "lax.all_gather")
        place = position("all_gather", axis, value.ndim + (not tiled), value)
        if not names:
            return value
        for name in reversed(names):
            size = named_axis_size(name)
            value = col.all_gather(value, axis_name=name, axis_size=size, axis=place)
        return _merged(value, place, len(names) + tiled)

    return pytree.map(gather, x)


def _merged(x: Any, start: int, count: int) -> Any:
    """`x` with `count` axes from `start` on merged into one."""
    if count == 1:
        return x
    shape = x.aval.shape
    merged = Aval(shape[start : start + count], dtypes.int32).size
    sizes = (*shape[:start], merged, *shape[start + count :])
    return reshape(x, new_sizes=sizes, dimensions=None)


def _exchanged(x: Any, names: Sequence[Any], axis: int, tiled: bool) -> Any:
    """`x` with the named axes exchanged for the axis `axis`, whose first part has their sizes.

    The axis is split into one for each name, and for `tiled` one more that holds the rest.
    """
    sizes = [named_axis_size(name) for name in names]
    shape = x.aval.shape
    rest = [shape[axis] // math.prod(sizes)] if tiled else []
    x = reshape(x, new_sizes=(*shape[:axis], *sizes, *rest, *shape[axis + 1 :]), dimensions=None)
    for k, (name, size) in enumerate(zip(names, sizes, strict=True)):
        x = col.all_to_all(x, axis_name=name, axis_size=size, axis=axis + k)
    return x


def _check_split(what: str, x: Any, axis: int, names: Sequence[Any], tiled: bool) -> None:
    size, extent = product(names), x.aval.shape[axis]
    if extent % size == 0 if tiled else extent == size:
        return
    relation = "be divisible by" if tiled else "equal"
    raise ValueError(
        compose(
            f"lax.{what}: the size of axis {axis} must {relation} the size of the named axis",
            found=f"{x.aval}, and size {size} of {', '.join(map(repr, names))}",
            fix="" if tiled else "reshape the operand, or use tiled=True",
            line=here(),
        )
    )


def all_to_all(
    x: Any,
    axis_name: Any,
    split_axis: int,
    concat_axis: int,
    *,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """Exchanges a batch axis for an axis of the operands.

    Each example distributes its operand along `split_axis` to all examples, and puts together
    along `concat_axis` what it gets from them.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        split_axis: the axis that is distributed; its size is that of the batch axis (with `tiled`,
            a multiple of it).
        concat_axis: where the former batch axis goes.
        axis_index_groups: must be `None`.
        tiled: distribute pieces and concatenate them along `concat_axis`, so that no axis is
            removed or inserted.

    Returns:
        The rearranged arrays.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if the sizes do not fit, or an axis is out of bounds.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.all_to_all(x, "i", 0, 0), axis_name="i")(cnp.arange(4).reshape(2, 2))
    Array([[0, 2],
           [1, 3]], dtype=int32)
    """
    names = only_named("all_to_all", axis_name)
    no_groups("all_to_all", axis_index_groups)

    def exchange(leaf: Any) -> Any:
        value = operand(leaf, "lax.all_to_all")
        source = position("all_to_all", split_axis, value.ndim, value)
        target = position("all_to_all", concat_axis, value.ndim, value)
        _check_split("all_to_all", value, source, names, tiled)
        if not names:
            return value
        value = _merged(_exchanged(value, names, source, tiled), source, len(names))
        value = move_axis(value, source, target)
        return _merged(value, target, 2) if tiled else value

    return pytree.map(exchange, x)


def pswapaxes(x: Any, axis_name: Any, axis: int, *, axis_index_groups: Any = None) -> Any:
    """Swaps a batch axis with an axis of the operands, which has its size.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        axis: which axis of the operands.
        axis_index_groups: must be `None`.

    Returns:
        Arrays of the same shapes.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if the sizes differ.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.pswapaxes(x, "i", 0), axis_name="i")(cnp.arange(4).reshape(2, 2))
    Array([[0, 2],
           [1, 3]], dtype=int32)
    """
    return all_to_all(x, axis_name, axis, axis, axis_index_groups=axis_index_groups)


def psum_scatter(
    x: Any,
    axis_name: Any,
    *,
    scatter_dimension: int = 0,
    axis_index_groups: Any = None,
    tiled: bool = False,
) -> Any:
    """The sum over all examples of a batch, of which each example keeps its own part.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        scatter_dimension: the axis along which the sum is distributed; its size is that of the
            batch axis (with `tiled`, a multiple of it).
        axis_index_groups: must be `None`.
        tiled: keep the axis, with the example's piece along it.

    Returns:
        The parts of the sums.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if the sizes do not fit, or the axis is out of bounds.
        NotImplementedError: for `axis_index_groups`.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.psum_scatter(x, "i"), axis_name="i")(cnp.arange(4).reshape(2, 2))
    Array([2, 4], dtype=int32)
    """
    names = only_named("psum_scatter", axis_name)
    no_groups("psum_scatter", axis_index_groups)

    def scatter(leaf: Any) -> Any:
        value = operand(leaf, "lax.psum_scatter")
        place = position("psum_scatter", scatter_dimension, value.ndim, value)
        _check_split("psum_scatter", value, place, names, tiled)
        if not names:
            return value
        exchanged = _exchanged(value, names, place, tiled)
        return reduce_sum(exchanged, axes=tuple(range(place, place + len(names))))

    return pytree.map(scatter, x)


# --- permutations -------------------------------------------------------------------------------


def ppermute(x: Any, axis_name: Any, perm: Sequence[tuple[int, int]]) -> Any:
    """Sends the operands of some examples of a batch to others.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`.
        perm: pairs `(source, destination)` of indices along the axis; no two have the same source
            or the same destination.

    Returns:
        What each example received; zeros if it is no destination.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if sources or destinations repeat.
        IndexError: if one is out of range.
        NotImplementedError: for more than one axis name.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> ring = [(0, 1), (1, 2), (2, 0)]
    >>> cv.vmap(lambda x: lax.ppermute(x, "i", ring), axis_name="i")(cnp.arange(3))
    Array([2, 0, 1], dtype=int32)
    """
    names = only_named("ppermute", axis_name)
    if len(names) != 1:
        raise NotImplementedError(
            compose(
                "lax.ppermute takes one axis name",
                found=repr(axis_name),
                fix="permute along one axis after the other",
                line=here(),
            )
        )
    pairs = _permutation(perm, named_axis_size(names[0]))

    def send(leaf: Any) -> Any:
        value = operand(leaf, "lax.ppermute")
        return col.ppermute(value, axis_name=names[0], perm=pairs)

    return pytree.map(send, x)


def _permutation(perm: Sequence[Any], size: Any) -> tuple[tuple[int, int], ...]:
    pairs = tuple([(operator.index(s), operator.index(d)) for s, d in perm])
    for ends in zip(*pairs, strict=True):
        if len(set(ends)) < len(ends):
            raise ValueError(
                compose(
                    "lax.ppermute: sources and destinations must be unique",
                    found=repr(pairs),
                    line=here(),
                )
            )
        if type(size) is int and not all([0 <= i < size for i in ends]):
            raise IndexError(
                compose(
                    f"lax.ppermute: an index is out of range for an axis of size {size}",
                    found=repr(pairs),
                    line=here(),
                )
            )
    return pairs


def pshuffle(x: Any, axis_name: Any, perm: Sequence[int]) -> Any:
    """Rearranges the operands of the examples of a batch.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`.
        perm: for each example, the index of the one whose operand it gets.

    Returns:
        The rearranged arrays.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        ValueError: if `perm` is no permutation.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.pshuffle(x, "i", [2, 0, 1]), axis_name="i")(cnp.arange(3))
    Array([2, 0, 1], dtype=int32)
    """
    if sorted(perm) != list(range(len(perm))):
        raise ValueError(
            compose("lax.pshuffle: perm is no permutation", found=repr(perm), line=here())
        )
    return ppermute(x, axis_name, [(source, k) for k, source in enumerate(perm)])


def pbroadcast(x: Any, axis_name: Any, source: int) -> Any:
    """The operand of one example of a batch, in all of them.

    Args:
        x: a pytree of arrays.
        axis_name: the name of the axis in an enclosing `vmap`, or a tuple of names.
        source: the index of that example.

    Returns:
        Its operand.

    Raises:
        NameError: if no enclosing `vmap` has the name.
        IndexError: if `source` is out of range.

    >>> import covector as cv, covector.numpy as cnp
    >>> from covector import lax
    >>> cv.vmap(lambda x: lax.pbroadcast(x, "i", 1), axis_name="i")(cnp.arange(3))
    Array([1, 1, 1], dtype=int32)
    """
    size = product(only_named("pbroadcast", axis_name))
    place = operator.index(source)
    if not 0 <= place < size:
        raise IndexError(
            compose(
                f"lax.pbroadcast: source is out of range for an axis of size {size}",
                found=repr(source),
                line=here(),
            )
        )

    def spread(leaf: Any) -> Any:
        gathered = all_gather(leaf, axis_name)
        chosen = slice_in_dim(gathered, place, place + 1, 0)
        return reshape(chosen, new_sizes=gathered.aval.shape[1:], dimensions=None)

    return pytree.map(spread, x)
