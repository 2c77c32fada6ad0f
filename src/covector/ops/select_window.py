"""Choosing the extreme element of each window: the derivatives of windowed maxima and minima."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.core.avals import Aval, Zero
from covector.core.primitive import Primitive
from covector.core.trace import aval_of
from covector.ops import indices
from covector.ops.common import batch_at_front, check_dtypes, like
from covector.ops.fold import fold
from covector.ops.reduce import accumulator, highest, lowest
from covector.ops.reduce_window import (
    Window,
    padded_evaluate,
    padded_lower,
    window_cost,
    window_lane,
    window_place,
    window_shape,
    window_views,
    with_batch_axis,
)
from covector.ops.slices import pad, slice_

NumPy = np.ndarray[Any, Any]


def _least_preferred(select_prim: Primitive, dtype: Any) -> Any:
    return lowest(dtype) if select_prim.name == "ge" else highest(dtype)


def _check_selection(name: str, select_prim: Primitive) -> None:
    if select_prim.name not in ("ge", "le"):
        raise ValueError(f"{name}: select_prim must be ge or le, found {select_prim}")


# --- select_and_gather_add ------------------------------------------------------------------------


def _gather_shape(tangents: Aval, operand: Aval, *, select_prim: Primitive, **window: Any) -> Aval:
    check_dtypes("select_and_gather_add", (tangents, operand), "f")
    _check_selection("select_and_gather_add", select_prim)
    if tangents.shape != operand.shape:
        raise TypeError(
            f"select_and_gather_add requires operands of equal shapes, got {tangents}, {operand}"
        )
    return Aval(window_shape("select_and_gather_add", operand.shape, window), operand.dtype)


def _gather_evaluate(tangents: Any, operand: Any, *, select_prim: Primitive, **window: Any) -> Any:
    out = window_shape("select_and_gather_add", operand.shape, window)
    least = _least_preferred(select_prim, operand.dtype)
    best, chosen = np.full(out, least, operand.dtype), np.zeros(out, operand.dtype)
    candidates = window_views(padded_evaluate(operand, least, window), out, window)
    values = window_views(padded_evaluate(tangents, 0, window), out, window)
    for candidate, value in zip(candidates, values, strict=True):
        keep = select_prim.evaluate(best, candidate)
        best, chosen = np.where(keep, best, candidate), np.where(keep, chosen, value)
    return chosen


def _gather_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    out = select_and_gather_add(*primals, **params)
    if type(tangents[0]) is Zero:
        return out, Zero(aval_of(out).tangent())
    return out, select_and_gather_add(tangents[0], primals[1], **params)


def _gather_transpose(
    ctx: Any, ct: Any, tangents: Any, operand: Any, *, select_prim: Primitive, **window: Any
) -> list[Any]:
    if any(d != 1 for d in window["window_dilation"]):
        raise NotImplementedError(
            "reverse-mode differentiation of reduce_window_max and reduce_window_min with "
            f"window_dilation {tuple(window['window_dilation'])} is not supported"
        )
    gaps = window["base_dilation"]
    if any(d != 1 for d in gaps):
        least = like(operand, _least_preferred(select_prim, aval_of(operand).dtype))
        operand = pad(operand, least, padding_config=tuple([(0, 0, d - 1) for d in gaps]))
    whole = select_and_scatter_add(
        ct,
        operand,
        select_prim=select_prim,
        window_dimensions=window["window_dimensions"],
        window_strides=window["window_strides"],
        padding=window["padding"],
    )
    if any(d != 1 for d in gaps):
        shape = aval_of(whole).shape
        starts = (0,) * len(shape)
        whole = slice_(whole, start_indices=starts, limit_indices=shape, strides=tuple(gaps))
    return [whole, None]


def _gather_batch(ctx: Any, args: Any, dims: Any, *, select_prim: Primitive, **window: Any) -> Any:
    x, y = [batch_at_front(a, d, ctx.axis_size) for a, d in zip(args, dims, strict=True)]
    return select_and_gather_add(x, y, select_prim=select_prim, **with_batch_axis(window)), 0


def _gather_lower(
    b: Any, tangents: Any, operand: Any, *, select_prim: Primitive, **window: Any
) -> Any:
    builder = b.builder
    tangents, operand = b.hoist(tangents), b.hoist(operand)
    least = builder.const(_least_preferred(select_prim, operand.dtype), operand.dtype)
    zero = builder.const(0, operand.dtype)
    candidates = padded_lower(b, operand, least, window)
    values = padded_lower(b, tangents, zero, window)

    def element(index: Any) -> Any:
        def step(inner: Any, best: Any, chosen: Any) -> list[Any]:
            place = window_place(builder, index, inner, window)
            candidate = candidates.at(place)
            keep = builder.op(select_prim.name, best, candidate)
            return [
                builder.op("select", keep, best, candidate),
                builder.op("select", keep, chosen, values.at(place)),
            ]

        return fold(b, window["window_dimensions"], step, [least, zero])[1]

    shape = window_shape("select_and_gather_add", operand.shape, window)
    cost = window_cost(operand, window) + window_cost(tangents, window)
    return b.lazy(shape, operand.dtype, element, cost)


def _gather_lanes(
    dims: Any, tangents: Aval, operand: Aval, *, select_prim: Primitive, **window: Any
) -> int | None:
    return window_lane(dims, window)


select_and_gather_add = Primitive(
    "select_and_gather_add",
    shape=_gather_shape,
    evaluate=_gather_evaluate,
    jvp=_gather_jvp,
    transpose=_gather_transpose,
    batch=_gather_batch,
    lower=_gather_lower,
    lanes=_gather_lanes,
)

# --- select_and_scatter_add -----------------------------------------------------------------------


def _whole_window(window: Window) -> Window:
    """The window's parameters with those that select_and_scatter_add does not have."""
    ones = (1,) * len(window["window_dimensions"])
    return {**window, "base_dilation": ones, "window_dilation": ones}


def _scatter_shape(source: Aval, operand: Aval, *, select_prim: Primitive, **window: Any) -> Aval:
    check_dtypes("select_and_scatter_add", (source, operand), "f")
    _check_selection("select_and_scatter_add", select_prim)
    shape = window_shape("select_and_scatter_add", operand.shape, _whole_window(window))
    if list(source.shape) != shape:
        raise TypeError(
            f"select_and_scatter_add: the windows of {operand} need a source of shape "
            f"{tuple(shape)}, got {source}"
        )
    return Aval(operand.shape, operand.dtype)


def _scatter_evaluate(
    source: NumPy, operand: NumPy, *, select_prim: Primitive, **window: Any
) -> NumPy:
    window = _whole_window(window)
    numbers: Any = np.reshape(range(operand.size), operand.shape)
    least = _least_preferred(select_prim, operand.dtype)
    candidates = window_views(padded_evaluate(operand, least, window), source.shape, window)
    places = window_views(padded_evaluate(numbers, -1, window), source.shape, window)
    best = np.full(source.shape, least, operand.dtype)
    chosen = np.full(source.shape, -1, np.int64)
    for candidate, place in zip(candidates, places, strict=True):
        # Padding gives way to whatever comes after it.
        keep = select_prim.evaluate(best, candidate) & (chosen >= 0)
        best, chosen = np.where(keep, best, candidate), np.where(keep, chosen, place)
    total: NumPy = np.zeros(operand.size, accumulator(operand.dtype))
    inside = chosen >= 0
    np.add.at(total, chosen[inside], source[inside])
    return total.reshape(operand.shape).astype(operand.dtype)


def _scatter_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    out = select_and_scatter_add(*primals, **params)
    if type(tangents[0]) is Zero:
        return out, Zero(aval_of(out).tangent())
    return out, select_and_scatter_add(tangents[0], primals[1], **params)


def _scatter_transpose(
    ctx: Any, ct: Any, source: Any, operand: Any, *, select_prim: Primitive, **window: Any
) -> list[Any]:
    params = _whole_window(window)
    return [select_and_gather_add(ct, operand, select_prim=select_prim, **params), None]


def _scatter_batch(ctx: Any, args: Any, dims: Any, *, select_prim: Primitive, **window: Any) -> Any:
    x, y = [batch_at_front(a, d, ctx.axis_size) for a, d in zip(args, dims, strict=True)]
    return select_and_scatter_add(x, y, select_prim=select_prim, **with_batch_axis(window)), 0


def _scatter_lower(
    b: Any, source: Any, operand: Any, *, select_prim: Primitive, **window: Any
) -> Any:
    builder = b.builder
    operand = b.hoist(operand)
    window = _whole_window(window)
    wide = accumulator(operand.dtype)
    total = b.new(operand.shape, wide)
    zero = builder.const(0, wide)

    def clear(index: Any) -> None:
        builder.store(total.buffer, index, zero)

    b.for_each(operand.shape, clear)

    def scatter(index: Any) -> list[Any]:
        place = _selected(b, operand, index, select_prim, window)
        inside = indices.compare(builder, "ge", place, 0)
        added = builder.convert(source.at(index), wide)

        def add() -> list[Any]:
            old = builder.load_at(total.buffer, place)
            builder.store_at(total.buffer, place, builder.op("add", old, added))
            return []

        builder.if_(inside, add, list)
        return []

    # Windows overlap, so that one follows the other.
    fold(b, source.shape, scatter, [])
    if wide is operand.dtype:
        return total

    def element(index: Any) -> Any:
        return builder.convert(total.at(index), operand.dtype)

    return b.lazy(operand.shape, operand.dtype, element, 1.0)


def _selected(b: Any, operand: Any, index: Any, select_prim: Primitive, window: Window) -> Any:
    """The position in the operand of the element a window selects; -1 if it holds only padding."""
    builder = b.builder

    def position(place: Any) -> Any:
        i = indices.linear(builder, place, operand.shape)
        return builder.index(i) if type(i) is int else i

    least = builder.const(_least_preferred(select_prim, operand.dtype), operand.dtype)
    numbers = b.lazy(operand.shape, np.dtype(np.int64), position, 1.0, moves=True)
    candidates = padded_lower(b, operand, least, window)
    places = padded_lower(b, numbers, builder.index(-1), window)

    def step(inner: Any, best: Any, chosen: Any) -> list[Any]:
        at = window_place(builder, index, inner, window)
        candidate = candidates.at(at)
        keep = builder.op(select_prim.name, best, candidate)
        keep = builder.op("and", keep, indices.compare(builder, "ge", chosen, 0))
        return [
            builder.op("select", keep, best, candidate),
            builder.op("select", keep, chosen, places.at(at)),
        ]

    return fold(b, window["window_dimensions"], step, [least, builder.index(-1)])[1]


def _scatter_lanes(
    dims: Any, source: Aval, operand: Aval, *, select_prim: Primitive, **window: Any
) -> int | None:
    return window_lane(dims, window)


select_and_scatter_add = Primitive(
    "select_and_scatter_add",
    shape=_scatter_shape,
    evaluate=_scatter_evaluate,
    jvp=_scatter_jvp,
    transpose=_scatter_transpose,
    batch=_scatter_batch,
    lower=_scatter_lower,
    lanes=_scatter_lanes,
)
