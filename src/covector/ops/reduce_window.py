"""Reductions over sliding windows: reduce_window_sum, reduce_window_max, reduce_window ...

The operand is spread by `base_dilation` (gaps between elements), padded, and read in windows whose
elements are `window_dilation` apart; windows begin every `window_strides` elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from covector.core.avals import Aval, Linear, Zero
from covector.core.primitive import Context, Primitive, Rule, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of
from covector.ops import indices
from covector.ops.common import (
    Inseparable,
    batch_at_front,
    check_dtypes,
    instantiate,
    like,
    same_lane,
)
from covector.ops.fold import check_combination, combine_arrays, combine_scalars, fold, several
from covector.ops.movement import inserted
from covector.ops.reduce import accumulator, combine_extremum, highest, lowest, widened
from covector.ops.slices import pad

Window = dict[str, Any]
"""The parameters window_dimensions, window_strides, padding, base_dilation, window_dilation."""

_FIELDS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
_TRIVIAL: Window = {
    "window_dimensions": 1,
    "window_strides": 1,
    "padding": (0, 0),
    "base_dilation": 1,
    "window_dilation": 1,
}

# --- windows --------------------------------------------------------------------------------------


def spread(n: Any, dilation: int) -> Any:
    """The extent of `n` elements with `dilation - 1` gaps between neighbours."""
    return n if dilation == 1 or n == 0 else (n - 1) * dilation + 1


def window_shape(name: str, shape: Sequence[Any], window: Window) -> list[Any]:
    """How many windows fit along each axis.

    Raises:
        ValueError: if the parameters do not describe windows of an array of this rank.
    """
    _check_window(name, shape, window)
    out: list[Any] = []
    for n, size, step, (low, high), gap, stretch in zip(
        shape, *[window[f] for f in _FIELDS], strict=True
    ):
        if (size, step, low, high, gap) == (1, 1, 0, 0, 1):
            out.append(n)
            continue
        extent = spread(n, gap) + low + high
        room = extent - spread(size, stretch)
        fits = type(room) is not int or room >= 0
        out.append(room // step + 1 if fits else 0)
    return out


def _check_window(name: str, shape: Sequence[Any], window: Window) -> None:
    for field in _FIELDS:
        values = window[field]
        if len(values) != len(shape):
            raise ValueError(
                f"{name}: {field} needs an entry for each of the {len(shape)} axes, found {values}"
            )
        least = None if field == "padding" else 1
        if least is not None and any(v < least for v in values):
            raise ValueError(f"{name}: {field} must be positive, found {tuple(values)}")


def padding_config(window: Window) -> tuple[tuple[Any, Any, int], ...]:
    """How `pad` makes the array that the windows are on."""
    pairs = zip(window["padding"], window["base_dilation"], strict=True)
    return tuple([(low, high, gap - 1) for (low, high), gap in pairs])


def window_views(padded: Any, out: Sequence[int], window: Window) -> Iterator[Any]:
    """For each place in a window, the elements that the windows have there."""
    steps, stretches = window["window_strides"], window["window_dilation"]
    for place in np.ndindex(*window["window_dimensions"]):
        index: list[slice] = []
        for k, n, step, stretch in zip(place, out, steps, stretches, strict=True):
            start = k * stretch
            index.append(slice(start, start + (n - 1) * step + 1, step) if n else slice(0, 0))
        yield padded[tuple(index)]


def window_place(builder: Any, index: Any, inner: Any, window: Window) -> tuple[Any, ...]:
    """The index in the padded array of place `inner` of the window at `index`."""
    return tuple(
        [
            indices.add(builder, indices.mul(builder, i, step), indices.mul(builder, k, stretch))
            for i, k, step, stretch in zip(
                index, inner, window["window_strides"], window["window_dilation"], strict=True
            )
        ]
    )


def with_batch_axis(window: Window) -> Window:
    """The window's parameters for operands with one more axis in front."""
    return {field: inserted(values, 0, _TRIVIAL[field]) for field, values in window.items()}


def window_lane(dims: Sequence[int | None], window: Window) -> int | None:
    """The lane dimension of the result, which the windows must leave alone."""
    lane = same_lane(dims)
    if lane is None:
        return None
    low, high = window["padding"][lane]
    if (low, high) != (0, 0) or any(
        window[field][lane] != 1 for field in _FIELDS if field != "padding"
    ):
        raise Inseparable("its windows reach over lanes")
    return lane


def padded_evaluate(x: Any, value: Any, window: Window) -> Any:
    """The NumPy array that the windows are on."""
    return pad.evaluate(x, np.asarray(value, x.dtype), padding_config=padding_config(window))


def padded_lower(b: Any, x: Any, value: Any, window: Window) -> Any:
    """The lazy tensor that the windows are on; `value` is a loop IR scalar."""

    def constant(index: Any) -> Any:
        return value

    scalar = b.lazy((), x.dtype, constant, 0.0, moves=True)
    return pad.lower(b, x, scalar, padding_config=padding_config(window))


def window_cost(x: Any, window: Window) -> float:
    """Estimated operations for one window."""
    return (x.cost + 4.0) * prod(window["window_dimensions"])


# --- sum, maximum, minimum ------------------------------------------------------------------------


def _windowed(
    name: str,
    *,
    ufunc: np.ufunc,
    identity: Callable[[Any], Any],
    combine: Callable[[Any, Any, Any], Any],
    kinds: str,
    jvp: Rule,
    transpose: Rule | None = None,
) -> Primitive:
    """A primitive that reduces each window with an associative operation."""

    def shape_rule(x: Aval, **window: Any) -> Aval:
        check_dtypes(name, (x,), kinds)
        return Aval(window_shape(name, x.shape, window), x.dtype, x.weak_type)

    def evaluate_rule(x: Any, **window: Any) -> Any:
        out = window_shape(name, x.shape, window)
        wide = widened(x)
        total = np.full(out, identity(wide.dtype), wide.dtype)
        padded = padded_evaluate(wide, identity(wide.dtype), window)
        for view in window_views(padded, out, window):
            total = ufunc(total, view, dtype=wide.dtype)
        return np.asarray(total, x.dtype)

    def batch_rule(ctx: Any, args: Any, dims: Any, **window: Any) -> Any:
        x = batch_at_front(args[0], dims[0], ctx.axis_size)
        return primitive(x, **with_batch_axis(window)), 0

    def lower_rule(b: Any, x: Any, **window: Any) -> Any:
        builder = b.builder
        wide = accumulator(x.dtype)
        x = b.hoist(x)
        start = builder.const(identity(x.dtype), x.dtype)
        padded = padded_lower(b, x, start, window)

        def element(index: Any) -> Any:
            def term(inner: Any) -> Any:
                return builder.convert(padded.at(window_place(builder, index, inner, window)), wide)

            def add(u: Any, v: Any) -> Any:
                return combine(builder, u, v)

            init = builder.convert(start, wide)
            total = b.reduce(window["window_dimensions"], term, add, init)
            return builder.convert(total, x.dtype)

        shape = window_shape(name, x.shape, window)
        return b.lazy(shape, x.dtype, element, window_cost(x, window))

    def lanes_rule(dims: Any, x: Aval, **window: Any) -> int | None:
        return window_lane(dims, window)

    primitive = Primitive(
        name,
        shape=shape_rule,
        evaluate=evaluate_rule,
        jvp=jvp,
        transpose=transpose or unsupported("it is not a linear function of its operand"),
        batch=batch_rule,
        lower=lower_rule,
        lanes=lanes_rule,
    )
    return primitive


def _sum_jvp(ctx: Any, primals: Any, tangents: Any, **window: Any) -> Any:
    return reduce_window_sum(primals[0], **window), reduce_window_sum(tangents[0], **window)


def _sum_transpose(ctx: Any, ct: Any, x: Linear, **window: Any) -> list[Any]:
    """Each element collects from the windows that hold it: again sums over windows."""
    config: list[tuple[Any, Any, int]] = []
    for n, out, size, step, (low, _), gap, stretch in zip(
        x.aval.shape, aval_of(ct).shape, *[window[f] for f in _FIELDS], strict=True
    ):
        reach = spread(size, stretch)
        before = reach - 1 - low
        config.append((before, spread(n, gap) + low - spread(out, step), step - 1))
    padded = pad(ct, like(ct, 0), padding_config=tuple(config))
    rank = len(config)
    back = {
        "window_dimensions": window["window_dimensions"],
        "window_strides": window["base_dilation"],
        "padding": ((0, 0),) * rank,
        "base_dilation": (1,) * rank,
        "window_dilation": window["window_dilation"],
    }
    return [reduce_window_sum(padded, **back)]


def _add(builder: Any, x: Any, y: Any) -> Any:
    return builder.op("add", x, y)


reduce_window_sum = _windowed(
    "reduce_window_sum",
    ufunc=np.add,
    identity=lambda dtype: 0,
    combine=_add,
    kinds="iufc",
    jvp=_sum_jvp,
    transpose=_sum_transpose,
)


def _max_jvp(ctx: Any, primals: Any, tangents: Any, **window: Any) -> Any:
    from covector.ops.compare import ge
    from covector.ops.select_window import select_and_gather_add

    out = reduce_window_max(primals[0], **window)
    return out, select_and_gather_add(tangents[0], primals[0], select_prim=ge, **window)


def _min_jvp(ctx: Any, primals: Any, tangents: Any, **window: Any) -> Any:
    from covector.ops.compare import le
    from covector.ops.select_window import select_and_gather_add

    out = reduce_window_min(primals[0], **window)
    return out, select_and_gather_add(tangents[0], primals[0], select_prim=le, **window)


reduce_window_max = _windowed(
    "reduce_window_max",
    ufunc=np.maximum,
    identity=lowest,
    combine=combine_extremum("max"),
    kinds="biufc",
    jvp=_max_jvp,
)
reduce_window_min = _windowed(
    "reduce_window_min",
    ufunc=np.minimum,
    identity=highest,
    combine=combine_extremum("min"),
    kinds="biufc",
    jvp=_min_jvp,
)

# --- by a program ---------------------------------------------------------------------------------


def _reduce_window_shape(*avals: Aval, program: Program, **window: Any) -> list[Aval]:
    xs, inits = _split(avals)
    check_combination("reduce_window", program, xs, inits)
    if any(x.shape != xs[0].shape for x in xs):
        raise TypeError(f"reduce_window requires operands of equal shapes, got {xs}")
    shape = window_shape("reduce_window", xs[0].shape, window)
    return [Aval(shape, x.dtype) for x in xs]


def _split(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    half = len(values) // 2
    return list(values[:half]), list(values[half:])


def _reduce_window_evaluate(*args: Any, program: Program, **window: Any) -> list[Any]:
    xs, inits = _split(args)
    out = window_shape("reduce_window", xs[0].shape, window)
    padded = [padded_evaluate(x, v, window) for x, v in zip(xs, inits, strict=True)]
    totals = [np.array(np.broadcast_to(v, out)) for v in inits]
    for views in zip(*[window_views(p, out, window) for p in padded], strict=True):
        totals = combine_arrays(program, totals, list(views))
    return totals


def _reduce_window_jvp(
    ctx: Context, primals: Any, tangents: Any, *, program: Program, **window: Any
) -> Any:
    if any(type(t) is Zero and t.aval.dtype.names for t in tangents):
        raise NotImplementedError(
            "differentiation of `reduce_window` with operands that have no derivative"
        )
    count = len(primals) // 2
    pairs, _ = ctx.jvp(program, [True] * (2 * count), True)
    pairs = _regrouped(pairs, count)
    (xs, inits), (x_dots, init_dots) = _split(primals), _split([*map(instantiate, tangents)])
    both = reduce_window(*xs, *x_dots, *inits, *init_dots, program=pairs, **window)
    return both[:count], both[count:]


def _regrouped(pairs: Program, count: int) -> Program:
    """The jvp's inputs x, y, x_dot, y_dot in the order x, x_dot, y, y_dot."""
    x, y, x_dot, y_dot = [pairs.inputs[k * count : (k + 1) * count] for k in range(4)]
    return pairs.replace(inputs=[*x, *x_dot, *y, *y_dot])


def _reduce_window_batch(ctx: Any, args: Any, dims: Any, *, program: Program, **window: Any) -> Any:
    xs, inits = _split(args)
    x_dims, init_dims = _split(dims)
    if any(d is not None for d in init_dims):
        raise NotImplementedError(
            "batching (vmap) of the initial values of `reduce_window` is not supported"
        )
    xs = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(xs, x_dims, strict=True)]
    outs = reduce_window(*xs, *inits, program=program, **with_batch_axis(window))
    return outs, [0] * len(outs)


def _reduce_window_lower(b: Any, *tensors: Any, program: Program, **window: Any) -> list[Any]:
    builder = b.builder
    xs, inits = _split(tensors)
    starts = [v.at(()) for v in inits]
    padded = [padded_lower(b, b.hoist(x), v, window) for x, v in zip(xs, starts, strict=True)]

    def element(index: Any) -> Any:
        def step(inner: Any, *totals: Any) -> list[Any]:
            place = window_place(builder, index, inner, window)
            return combine_scalars(b, program, totals, [p.at(place) for p in padded])

        return fold(b, window["window_dimensions"], step, starts)

    shape = window_shape("reduce_window", xs[0].shape, window)
    return several(b, shape, [x.dtype for x in xs], element, 4 * window_cost(xs[0], window))


def _reduce_window_lanes(
    dims: Any, *avals: Aval, program: Program, **window: Any
) -> list[int | None]:
    x_dims, _ = _split(dims)
    return [window_lane(x_dims, window)] * len(x_dims)


reduce_window = Primitive(
    "reduce_window",
    shape=_reduce_window_shape,
    evaluate=_reduce_window_evaluate,
    jvp=_reduce_window_jvp,
    transpose=unsupported(
        "it is not a linear function of its operands; reverse mode works for reduce_window_sum, "
        "reduce_window_max and reduce_window_min"
    ),
    batch=_reduce_window_batch,
    lower=_reduce_window_lower,
    lanes=_reduce_window_lanes,
    multiple_results=True,
)
