"""Sorting: sort of several operands by several keys, top_k.

Floating-point keys are ordered with NaN last, all NaN equal, and -0.0 equal to 0.0; complex ones
by their real, then their imaginary part. `top_k` distinguishes -0.0 from 0.0, as XLA does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.primitive import Primitive, unsupported
from covector.core.trace import aval_of
from covector.loopir.ir import CONTEXT
from covector.ops import indices
from covector.ops.axes import iota, reshape
from covector.ops.carries import scratch
from covector.ops.common import Inseparable, batch_at_front, kind_of, same_lane
from covector.ops.movement import check_axes, without
from covector.ops.reduce import widened

_INT32 = np.dtype(np.int32)

# --- permutations -------------------------------------------------------------------------------


def take_along(x: Any, order: Any, axis: int) -> Any:
    """`x` at the places along `axis` that `order`, of the same other extents, names."""
    from covector.ops.index import gather
    from covector.ops.windows import GatherDimensionNumbers, GatherScatterMode

    shape = aval_of(order).shape
    others = without((axis,), len(shape))
    numbers = GatherDimensionNumbers(
        offset_dims=(),
        collapsed_slice_dims=(axis,),
        start_index_map=(axis,),
        operand_batching_dims=others,
        start_indices_batching_dims=others,
    )
    return gather(
        x,
        reshape(order, new_sizes=(*shape, 1), dimensions=None),
        dimension_numbers=numbers,
        slice_sizes=(1,) * len(shape),
        mode=GatherScatterMode.PROMISE_IN_BOUNDS,
        fill_value=None,
        indices_are_sorted=False,
        unique_indices=True,
    )


def _index_dtype(extent: Any) -> Any:
    wide = type(extent) is int and extent > np.iinfo(np.int32).max
    return np.dtype(np.int64) if wide else _INT32


# --- sort ---------------------------------------------------------------------------------------


def _sort_shape(*xs: Aval, dimension: int, is_stable: bool = True, num_keys: int = 1) -> list[Aval]:
    if not 1 <= num_keys <= len(xs):
        raise ValueError(f"sort of {len(xs)} operands: num_keys cannot be {num_keys}")
    check_axes("sort", "dimension", (dimension,), len(xs[0].shape))
    if any(x.shape != xs[0].shape for x in xs):
        found = ", ".join(map(str, xs))
        raise TypeError(f"sort requires operands of equal shapes, got {found}")
    for x in xs:
        if kind_of(x.dtype) not in "biufc":
            raise TypeError(f"sort does not take {x}: it takes numbers")
    return [Aval(x.shape, x.dtype, x.weak_type) for x in xs]


def _sort_evaluate(
    *xs: Any, dimension: int, is_stable: bool = True, num_keys: int = 1
) -> list[Any]:
    order = _order(xs[:num_keys], dimension)
    return [np.take_along_axis(x, order, dimension) for x in xs]


def _order(keys: Sequence[Any], dimension: int) -> Any:
    """The permutation that sorts; NumPy's order of NaN, zeros and complex numbers is the same."""
    columns = [widened(x) for x in keys]
    if len(columns) == 1:
        return np.argsort(columns[0], axis=dimension, kind="stable")
    return np.lexsort(columns[::-1], axis=dimension)


def _sort_jvp(
    ctx: Any, primals: Any, tangents: Any, *, dimension: int, is_stable: bool, num_keys: int
) -> Any:
    shape = aval_of(primals[0]).shape
    index_dtype = _index_dtype(shape[dimension])
    places = iota(dtype=index_dtype, shape=shape, dimension=dimension)
    *outs, order = sort(
        *primals, places, dimension=dimension, is_stable=is_stable, num_keys=num_keys
    )
    dots = [Zero(t.aval) if type(t) is Zero else take_along(t, order, dimension) for t in tangents]
    return outs, dots


def _sort_batch(ctx: Any, args: Any, dims: Any, *, dimension: int, **params: Any) -> Any:
    xs = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
    return sort(*xs, dimension=dimension + 1, **params), [0] * len(xs)


def _sort_lanes(dims: Any, *xs: Aval, dimension: int, **params: Any) -> list[int | None]:
    lane = same_lane(dims)
    if lane == dimension:
        raise Inseparable("it sorts along the lanes")
    return [lane] * len(xs)


# A compare-exchange network sorts at most so many elements in registers.
_NETWORK_LENGTH = 16
_NETWORK_SIZE = 32
_MOST_OPERANDS = 8


def _sort_lower(
    b: Any, *xs: Any, dimension: int, is_stable: bool = True, num_keys: int = 1
) -> list[Any]:
    shape = xs[0].shape
    n = shape[dimension]
    if type(n) is int and n <= 1:
        return list(xs)
    if type(n) is int and n <= _NETWORK_LENGTH:
        size = indices.product(b.builder, shape)
        few = type(size) is int and size <= _NETWORK_SIZE
        by_network = _network_in_registers if few else _network_in_loops
        return by_network(b, xs, dimension, num_keys)
    if len(xs) <= _MOST_OPERANDS:
        return _sorted_by_library(b, xs, dimension, num_keys)
    # The keys carry their places along, and the other operands are read in that order.
    if num_keys >= _MOST_OPERANDS:
        raise NotImplementedError(f"sorting by {num_keys} keys at once is not supported")

    def place(index: Any) -> Any:
        return _as_int32(b.builder, index[dimension])

    places = b.lazy(shape, _INT32, place, 1.0)
    *keys, order = _sorted_by_library(b, (*xs[:num_keys], places), dimension, num_keys)
    return keys + [_permuted(b, x, order, dimension, n) for x in xs[num_keys:]]


def _as_int32(builder: Any, i: Any) -> Any:
    return builder.const(i, _INT32) if type(i) is int else builder.convert(i, _INT32)


def _permuted(b: Any, x: Any, order: Any, dimension: int, n: Any) -> Any:
    """`x` read along `dimension` at the places in `order`, a permutation."""
    builder = b.builder

    def element(index: Any) -> Any:
        place = builder.convert(order.at(index), np.dtype(np.int64))
        place = indices.clamp(builder, place, n)
        return x.at((*index[:dimension], place, *index[dimension + 1 :]))

    return b.lazy(order.shape, x.dtype, element, x.cost + 3.0)


# The order of `enum cv_type` in the native runtime.
_TYPES = {
    dtype: number
    for number, dtype in enumerate(
        (
            *(dtypes.bool_, dtypes.int8, dtypes.int16, dtypes.int32, dtypes.int64),
            *(dtypes.uint8, dtypes.uint16, dtypes.uint32, dtypes.uint64),
            *(dtypes.float16, dtypes.bfloat16, dtypes.float32, dtypes.float64),
            *(dtypes.complex64, dtypes.complex128),
        )
    )
}


def _sorted_by_library(b: Any, xs: Sequence[Any], dimension: int, num_keys: int) -> list[Any]:
    builder = b.builder
    outs = [_with_axis_last(b, x, dimension) for x in xs]
    *others, n = outs[0].shape
    types = sum(_TYPES[out.dtype] << (8 * k) for k, out in enumerate(outs))
    # The function has a fixed number of pointers and ignores the last ones.
    unused = [None] * (_MOST_OPERANDS - len(outs))
    builder.call(
        "cv_sort",
        _INT32,
        CONTEXT,
        _index(builder, indices.product(builder, others)),
        _index(builder, n),
        builder.index(num_keys),
        builder.index(len(outs)),
        builder.index(types),
        *[out.buffer for out in outs],
        *unused,
        leaves=True,
    )
    return [_with_axis_back(b, out, dimension) for out in outs]


def _index(builder: Any, i: Any) -> Any:
    return builder.index(i) if type(i) is int else i


def _with_axis_last(b: Any, x: Any, axis: int) -> Any:
    """A copy in a new buffer, with an axis moved to the end."""
    shape = (*x.shape[:axis], *x.shape[axis + 1 :], x.shape[axis])

    def element(index: Any) -> Any:
        return x.at((*index[:axis], index[-1], *index[axis:-1]))

    # What is moved back comes to another place than it is read from.
    copy = b.new(shape, x.dtype) if axis == len(x.shape) - 1 else scratch(b, shape, x.dtype)
    b.fill(copy, b.lazy(shape, x.dtype, element, x.cost, moves=True))
    return copy


def _with_axis_back(b: Any, x: Any, axis: int) -> Any:
    *others, n = x.shape
    if axis == len(others):
        return x
    shape = (*others[:axis], n, *others[axis:])

    def element(index: Any) -> Any:
        return x.at((*index[:axis], *index[axis + 1 :], index[axis]))

    return b.lazy(shape, x.dtype, element, x.cost, moves=True)


# --- compare-exchange networks --------------------------------------------------------------------


def _network(builder: Any, rows: list[list[Any]], num_keys: int) -> None:
    """Sorts lists of scalars in place, all by the first ones.

    Neighbours change places only if they are out of order, so that equal keys keep theirs.
    """
    n = len(rows[0])
    for phase in range(n):
        for i in range(phase % 2, n - 1, 2):
            swap = _precedes(builder, [r[i + 1] for r in rows], [r[i] for r in rows], num_keys)
            for row in rows:
                first, second = row[i], row[i + 1]
                row[i] = builder.op("select", swap, second, first)
                row[i + 1] = builder.op("select", swap, first, second)


def _precedes(builder: Any, xs: Sequence[Any], ys: Sequence[Any], num_keys: int) -> Any:
    """Whether the keys `xs` come strictly before `ys`."""
    result: Any = None
    for x, y in reversed(_key_parts(xs[:num_keys], ys[:num_keys])):
        before = _less(builder, x, y)
        if result is not None:
            after = _less(builder, y, x)
            tied = builder.op("and", builder.op("not", after), result)
            before = builder.op("or", before, tied)
        result = before
    return result


def _key_parts(xs: Sequence[Any], ys: Sequence[Any]) -> list[tuple[Any, Any]]:
    parts: list[tuple[Any, Any]] = []
    for x, y in zip(xs, ys, strict=True):
        parts += [(x.re, y.re), (x.im, y.im)] if kind_of(x.dtype) == "c" else [(x, y)]
    return parts


def _less(builder: Any, x: Any, y: Any) -> Any:
    less = builder.op("lt", x, y)
    if kind_of(x.dtype) != "f":
        return less
    last = builder.op("and", builder.op("is_nan", y), builder.op("eq", x, x))
    return builder.op("or", less, last)


def _network_in_registers(b: Any, xs: Sequence[Any], dimension: int, num_keys: int) -> list[Any]:
    shape = xs[0].shape
    values = [np.empty(shape, object) for _ in xs]
    columns = [np.moveaxis(v, dimension, -1) for v in values]

    def put(k: int, others: Any, i: int, value: Any) -> None:
        columns[k][(*others, i)] = value

    for others in np.ndindex(*shape[:dimension], *shape[dimension + 1 :]):
        _sort_row(b.builder, xs, dimension, num_keys, others, put)
    return [b.registers(v, x.dtype) for v, x in zip(values, xs, strict=True)]


def _network_in_loops(b: Any, xs: Sequence[Any], dimension: int, num_keys: int) -> list[Any]:
    builder = b.builder
    shape = xs[0].shape
    outs = [b.new(shape, x.dtype, k) for k, x in enumerate(xs)]

    def put(k: int, others: Any, i: int, value: Any) -> None:
        builder.store(outs[k].buffer, (*others[:dimension], i, *others[dimension:]), value)

    def sort_row(others: Any) -> None:
        _sort_row(builder, xs, dimension, num_keys, others, put)

    b.for_each((*shape[:dimension], *shape[dimension + 1 :]), sort_row, independent=True)
    return outs


def _sort_row(
    builder: Any,
    xs: Sequence[Any],
    dimension: int,
    num_keys: int,
    others: Any,
    put: Callable[[int, Any, int, Any], None],
) -> None:
    n = xs[0].shape[dimension]
    rows = [[x.at((*others[:dimension], i, *others[dimension:])) for i in range(n)] for x in xs]
    _network(builder, rows, num_keys)
    for k, row in enumerate(rows):
        for i, value in enumerate(row):
            put(k, others, i, value)


sort = Primitive(
    "sort",
    shape=_sort_shape,
    evaluate=_sort_evaluate,
    jvp=_sort_jvp,
    transpose=unsupported("it is not a linear function of its operands"),
    batch=_sort_batch,
    lower=_sort_lower,
    lanes=_sort_lanes,
    multiple_results=True,
)

# --- top_k --------------------------------------------------------------------------------------


def _top_k_shape(x: Aval, *, k: Any, axis: int) -> list[Aval]:
    if kind_of(x.dtype) not in "biuf":
        raise TypeError(f"top_k does not take {x}: it takes real numbers")
    check_axes("top_k", "axis", (axis,), len(x.shape))
    n = x.shape[axis]
    if type(k) is int and (k < 0 or (type(n) is int and k > n)):
        raise ValueError(f"top_k of {x} along axis {axis}: k must be in range({n} + 1), found {k}")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return [Aval(shape, x.dtype, x.weak_type), Aval(shape, _INT32)]


def _top_k_evaluate(x: Any, *, k: int, axis: int) -> list[Any]:
    # The complement of an integer reverses the order without overflow.
    order = np.argsort(~total_order(x), axis=axis, kind="stable")
    order = np.take(order, range(k), axis).astype(_INT32)
    return [np.take_along_axis(x, order, axis), order]


def total_order(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers in the order of the elements, -0.0 below 0.0 and each NaN beyond its infinity."""
    if kind_of(x.dtype) != "f":
        return x
    bits = x.view(np.dtype(f"int{8 * x.dtype.itemsize}"))
    return np.where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _total_order_scalar(builder: Any, x: Any) -> Any:
    if kind_of(x.dtype) != "f":
        return x
    signed = np.dtype(f"int{8 * x.dtype.itemsize}")
    bits = builder.op("bitcast", x, attr=signed)
    flipped = builder.op("xor", bits, builder.const(np.iinfo(signed).max, signed))
    negative = builder.op("lt", bits, builder.const(0, signed))
    return builder.op("select", negative, flipped, bits)


def _top_k_jvp(ctx: Any, primals: Any, tangents: Any, *, k: Any, axis: int) -> Any:
    values, order = top_k(primals[0], k=k, axis=axis)
    dots = [take_along(tangents[0], order, axis), Zero(aval_of(order).tangent())]
    return [values, order], dots


def _top_k_batch(ctx: Any, args: Any, dims: Any, *, k: Any, axis: int) -> Any:
    return top_k(args[0], k=k, axis=axis + (axis >= dims[0])), [dims[0], dims[0]]


def _top_k_lower(b: Any, x: Any, *, k: Any, axis: int) -> list[Any]:
    builder = b.builder
    x = b.hoist(x)
    n = x.shape[axis]
    sample = np.dtype(f"int{8 * x.dtype.itemsize}") if kind_of(x.dtype) == "f" else x.dtype

    def key(index: Any) -> Any:
        return _total_order_scalar(builder, x.at(index))

    keys = b.lazy(x.shape, sample, key, x.cost + 3.0)
    (k,) = b.extents(Aval((k,), x.dtype))
    if type(k) is int and type(n) is int and 0 < k <= _NETWORK_LENGTH:
        first = _first_by_insertion(b, keys, k, axis)
    else:
        first = _first_by_library(b, keys, k, axis)
    return [_permuted(b, x, first, axis, n), first]


def _first_by_library(b: Any, keys: Any, k: Any, axis: int) -> Any:
    """The places of the `k` greatest keys, from a sort of all."""
    builder = b.builder
    columns = _with_axis_last(b, keys, axis)
    order = scratch(b, columns.shape, _INT32)
    builder.call(
        "cv_argsort",
        _INT32,
        CONTEXT,
        _index(builder, indices.product(builder, columns.shape[:-1])),
        _index(builder, columns.shape[-1]),
        builder.index(1),
        builder.index(_TYPES[keys.dtype]),
        builder.index(_INT32.itemsize),
        builder.index(1),
        order.buffer,
        columns.buffer,
        *[None] * 3,
        leaves=True,
    )
    whole = _with_axis_back(b, order, axis)
    shape = (*keys.shape[:axis], k, *keys.shape[axis + 1 :])
    return b.lazy(shape, _INT32, whole.at, 0.0, moves=True)


def _first_by_insertion(b: Any, keys: Any, k: int, axis: int) -> Any:
    """The places of the `k` greatest keys, kept in order while passing over all once."""
    builder = b.builder
    n = keys.shape[axis]
    shape = (*keys.shape[:axis], k, *keys.shape[axis + 1 :])
    order = b.new(shape, _INT32)

    def find(others: Any) -> None:
        def candidate(i: Any) -> Pair:
            return keys.at((*others[:axis], i, *others[axis:])), _as_int32(builder, i)

        def step(i: Any, *flat: Any) -> list[Any]:
            found, kept = candidate(i), _pairs(flat)

            def insert() -> list[Any]:
                return _flat(_inserted(builder, kept, found))

            better = builder.op("gt", found[0], kept[-1][0])
            return builder.if_(better, insert, lambda: list(flat))

        kept = [candidate(0)]
        for i in range(1, k):
            kept = _inserted(builder, kept, candidate(i), grow=True)
        kept = _pairs(builder.loop(k, n, step, _flat(kept)))
        for i, (_, place) in enumerate(kept):
            builder.store(order.buffer, (*others[:axis], i, *others[axis:]), place)

    b.for_each((*keys.shape[:axis], *keys.shape[axis + 1 :]), find)
    return order


Pair = tuple[Any, Any]
"""A key and its place."""


def _pairs(flat: Sequence[Any]) -> list[Pair]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _flat(pairs: Sequence[Pair]) -> list[Any]:
    return [value for pair in pairs for value in pair]


def _inserted(builder: Any, kept: Sequence[Pair], new: Pair, grow: bool = False) -> list[Pair]:
    """Descending pairs with one more put behind those of equal keys; the last falls out."""

    def choose(condition: Any, x: Pair, y: Pair) -> Pair:
        first, second = [builder.op("select", condition, *v) for v in zip(x, y, strict=True)]
        return first, second

    passed = [builder.op("gt", new[0], key) for key, _ in kept]
    result = [choose(p, new, old) for p, old in zip(passed, kept, strict=True)]
    if grow:
        result.append(new)
    for i in range(1, len(result)):
        result[i] = choose(passed[i - 1], kept[i - 1], result[i])
    return result


def _top_k_lanes(dims: Any, x: Aval, *, k: Any, axis: int) -> list[int | None]:
    if dims[0] == axis:
        raise Inseparable("it sorts along the lanes")
    return [dims[0], dims[0]]


top_k = Primitive(
    "top_k",
    shape=_top_k_shape,
    evaluate=_top_k_evaluate,
    jvp=_top_k_jvp,
    transpose=unsupported("it is not a linear function of its operand"),
    batch=_top_k_batch,
    lower=_top_k_lower,
    lanes=_top_k_lanes,
    multiple_results=True,
)
