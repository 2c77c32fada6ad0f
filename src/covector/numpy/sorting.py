"""Sorting, and searching in what is sorted."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import dtypes
from covector.core.array import Array
from covector.core.trace import Tracer
from covector.numpy.creation import asarray
from covector.numpy.index_functions import take
from covector.numpy.manipulation import moveaxis, reshape
from covector.numpy.promote import broadcast_to, constant, convert, operand, promote_dtypes
from covector.numpy.reductions import one_axis
from covector.ops import elementwise as el
from covector.ops import shape as sh
from covector.ops import sort as so
from covector.ops.pieces import concatenate
from covector.ops.reduce import reduce_sum
from covector.ops.slices import slice_in_dim

__all__ = [
    "argpartition",
    "argsort",
    "lexsort",
    "partition",
    "searchsorted",
    "sort",
    "sort_complex",
]


def _along(name: str, a: Any, axis: int | None) -> tuple[Any, int]:
    """An array and the axis to sort along; the flattened array for `None`."""
    x = operand(a, name)
    if axis is None:
        return reshape(x, (-1,) if x.size else (0,)), 0
    return x, one_axis(name, axis, x.ndim)


def _check_kind(name: str, kind: Any, order: Any) -> None:
    if order is not None:
        raise NotImplementedError(f"{name}: order= is for record arrays, which do not exist here")
    if kind not in (None, "quicksort", "mergesort", "heapsort", "stable"):
        raise ValueError(f"{name}: kind must be a name of one of NumPy's algorithms, got {kind!r}")


def sort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: str | None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
) -> Any:
    """A sorted copy: NaN comes last, complex numbers by their real, then by their imaginary part.

    Args:
        a: an array.
        axis: along which; the flattened array for `None`.
        kind: of algorithm; it makes no difference here.
        order: must be `None`.
        stable: whether equal elements keep their order; they always do.
        descending: the largest first.

    >>> import covector.numpy as cnp
    >>> cnp.sort(cnp.array([3, 1, 2]))
    Array([1, 2, 3], dtype=int32)
    """
    _check_kind("sort", kind, order)
    x, place = _along("sort", a, axis)
    (result,) = so.sort(x, dimension=place, is_stable=stable, num_keys=1)
    return sh.rev(result, dimensions=(place,)) if descending else result


def argsort(
    a: Any,
    axis: int | None = -1,
    *,
    kind: str | None = None,
    order: None = None,
    stable: bool = True,
    descending: bool = False,
    dtype: Any = None,
) -> Any:
    """The indices that sort an array.

    Args:
        a: an array.
        axis: along which; the flattened array for `None`.
        kind: of algorithm; it makes no difference here.
        order: must be `None`.
        stable: whether equal elements keep their order; they always do.
        descending: the index of the largest first.
        dtype: of the indices, int32 (int64 with x64) by default.

    >>> import covector.numpy as cnp
    >>> cnp.argsort(cnp.array([3, 1, 2]))
    Array([1, 2, 0], dtype=int32)
    """
    _check_kind("argsort", kind, order)
    x, place = _along("argsort", a, axis)
    target = dtypes.default_int() if dtype is None else dtypes.requested(dtype, "argsort")
    places = sh.iota(dtype=target, shape=x.shape, dimension=place)
    if descending:
        # Reversed before and after, so that equal elements keep their order.
        x, places = (sh.rev(y, dimensions=(place,)) for y in (x, places))
    _, result = so.sort(x, places, dimension=place, is_stable=stable, num_keys=1)
    return sh.rev(result, dimensions=(place,)) if descending else result


def lexsort(keys: Any, axis: int = -1) -> Any:
    """The indices that sort by several keys, the last the most significant.

    Args:
        keys: arrays of one shape, or an array with one key along its first axis.
        axis: along which.

    >>> import covector.numpy as cnp
    >>> cnp.lexsort((cnp.array([0, 1, 0]), cnp.array([2, 1, 1])))
    Array([2, 1, 0], dtype=int32)
    """
    columns = [operand(keys[k], "lexsort") for k in range(len(keys))]
    if not columns:
        raise TypeError("lexsort needs at least one key")
    if any(c.shape != columns[0].shape for c in columns):
        raise ValueError(f"lexsort needs keys of one shape, got {[str(c.aval) for c in columns]}")
    if columns[0].ndim == 0:
        return constant(0, dtypes.default_int())
    place = one_axis("lexsort", axis, columns[0].ndim)
    places = sh.iota(dtype=dtypes.default_int(), shape=columns[0].shape, dimension=place)
    sorted_ = so.sort(
        *columns[::-1], places, dimension=place, is_stable=True, num_keys=len(columns)
    )
    return sorted_[-1]


def sort_complex(a: Any) -> Any:
    """The elements sorted along the last axis, as complex numbers."""
    result = sort(a)
    return convert(result, dtypes.complex_of(result.dtype))


def partition(a: Any, kth: int, axis: int = -1) -> Any:
    """A copy whose `kth` element is in its place, smaller ones before it, larger ones behind.

    Args:
        a: an array.
        kth: which element; negative numbers count from the end.
        axis: along which.
    """
    x, place = operand(a, "partition"), 0
    _no_complex("partition", x)
    place = one_axis("partition", axis, x.ndim)
    k = _position("partition", kth, x.shape[place])
    x = moveaxis(x, place, -1)
    low = so.top_k(_reversed_order(x), k=k + 1, axis=x.ndim - 1)[0]
    high = so.top_k(x, k=x.shape[-1] - k - 1, axis=x.ndim - 1)[0]
    joined = concatenate(_reversed_order(low), high, dimension=x.ndim - 1)
    return moveaxis(joined, -1, place)


def argpartition(a: Any, kth: int, axis: int = -1) -> Any:
    """Indices of a partition, see `partition`.

    Args:
        a: an array.
        kth: which element; negative numbers count from the end.
        axis: along which.
    """
    x = operand(a, "argpartition")
    _no_complex("argpartition", x)
    place = one_axis("argpartition", axis, x.ndim)
    k = _position("argpartition", kth, x.shape[place])
    order = argsort(x, place)
    # Sorted is more than is asked for; int32, as the indices of `top_k`.
    assert 0 <= k < x.shape[place]
    return convert(order, dtypes.int32)


def _no_complex(name: str, x: Any) -> None:
    if dtypes.is_complex(x.dtype):
        raise NotImplementedError(f"{name} of complex numbers is not supported: use sort")


def _position(name: str, kth: Any, size: int) -> int:
    if not -size <= kth < size:
        raise ValueError(f"{name}: kth={kth} is out of range for an axis of size {size}")
    return int(kth) % size


def _reversed_order(x: Any) -> Any:
    """Elements whose order is the reverse; its own inverse."""
    if dtypes.is_unsigned(x.dtype) or dtypes.is_bool(x.dtype) or dtypes.is_signed(x.dtype):
        return el.not_(x)
    return el.neg(x)


# --- searching ----------------------------------------------------------------------------------

Comparison = Callable[[Any, Any], Any]


def searchsorted(
    a: Any, v: Any, side: str = "left", sorter: Any = None, *, method: str = "scan"
) -> Any:
    """Where elements would go in a sorted vector.

    Args:
        a: a sorted vector.
        v: elements to find places for.
        side: "left" for the first place, "right" for the last one, where there are equal elements.
        sorter: indices that sort `a`, if it is not sorted.
        method: "scan", "scan_unrolled", "sort" or "compare_all"; the result is the same.

    Returns:
        Indices into `a`, of the shape of `v`.

    >>> import covector.numpy as cnp
    >>> cnp.searchsorted(cnp.array([1, 3, 5]), cnp.array([0, 3, 9]))
    Array([0, 1, 3], dtype=int32)
    """
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted: side must be 'left' or 'right', got {side!r}")
    if method not in ("scan", "scan_unrolled", "sort", "compare_all"):
        raise ValueError(f"searchsorted: there is no method {method!r}")
    table, values = promote_dtypes(operand(a, "searchsorted"), operand(v, "searchsorted"))
    if table.ndim != 1:
        raise ValueError(f"searchsorted needs a vector to search in, got {table.aval}")
    if sorter is not None:
        table = take(table, sorter)
    size = table.shape[0]
    index = dtypes.int32 if size < 2**31 else dtypes.int64
    if size == 0:
        return broadcast_to(constant(0, index), values.shape)
    goes_before = _precedes if side == "left" else _precedes_or_equals
    if method == "compare_all":
        return _count_before(table, values, goes_before, index)
    if method == "sort":
        return _ranks_among(table, values, side, index)
    return _bisect(table, values, goes_before, index)


def _count_before(table: Any, values: Any, goes_before: Comparison, index: Any) -> Any:
    shape = (table.shape[0], *values.shape)
    rows = broadcast_to(reshape(table, (-1,) + (1,) * values.ndim), shape)
    columns = broadcast_to(values, shape)
    return reduce_sum(convert(goes_before(rows, columns), index), axes=(0,))


def _ranks_among(table: Any, values: Any, side: str, index: Any) -> Any:
    """By sorting elements and table together: the rank of each, less its rank among elements."""
    flat = reshape(values, (values.size,))
    # Of equal ones, elements come before the table's for the left side, behind for the right.
    parts = (flat, table) if side == "left" else (table, flat)
    joined = concatenate(*parts, dimension=0)
    start = 0 if side == "left" else table.shape[0]
    ranks = slice_in_dim(_inverse(argsort(joined)), start, start + flat.shape[0], 0)
    own = _inverse(argsort(flat))
    return reshape(convert(ranks - own, index), values.shape)


def _inverse(permutation: Any) -> Any:
    return argsort(permutation)


def _bisect(table: Any, values: Any, goes_before: Comparison, index: Any) -> Any:
    low = broadcast_to(constant(0, index), values.shape)
    high = broadcast_to(constant(table.shape[0], index), values.shape)
    one = constant(1, index)
    for _ in range(math.ceil(math.log2(table.shape[0] + 1))):
        # low <= middle < high while the interval is not empty; then it is the place itself.
        middle = el.shift_right_logical(el.add(low, high), one)
        before = goes_before(take(table, middle, mode="clip"), values)
        open_ = el.lt(low, high)
        low, high = (
            el.select_n(el.and_(open_, before), low, el.add(middle, one)),
            el.select_n(before, middle, high),
        )
    return low


def _parts(x: Any) -> list[Any]:
    return [el.real(x), el.imag(x)] if dtypes.is_complex(x.dtype) else [x]


def _precedes(x: Any, y: Any) -> Any:
    """`x < y` in the order of `sort`."""
    result: Any = None
    for a, b in reversed(list(zip(_parts(x), _parts(y), strict=True))):
        less, equal = _compared(a, b)
        result = less if result is None else el.or_(less, el.and_(equal, result))
    return result


def _precedes_or_equals(x: Any, y: Any) -> Any:
    """`x <= y` in the order of `sort`."""
    return el.not_(_precedes(y, x))


def _compared(a: Any, b: Any) -> tuple[Any, Any]:
    """Whether `a < b` and whether they are equal, NaN being the largest."""
    less, equal = el.lt(a, b), el.eq(a, b)
    if not dtypes.is_floating(a.dtype):
        return less, equal
    a_nan, b_nan = el.ne(a, a), el.ne(b, b)
    return el.or_(less, el.and_(b_nan, el.not_(a_nan))), el.or_(equal, el.and_(a_nan, b_nan))


def sorted_rows(columns: Sequence[Any]) -> Any:
    """The indices that sort rows given by their columns, the first the most significant."""
    return lexsort(list(columns)[::-1])


def is_known(x: Any) -> bool:
    """Whether an array's values are known while tracing."""
    return isinstance(x, Array) or (isinstance(x, Tracer) and x.concrete() is not None)


def known_values(name: str, x: Any, why: str) -> Any:
    """The values of an array as a NumPy array.

    Raises:
        ConcretizationTypeError: they are not known while tracing.
    """
    import numpy as np

    from covector.core.errors import ConcretizationTypeError, compose
    from covector.core.source import here

    x = asarray(x)
    if not is_known(x):
        raise ConcretizationTypeError(
            compose(
                f"{name} needs values known while tracing, {why}",
                found=f"a traced value {x.aval} of {x._trace.name}",
                fix=f"give {name} a size, or call it outside of jit",
                line=here(),
            )
        )
    return np.asarray(x.concrete())
