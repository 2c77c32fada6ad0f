"""Reading parts of arrays at places known at run time: gather, dynamic_slice and its inverse.

Names and meanings are those of `jax.lax`; the scatters are in `scatter.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Linear, Zero
from covector.core.config import config
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.trace import aval_of
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops.common import (
    Chunk,
    Inseparable,
    batch_at_front,
    is_linear,
    move_axis,
    narrow_sizes,
)
from covector.ops.movement import inserted
from covector.ops.windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    Windows,
    batch_axes,
    both,
    check_windows,
    choose,
    clamp_between,
    clamp_start,
    known_bool,
    result_shape,
    scatter_numbers,
    static_size,
    window_dims,
    window_lane,
    window_selection,
    window_starts,
)

SMALL = 64
"""Arrays of at most so many elements are updated by a choice at each element, not in memory."""

# --- gather --------------------------------------------------------------------------------------


def default_fill(dtype: Any) -> Any:
    """What a gather reads outside of its operand where the user does not say.

    Args:
        dtype: of the operand.

    Returns:
        NaN, the lowest signed or the highest unsigned number, or True.
    """
    if dtypes.is_inexact(dtype):
        return np.nan
    if dtypes.is_signed(dtype):
        return int(np.iinfo(dtype).min)
    if dtypes.is_key(dtype):
        return int(np.iinfo(np.uint32).max)
    return int(np.iinfo(dtype).max) if dtypes.is_unsigned(dtype) else True


def check_mode(name: str, mode: Any) -> None:
    """Raises a `TypeError` unless `mode` is a `GatherScatterMode`."""
    if type(mode) is not GatherScatterMode:
        raise TypeError(f"{name}: mode must be a GatherScatterMode (see from_any), got {mode!r}")


def _gather_shape(
    operand: Aval,
    indices: Aval,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[Any],
    mode: Any,
    fill_value: Any,
    indices_are_sorted: bool,
    unique_indices: bool,
) -> Aval:
    check_mode("gather", mode)
    check_windows("gather", operand, indices, dimension_numbers, slice_sizes)
    return operand.update(shape=result_shape(dimension_numbers, indices.shape, slice_sizes))


def _fill(dtype: Any, mode: Any, fill_value: Any) -> Any:
    """The fill value, or `None` where the mode has none."""
    if mode is not GatherScatterMode.FILL_OR_DROP:
        return None
    return default_fill(dtype) if fill_value is None else fill_value


def _gather_evaluate(
    operand: np.ndarray[Any, Any],
    indices: np.ndarray[Any, Any],
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[int],
    mode: Any,
    fill_value: Any,
    indices_are_sorted: bool,
    unique_indices: bool,
) -> Any:
    numbers, rank = dimension_numbers, len(slice_sizes)
    words = operand.shape[rank:]  # of PRNG keys
    shape = result_shape(numbers, indices.shape, slice_sizes) + words
    if 0 in shape:
        return np.zeros(shape, operand.dtype)
    starts, inside = window_starts(operand.shape, indices, numbers, slice_sizes)
    view, selection, inner = window_selection(operand, starts, inside, numbers, slice_sizes)
    found = view[selection]
    which = indices.ndim - 1
    fill = _fill(dtypes.key_fry if words else operand.dtype, mode, fill_value)
    if fill is not None and not inside.all():
        mask = inside.reshape(inside.shape + (1,) * (found.ndim - which))
        found = np.where(mask, found, np.array(fill).astype(operand.dtype))
    axes = list(range(which))
    for dim, axis in zip(window_dims(numbers, rank), numbers.offset_dims, strict=True):
        axes.insert(axis, which + inner.index(dim))
    # Not ascontiguousarray, which would give a result of rank 0 an axis.
    return np.asarray(found.transpose(*axes, *range(len(axes), found.ndim)), order="C")


def _gather_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    operand, indices = primals
    tangent = tangents[0]
    out = gather(operand, indices, **params)
    if type(tangent) is Zero:
        return out, Zero(aval_of(out).tangent())
    fill = None if params["fill_value"] is None and not _fills(params) else 0
    return out, gather(tangent, indices, **{**params, "fill_value": fill})


def _fills(params: dict[str, Any]) -> bool:
    return params["mode"] is GatherScatterMode.FILL_OR_DROP


def _gather_transpose(ctx: Any, ct: Any, operand: Linear, indices: Any, **params: Any) -> list[Any]:
    from covector.ops.scatter import scatter_add

    transposed = scatter_add(
        common.zeros(operand.aval),
        indices,
        ct,
        dimension_numbers=scatter_numbers(params["dimension_numbers"]),
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
        mode=params["mode"],
    )
    return [transposed, None]


def shifted(dims: Sequence[int], by: int = 1) -> tuple[int, ...]:
    """Axes after `by` axes were put in front."""
    return tuple(dim + by for dim in dims)


def _gather_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    numbers: GatherDimensionNumbers = params["dimension_numbers"]
    sizes = tuple(params["slice_sizes"])
    (operand, indices), (operand_dim, indices_dim) = args, dims
    offset, collapsed, index_map, batching, index_batching = numbers
    if operand_dim is not None:
        operand = move_axis(operand, operand_dim, 0)
        collapsed, index_map, batching = shifted(collapsed), shifted(index_map), shifted(batching)
        sizes = (ctx.axis_size if indices_dim is None else 1, *sizes)
    offset = shifted(offset)
    if indices_dim is None:
        offset = (0, *offset)
    else:
        indices = move_axis(indices, indices_dim, 0)
        index_batching = shifted(index_batching)
        if operand_dim is not None:
            batching, index_batching = (0, *batching), (0, *index_batching)
            if ctx.axis_size == 0:
                sizes = (0, *sizes[1:])
        else:
            # Several examples may read the same places.
            params = {**params, "indices_are_sorted": False, "unique_indices": False}
    numbers = GatherDimensionNumbers(offset, collapsed, index_map, batching, index_batching)
    params = {**params, "dimension_numbers": numbers, "slice_sizes": sizes}
    return gather(operand, indices, **params), 0


def _gather_lanes(dims: Any, operand: Aval, indices: Aval, **params: Any) -> int | None:
    numbers: GatherDimensionNumbers = params["dimension_numbers"]
    axis = window_lane(numbers, operand, indices, dims[0], dims[1], params["slice_sizes"])
    if axis is None:
        return None
    if axis >= 0:
        return batch_axes(numbers, indices.ndim)[axis]
    return numbers.offset_dims[window_dims(numbers, operand.ndim).index(dims[0])]


def _gather_narrow(
    chunk: Chunk, dims: Any, out_dim: Any, operand: Any, indices: Any, **params: Any
) -> Any:
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    if dims[0] not in numbers.operand_batching_dims:  # there the windows have one element
        sizes = chunk.narrowed(sizes, dims[0])
    return gather(operand, indices, **{**params, "slice_sizes": sizes})


def _gather_lower(
    b: Lowering,
    operand: Any,
    indices: Any,
    *,
    dimension_numbers: GatherDimensionNumbers,
    slice_sizes: Sequence[Any],
    mode: Any,
    fill_value: Any,
    indices_are_sorted: bool,
    unique_indices: bool,
) -> Any:
    numbers, rank, builder = dimension_numbers, len(slice_sizes), b.builder
    sizes = b.extents(Aval(slice_sizes, np.dtype(np.float32)))
    key = dtypes.key_fry if operand.ndim > rank else operand.dtype
    fill = _fill(key, mode, fill_value)
    words = operand.shape[rank:]
    shape = result_shape(numbers, indices.shape, sizes) + tuple(words)
    windows = Windows(b, operand.shape, indices, numbers, sizes, fill is not None)
    which_axes, offset_axes = batch_axes(numbers, indices.ndim), numbers.offset_dims
    logical = len(shape) - len(words)

    def element(index: tuple[Any, ...]) -> Any:
        window = windows.window(tuple([index[axis] for axis in which_axes]))
        place = windows.place(window, [index[axis] for axis in offset_axes])
        return choose(
            builder,
            window.inside,
            lambda: operand.at((*place, *index[logical:])),
            lambda: builder.const(fill, operand.dtype),
        )

    starts = len(numbers.start_index_map)
    return b.lazy(shape, operand.dtype, element, operand.cost + starts * (indices.cost + 3))


gather = Primitive(
    "gather",
    shape=_gather_shape,
    evaluate=_gather_evaluate,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
    lanes=_gather_lanes,
    narrow=_gather_narrow,
    lower=_gather_lower,
)

# --- dynamic_slice -------------------------------------------------------------------------------


def check_starts(name: str, operand: Aval, starts: Sequence[Aval]) -> None:
    """Raises a `TypeError` unless there is an integer scalar for each axis, all of one dtype."""
    if len(starts) != operand.ndim:
        raise TypeError(
            f"{name} takes one start index for each of the {operand.ndim} axes of {operand}, "
            f"got {len(starts)}"
        )
    if any(s.shape != () for s in starts):
        raise TypeError(f"{name} takes scalars as start indices, got {_listed(starts)}")
    if any(s.dtype != starts[0].dtype or not dtypes.is_integer(s.dtype) for s in starts):
        raise TypeError(
            f"{name} takes integers of one dtype as start indices, got {_listed(starts)}"
        )


def _listed(avals: Sequence[Aval]) -> str:
    return ", ".join(map(str, avals))


def check_fits(name: str, operand: Aval, sizes: Sequence[Any]) -> None:
    """Raises a `TypeError` unless a slice of these sizes fits into the operand."""
    fits = len(sizes) == operand.ndim and all(
        not (type(size) is int and type(extent) is int) or 0 <= size <= extent
        for size, extent in zip(sizes, operand.shape, strict=True)
    )
    if not fits:
        raise TypeError(
            compose(
                f"{name} needs a slice that fits into the operand",
                found=f"sizes {tuple(sizes)} and operand {operand}",
            )
        )


def _dynamic_slice_shape(operand: Aval, *starts: Aval, slice_sizes: Sequence[Any]) -> Aval:
    check_fits("dynamic_slice", operand, slice_sizes)
    check_starts("dynamic_slice", operand, starts)
    return operand.update(shape=tuple(slice_sizes))


def _clamped(
    shape: Sequence[int], starts: Sequence[Any], sizes: Sequence[int]
) -> tuple[slice, ...]:
    begins = [
        max(0, min(int(start), extent - size))
        for extent, start, size in zip(shape, starts, sizes, strict=False)
    ]
    return tuple([slice(i, i + size) for i, size in zip(begins, sizes, strict=True)])


def _dynamic_slice_evaluate(operand: Any, *starts: Any, slice_sizes: Sequence[int]) -> Any:
    return operand[_clamped(operand.shape, starts, slice_sizes)].copy()


def _dynamic_slice_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    operand, *starts = primals
    out = dynamic_slice(operand, *starts, **params)
    if type(tangents[0]) is Zero:
        return out, Zero(aval_of(out).tangent())
    return out, dynamic_slice(tangents[0], *starts, **params)


def _dynamic_slice_transpose(
    ctx: Any, ct: Any, operand: Linear, *starts: Any, slice_sizes: Sequence[Any]
) -> list[Any]:
    spread = dynamic_update_slice(common.zeros(operand.aval), ct, *starts)
    return [spread, *[None] * len(starts)]


def _zero_start(starts: Sequence[Any]) -> Any:
    dtype = aval_of(starts[0]).dtype if starts else dtypes.int32
    return common.full(Aval((), dtype), 0)


def stack_starts(ctx: Any, starts: Sequence[Any], dims: Sequence[int | None]) -> Any:
    """Start indices of a batch, of which one at least is batched, as rows of an array."""
    from covector.ops.shape import broadcast_in_dim, concatenate

    columns = [
        broadcast_in_dim(
            s, shape=(ctx.axis_size, 1), broadcast_dimensions=() if d is None else (0,)
        )
        for s, d in zip(starts, dims, strict=True)
    ]
    return concatenate(*columns, dimension=1)


def _dynamic_slice_batch(ctx: Any, args: Any, dims: Any, *, slice_sizes: Sequence[Any]) -> Any:
    operand, *starts = args
    dim, *start_dims = dims
    if all(d is None for d in start_dims):
        starts = inserted(starts, dim, _zero_start(starts))
        sizes = inserted(slice_sizes, dim, ctx.axis_size)
        return dynamic_slice(operand, *starts, slice_sizes=sizes), dim
    axes = tuple(range(len(slice_sizes)))
    return _gather_batch(
        ctx,
        (operand, stack_starts(ctx, starts, start_dims)),
        (dim, 0),
        dimension_numbers=GatherDimensionNumbers(axes, (), axes),
        slice_sizes=tuple(slice_sizes),
        mode=GatherScatterMode.CLIP,
        fill_value=None,
        indices_are_sorted=True,
        unique_indices=True,
    )


def _dynamic_slice_lanes(
    dims: Any, operand: Aval, *starts: Aval, slice_sizes: Sequence[Any]
) -> int | None:
    lane = dims[0]
    if lane is not None and slice_sizes[lane] != operand.shape[lane]:
        raise Inseparable("the slice is a part of the lanes")
    return lane


def _dynamic_slice_lower(
    b: Lowering, operand: Any, *starts: Any, slice_sizes: Sequence[Any]
) -> Any:
    builder, rank = b.builder, len(slice_sizes)
    sizes = b.extents(Aval(slice_sizes, np.dtype(np.float32)))
    begins = _lower_starts(builder, operand.shape, starts, sizes)
    shape = (*sizes, *operand.shape[rank:])

    def element(index: tuple[Any, ...]) -> Any:
        place = [ix.add(builder, i, j) for i, j in zip(begins, index, strict=False)]
        return operand.at((*place, *index[rank:]))

    return b.lazy(shape, operand.dtype, element, operand.cost, moves=True)


def _lower_starts(
    builder: Any, shape: Sequence[Any], starts: Sequence[Any], sizes: Sequence[Any]
) -> list[Any]:
    begins: list[Any] = []
    for extent, start, size in zip(shape, starts, sizes, strict=False):
        bound = ix.sub(builder, extent, size)
        if type(bound) is int and bound == 0:
            begins.append(0)
        else:
            begins.append(clamp_start(builder, start.at(()), bound, False)[0])
    return begins


dynamic_slice = Primitive(
    "dynamic_slice",
    shape=_dynamic_slice_shape,
    evaluate=_dynamic_slice_evaluate,
    jvp=_dynamic_slice_jvp,
    transpose=_dynamic_slice_transpose,
    batch=_dynamic_slice_batch,
    lanes=_dynamic_slice_lanes,
    narrow=narrow_sizes(lambda: dynamic_slice, "slice_sizes"),
    lower=_dynamic_slice_lower,
)

# --- dynamic_update_slice ------------------------------------------------------------------------


def _update_shape(operand: Aval, update: Aval, *starts: Aval) -> Aval:
    common.check_dtypes("dynamic_update_slice", (operand, update), None)
    check_fits("dynamic_update_slice", operand, update.shape)
    check_starts("dynamic_update_slice", operand, starts)
    return Aval(operand.shape, operand.dtype, operand.weak_type and update.weak_type)


def _update_evaluate(operand: Any, update: Any, *starts: Any) -> Any:
    out = operand.copy()
    out[_clamped(operand.shape, starts, update.shape[: len(starts)])] = update
    return out


def _update_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    operand, update, *starts = primals
    out = dynamic_update_slice(operand, update, *starts)
    if type(tangents[0]) is Zero and type(tangents[1]) is Zero:
        return out, Zero(aval_of(out).tangent())
    both_tangents = [common.instantiate(t) for t in tangents[:2]]
    return out, dynamic_update_slice(*both_tangents, *starts)


def _update_transpose(ctx: Any, ct: Any, operand: Any, update: Any, *starts: Any) -> list[Any]:
    aval = update.aval if is_linear(update) else aval_of(update)
    cts: list[Any] = [None] * (2 + len(starts))
    if is_linear(operand):
        cts[0] = dynamic_update_slice(ct, common.zeros(aval.tangent()), *starts)
    if is_linear(update):
        cts[1] = dynamic_slice(ct, *starts, slice_sizes=aval.shape)
    return cts


def _update_batch(ctx: Any, args: Any, dims: Any) -> Any:
    from covector.ops.scatter import scatter
    from covector.ops.windows import ScatterDimensionNumbers

    operand, update, *starts = args
    operand_dim, update_dim, *start_dims = dims
    operand = batch_at_front(operand, operand_dim, ctx.axis_size)
    update = batch_at_front(update, update_dim, ctx.axis_size)
    if all(d is None for d in start_dims):
        return dynamic_update_slice(operand, update, _zero_start(starts), *starts), 0
    inner = tuple(range(1, len(starts) + 1))
    numbers = ScatterDimensionNumbers(inner, (), inner, (0,), (0,))
    out = scatter(
        operand,
        stack_starts(ctx, starts, start_dims),
        update,
        dimension_numbers=numbers,
        indices_are_sorted=True,
        unique_indices=True,
        mode=GatherScatterMode.CLIP,
    )
    return out, 0


def _update_lanes(dims: Any, operand: Aval, update: Aval, *starts: Aval) -> int | None:
    lane = dims[0]
    if dims[1] != lane:
        raise Inseparable("operand and update have their lanes along different axes")
    if lane is not None and update.shape[lane] != operand.shape[lane]:
        raise Inseparable("the update is a part of the lanes")
    return lane


def _update_lower(b: Lowering, operand: Any, update: Any, *starts: Any) -> Any:
    begins = _lower_starts(b.builder, operand.shape, starts, update.shape)
    if small(operand.shape) and small(update.shape):
        if 0 in update.shape:
            return operand
        return _update_by_choice(b, operand, update, begins)
    if _mostly_replaced(b, operand, update, begins):
        return _update_by_choice(b, operand, update, begins)
    out = b.update_in_place(operand)
    builder = b.builder

    def write(index: tuple[Any, ...]) -> None:
        place = [ix.add(builder, i, j) for i, j in zip(begins, index, strict=False)]
        out.put((*place, *index[len(begins) :]), update.at(index))

    b.for_each(update.shape, write, independent=True)
    return out


def _mostly_replaced(b: Lowering, operand: Any, update: Any, begins: Sequence[Any]) -> bool:
    """Whether loops over the result are split into those over the window and its surroundings."""
    if b.owns(operand) or b.builder.lane is not None or "ranges" in config.disable:
        return False
    size, part = static_size(operand.shape), static_size(update.shape)
    known = all([type(begin) is int for begin in begins])
    return known and size is not None and part is not None and 2 * part >= size


def small(shape: Sequence[Any]) -> bool:
    """Whether arrays of a shape are small enough to be rewritten whole for a small change."""
    size = static_size(shape)
    return size is not None and size <= SMALL


def _update_by_choice(b: Lowering, operand: Any, update: Any, begins: Sequence[Any]) -> Any:
    def element(index: tuple[Any, ...]) -> Any:
        inside, place = offsets_inside(b.builder, index, begins, update.shape)
        return choose(b.builder, inside, lambda: update.at(tuple(place)), lambda: operand.at(index))

    cost = operand.cost + update.cost + 3 * len(begins)
    return b.lazy(operand.shape, operand.dtype, element, cost)


def offsets_inside(
    builder: Any, index: Sequence[Any], begins: Sequence[Any], sizes: Sequence[Any]
) -> tuple[Any, list[Any]]:
    """Whether an index lies in a window, and where in the window, moved inside if it does not.

    Args:
        builder: of loop IR.
        index: into the operand, perhaps with the trailing axis of keys' words.
        begins: where the window begins.
        sizes: of the window; axes after those of `begins` are whole.

    Returns:
        A bool (a loop IR value, or Python's) and an index into the window.
    """
    inside: Any = True
    place: list[Any] = []
    for i, begin, size in zip(index, begins, sizes, strict=False):
        offset = ix.sub(builder, i, begin)
        place.append(clamp_between(builder, offset, ix.sub(builder, size, 1)))
        inside = both(builder, inside, _in_range(builder, offset, size))
    return inside, [*place, *index[len(begins) :]]


def _in_range(builder: Any, offset: Any, size: Any) -> Any:
    if type(offset) is int and type(size) is int:
        return 0 <= offset < size
    if type(size) is int and size == 1:
        return known_bool(ix.compare(builder, "eq", offset, 0))
    low = ix.compare(builder, "ge", offset, 0)
    return both(builder, low, ix.compare(builder, "lt", offset, size))


dynamic_update_slice = Primitive(
    "dynamic_update_slice",
    shape=_update_shape,
    evaluate=_update_evaluate,
    jvp=_update_jvp,
    transpose=_update_transpose,
    batch=_update_batch,
    lanes=_update_lanes,
    lower=_update_lower,
)
