"""Sets as sorted vectors without repetition.

How many elements a result has depends on values: under `jit`, `size` fixes it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from covector.core import dtypes
from covector.numpy.creation import arange, asarray
from covector.numpy.elementwise import isnan, logical_not, where
from covector.numpy.index_functions import nonzero, take
from covector.numpy.joining import concatenate
from covector.numpy.manipulation import moveaxis, ravel, reshape
from covector.numpy.promote import broadcast_to, constant, convert, operand, promote_dtypes
from covector.numpy.reductions import any as some
from covector.numpy.reductions import cumsum, one_axis
from covector.numpy.sorting import argsort, known_values, lexsort
from covector.ops import elementwise as el

__all__ = [
    "intersect1d",
    "isin",
    "setdiff1d",
    "setxor1d",
    "union1d",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
]


def unique(
    ar: Any,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    *,
    equal_nan: bool = True,
    size: int | None = None,
    fill_value: Any = None,
    sorted: bool = True,
) -> Any:
    """The different elements of an array, or slices along an axis, in order.

    Args:
        ar: an array.
        return_index: also return where each comes first.
        return_inverse: also return which of them each element is.
        return_counts: also return how often each comes.
        axis: slices along it are compared; the elements of the flattened array by default.
        equal_nan: whether all NaN are one.
        size: how many to return, the first ones; needed for traced values.
        fill_value: for those missing, by default the least one.
        sorted: the result is in order in any case.

    Returns:
        The elements, in a tuple with what else was asked for.

    >>> import covector.numpy as cnp
    >>> cnp.unique(cnp.array([3, 1, 3]))
    Array([1, 3], dtype=int32)
    """
    x = operand(ar, "unique")
    shape = x.shape
    if axis is None:
        x, place = ravel(x), 0
    else:
        place = one_axis("unique", axis, x.ndim)
    found = _Unique(x, place, equal_nan, size, fill_value)
    results = [found.values]
    if return_index:
        results.append(found.index)
    if return_inverse:
        results.append(reshape(found.inverse, shape) if axis is None else found.inverse)
    if return_counts:
        results.append(found.counts)
    return results[0] if len(results) == 1 else tuple(results)


class _Unique:
    """The different slices of an array, and what is known of them.

    Attributes:
        values: the slices, along the axis.
        index: where each comes first.
        inverse: for each slice of the array, which it is.
        counts: how often each comes.
    """

    def __init__(
        self, x: Any, axis: int, equal_nan: bool, size: int | None, fill_value: Any
    ) -> None:
        rows = moveaxis(x, axis, 0)
        count = rows.shape[0]
        width = math.prod(rows.shape[1:])
        columns = reshape(rows, (count, width))
        order = _row_order(columns)
        ordered = take(columns, order, axis=0, mode="clip")
        first = _differs_from_previous(ordered, equal_nan)
        index_dtype = dtypes.default_int()
        if size is None:
            known_values("unique", first, "as they give the size of the result")
        self._empty = count == 0
        # One more than asked for: where the last one ends.
        (starts,) = nonzero(first, size=None if size is None else size + 1, fill_value=count)
        if size is None:
            starts = concatenate([starts, broadcast_to(constant(count, starts.dtype), (1,))])
        ends, starts = starts[1:], starts[:-1]
        there = starts < count
        number = starts.shape[0]
        places = take(order, starts, mode="clip") if count else starts
        self.index = convert(where(there, places, places[:1] if number else 0), index_dtype)
        self.values = self._gathered(rows, axis, there, fill_value)
        rank = convert(cumsum(convert(first, index_dtype)) - 1, index_dtype)
        start = broadcast_to(constant(0, index_dtype), (count,))
        self.inverse = start.at[order].set(rank)
        self.counts = convert(where(there, ends - starts, 0), index_dtype)

    def _gathered(self, rows: Any, axis: int, there: Any, fill_value: Any) -> Any:
        if self._empty:
            shape = (there.shape[0], *rows.shape[1:])
            fill = constant(0, rows.dtype) if fill_value is None else asarray(fill_value)
            return moveaxis(broadcast_to(convert(fill, rows.dtype), shape), 0, axis)
        chosen = take(rows, self.index, axis=0, mode="clip")
        if fill_value is not None:
            fill = convert(operand(fill_value, "unique"), rows.dtype)
            mask = reshape(there, (-1,) + (1,) * (rows.ndim - 1))
            chosen = where(mask, chosen, fill)
        return moveaxis(chosen, 0, axis)


def _row_order(columns: Any) -> Any:
    """The indices that put rows in order, equal ones staying in theirs."""
    if columns.shape[1] == 1:
        return argsort(columns[:, 0])
    if columns.shape[1] == 0:
        return arange(columns.shape[0])
    return lexsort([columns[:, k] for k in reversed(range(columns.shape[1]))])


def _differs_from_previous(rows: Any, equal_nan: bool) -> Any:
    """For each row whether it is the first of its kind."""
    count = rows.shape[0]
    if count == 0:
        return broadcast_to(constant(False, dtypes.bool_), (0,))
    later, earlier = rows[1:], rows[:-1]
    differs = later != earlier
    if equal_nan and dtypes.is_inexact(rows.dtype):
        differs = differs & ~(isnan(later) & isnan(earlier))
    start = broadcast_to(constant(True, dtypes.bool_), (1,))
    return concatenate([start, some(differs, 1)])


class UniqueAll(NamedTuple):
    """What `unique_all` returns."""

    values: Any
    indices: Any
    inverse_indices: Any
    counts: Any


class UniqueCounts(NamedTuple):
    """What `unique_counts` returns."""

    values: Any
    counts: Any


class UniqueInverse(NamedTuple):
    """What `unique_inverse` returns."""

    values: Any
    inverse_indices: Any


def unique_all(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueAll:
    """The different elements, where each comes first, which each element is, and how often."""
    found = unique(x, True, True, True, equal_nan=False, size=size, fill_value=fill_value)
    return UniqueAll(*found)


def unique_counts(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueCounts:
    """The different elements, and how often each comes."""
    found = unique(x, return_counts=True, equal_nan=False, size=size, fill_value=fill_value)
    return UniqueCounts(*found)


def unique_inverse(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> UniqueInverse:
    """The different elements, and which of them each element is."""
    found = unique(x, return_inverse=True, equal_nan=False, size=size, fill_value=fill_value)
    return UniqueInverse(*found)


def unique_values(x: Any, /, *, size: int | None = None, fill_value: Any = None) -> Any:
    """The different elements."""
    return unique(x, equal_nan=False, size=size, fill_value=fill_value)


# --- membership ---------------------------------------------------------------------------------


def isin(
    element: Any,
    test_elements: Any,
    assume_unique: bool = False,
    invert: bool = False,
    *,
    method: str = "auto",
) -> Any:
    """Whether each element is one of a set.

    Args:
        element: an array.
        test_elements: the set.
        assume_unique: a promise that nothing depends on.
        invert: whether it is none of them.
        method: "auto", "compare_all", "binary_search" or "sort"; the result is the same.

    >>> import covector.numpy as cnp
    >>> cnp.isin(cnp.array([1, 2, 3]), cnp.array([2, 5]))
    Array([False,  True, False], dtype=bool)
    """
    from covector.numpy.sorting import searchsorted, sort

    if method not in ("auto", "compare_all", "binary_search", "sort"):
        raise ValueError(f"isin: there is no method {method!r}")
    x, table = promote_dtypes(operand(element, "isin"), operand(test_elements, "isin"))
    table = ravel(table)
    if table.shape[0] == 0 or x.size == 0:
        found = broadcast_to(constant(False, dtypes.bool_), x.shape)
    elif method == "compare_all" or (method == "auto" and table.shape[0] <= _FEW):
        found = some(x[..., None] == table, -1)
    else:
        table = sort(table)
        found = x == take(table, searchsorted(table, x), mode="clip")
    return logical_not(found) if invert else found


_FEW = 16


def _vectors(name: str, ar1: Any, ar2: Any) -> list[Any]:
    return [ravel(x) for x in promote_dtypes(operand(ar1, name), operand(ar2, name))]


def union1d(ar1: Any, ar2: Any, *, size: int | None = None, fill_value: Any = None) -> Any:
    """The elements of either array.

    Args:
        ar1: an array.
        ar2: another.
        size: see `unique`.
        fill_value: see `unique`.
    """
    return unique(concatenate(_vectors("union1d", ar1, ar2)), size=size, fill_value=fill_value)


def setdiff1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The elements of the first array that the second does not have.

    Args:
        ar1: an array.
        ar2: another.
        assume_unique: `ar1` has no element twice; the result is in its order then.
        size: how many to return; needed for traced values.
        fill_value: for those missing, 0 by default.
    """
    x, y = _vectors("setdiff1d", ar1, ar2)
    if not assume_unique:
        if size is None:
            x = unique(x)
        else:
            return _sized_difference(x, y, size, fill_value)
    return _where_true(x, isin(x, y, invert=True), size, fill_value)


def _sized_difference(x: Any, y: Any, size: int, fill_value: Any) -> Any:
    from covector.numpy.sorting import sort

    x = sort(x)
    first = _differs_from_previous(reshape(x, (-1, 1)), True)
    return _where_true(x, first & isin(x, y, invert=True), size, fill_value)


def _where_true(x: Any, mask: Any, size: int | None, fill_value: Any) -> Any:
    """The elements where a mask holds."""
    if size is None:
        return x[mask]
    (places,) = nonzero(mask, size=size, fill_value=x.shape[0])
    fill = constant(0, x.dtype) if fill_value is None else operand(fill_value, "sets")
    if x.shape[0] == 0:
        return broadcast_to(convert(fill, x.dtype), (size,))
    chosen = take(x, places, mode="clip")
    return where(places < x.shape[0], chosen, convert(fill, x.dtype))


def setxor1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The elements of exactly one of two arrays.

    Args:
        ar1: an array.
        ar2: another.
        assume_unique: no array has an element twice.
        size: how many to return; needed for traced values.
        fill_value: for those missing, 0 by default.
    """
    from covector.numpy.sorting import sort

    x, y = _vectors("setxor1d", ar1, ar2)
    if not assume_unique and size is None:
        x, y = unique(x), unique(y)
    both = sort(concatenate([x, y]))
    if both.shape[0] == 0:
        return _where_true(
            both, broadcast_to(constant(False, dtypes.bool_), (0,)), size, fill_value
        )
    first = _differs_from_previous(reshape(both, (-1, 1)), False)
    if size is None or assume_unique:
        last = concatenate([first[1:], broadcast_to(constant(True, dtypes.bool_), (1,))])
        chosen = first & last
    else:
        chosen = first & el.ne(isin(both, x), isin(both, y))
    if size is not None and fill_value is None:
        fill_value = _where_true(both, chosen, 1, None)
    return _where_true(both, chosen, size, fill_value)


def intersect1d(
    ar1: Any,
    ar2: Any,
    assume_unique: bool = False,
    return_indices: bool = False,
    *,
    size: int | None = None,
    fill_value: Any = None,
) -> Any:
    """The elements of both arrays.

    Args:
        ar1: an array.
        ar2: another.
        assume_unique: no array has an element twice.
        return_indices: also return where each comes first in both arrays.
        size: how many to return; needed for traced values.
        fill_value: for those missing, by default the least one.

    Returns:
        The elements, in a tuple with the indices if these were asked for.
    """
    from covector.numpy.sorting import searchsorted

    x, y = _vectors("intersect1d", ar1, ar2)
    index = dtypes.default_int()
    if x.shape[0] == 0 or y.shape[0] == 0:
        count = 0 if size is None else size
        fill = constant(0, x.dtype) if fill_value is None else operand(fill_value, "intersect1d")
        nothing = broadcast_to(convert(fill, x.dtype), (count,))
        places = broadcast_to(constant(0, index), (count,))
        return (nothing, places, places) if return_indices else nothing
    x_order, y_order = argsort(x), argsort(y)
    x_sorted, y_sorted = take(x, x_order), take(y, y_order)
    first = _differs_from_previous(reshape(x_sorted, (-1, 1)), False)
    mask = first & isin(x_sorted, y_sorted)
    if size is None:
        known_values("intersect1d", mask, "as they give the size of the result")
    (places,) = nonzero(mask, size=size, fill_value=x.shape[0])
    there = places < x.shape[0]
    values = take(x_sorted, places, mode="clip")
    if size is not None:
        least = values[:1] if fill_value is None else convert(operand(fill_value, ""), x.dtype)
        values = where(there, values, least)
    if not return_indices:
        return values
    found = take(y_order, searchsorted(y_sorted, values), mode="clip")
    places = take(x_order, places, mode="clip")
    beyond = [constant(n, index) for n in (x.shape[0], y.shape[0])]
    return (
        values,
        where(there, convert(places, index), beyond[0]),
        where(there, convert(found, index), beyond[1]),
    )
