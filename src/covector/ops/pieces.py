"""Movement operations that put arrays together and take them apart: concatenate, split, tile ..."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from covector.core.avals import Aval, Linear
from covector.core.config import config
from covector.core.trace import aval_of
from covector.ops import common, indices
from covector.ops.axes import reshape
from covector.ops.common import (
    Inseparable,
    batch_at_front,
    check_dtypes,
    instantiate,
    is_linear,
    same_lane,
)
from covector.ops.movement import check_axes, inserted, movement, past
from covector.ops.slices import slice_in_dim

# --- concatenate --------------------------------------------------------------------------------


def _concatenate_shape(*xs: Aval, dimension: int) -> Aval:
    if not xs:
        raise ValueError("concatenate needs at least one operand")
    dtype = check_dtypes("concatenate", xs, None)
    ndim = len(xs[0].shape)
    others = {inserted(x.shape[:dimension], dimension, 0) + x.shape[dimension + 1 :] for x in xs}
    if not 0 <= dimension < ndim or len(others) > 1 or any(len(x.shape) != ndim for x in xs):
        found = ", ".join(map(str, xs))
        raise TypeError(
            f"concatenate along axis {dimension} requires operands that agree in all other axes, "
            f"found {found}"
        )
    total: Any = sum([x.shape[dimension] for x in xs])
    shape = [total if d == dimension else n for d, n in enumerate(xs[0].shape)]
    return Aval(shape, dtype, all(x.weak_type for x in xs))


def _concatenate_evaluate(*xs: Any, dimension: int) -> Any:
    return np.concatenate(xs, axis=dimension)


def _joined_jvp(ctx: Any, primals: Any, tangents: Any, primitive: Any, **params: Any) -> Any:
    dots = [instantiate(t) for t in tangents]
    return primitive(*primals, **params), primitive(*dots, **params)


def _concatenate_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _joined_jvp(ctx, primals, tangents, concatenate, **params)


def _concatenate_transpose(ctx: Any, ct: Any, *xs: Any, dimension: int) -> list[Any]:
    cts: list[Any] = []
    start: Any = 0
    for x in xs:
        aval = x.aval if is_linear(x) else aval_of(x)
        limit = start + aval.shape[dimension]
        cts.append(slice_in_dim(ct, start, limit, dimension) if is_linear(x) else None)
        start = limit
    return cts


def _concatenate_batch(ctx: Any, args: Any, dims: Any, *, dimension: int) -> Any:
    xs = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
    return concatenate(*xs, dimension=dimension + 1), 0


# Larger results are computed into a buffer piece by piece, smaller ones by choosing among the
# operands at each element; in between it depends on how many operands there are.
_SMALL_SIZE = 256
_LARGE_SIZE = 4096
_MANY_OPERANDS = 8


def _concatenate_lower(b: Any, *xs: Any, dimension: int) -> Any:
    builder = b.builder
    # Empty operands hold no element to choose.
    pieces = [x for x in xs if not (type(x.shape[dimension]) is int and x.shape[dimension] == 0)]
    if not pieces:
        return xs[0]
    starts: list[Any] = [0]
    for x in pieces:
        starts.append(indices.add(builder, starts[-1], x.shape[dimension]))
    shape = [starts[-1] if d == dimension else n for d, n in enumerate(xs[0].shape)]
    size = indices.product(builder, shape)
    limit = _SMALL_SIZE if len(pieces) > _MANY_OPERANDS else _LARGE_SIZE
    large = len(pieces) > 1 and (type(size) is not int or size > limit)
    if large and not _splits_loops(b, pieces, starts):
        return _concatenate_into_buffer(b, pieces, dimension, starts, shape)

    def element(index: Any) -> Any:
        return _element_of_pieces(builder, pieces, dimension, starts, index)

    cost = sum([x.cost + 3.0 for x in pieces])
    return b.lazy(shape, xs[0].dtype, element, cost, moves=not large)


_FEW_OPERANDS = 3
_CHEAP = 3.0


def _splits_loops(b: Any, pieces: list[Any], starts: list[Any]) -> bool:
    """Whether loops over the result become one for each operand, without choices in them."""
    return (
        "ranges" not in config.disable
        and b.builder.lane is None
        and len(pieces) <= _FEW_OPERANDS
        and all(type(start) is int for start in starts)
        and all(x.cost <= _CHEAP for x in pieces)
    )


def _concatenate_into_buffer(
    b: Any, pieces: list[Any], dimension: int, starts: list[Any], shape: list[Any]
) -> Any:
    builder = b.builder
    out = b.new(shape, pieces[0].dtype)
    for x, start in zip(pieces, starts[:-1], strict=True):
        b.for_each(x.shape, _copier(builder, out.buffer, x, dimension, start), independent=True)
    return out


def _copier(builder: Any, buffer: Any, x: Any, dimension: int, start: Any) -> Any:
    def copy(index: Any) -> None:
        place = list(index)
        place[dimension] = indices.add(builder, index[dimension], start)
        builder.store(buffer, place, x.at(index))

    return copy


def _element_of_pieces(
    builder: Any, pieces: list[Any], dimension: int, starts: list[Any], index: Any
) -> Any:
    i = index[dimension]

    def element(k: int, local: Any) -> Any:
        return pieces[k].at((*index[:dimension], local, *index[dimension + 1 :]))

    if not all(type(start) is int for start in starts):
        return _branch_to_piece(builder, element, 0, starts, i)
    if type(i) is int:
        k = next(k for k in range(len(pieces)) if i < starts[k + 1])
        return element(k, i - starts[k])
    last = len(pieces) - 1
    result = element(last, indices.at_least(builder, indices.sub(builder, i, starts[last]), 0))
    for k in range(last - 1, -1, -1):
        # The operands not chosen are read too, at their nearest element.
        size = starts[k + 1] - starts[k]
        local = indices.clamp(builder, indices.sub(builder, i, starts[k]), size)
        here = indices.compare(builder, "lt", i, starts[k + 1])
        result = builder.op("select", here, element(k, local), result)
    return result


def _branch_to_piece(
    builder: Any, element: Callable[[int, Any], Any], k: int, starts: list[Any], i: Any
) -> Any:
    """Pieces of run-time sizes may be empty, so that only the chosen one is read."""
    local = indices.sub(builder, i, starts[k])
    if k == len(starts) - 2:
        return element(k, local)
    (result,) = builder.if_(
        indices.compare(builder, "lt", i, starts[k + 1]),
        lambda: [element(k, local)],
        lambda: [_branch_to_piece(builder, element, k + 1, starts, i)],
    )
    return result


def _concatenate_lanes(dims: Any, *xs: Aval, dimension: int) -> int | None:
    lane = same_lane(dims)
    if lane is not None and lane == dimension:
        raise Inseparable("it concatenates along the lanes")
    return lane


concatenate = movement(
    "concatenate",
    shape=_concatenate_shape,
    evaluate=_concatenate_evaluate,
    jvp=_concatenate_jvp,
    transpose=_concatenate_transpose,
    batch=_concatenate_batch,
    lower=_concatenate_lower,
    lanes=_concatenate_lanes,
)

# --- stack, unstack -----------------------------------------------------------------------------


def _stack_shape(*xs: Aval, axis: int) -> Aval:
    if not xs:
        raise ValueError("stack needs at least one operand")
    dtype = check_dtypes("stack", xs, None)
    shape = xs[0].shape
    if any(x.shape != shape for x in xs) or not 0 <= axis <= len(shape):
        found = ", ".join(map(str, xs))
        raise ValueError(f"stack along axis {axis} requires operands of equal shape, found {found}")
    return Aval(inserted(shape, axis, len(xs)), dtype, all(x.weak_type for x in xs))


def _stack_evaluate(*xs: Any, axis: int) -> Any:
    return np.stack(xs, axis=axis)


def _stack_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _joined_jvp(ctx, primals, tangents, stack, **params)


def _stack_transpose(ctx: Any, ct: Any, *xs: Any, axis: int) -> list[Any]:
    parts = unstack(ct, axis=axis)
    return [part if is_linear(x) else None for part, x in zip(parts, xs, strict=True)]


def _stack_batch(ctx: Any, args: Any, dims: Any, *, axis: int) -> Any:
    xs = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
    return stack(*xs, axis=axis + 1), 0


def _stack_lower(b: Any, *xs: Any, axis: int) -> Any:
    return _concatenate_lower(b, *[_with_unit_axis(b, x, axis) for x in xs], dimension=axis)


def _with_unit_axis(b: Any, x: Any, axis: int) -> Any:
    at = x.at

    def element(index: Any) -> Any:
        return at((*index[:axis], *index[axis + 1 :]))

    return b.lazy(inserted(x.shape, axis, 1), x.dtype, element, x.cost, moves=True)


def _stack_lanes(dims: Any, *xs: Aval, axis: int) -> int | None:
    lane = same_lane(dims)
    return None if lane is None else lane + (lane >= axis)


stack = movement(
    "stack",
    shape=_stack_shape,
    evaluate=_stack_evaluate,
    jvp=_stack_jvp,
    transpose=_stack_transpose,
    batch=_stack_batch,
    lower=_stack_lower,
    lanes=_stack_lanes,
)


def _unstack_shape(x: Aval, *, axis: int) -> list[Aval]:
    check_axes("unstack", "axis", (axis,), len(x.shape))
    count = x.shape[axis]
    if type(count) is not int:
        raise TypeError(f"unstack of {x} along axis {axis}: its size must be known")
    part = Aval(x.shape[:axis] + x.shape[axis + 1 :], x.dtype, x.weak_type)
    return [part] * count


def _unstack_evaluate(x: Any, *, axis: int) -> list[Any]:
    return [np.array(x.take(i, axis), order="C") for i in range(x.shape[axis])]


def _unstack_transpose(ctx: Any, cts: Any, x: Linear, *, axis: int) -> list[Any]:
    return [stack(*map(instantiate, cts), axis=axis) if cts else common.zeros(x.aval)]


def _unstack_batch(ctx: Any, args: Any, dims: Any, *, axis: int) -> Any:
    (axis,) = past((axis,), dims[0])
    outs = unstack(args[0], axis=axis)
    return outs, [dims[0] - (axis < dims[0])] * len(outs)


def _unstack_lower(b: Any, x: Any, *, axis: int) -> list[Any]:
    return [_part(b, x, axis, i) for i in range(x.shape[axis])]


def _part(b: Any, x: Any, axis: int, i: int) -> Any:
    at = x.at

    def element(index: Any) -> Any:
        return at((*index[:axis], i, *index[axis:]))

    return b.lazy(x.shape[:axis] + x.shape[axis + 1 :], x.dtype, element, x.cost, moves=True)


def _unstack_lanes(dims: Any, x: Aval, *, axis: int) -> list[int | None]:
    lane = dims[0]
    if lane == axis:
        raise Inseparable("it takes the lanes apart")
    return [None if lane is None else lane - (lane > axis)] * int(x.shape[axis])


unstack = movement(
    "unstack",
    shape=_unstack_shape,
    evaluate=_unstack_evaluate,
    transpose=_unstack_transpose,
    batch=_unstack_batch,
    lower=_unstack_lower,
    lanes=_unstack_lanes,
    multiple_results=True,
)

# --- split --------------------------------------------------------------------------------------


def _split_shape(x: Aval, *, sizes: Sequence[Any], axis: int) -> list[Aval]:
    check_axes("split", "axis", (axis,), len(x.shape))
    if any(type(n) is int and n < 0 for n in sizes) or sum(sizes) != x.shape[axis]:
        raise ValueError(
            f"split of {x} along axis {axis}: sizes must add up to {x.shape[axis]} and none be "
            f"negative, found {tuple(sizes)}"
        )
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    return [Aval((*before, n, *after), x.dtype, x.weak_type) for n in sizes]


def _split_evaluate(x: Any, *, sizes: Sequence[Any], axis: int) -> list[Any]:
    parts = np.split(x, list(accumulate(sizes))[:-1], axis)
    return [np.array(part, order="C") for part in parts]


def _split_transpose(ctx: Any, cts: Any, x: Linear, *, sizes: Any, axis: int) -> list[Any]:
    return [concatenate(*map(instantiate, cts), dimension=axis)]


def _split_batch(ctx: Any, args: Any, dims: Any, *, sizes: Any, axis: int) -> Any:
    (axis,) = past((axis,), dims[0])
    return split(args[0], sizes=sizes, axis=axis), [dims[0]] * len(sizes)


def _split_lower(b: Any, x: Any, *, sizes: Sequence[Any], axis: int) -> list[Any]:
    builder = b.builder
    parts: list[Any] = []
    start: Any = 0
    for size in b.extents(Aval(sizes, x.dtype)):
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        element = _shifted(builder, x.at, axis, start)
        parts.append(b.lazy(shape, x.dtype, element, x.cost, moves=True))
        start = indices.add(builder, start, size)
    return parts


def _shifted(builder: Any, at: Any, axis: int, start: Any) -> Any:
    def element(index: Any) -> Any:
        i = indices.add(builder, index[axis], start)
        return at((*index[:axis], i, *index[axis + 1 :]))

    return element


def _split_lanes(dims: Any, x: Aval, *, sizes: Sequence[Any], axis: int) -> list[int | None]:
    if dims[0] == axis:
        raise Inseparable("it splits the lanes")
    return [dims[0]] * len(sizes)


split = movement(
    "split",
    shape=_split_shape,
    evaluate=_split_evaluate,
    transpose=_split_transpose,
    batch=_split_batch,
    lower=_split_lower,
    lanes=_split_lanes,
    multiple_results=True,
)

# --- tile ---------------------------------------------------------------------------------------


def _tile_shape(x: Aval, *, reps: Sequence[Any]) -> Aval:
    if len(reps) != len(x.shape) or any(type(r) is int and r < 0 for r in reps):
        raise TypeError(
            f"tile of {x}: reps needs a count for each of its {len(x.shape)} axes, found "
            f"{tuple(reps)}"
        )
    shape = [n * r for n, r in zip(x.shape, reps, strict=True)]
    return Aval(shape, x.dtype, x.weak_type)


def _tile_evaluate(x: Any, *, reps: Sequence[Any]) -> Any:
    return np.tile(x, tuple(reps))


def _tile_transpose(ctx: Any, ct: Any, x: Linear, *, reps: Sequence[Any]) -> list[Any]:
    from covector.ops.reduce import reduce_sum

    pairs: list[Any] = []
    for n, r in zip(x.aval.shape, reps, strict=True):
        pairs += [r, n]
    apart = reshape(ct, new_sizes=tuple(pairs), dimensions=None)
    return [reduce_sum(apart, axes=tuple(range(0, len(pairs), 2)))]


def _tile_batch(ctx: Any, args: Any, dims: Any, *, reps: Sequence[Any]) -> Any:
    return tile(args[0], reps=inserted(reps, dims[0], 1)), dims[0]


def _tile_lower(b: Any, x: Any, *, reps: Sequence[Any]) -> Any:
    builder = b.builder
    at = x.at
    counts = b.extents(Aval(reps, x.dtype))
    shape = [indices.mul(builder, n, r) for n, r in zip(x.shape, counts, strict=True)]
    repeated = [type(r) is not int or r != 1 for r in reps]

    def element(index: Any) -> Any:
        source: list[Any] = []
        for i, n, again in zip(index, x.shape, repeated, strict=True):
            source.append(indices.rem(builder, i, n) if again else i)
        return at(tuple(source))

    return b.lazy(shape, x.dtype, element, x.cost + 2.0 * sum(repeated), moves=True)


def _tile_lanes(dims: Any, x: Aval, *, reps: Sequence[Any]) -> int | None:
    if dims[0] is not None and reps[dims[0]] != 1:
        raise Inseparable("it repeats the lanes")
    return dims[0]


tile = movement(
    "tile",
    shape=_tile_shape,
    evaluate=_tile_evaluate,
    transpose=_tile_transpose,
    batch=_tile_batch,
    lower=_tile_lower,
    lanes=_tile_lanes,
    rank=lambda params, shape: len(params["reps"]),
    extend=lambda params, words: {"reps": (*params["reps"], 1)},
)
