"""Cumulative operations along an axis: sum, product, extrema, log-sum-exp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core.avals import Aval, Linear
from covector.core.primitive import Primitive, Rule, unsupported
from covector.core.trace import aval_of
from covector.loopir.ir import SERIAL, SIMD
from covector.ops import indices
from covector.ops.arithmetic import add, is_finite, max_, min_, mul, sub
from covector.ops.axes import rev
from covector.ops.common import Inseparable, check_dtypes, like, zeros
from covector.ops.compare import eq, ge, select_n
from covector.ops.functions import exp, expm1, log1p
from covector.ops.gradient import stop_gradient
from covector.ops.movement import check_axes, past
from covector.ops.pieces import concatenate
from covector.ops.reduce import accumulator, highest, lowest, widened
from covector.ops.slices import pad, slice_

Pair = tuple[Any, Any]

# --- the family ---------------------------------------------------------------------------------


def cumulative(
    name: str,
    *,
    evaluate: Callable[..., Any],
    identity: Callable[[Any], Any],
    combine: Callable[[Any, Any, Any], Any],
    kinds: str,
    jvp: Rule,
    transpose: Rule | None = None,
) -> Primitive:
    """A primitive whose elements combine all operand elements up to theirs.

    Args:
        name: of the primitive.
        evaluate: `(array, axis=...) -> array`, forwards.
        identity: of the operation, given a dtype.
        combine: the operation on loop IR scalars, `(builder, x, y) -> scalar`.
        kinds: which dtypes it takes (see `common.KINDS`).
        jvp: as in `Primitive`.
        transpose: for linear ones.
    """

    def shape_rule(x: Aval, *, axis: int, reverse: bool = False) -> Aval:
        check_dtypes(name, (x,), kinds)
        check_axes(name, "axis", (axis,), len(x.shape))
        return x

    def evaluate_rule(x: Any, *, axis: int, reverse: bool = False) -> Any:
        wide = np.flip(x, axis) if reverse else x
        out = evaluate(widened(wide), axis=axis).astype(x.dtype)
        return np.array(np.flip(out, axis), order="C") if reverse else out

    def batch_rule(ctx: Any, args: Any, dims: Any, *, axis: int, reverse: bool = False) -> Any:
        (axis,) = past((axis,), dims[0])
        return primitive(args[0], axis=axis, reverse=reverse), dims[0]

    def lower_rule(b: Any, x: Any, *, axis: int, reverse: bool = False) -> Any:
        return _lower_cumulative(b, x, axis, reverse, combine, identity)

    def lanes_rule(dims: Any, x: Aval, *, axis: int, reverse: bool = False) -> int | None:
        if dims[0] == axis:
            raise Inseparable(f"{name} runs along the lanes")
        return dims[0]

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


# Arrays of at most so many elements are computed in registers, one after the other.
_SMALL_SIZE = 32


def _lower_cumulative(
    b: Any,
    x: Any,
    axis: int,
    reverse: bool,
    combine: Callable[[Any, Any, Any], Any],
    identity: Callable[[Any], Any],
) -> Any:
    builder = b.builder
    wide = accumulator(x.dtype)
    size = indices.product(builder, x.shape)
    if type(size) is int and size <= _SMALL_SIZE:
        return _in_registers(b, x, axis, reverse, combine)
    n = x.shape[axis]
    out = b.new(x.shape, x.dtype)
    # Neighbours that are accumulated side by side share cache lines, unless they run along `axis`.
    kind = SIMD if axis == len(x.shape) - 1 else SERIAL

    def along(others: Any) -> None:
        def place(i: Any) -> Any:
            if reverse:
                i = indices.sub(builder, indices.sub(builder, n, 1), i)
            return (*others[:axis], i, *others[axis:])

        def up_to(low: Any, high: Any, before: Any) -> Any:
            """Combines the elements of a range one after the other; gives what all are together."""

            def step(i: Any, total: Any) -> list[Any]:
                total = combine(builder, total, builder.convert(x.at(place(i)), wide))
                whole = total if before is None else combine(builder, before, total)
                builder.store(out.buffer, place(i), builder.convert(whole, x.dtype))
                return [total]

            init = builder.const(identity(wide), wide)
            return builder.loop(low, high, step, [init], kind=kind)[0]

        if type(n) is int and n < 2 * _BLOCK:
            up_to(0, n, None)
        else:
            _in_blocks(builder, n, wide, (combine, identity), up_to)

    b.for_each((*x.shape[:axis], *x.shape[axis + 1 :]), along, independent=True)
    return out


_BLOCK = 1024
"""Elements that are combined before they are added to what was before them: so errors do not grow
with all of the length."""

_MORE_PRECISE = {np.dtype(np.float32): np.dtype(np.float64)}


def _in_blocks(builder: Any, n: Any, wide: Any, operation: Any, up_to: Callable[..., Any]) -> None:
    """Combines a long range in blocks; what is before a block is kept in a more precise type."""
    combine, identity = operation
    precise = _MORE_PRECISE.get(wide, wide)
    size = builder.index(_BLOCK)
    count = indices.div(builder, indices.add(builder, n, _BLOCK - 1), _BLOCK)

    def block(k: Any, before: Any) -> list[Any]:
        low = builder.op("mul", k, size)
        high = indices.at_most(builder, builder.op("add", low, size), n)
        total = up_to(low, high, builder.convert(before, wide))
        return [combine(builder, before, builder.convert(total, precise))]

    builder.loop(0, count, block, [builder.const(identity(precise), precise)])


def _in_registers(
    b: Any, x: Any, axis: int, reverse: bool, combine: Callable[[Any, Any, Any], Any]
) -> Any:
    builder = b.builder
    wide = accumulator(x.dtype)
    values = np.empty(x.shape, object)
    columns = np.moveaxis(values, axis, -1)
    n = x.shape[axis]
    for others in np.ndindex(columns.shape[:-1]):
        total: Any = None
        for i in reversed(range(n)) if reverse else range(n):
            element = builder.convert(x.at((*others[:axis], i, *others[axis:])), wide)
            total = element if total is None else combine(builder, total, element)
            columns[(*others, i)] = builder.convert(total, x.dtype)
    return b.registers(values, x.dtype)


# --- derivatives ----------------------------------------------------------------------------------


def _scanned_jvp(
    primitive: Primitive,
    operation: Rule,
    ctx: Any,
    x: Any,
    t: Any,
    *,
    axis: int,
    reverse: bool = False,
) -> Pair:
    """The jvp of a cumulative primitive, through an associative scan of (value, tangent) pairs.

    `operation` is the jvp rule of the combination of two elements.
    """

    def combine(u: Pair, v: Pair) -> Pair:
        return operation(ctx, (u[0], v[0]), (u[1], v[1]))

    out = primitive(x, axis=axis, reverse=reverse)
    if reverse:
        x, t = rev(x, dimensions=(axis,)), rev(t, dimensions=(axis,))
    tangent = _associative_scan(combine, (x, t), axis)[1]
    return out, rev(tangent, dimensions=(axis,)) if reverse else tangent


def _both(fn: Callable[[Any], Any], pair: Pair) -> Pair:
    return fn(pair[0]), fn(pair[1])


def _associative_scan(combine: Callable[[Pair, Pair], Pair], pair: Pair, axis: int) -> Pair:
    """All prefix combinations, by combining neighbours and then recursing on half the length."""
    n = aval_of(pair[0]).shape[axis]
    if type(n) is not int:
        raise NotImplementedError(
            f"the derivative of a cumulative operation along an axis of symbolic size {n} is not "
            "supported, except for cumsum"
        )
    if n < 2:
        return pair
    even = _both(lambda v: _strided(v, axis, 0, n - 1), pair)
    uneven = _both(lambda v: _strided(v, axis, 1, n), pair)
    # The results at 1, 3, 5 ...; from them those at 2, 4, 6 ...
    later = _associative_scan(combine, combine(even, uneven), axis)
    between: Pair | None = None
    if n > 2:
        previous = _both(lambda v: _contiguous(v, axis, (n - 1) // 2), later)
        between = combine(previous, _both(lambda v: _strided(v, axis, 2, n), pair))
    first = _both(lambda v: _contiguous(v, axis, 1), pair)

    def joined(k: int) -> Any:
        head = first[k] if between is None else concatenate(first[k], between[k], dimension=axis)
        return _interleaved(head, later[k], axis, n)

    return joined(0), joined(1)


def _strided(x: Any, axis: int, start: int, limit: int) -> Any:
    """Every second element from `start` on."""
    shape = aval_of(x).shape
    return slice_(
        x,
        start_indices=tuple([start if d == axis else 0 for d in range(len(shape))]),
        limit_indices=tuple([limit if d == axis else m for d, m in enumerate(shape)]),
        strides=tuple([2 if d == axis else 1 for d in range(len(shape))]),
    )


def _contiguous(x: Any, axis: int, limit: int) -> Any:
    shape = aval_of(x).shape
    return slice_(
        x,
        start_indices=(0,) * len(shape),
        limit_indices=tuple([limit if d == axis else m for d, m in enumerate(shape)]),
        strides=None,
    )


def _interleaved(even: Any, uneven: Any, axis: int, n: int) -> Any:
    """Elements of `even` and `uneven` in turn."""

    def spread(x: Any, before: int) -> Any:
        rank = len(aval_of(x).shape)
        after = n - before - (2 * aval_of(x).shape[axis] - 1)
        config = tuple([(before, after, 1) if d == axis else (0, 0, 0) for d in range(rank)])
        return pad(x, like(x, 0), padding_config=config)

    return add(spread(even, 0), spread(uneven, 1))


# --- sum ----------------------------------------------------------------------------------------


def _cumsum_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return cumsum(primals[0], **params), cumsum(tangents[0], **params)


def _cumsum_transpose(
    ctx: Any, ct: Any, x: Linear, *, axis: int, reverse: bool = False
) -> list[Any]:
    return [cumsum(ct, axis=axis, reverse=not reverse)]


def _accumulate(ufunc: np.ufunc) -> Callable[..., Any]:
    def evaluate(x: np.ndarray[Any, Any], axis: int) -> Any:
        return ufunc.accumulate(x, axis=axis, dtype=x.dtype)

    return evaluate


def _operation(name: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, x, y: builder.op(name, x, y)


cumsum = cumulative(
    "cumsum",
    evaluate=_accumulate(np.add),
    identity=lambda dtype: 0,
    combine=_operation("add"),
    kinds="iufc",
    jvp=_cumsum_jvp,
    transpose=_cumsum_transpose,
)

# --- product, extrema ---------------------------------------------------------------------------


def _cumprod_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _scanned_jvp(cumprod, mul.jvp, ctx, primals[0], tangents[0], **params)


cumprod = cumulative(
    "cumprod",
    evaluate=_accumulate(np.multiply),
    identity=lambda dtype: 1,
    combine=_operation("mul"),
    kinds="iufc",
    jvp=_cumprod_jvp,
)


def _cummax_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _scanned_jvp(cummax, max_.jvp, ctx, primals[0], tangents[0], **params)


cummax = cumulative(
    "cummax",
    evaluate=_accumulate(np.maximum),
    identity=lowest,
    combine=_operation("max"),
    kinds="iuf",
    jvp=_cummax_jvp,
)


def _cummin_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _scanned_jvp(cummin, min_.jvp, ctx, primals[0], tangents[0], **params)


cummin = cumulative(
    "cummin",
    evaluate=_accumulate(np.minimum),
    identity=highest,
    combine=_operation("min"),
    kinds="iuf",
    jvp=_cummin_jvp,
)

# --- log-sum-exp --------------------------------------------------------------------------------


def _logaddexp(builder: Any, x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) without overflow; equal infinities give themselves."""
    greater = builder.op("max", x, y)
    gap = builder.op("neg", builder.op("abs", builder.op("sub", x, y)))
    smooth = builder.op("add", greater, builder.op("log1p", builder.op("exp", gap)))
    # inf - inf is NaN.
    return builder.op("select", builder.op("eq", x, y), _plus_log2(builder, x), smooth)


def _plus_log2(builder: Any, x: Any) -> Any:
    return builder.op("add", x, builder.const(np.log(2.0), x.dtype))


def _logaddexp_jvp(ctx: Any, primals: Sequence[Any], tangents: Sequence[Any]) -> Pair:
    out = logaddexp(*primals)
    parts = [mul(t, _weight(x, out)) for x, t in zip(primals, tangents, strict=True)]
    return out, add(*parts)


def logaddexp(x: Any, y: Any) -> Any:
    """log(exp(x) + exp(y)) of arrays of one shape, without overflow.

    The shift cancels, so that derivatives of every order are right, where x equals y, too.
    """
    first = ge(x, y)
    greater, less = select_n(first, y, x), select_n(first, x, y)
    # An infinity is the whole sum; in the general case its derivative would be infinity - infinity.
    finite = is_finite(greater)
    zero = zeros(aval_of(greater).strong())
    high, low = select_n(finite, zero, greater), select_n(finite, zero, less)
    shift = stop_gradient(high)
    # expm1 is 0 to first order: a small term is not lost beside the greater one's 1.
    total = add(shift, log1p(add(expm1(sub(high, shift)), exp(sub(low, shift)))))
    return select_n(finite, greater, total)


def _weight(x: Any, total: Any) -> Any:
    """exp(x - total), and 0 where x is -inf, even if all are."""
    share = exp(sub(x, total))
    return select_n(eq(x, like(x, float("-inf"))), share, zeros(aval_of(x).strong()))


def _cumlogsumexp_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return _scanned_jvp(cumlogsumexp, _logaddexp_jvp, ctx, primals[0], tangents[0], **params)


cumlogsumexp = cumulative(
    "cumlogsumexp",
    evaluate=_accumulate(np.logaddexp),
    identity=lambda dtype: -np.inf,
    combine=_logaddexp,
    kinds="f",
    jvp=_cumlogsumexp_jvp,
)
