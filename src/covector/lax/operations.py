"""The functions of `jax.lax` that move, choose and combine elements, one primitive each."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.core.array import Array
from covector.core.primitive import Primitive
from covector.core.trace import Tracer
from covector.lax.elementwise import number_like
from covector.numpy.promote import constant, convert, operand
from covector.ops import cumulative as cum
from covector.ops import elementwise as el
from covector.ops import index, pieces
from covector.ops import reduce as red
from covector.ops import scatter as sc
from covector.ops import shape as sh
from covector.ops import slices as sl
from covector.ops import sort as so
from covector.ops.contract import dot_general as dot_general_p
from covector.ops.windows import GatherScatterMode

__all__ = [
    "argmax",
    "argmin",
    "broadcast",
    "broadcast_in_dim",
    "broadcasted_iota",
    "collapse",
    "concatenate",
    "cumlogsumexp",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "dot",
    "dot_general",
    "dynamic_index_in_dim",
    "dynamic_slice",
    "dynamic_slice_in_dim",
    "dynamic_update_index_in_dim",
    "dynamic_update_slice",
    "dynamic_update_slice_in_dim",
    "expand_dims",
    "full",
    "full_like",
    "gather",
    "index_in_dim",
    "iota",
    "pad",
    "reduce_and",
    "reduce_max",
    "reduce_min",
    "reduce_or",
    "reduce_prod",
    "reduce_sum",
    "reduce_xor",
    "reshape",
    "rev",
    "scatter",
    "scatter_add",
    "scatter_max",
    "scatter_min",
    "scatter_mul",
    "slice",
    "slice_in_dim",
    "sort",
    "sort_key_val",
    "split",
    "squeeze",
    "top_k",
    "transpose",
]


# --- shapes -------------------------------------------------------------------------------------


def broadcast(operand_: Any, sizes: Sequence[int]) -> Any:
    """New axes of the given sizes in front."""
    x = operand(operand_, "lax.broadcast")
    dims = tuple(range(len(sizes), len(sizes) + x.ndim))
    return broadcast_in_dim(x, (*sizes, *x.shape), dims)


def broadcast_in_dim(
    operand_: Any, shape: Sequence[int], broadcast_dimensions: Sequence[int]
) -> Any:
    """An array repeated to a shape; `broadcast_dimensions` says where its axes go."""
    return sh.broadcast_in_dim(
        operand(operand_, "lax.broadcast_in_dim"),
        shape=tuple(shape),
        broadcast_dimensions=tuple(broadcast_dimensions),
    )


def reshape(
    operand_: Any, new_sizes: Sequence[int], dimensions: Sequence[int] | None = None
) -> Any:
    """The same elements in another shape, axes first put in the order of `dimensions`."""
    x = operand(operand_, "lax.reshape")
    if dimensions is not None:
        x = transpose(x, dimensions)
    return sh.reshape(x, new_sizes=tuple(new_sizes), dimensions=None)


def collapse(operand_: Any, start_dimension: int, stop_dimension: int | None = None) -> Any:
    """Neighbouring axes made one."""
    x = operand(operand_, "lax.collapse")
    stop = x.ndim if stop_dimension is None else stop_dimension
    first, last = start_dimension % x.ndim, stop if stop >= 0 else stop + x.ndim
    size = 1
    for extent in x.shape[first:last]:
        size *= extent
    return reshape(x, (*x.shape[:first], size, *x.shape[last:]))


def transpose(operand_: Any, permutation: Sequence[int]) -> Any:
    """Axes in another order."""
    return sh.transpose(operand(operand_, "lax.transpose"), permutation=tuple(permutation))


def squeeze(array: Any, dimensions: Sequence[int]) -> Any:
    """Axes of size 1 dropped."""
    x = operand(array, "lax.squeeze")
    return sh.squeeze(x, dimensions=tuple(sorted(d % x.ndim for d in dimensions)))


def expand_dims(array: Any, dimensions: Sequence[int]) -> Any:
    """Axes of size 1 put in."""
    from covector.numpy.manipulation import expand_dims as numpy_expand_dims

    return numpy_expand_dims(array, tuple(dimensions))


def rev(operand_: Any, dimensions: Sequence[int]) -> Any:
    """Elements in reverse order along axes."""
    return sh.rev(operand(operand_, "lax.rev"), dimensions=tuple(dimensions))


def concatenate(operands: Sequence[Any], dimension: int) -> Any:
    """Arrays joined along an axis."""
    return pieces.concatenate(
        *[operand(x, "lax.concatenate") for x in operands], dimension=operator.index(dimension)
    )


def split(operand_: Any, sizes: Sequence[int], axis: int = 0) -> list[Any]:
    """An array cut along an axis in pieces of the given sizes."""
    return pieces.split(operand(operand_, "lax.split"), sizes=tuple(sizes), axis=axis)


def pad(operand_: Any, padding_value: Any, padding_config: Sequence[tuple[int, int, int]]) -> Any:
    """An array with (low, high, interior) padding along each axis; negative low, high cut off."""
    x = operand(operand_, "lax.pad")
    config = tuple([tuple(int(n) for n in entry) for entry in padding_config])
    return sl.pad(x, number_like(padding_value, x), padding_config=config)


def iota(dtype: Any, size: int) -> Any:
    """The numbers 0, 1, 2, ..."""
    return broadcasted_iota(dtype, (size,), 0)


def broadcasted_iota(dtype: Any, shape: Sequence[int], dimension: int) -> Any:
    """The numbers 0, 1, 2, ... along one axis of a shape."""
    target = dtypes.requested(dtype, "iota")
    return sh.iota(dtype=target, shape=tuple(shape), dimension=dimension)


def full(shape: Sequence[int], fill_value: Any, dtype: Any = None) -> Any:
    """An array with one value everywhere."""
    from covector.numpy.creation import full as numpy_full

    return numpy_full(shape, fill_value, dtype)


def full_like(x: Any, fill_value: Any, dtype: Any = None, shape: Any = None) -> Any:
    """An array with one value everywhere, like another."""
    from covector.numpy.creation import full_like as numpy_full_like

    return numpy_full_like(x, fill_value, dtype, shape)


# --- parts --------------------------------------------------------------------------------------


def slice(  # JAX's name
    operand_: Any,
    start_indices: Sequence[int],
    limit_indices: Sequence[int],
    strides: Sequence[int] | None = None,
) -> Any:
    """The part of an array between bounds known while tracing."""
    return sl.slice_(
        operand(operand_, "lax.slice"),
        start_indices=tuple(start_indices),
        limit_indices=tuple(limit_indices),
        strides=None if strides is None else tuple(strides),
    )


def slice_in_dim(
    operand_: Any, start_index: int | None, limit_index: int | None, stride: int = 1, axis: int = 0
) -> Any:
    """The part of an array between bounds along one axis."""
    x = operand(operand_, "lax.slice_in_dim")
    axis %= x.ndim
    size = x.shape[axis]
    starts, limits, strides = [0] * x.ndim, list(x.shape), [1] * x.ndim
    low = 0 if start_index is None else operator.index(start_index)
    high = size if limit_index is None else operator.index(limit_index)
    starts[axis] = low + size if low < 0 else low
    limits[axis] = high + size if high < 0 else high
    strides[axis] = stride
    return slice(x, starts, limits, None if stride == 1 else strides)


def index_in_dim(operand_: Any, index: int, axis: int = 0, keepdims: bool = True) -> Any:
    """The element along one axis at a place known while tracing."""
    x = operand(operand_, "lax.index_in_dim")
    axis %= x.ndim
    place = index + x.shape[axis] if index < 0 else index
    part = slice_in_dim(x, place, place + 1, 1, axis)
    return part if keepdims else squeeze(part, (axis,))


def _starts(x: Any, indices: Any) -> list[Any]:
    """Start indices of one dtype, negative ones counted from the end."""
    if isinstance(indices, (Array, Tracer)) and indices.ndim == 1:
        parts: Sequence[Any] = [indices[k] for k in range(indices.shape[0])]
    else:
        parts = cast("Sequence[Any]", indices)
    found: list[Any] = []
    for i, size in zip(parts, x.shape, strict=True):
        if isinstance(i, int):
            found.append(constant(i + size if i < 0 else i, dtypes.int32))
            continue
        i = operand(i, "lax.dynamic_slice")
        if not dtypes.is_unsigned(i.dtype):
            moved = el.add(i, constant(size, i.dtype))
            i = el.select_n(el.lt(i, constant(0, i.dtype)), i, moved)
        found.append(i)
    kinds = {i.dtype for i in found}
    if len(kinds) > 1:
        target = dtypes.int64 if any(d.itemsize == 8 for d in kinds) else dtypes.int32
        found = [convert(i, target) for i in found]
    return found


def dynamic_slice(operand_: Any, start_indices: Any, slice_sizes: Sequence[int]) -> Any:
    """The part of an array of a given size that begins at a place known at run time.

    Args:
        operand_: the array.
        start_indices: one for each axis; the slice is moved so that it fits.
        slice_sizes: its shape.
    """
    x = operand(operand_, "lax.dynamic_slice")
    return index.dynamic_slice(x, *_starts(x, start_indices), slice_sizes=tuple(slice_sizes))


def dynamic_update_slice(operand_: Any, update: Any, start_indices: Any) -> Any:
    """A copy of an array with a part overwritten at a place known at run time."""
    x = operand(operand_, "lax.dynamic_update_slice")
    update = convert(operand(update, "lax.dynamic_update_slice"), x.dtype, x.aval.weak_type)
    return index.dynamic_update_slice(x, update, *_starts(x, start_indices))


def dynamic_slice_in_dim(operand_: Any, start_index: Any, slice_size: int, axis: int = 0) -> Any:
    """`dynamic_slice` along one axis."""
    x = operand(operand_, "lax.dynamic_slice_in_dim")
    starts: list[Any] = [0] * x.ndim
    sizes = list(x.shape)
    starts[axis], sizes[axis] = start_index, slice_size
    return dynamic_slice(x, starts, sizes)


def dynamic_index_in_dim(operand_: Any, index: Any, axis: int = 0, keepdims: bool = True) -> Any:
    """The element along one axis at a place known at run time."""
    part = dynamic_slice_in_dim(operand_, index, 1, axis)
    return part if keepdims else squeeze(part, (axis,))


def dynamic_update_slice_in_dim(operand_: Any, update: Any, start_index: Any, axis: int) -> Any:
    """`dynamic_update_slice` along one axis."""
    x = operand(operand_, "lax.dynamic_update_slice_in_dim")
    starts: list[Any] = [0] * x.ndim
    starts[axis] = start_index
    return dynamic_update_slice(x, update, starts)


def dynamic_update_index_in_dim(operand_: Any, update: Any, index: Any, axis: int) -> Any:
    """A copy of an array with one element along an axis overwritten."""
    x = operand(operand_, "lax.dynamic_update_index_in_dim")
    axis %= x.ndim
    update = operand(update, "lax.dynamic_update_index_in_dim")
    if update.ndim != x.ndim:
        update = expand_dims(update, (axis,))
    return dynamic_update_slice_in_dim(x, update, index, axis)


def gather(
    operand_: Any,
    start_indices: Any,
    dimension_numbers: Any,
    slice_sizes: Sequence[int],
    *,
    unique_indices: bool = False,
    indices_are_sorted: bool = False,
    mode: Any = None,
    fill_value: Any = None,
) -> Any:
    """Windows of an array at many places; see XLA's gather."""
    return index.gather(
        operand(operand_, "lax.gather"),
        operand(start_indices, "lax.gather"),
        dimension_numbers=dimension_numbers,
        slice_sizes=tuple(slice_sizes),
        mode=GatherScatterMode.from_any(mode),
        fill_value=fill_value,
        indices_are_sorted=indices_are_sorted,
        unique_indices=unique_indices,
    )


def _scatter(name: str, primitive: Primitive, text: str) -> Callable[..., Any]:
    def fn(
        operand_: Any,
        scatter_indices: Any,
        updates: Any,
        dimension_numbers: Any,
        *,
        indices_are_sorted: bool = False,
        unique_indices: bool = False,
        mode: Any = None,
    ) -> Any:
        return primitive(
            operand(operand_, name),
            operand(scatter_indices, name),
            operand(updates, name),
            dimension_numbers=dimension_numbers,
            indices_are_sorted=indices_are_sorted,
            unique_indices=unique_indices,
            mode=GatherScatterMode.from_any(mode),
        )

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"A copy of an array with windows at many places {text}; see XLA's scatter."
    return fn


scatter = _scatter("scatter", sc.scatter, "overwritten")
scatter_add = _scatter("scatter_add", sc.scatter_add, "added to")
scatter_mul = _scatter("scatter_mul", sc.scatter_mul, "multiplied")
scatter_min = _scatter("scatter_min", sc.scatter_min, "replaced by the smaller value")
scatter_max = _scatter("scatter_max", sc.scatter_max, "replaced by the larger value")


# --- reductions, products, order ----------------------------------------------------------------


def _reduction(name: str, primitive: Primitive) -> Callable[[Any, Sequence[int]], Any]:
    def fn(operand_: Any, axes: Sequence[int]) -> Any:
        return primitive(operand(operand_, f"lax.{name}"), axes=tuple(axes))

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"`{name}` along axes, in the operand's dtype."
    return fn


reduce_sum = _reduction("reduce_sum", red.reduce_sum)
reduce_prod = _reduction("reduce_prod", red.reduce_prod)
reduce_max = _reduction("reduce_max", red.reduce_max)
reduce_min = _reduction("reduce_min", red.reduce_min)
reduce_and = _reduction("reduce_and", red.reduce_and)
reduce_or = _reduction("reduce_or", red.reduce_or)
reduce_xor = _reduction("reduce_xor", red.reduce_xor)


def argmax(operand_: Any, axis: int, index_dtype: Any) -> Any:
    """Index of the largest element along an axis."""
    return red.argmax(
        operand(operand_, "lax.argmax"), axes=(axis,), index_dtype=dtypes.requested(index_dtype)
    )


def argmin(operand_: Any, axis: int, index_dtype: Any) -> Any:
    """Index of the smallest element along an axis."""
    return red.argmin(
        operand(operand_, "lax.argmin"), axes=(axis,), index_dtype=dtypes.requested(index_dtype)
    )


def _cumulative(name: str, primitive: Primitive) -> Callable[..., Any]:
    def fn(operand_: Any, axis: int = 0, reverse: bool = False) -> Any:
        x = operand(operand_, f"lax.{name}")
        return primitive(x, axis=axis % x.ndim, reverse=reverse)

    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"Running `{name}` along an axis, from the end with `reverse`."
    return fn


cumsum = _cumulative("cumsum", cum.cumsum)
cumprod = _cumulative("cumprod", cum.cumprod)
cummax = _cumulative("cummax", cum.cummax)
cummin = _cumulative("cummin", cum.cummin)
cumlogsumexp = _cumulative("cumlogsumexp", cum.cumlogsumexp)


def dot_general(
    lhs: Any,
    rhs: Any,
    dimension_numbers: Any,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Products summed over contracted axes, for each element of batch axes.

    Args:
        lhs: an array.
        rhs: another.
        dimension_numbers: `((lhs_contract, rhs_contract), (lhs_batch, rhs_batch))`.
        precision: accepted for JAX's sake; products are exact to the dtype.
        preferred_element_type: dtype of the result.
    """
    (contract, batch) = dimension_numbers
    numbers = (
        (tuple(contract[0]), tuple(contract[1])),
        (tuple(batch[0]), tuple(batch[1])),
    )
    target = None if preferred_element_type is None else dtypes.requested(preferred_element_type)
    return dot_general_p(
        operand(lhs, "lax.dot_general"),
        operand(rhs, "lax.dot_general"),
        dimension_numbers=numbers,
        precision=precision,
        preferred_element_type=target,
    )


def dot(lhs: Any, rhs: Any, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Product of vectors and matrices."""
    lhs, rhs = operand(lhs, "lax.dot"), operand(rhs, "lax.dot")
    if not (1 <= lhs.ndim <= 2 and 1 <= rhs.ndim <= 2):
        raise TypeError(f"lax.dot takes vectors and matrices, got {lhs.aval} and {rhs.aval}")
    numbers = (((lhs.ndim - 1,), (0,)), ((), ()))
    return dot_general(lhs, rhs, numbers, precision, preferred_element_type)


def sort(operand_: Any, dimension: int = -1, is_stable: bool = True, num_keys: int = 1) -> Any:
    """Sorts along an axis.

    Args:
        operand_: an array, or a sequence of them sorted alike by the first `num_keys`.
        dimension: along which axis.
        is_stable: whether equal elements keep their order (they always do).
        num_keys: how many operands decide the order.
    """
    several = isinstance(operand_, (tuple, list))
    given = cast("Sequence[Any]", operand_) if several else [operand_]
    xs = [operand(x, "lax.sort") for x in given]
    place = dimension % xs[0].ndim if xs[0].ndim else 0
    results = so.sort(*xs, dimension=place, is_stable=is_stable, num_keys=num_keys)
    return tuple(results) if several else results[0]


def sort_key_val(keys: Any, values: Any, dimension: int = -1, is_stable: bool = True) -> Any:
    """Sorts keys, and values along with them."""
    return sort((keys, values), dimension, is_stable, 1)


def top_k(operand_: Any, k: int, *, axis: int = -1) -> Any:
    """The `k` largest elements along an axis, and their indices."""
    x = operand(operand_, "lax.top_k")
    return tuple(so.top_k(x, k=operator.index(k), axis=axis % x.ndim))
