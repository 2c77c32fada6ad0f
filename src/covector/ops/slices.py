"""Movement operations that cut arrays out and pad them: slice and pad."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core.avals import Aval, Linear
from covector.core.trace import aval_of
from covector.ops import common, indices
from covector.ops.axes import broadcast_in_dim, reshape
from covector.ops.common import (
    Inseparable,
    batch_at_front,
    check_dtypes,
    instantiate,
    is_linear,
    like,
    narrow_sizes,
)
from covector.ops.compare import select_n
from covector.ops.movement import inserted, movement

# --- slice --------------------------------------------------------------------------------------

Starts = Sequence[Any]


def _slice_shape(
    x: Aval, *, start_indices: Starts, limit_indices: Starts, strides: Starts | None = None
) -> Aval:
    steps = strides or (1,) * len(x.shape)
    if not len(start_indices) == len(limit_indices) == len(steps) == len(x.shape):
        raise TypeError(
            f"slice of {x}: start_indices, limit_indices and strides must have {len(x.shape)} "
            f"entries each, found {start_indices}, {limit_indices} and {strides}"
        )
    for n, start, limit, step in zip(x.shape, start_indices, limit_indices, steps, strict=True):
        if type(n) is type(start) is type(limit) is int and not 0 <= start <= limit <= n:
            raise TypeError(
                f"slice of {x} from {tuple(start_indices)} to {tuple(limit_indices)}: starts must "
                "not exceed limits, nor limits the shape, and none may be negative"
            )
        if step < 1:
            raise TypeError(f"slice of {x}: strides must be positive, found {strides}")
    return Aval(_slice_sizes(start_indices, limit_indices, steps), x.dtype, x.weak_type)


def _slice_sizes(starts: Starts, limits: Starts, steps: Starts) -> list[Any]:
    return [
        limit - start if step == 1 else (limit - start + step - 1) // step
        for start, limit, step in zip(starts, limits, steps, strict=True)
    ]


def _slice_evaluate(
    x: Any, *, start_indices: Starts, limit_indices: Starts, strides: Starts | None = None
) -> Any:
    steps = strides or (1,) * len(start_indices)
    bounds = zip(start_indices, limit_indices, steps, strict=True)
    # A copy: a view would keep all of x alive.
    return np.array(x[tuple([slice(*bound) for bound in bounds])], order="C")


def _slice_transpose(
    ctx: Any,
    ct: Any,
    x: Linear,
    *,
    start_indices: Starts,
    limit_indices: Starts,
    strides: Starts | None = None,
) -> list[Any]:
    steps = strides or (1,) * len(start_indices)
    config: list[Any] = []
    shape = aval_of(ct).shape
    for n, out, start, step in zip(x.aval.shape, shape, start_indices, steps, strict=True):
        used = 0 if out == 0 else 1 + (out - 1) * step
        config.append((start, n - start - used, step - 1))
    return [pad(ct, like(ct, 0), padding_config=tuple(config))]


def _slice_batch(
    ctx: Any,
    args: Any,
    dims: Any,
    *,
    start_indices: Starts,
    limit_indices: Starts,
    strides: Starts | None = None,
) -> Any:
    (x,), (dim,) = args, dims
    out = slice_(
        x,
        start_indices=inserted(start_indices, dim, 0),
        limit_indices=inserted(limit_indices, dim, aval_of(x).shape[dim]),
        strides=None if strides is None else inserted(strides, dim, 1),
    )
    return out, dim


def _slice_lower(
    b: Any, x: Any, *, start_indices: Starts, limit_indices: Starts, strides: Starts | None = None
) -> Any:
    builder = b.builder
    steps = strides or (1,) * len(start_indices)
    starts = b.extents(Aval(start_indices, x.dtype))
    shape = b.extents(Aval(_slice_sizes(start_indices, limit_indices, steps), x.dtype))
    at = x.at

    def element(index: Any) -> Any:
        return at(
            tuple(
                [
                    indices.add(builder, indices.mul(builder, i, step), start)
                    for i, start, step in zip(index, starts, steps, strict=True)
                ]
            )
        )

    return b.lazy(shape, x.dtype, element, x.cost, moves=True)


def _slice_lanes(
    dims: Any,
    x: Aval,
    *,
    start_indices: Starts,
    limit_indices: Starts,
    strides: Starts | None = None,
) -> int | None:
    dim = dims[0]
    if dim is not None and (
        start_indices[dim] != 0
        or limit_indices[dim] != x.shape[dim]
        or (strides is not None and strides[dim] != 1)
    ):
        raise Inseparable("it takes some of the lanes")
    return dim


slice_ = movement(
    "slice",
    shape=_slice_shape,
    evaluate=_slice_evaluate,
    transpose=_slice_transpose,
    batch=_slice_batch,
    lower=_slice_lower,
    lanes=_slice_lanes,
    narrow=narrow_sizes(lambda: slice_, "limit_indices"),
    rank=lambda params, shape: len(params["start_indices"]),
    extend=lambda params, words: {
        "start_indices": (*params["start_indices"], 0),
        "limit_indices": (*params["limit_indices"], words),
        "strides": None if params.get("strides") is None else (*params["strides"], 1),
    },
)


def slice_in_dim(x: Any, start: Any, limit: Any, axis: int) -> Any:
    """`x` from `start` to `limit` along one axis, all of it along the others."""
    shape = aval_of(x).shape
    return slice_(
        x,
        start_indices=tuple([start if d == axis else 0 for d in range(len(shape))]),
        limit_indices=tuple([limit if d == axis else n for d, n in enumerate(shape)]),
        strides=None,
    )


# --- pad ----------------------------------------------------------------------------------------

Padding = Sequence[tuple[Any, Any, int]]
"""For each axis what is added before, after, and between elements; before and after may be < 0."""


def _dilated(n: Any, interior: int) -> Any:
    return n if interior == 0 or n == 0 else n + (n - 1) * interior


def _pad_shape(x: Aval, value: Aval, *, padding_config: Padding) -> Aval:
    check_dtypes("pad", (x, value), None)
    if value.shape != ():
        raise ValueError(f"pad: the padding value must be a scalar, found {value}")
    if len(padding_config) != len(x.shape):
        raise ValueError(
            f"pad of {x}: padding_config needs an entry (low, high, interior) for each axis, "
            f"found {tuple(padding_config)}"
        )
    if any(interior < 0 for _, _, interior in padding_config):
        raise ValueError(f"pad of {x}: interior padding is negative in {tuple(padding_config)}")
    shape = [
        _dilated(n, interior) + low + high
        for n, (low, high, interior) in zip(x.shape, padding_config, strict=True)
    ]
    if any(type(n) is int and n < 0 for n in shape):
        raise ValueError(f"pad of {x} by {tuple(padding_config)} would have shape {tuple(shape)}")
    return Aval(shape, x.dtype, x.weak_type and value.weak_type)


def _pad_evaluate(x: Any, value: Any, *, padding_config: Padding) -> Any:
    sources: list[slice] = []
    targets: list[slice] = []
    shape: list[int] = []
    for n, (low, high, interior) in zip(x.shape, padding_config, strict=True):
        step = interior + 1
        extent = _dilated(n, interior) + low + high
        # Elements first to last - 1 of x fall inside the result.
        first = max(0, -(low // step))
        last = max(first, min(n, (extent - low + interior) // step))
        sources.append(slice(first, last))
        targets.append(slice(first * step + low, max(0, (last - 1) * step + low + 1), step))
        shape.append(extent)
        if first == last:
            targets[-1] = slice(0, 0)
    out = np.empty(shape, x.dtype)
    out[...] = value
    out[tuple(targets)] = x[tuple(sources)]
    return out


def _pad_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    x_dot, value_dot = [instantiate(t) for t in tangents]
    return pad(*primals, **params), pad(x_dot, value_dot, **params)


def _pad_transpose(ctx: Any, ct: Any, x: Any, value: Any, *, padding_config: Padding) -> list[Any]:
    x_ct = value_ct = None
    if is_linear(x):
        whole = pad(
            ct,
            like(ct, 0),
            padding_config=tuple([(-low, -high, 0) for low, high, _ in padding_config]),
        )
        shape = aval_of(whole).shape
        x_ct = slice_(
            whole,
            start_indices=(0,) * len(shape),
            limit_indices=shape,
            strides=tuple([interior + 1 for _, _, interior in padding_config]),
        )
    if is_linear(value):
        value_ct = _sum_of_padding(ct, aval_of(x) if not is_linear(x) else x.aval, padding_config)
    return [x_ct, value_ct]


def _sum_of_padding(ct: Any, x: Aval, padding_config: Padding) -> Any:
    from covector.ops.reduce import reduce_sum

    padded = _padding_mask(x.shape, padding_config)
    kept = _where(padded, ct, common.zeros(aval_of(ct)))
    return reduce_sum(kept, axes=tuple(range(len(x.shape))))


def _padding_mask(shape: Sequence[Any], padding_config: Padding) -> Any:
    """True where the result of a pad holds padding."""
    inside = common.full(Aval(shape, np.dtype(np.bool_)), False)
    return pad(inside, like(inside, True), padding_config=padding_config)


def _where(condition: Any, x: Any, y: Any) -> Any:
    return select_n(condition, y, x)


def _pad_batch(ctx: Any, args: Any, dims: Any, *, padding_config: Padding) -> Any:
    x, value = args
    dim = dims[0]
    if dim is None:
        x, dim = batch_at_front(x, None, ctx.axis_size), 0
    config = inserted(padding_config, dim, (0, 0, 0))
    if dims[1] is None:
        return pad(x, value, padding_config=config), dim
    shape = aval_of(x).shape
    out = pad(x, slice_value(value, 0), padding_config=config)
    values = broadcast_in_dim(value, shape=aval_of(out).shape, broadcast_dimensions=(dim,))
    return _where(_padding_mask(shape, config), values, out), dim


def slice_value(x: Any, i: int) -> Any:
    """Element `i` of an array of rank 1, as a scalar."""
    return reshape(slice_in_dim(x, i, i + 1, 0), new_sizes=(), dimensions=None)


_CHEAP = 3.0
"""Operations of an element worth repeating wherever it is read."""


def _pad_lower(b: Any, x: Any, value: Any, *, padding_config: Padding) -> Any:
    builder = b.builder
    shape: list[Any] = []
    lows = b.extents(Aval([low for low, _, _ in padding_config], x.dtype))
    highs = b.extents(Aval([high for _, high, _ in padding_config], x.dtype))
    spread = [
        _dilated_extent(builder, n, interior)
        for n, (_, _, interior) in zip(x.shape, padding_config, strict=True)
    ]
    for n, low, high in zip(spread, lows, highs, strict=True):
        shape.append(indices.add(builder, indices.add(builder, n, low), high))
    interiors = [interior for _, _, interior in padding_config]
    axes = list(zip(lows, highs, interiors, spread, strict=True))
    # An element of an empty operand does not exist, not even to be discarded by a select.
    empty = any(type(n) is int and n == 0 for n in x.shape)
    static = all(type(n) is int for n in x.shape)

    def element(index: Any) -> Any:
        padding = value.at(index[len(index) - len(value.shape) :])
        if empty:
            return padding
        source: list[Any] = []
        conditions: list[Any] = []
        for i, axis in zip(index, axes, strict=True):
            position = _unpad(builder, i, *axis, conditions)
            if position is None:
                return padding
            source.append(position)
        if not conditions:
            return x.at(tuple(source))
        inside = conditions[0]
        for condition in conditions[1:]:
            inside = builder.op("and", inside, condition)
        if static:
            return builder.op("select", inside, x.at(tuple(source)), padding)
        (result,) = builder.if_(inside, lambda: [x.at(tuple(source))], lambda: [padding])
        return result

    cost = x.cost + value.cost + 2.0 * sum(config != (0, 0, 0) for config in padding_config)
    return b.lazy(shape, x.dtype, element, cost, moves=x.cost <= _CHEAP)


def _dilated_extent(builder: Any, n: Any, interior: int) -> Any:
    if type(n) is int:
        return _dilated(n, interior)
    gaps = indices.mul(builder, indices.sub(builder, n, 1), interior)
    spread = indices.add(builder, n, gaps)
    return spread if interior == 0 else builder.op("max", spread, builder.index(0))


def _unpad(
    builder: Any, i: Any, low: Any, high: Any, interior: int, spread: Any, conditions: list[Any]
) -> Any:
    """The operand's index for one axis of the result's.

    Appends what must hold for it to be no padding; `None` if that is certain to fail. Indices of
    padding are moved into the operand.
    """
    at = indices.sub(builder, i, low)
    if type(at) is int and type(spread) is int:
        inside = 0 <= at < spread and at % (interior + 1) == 0
        return at // (interior + 1) if inside else None
    bounded = at
    may_precede = type(low) is not int or low > 0
    may_follow = type(high) is not int or high > 0
    if may_precede:
        conditions.append(indices.compare(builder, "ge", at, 0))
    if may_follow:
        conditions.append(indices.compare(builder, "lt", at, spread))
    if may_precede or may_follow:
        bounded = indices.clamp(builder, at, spread)
    if interior:
        phase = indices.rem(builder, bounded, interior + 1)
        conditions.append(indices.compare(builder, "eq", phase, 0))
    return indices.div(builder, bounded, interior + 1)


def _pad_lanes(dims: Any, x: Aval, value: Aval, *, padding_config: Padding) -> int | None:
    lane: int | None = dims[0]
    if lane is not None and tuple(padding_config[lane]) != (0, 0, 0):
        raise Inseparable("it pads the lanes")
    return lane


pad = movement(
    "pad",
    shape=_pad_shape,
    evaluate=_pad_evaluate,
    jvp=_pad_jvp,
    transpose=_pad_transpose,
    batch=_pad_batch,
    lower=_pad_lower,
    lanes=_pad_lanes,
    rank=lambda params, shape: len(params["padding_config"]),
    extend=lambda params, words: {"padding_config": (*params["padding_config"], (0, 0, 0))},
)
