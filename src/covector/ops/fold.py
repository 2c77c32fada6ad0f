"""`reduce`: reduction by a program that combines two elements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import interpret
from covector.core.array import Array
from covector.core.avals import Aval, Zero, same_type
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of, current_trace, eval_program
from covector.ops import indices
from covector.ops.axes import broadcast_in_dim, reshape
from covector.ops.common import Inseparable, batch_at_front, instantiate, same_lane
from covector.ops.movement import check_axes, without
from covector.ops.pieces import concatenate
from covector.ops.reduce import merge_last
from covector.ops.slices import slice_, slice_in_dim

Arrays = list[Any]

# --- combining by a program -----------------------------------------------------------------------


def check_combination(
    name: str, program: Program, xs: Sequence[Aval], inits: Sequence[Aval]
) -> None:
    """Checks that a program combines two groups of scalars of the operands' dtypes into one.

    Raises:
        TypeError: naming what was found.
    """
    scalars = [Aval((), x.dtype) for x in xs]
    wanted = scalars + scalars
    takes, gives = program.input_avals, program.output_avals
    agree = (
        len(inits) == len(xs)
        and len(takes) == len(wanted)
        and len(gives) == len(scalars)
        and all(map(same_type, takes, wanted))
        and all(map(same_type, gives, scalars))
        and all(map(same_type, inits, scalars))
    )
    if not agree:
        found = ", ".join(map(str, [*xs, *inits]))
        raise TypeError(
            f"{name} of {found} takes an initial scalar for each operand, and a function of two "
            f"such groups of scalars; this one takes {takes} and gives {gives}"
        )


def is_elementwise(program: Program) -> bool:
    """Whether a program of scalars may be applied to arrays of one shape, element by element."""
    return all("elementwise" in e.primitive.tags for e in program.equations)


def combine_arrays(program: Program, xs: Arrays, ys: Arrays) -> Arrays:
    """A program of scalars applied to each pair of elements of NumPy arrays of one shape."""
    shape = xs[0].shape
    if is_elementwise(program):
        with current_trace(None):
            operands = [Array.of(v, Aval(v.shape, v.dtype)) for v in (*xs, *ys)]
            results = [np.asarray(r) for r in eval_program(program, *operands)]
        return [np.array(np.broadcast_to(r, shape)) for r in results]
    outs = [np.empty(shape, x.dtype) for x in xs]
    for index in np.ndindex(*shape):
        values = interpret.run(program, *[np.asarray(v[index]) for v in (*xs, *ys)])
        for out, value in zip(outs, values, strict=True):
            out[index] = value
    return outs


def combine_scalars(b: Any, program: Program, xs: Sequence[Any], ys: Sequence[Any]) -> Arrays:
    """The code of a program of scalars, applied to loop IR scalars."""

    def as_tensor(value: Any) -> Any:
        def element(index: Any) -> Any:
            return value

        return b.lazy((), value.dtype, element, 0.0, moves=True)

    return [t.at(()) for t in b.inline(program, [as_tensor(v) for v in (*xs, *ys)])]


_UNROLLED = 16


def fold(b: Any, extents: Sequence[Any], step: Callable[..., Arrays], carries: Arrays) -> Arrays:
    """Carries taken through `step(index, *carries)` for each index, in row-major order.

    Few steps are unrolled, others become a loop nest.
    """
    size = indices.product(b.builder, extents)
    if type(size) is int and size <= _UNROLLED:
        for index in np.ndindex(*extents):
            carries = step(index, *carries)
        return carries
    return _fold_nest(b.builder, tuple(extents), (), step, carries)


def _fold_nest(
    builder: Any, extents: Any, index: Any, step: Callable[..., Arrays], carries: Arrays
) -> Arrays:
    if not extents:
        return step(index, *carries)

    def body(i: Any, *values: Any) -> Arrays:
        return _fold_nest(builder, extents[1:], (*index, i), step, list(values))

    return builder.loop(0, extents[0], body, carries)


# --- reduce ---------------------------------------------------------------------------------------


def _split(values: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Operands and initial values."""
    half = len(values) // 2
    return list(values[:half]), list(values[half:])


def _reduce_shape(*avals: Aval, program: Program, dimensions: Sequence[int]) -> list[Aval]:
    xs, inits = _split(avals)
    check_combination("reduce", program, xs, inits)
    check_axes("reduce", "dimensions", dimensions, len(xs[0].shape))
    if any(x.shape != xs[0].shape for x in xs):
        raise TypeError(f"reduce requires operands of equal shapes, got {xs}")
    kept = without(dimensions, len(xs[0].shape))
    return [Aval([x.shape[d] for d in kept], x.dtype) for x in xs]


def _reduce_evaluate(*args: Any, program: Program, dimensions: Sequence[int]) -> Arrays:
    xs, inits = _split(args)
    kept = without(dimensions, xs[0].ndim)
    shape = [xs[0].shape[d] for d in kept]
    count = int(np.prod([xs[0].shape[d] for d in dimensions], dtype=np.int64))
    rows = [x.transpose(*dimensions, *kept).reshape(count, *shape) for x in xs]
    totals = [np.array(np.broadcast_to(v, shape)) for v in inits]
    for k in range(count):
        totals = combine_arrays(program, totals, [r[k] for r in rows])
    return totals


def _reduce_jvp(
    ctx: Context,
    primals: Any,
    tangents: Any,
    *,
    program: Program,
    dimensions: Sequence[int],
) -> Any:
    outs = reduce_(*primals, program=program, dimensions=dimensions)
    if any(type(t) is Zero and t.aval.dtype.names for t in tangents):
        raise UnsupportedRuleError(
            "differentiation of `reduce` is not supported with operands that have no derivative"
        )
    if not is_elementwise(program):
        raise UnsupportedRuleError(
            "differentiation of `reduce` is not supported when its function does more than "
            "elementwise arithmetic"
        )
    count = len(outs)
    pairs, _ = ctx.jvp(program, [True] * (2 * count), True)
    xs, inits = _split([*zip(primals, map(instantiate, tangents), strict=True)])
    groups = [list(g) for g in zip(*xs, strict=True)]
    first = [list(g) for g in zip(*inits, strict=True)]
    rows = [_merged(x, dimensions) for x in groups[0] + groups[1]]

    def combine(us: Arrays, vs: Arrays) -> Arrays:
        return eval_program(pairs, *us[:count], *vs[:count], *us[count:], *vs[count:])

    shape = aval_of(outs[0]).shape
    totals = [
        broadcast_in_dim(v, shape=shape, broadcast_dimensions=()) for v in first[0] + first[1]
    ]
    whole = _reduced_by_pairs(combine, rows)
    return outs, (totals if whole is None else combine(totals, whole))[count:]


def _merged(x: Any, dimensions: Sequence[int]) -> Any:
    kept = without(dimensions, len(aval_of(x).shape))
    return merge_last(x, kept, dimensions)


def _reduced_by_pairs(combine: Callable[[Arrays, Arrays], Arrays], rows: Arrays) -> Arrays | None:
    """Combines neighbours along the last axis until one is left; `None` if there is none."""
    shape = aval_of(rows[0]).shape
    n, last = shape[-1], len(shape) - 1
    if type(n) is not int:
        raise UnsupportedRuleError(
            f"differentiation of `reduce` along {n} elements is not supported"
        )
    if n == 0:
        return None
    while n > 1:
        even = [_every_second(r, 0, n - n % 2, last) for r in rows]
        odd = [_every_second(r, 1, n, last) for r in rows]
        joined = combine(even, odd)
        if n % 2:
            rest = [slice_in_dim(r, n - 1, n, last) for r in rows]
            joined = [concatenate(*both, dimension=last) for both in zip(joined, rest, strict=True)]
        rows, n = joined, (n + 1) // 2
    return [reshape(r, new_sizes=shape[:-1], dimensions=None) for r in rows]


def _every_second(x: Any, start: int, limit: int, axis: int) -> Any:
    shape = aval_of(x).shape
    return slice_(
        x,
        start_indices=(*(0,) * axis, start),
        limit_indices=(*shape[:axis], limit),
        strides=(*(1,) * axis, 2),
    )


def _reduce_batch(
    ctx: Any, args: Any, dims: Any, *, program: Program, dimensions: Sequence[int]
) -> Any:
    xs, inits = _split(args)
    x_dims, init_dims = _split(dims)
    if any(d is not None for d in init_dims):
        raise UnsupportedRuleError("batching (vmap) of the initial values of `reduce`")
    xs = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(xs, x_dims, strict=True)]
    outs = reduce_(*xs, *inits, program=program, dimensions=tuple([d + 1 for d in dimensions]))
    return outs, [0] * len(outs)


def _reduce_lower(b: Any, *tensors: Any, program: Program, dimensions: Sequence[int]) -> Arrays:
    xs, inits = _split(tensors)
    ndim = len(xs[0].shape)
    kept = without(dimensions, ndim)
    extents = [xs[0].shape[d] for d in dimensions]

    def element(index: Any) -> Any:
        def step(inner: Any, *totals: Any) -> Arrays:
            place: list[Any] = [0] * ndim
            for d, i in zip((*kept, *dimensions), (*index, *inner), strict=True):
                place[d] = i
            return combine_scalars(b, program, totals, [x.at(tuple(place)) for x in xs])

        return fold(b, extents, step, [v.at(()) for v in inits])

    shape = [xs[0].shape[d] for d in kept]
    return several(b, shape, [x.dtype for x in xs], element, _EXPENSIVE)


_EXPENSIVE = 1000.0


def several(
    b: Any,
    shape: Sequence[Any],
    dtypes: Sequence[Any],
    element: Callable[[Any], Arrays],
    cost: float,
) -> list[Any]:
    """Lazy tensors whose elements at an index are computed together."""
    together = b.lazy(shape, dtypes[0], element, cost)

    def part(k: int) -> Callable[[Any], Any]:
        return lambda index: together.at(index)[k]

    return [b.lazy(shape, dtype, part(k), cost) for k, dtype in enumerate(dtypes)]


def _reduce_lanes(
    dims: Any, *avals: Aval, program: Program, dimensions: Sequence[int]
) -> list[int | None]:
    x_dims, _ = _split(dims)
    lane = same_lane(x_dims)
    if lane in dimensions:
        raise Inseparable("it combines all lanes")
    out = None if lane is None else lane - sum(d < lane for d in dimensions)
    return [out] * len(x_dims)


reduce_ = Primitive(
    "reduce",
    shape=_reduce_shape,
    evaluate=_reduce_evaluate,
    jvp=_reduce_jvp,
    transpose=unsupported("it is not a linear function of its operands"),
    batch=_reduce_batch,
    lower=_reduce_lower,
    lanes=_reduce_lanes,
    multiple_results=True,
    tags=frozenset({"reduction"}),
)
