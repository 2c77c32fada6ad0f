"""Reductions: sum, product, extrema, bitwise; argmax and argmin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Linear, Zero
from covector.core.config import config
from covector.core.primitive import Primitive, Rule, unsupported
from covector.core.trace import aval_of
from covector.ops import common
from covector.ops.arithmetic import add, div, mul
from covector.ops.axes import broadcast_in_dim, reshape, transpose
from covector.ops.common import Inseparable, Partial, check_dtypes, kind_of, like
from covector.ops.compare import eq
from covector.ops.convert import convert_element_type
from covector.ops.movement import check_axes, past, without
from covector.ops.slices import pad, slice_in_dim

Axes = Sequence[int]
_NOT_LINEAR = "it is not a linear function of its operand"
_HALVES = (np.dtype(np.float16), dtypes.bfloat16)


def accumulator(dtype: Any) -> Any:
    """The dtype that values of a dtype are accumulated in: half-precision ones in float32."""
    return np.dtype(np.float32) if dtype in _HALVES else dtype


def widened(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array in the dtype it is accumulated in."""
    return x.astype(np.float32) if x.dtype in _HALVES else x


# --- identities ---------------------------------------------------------------------------------


def lowest(dtype: Any) -> Any:
    """The identity of the maximum: -inf, the least integer, or False."""
    return _extreme(dtype, least=True)


def highest(dtype: Any) -> Any:
    """The identity of the minimum: inf, the greatest integer, or True."""
    return _extreme(dtype, least=False)


def _extreme(dtype: Any, least: bool) -> Any:
    kind = kind_of(dtype)
    if kind == "b":
        return not least
    if kind in "iu":
        info = np.iinfo(dtype)
        return int(info.min if least else info.max)
    return -np.inf if least else np.inf


IDENTITIES: dict[str, Callable[[Any], Any]] = {}
"""What changes nothing in a reduction, given a dtype; by how `Partial` results are combined."""

COMBINE: dict[str, Callable[[Any, Any, Any], Any]] = {}
"""How two partial results are combined: `(builder, x, y) -> scalar`; likewise."""


def _all_ones(dtype: Any) -> Any:
    return True if kind_of(dtype) == "b" else highest(dtype) if kind_of(dtype) == "u" else -1


# --- scalar combinations ------------------------------------------------------------------------


def combine_extremum(name: str) -> Callable[[Any, Any, Any], Any]:
    """The scalar maximum or minimum of every dtype: complex ones by real, then imaginary part."""
    operation, beyond = ("or", "gt") if name == "max" else ("and", "lt")

    def combine(builder: Any, x: Any, y: Any) -> Any:
        kind = kind_of(x.dtype)
        if kind == "b":
            return builder.op(operation, x, y)
        if kind != "c":
            return builder.op(name, x, y)
        same = builder.op("eq", y.re, x.re)
        further = builder.op(
            "select", same, builder.op(beyond, y.im, x.im), builder.op(beyond, y.re, x.re)
        )
        further = builder.op("and", further, builder.op("not", builder.op("is_nan", x)))
        return builder.op("select", builder.op("or", further, builder.op("is_nan", y)), y, x)

    return combine


def _operation(name: str) -> Callable[[Any, Any, Any], Any]:
    return lambda builder, x, y: builder.op(name, x, y)


# --- the family ---------------------------------------------------------------------------------


def reduction(
    name: str,
    *,
    ufunc: np.ufunc,
    identity: Callable[[Any], Any],
    combine: Callable[[Any, Any, Any], Any],
    over_lanes: str | None,
    kinds: str,
    jvp: Rule,
    transpose_rule: Rule | None = None,
) -> Primitive:
    """A primitive that reduces axes with an associative operation.

    Args:
        name: of the primitive.
        ufunc: the operation on NumPy arrays.
        identity: its identity, given a dtype.
        combine: the operation on loop IR scalars, `(builder, x, y) -> scalar`.
        over_lanes: what combines partial results of lanes (see `Partial`), or `None`.
        kinds: which dtypes it takes (see `common.KINDS`).
        jvp: as in `Primitive`.
        transpose_rule: for linear ones.
    """

    def shape_rule(x: Aval, *, axes: Axes) -> Aval:
        check_dtypes(name, (x,), kinds)
        check_axes(name, "axes", axes, len(x.shape))
        kept = without(axes, len(x.shape))
        return Aval([x.shape[d] for d in kept], x.dtype, x.weak_type)

    def evaluate_rule(x: Any, *, axes: Axes) -> Any:
        wide = widened(x)
        initial = identity(wide.dtype)
        out = ufunc.reduce(wide, axis=tuple(axes), dtype=wide.dtype, initial=initial)
        return np.asarray(out, x.dtype)

    def batch_rule(ctx: Any, args: Any, dims: Any, *, axes: Axes) -> Any:
        shifted = past(axes, dims[0])
        return primitive(args[0], axes=shifted), _kept_position(dims[0], shifted)

    def lower_rule(b: Any, x: Any, *, axes: Axes) -> Any:
        return lower_reduction(b, x, axes, combine, identity)

    def lanes_rule(dims: Any, x: Aval, *, axes: Axes) -> int | Partial | None:
        if dims[0] not in axes:
            return None if dims[0] is None else _kept_position(dims[0], axes)
        if over_lanes is None:
            raise Inseparable(f"{name} combines all lanes")
        return Partial(over_lanes)

    if over_lanes is not None:
        IDENTITIES[over_lanes], COMBINE[over_lanes] = identity, combine
    primitive = Primitive(
        name,
        shape=shape_rule,
        evaluate=evaluate_rule,
        jvp=jvp,
        transpose=transpose_rule or unsupported(_NOT_LINEAR),
        batch=batch_rule,
        lower=lower_rule,
        lanes=lanes_rule,
        tags=frozenset({"reduction"}),
    )
    return primitive


def _kept_position(dim: int, axes: Axes) -> int:
    return dim - sum(a < dim for a in axes)


def lower_reduction(
    b: Any,
    x: Any,
    axes: Axes,
    combine: Callable[[Any, Any, Any], Any],
    identity: Callable[[Any], Any],
) -> Any:
    """The lazy tensor whose elements are reductions along some axes of `x`."""
    builder = b.builder
    ndim = len(x.shape)
    axes = sorted(axes)
    kept = without(axes, ndim)
    extents = [x.shape[a] for a in axes]
    wide = accumulator(x.dtype)
    at = x.at

    def element(index: Any) -> Any:
        full: list[Any] = [0] * ndim
        for d, i in zip(kept, index, strict=True):
            full[d] = i

        def term(inner: Any) -> Any:
            place = list(full)
            for a, i in zip(axes, inner, strict=True):
                place[a] = i
            return builder.convert(at(tuple(place)), wide)

        init = builder.const(identity(wide), wide)
        total = b.reduce(extents, term, partial(combine, builder), init)
        return builder.convert(total, x.dtype)

    return b.lazy([x.shape[d] for d in kept], x.dtype, element, _cost(x, extents))


_UNKNOWN_EXTENT = 1000


def _cost(x: Any, extents: Sequence[Any]) -> float:
    count = 1
    for n in extents:
        count *= n if type(n) is int else _UNKNOWN_EXTENT
    return (x.cost + 1.0) * count + 1.0


def no_derivative(primitive: Primitive, primals: Sequence[Any], **params: Any) -> Any:
    """The jvp of an operation whose derivative vanishes wherever it exists."""
    out = primitive(*primals, **params)
    return out, Zero(aval_of(out).tangent())


# --- sum ----------------------------------------------------------------------------------------


def _sum_jvp(ctx: Any, primals: Any, tangents: Any, *, axes: Axes) -> Any:
    return reduce_sum(primals[0], axes=axes), reduce_sum(tangents[0], axes=axes)


def _sum_transpose(ctx: Any, ct: Any, x: Linear, *, axes: Axes) -> list[Any]:
    return [along(ct, x.aval, axes)]


def along(reduced: Any, aval: Aval, axes: Axes) -> Any:
    """The result of a reduction repeated along the axes that were reduced."""
    kept = without(axes, len(aval.shape))
    return broadcast_in_dim(reduced, shape=aval.shape, broadcast_dimensions=kept)


reduce_sum = reduction(
    "reduce_sum",
    ufunc=np.add,
    identity=lambda dtype: 0,
    combine=_operation("add"),
    over_lanes="add",
    kinds="iufc",
    jvp=_sum_jvp,
    transpose_rule=_sum_transpose,
)

# --- product ------------------------------------------------------------------------------------


def _prod_jvp(ctx: Any, primals: Any, tangents: Any, *, axes: Axes) -> Any:
    return reduce_prod(primals[0], axes=axes), _product_tangent(primals[0], tangents[0], axes)


def _product_tangent(x: Any, t: Any, axes: Axes) -> Any:
    """The tangent of a product, by products of pairs: no division, so that zeros are no trouble."""
    shape = aval_of(x).shape
    kept = without(axes, len(shape))
    x, t = merge_last(x, kept, axes), merge_last(t, kept, axes)
    last = len(kept)
    n = aval_of(x).shape[last]
    if type(n) is not int:
        raise NotImplementedError(
            f"the derivative of reduce_prod along an axis of symbolic size {n} is not supported"
        )
    if n == 0:
        return common.zeros(Aval([shape[d] for d in kept], t.dtype))
    while n > 1:
        half = (n + 1) // 2
        x0, x1 = _halves(x, n, half, last, 1)
        t0, t1 = _halves(t, n, half, last, 0)
        x, t, n = mul(x0, x1), add(mul(t0, x1), mul(x0, t1)), half
    return reshape(t, new_sizes=tuple([shape[d] for d in kept]), dimensions=None)


def merge_last(x: Any, kept: Axes, axes: Axes) -> Any:
    """`x` with the given axes merged into one, the last."""
    shape = aval_of(x).shape
    x = transpose(x, permutation=(*kept, *axes))
    merged = Aval([shape[a] for a in axes], x.dtype).size
    return reshape(x, new_sizes=(*[shape[d] for d in kept], merged), dimensions=None)


def _halves(x: Any, n: int, half: int, axis: int, fill: int) -> tuple[Any, Any]:
    first, second = slice_in_dim(x, 0, half, axis), slice_in_dim(x, half, n, axis)
    if n < 2 * half:
        config = tuple([(0, 1 if d == axis else 0, 0) for d in range(axis + 1)])
        second = pad(second, like(x, fill), padding_config=config)
    return first, second


reduce_prod = reduction(
    "reduce_prod",
    ufunc=np.multiply,
    identity=lambda dtype: 1,
    combine=_operation("mul"),
    over_lanes="mul",
    kinds="iufc",
    jvp=_prod_jvp,
)

# --- extrema ------------------------------------------------------------------------------------


def _extremum_jvp(primitive: Primitive, x: Any, t: Any, axes: Axes) -> Any:
    """Elements that attain the extremum share the derivative equally."""
    out = primitive(x, axes=axes)
    attained = eq(x, along(out, aval_of(x), axes))
    mask = convert_element_type(attained, new_dtype=aval_of(t).dtype)
    count = reduce_sum(mask, axes=axes)
    return out, div(reduce_sum(mul(t, mask), axes=axes), count)


def _max_jvp(ctx: Any, primals: Any, tangents: Any, *, axes: Axes) -> Any:
    return _extremum_jvp(reduce_max, primals[0], tangents[0], axes)


def _min_jvp(ctx: Any, primals: Any, tangents: Any, *, axes: Axes) -> Any:
    return _extremum_jvp(reduce_min, primals[0], tangents[0], axes)


reduce_max = reduction(
    "reduce_max",
    ufunc=np.maximum,
    identity=lowest,
    combine=combine_extremum("max"),
    over_lanes="max",
    kinds="biufc",
    jvp=_max_jvp,
)
reduce_min = reduction(
    "reduce_min",
    ufunc=np.minimum,
    identity=highest,
    combine=combine_extremum("min"),
    over_lanes="min",
    kinds="biufc",
    jvp=_min_jvp,
)

# --- bitwise ------------------------------------------------------------------------------------


def _and_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return no_derivative(reduce_and, primals, **params)


def _or_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return no_derivative(reduce_or, primals, **params)


def _xor_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return no_derivative(reduce_xor, primals, **params)


reduce_and = reduction(
    "reduce_and",
    ufunc=np.bitwise_and,
    identity=_all_ones,
    combine=_operation("and"),
    over_lanes="and",
    kinds="biu",
    jvp=_and_jvp,
)
reduce_or = reduction(
    "reduce_or",
    ufunc=np.bitwise_or,
    identity=lambda dtype: 0,
    combine=_operation("or"),
    over_lanes="or",
    kinds="biu",
    jvp=_or_jvp,
)
reduce_xor = reduction(
    "reduce_xor",
    ufunc=np.bitwise_xor,
    identity=lambda dtype: 0,
    combine=_operation("xor"),
    over_lanes=None,
    kinds="biu",
    jvp=_xor_jvp,
)

# --- argmax, argmin -----------------------------------------------------------------------------


def _arg_extremum(name: str, evaluate: Callable[..., Any], extremum: str) -> Primitive:
    """The index of the first greatest or least element along an axis; NaN counts as extreme."""

    def shape_rule(x: Aval, *, axes: Axes, index_dtype: Any) -> Aval:
        check_dtypes(name, (x,), "biuf")
        check_axes(name, "axes", axes, len(x.shape))
        if len(axes) != 1:
            raise ValueError(f"{name} of {x}: axes must name one axis, found {tuple(axes)}")
        if x.shape[axes[0]] == 0:
            raise ValueError(f"{name} of {x}: axis {axes[0]} has no elements to choose from")
        if kind_of(index_dtype) not in "iu":
            raise TypeError(f"{name}: index_dtype must be an integer type, found {index_dtype}")
        kept = without(axes, len(x.shape))
        return Aval([x.shape[d] for d in kept], np.dtype(index_dtype))

    def evaluate_rule(x: Any, *, axes: Axes, index_dtype: Any) -> Any:
        return np.asarray(evaluate(widened(x), axis=axes[0])).astype(index_dtype)

    def jvp_rule(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        return no_derivative(primitive, primals, **params)

    def batch_rule(ctx: Any, args: Any, dims: Any, *, axes: Axes, index_dtype: Any) -> Any:
        shifted = past(axes, dims[0])
        out = primitive(args[0], axes=shifted, index_dtype=index_dtype)
        return out, _kept_position(dims[0], shifted)

    def lower_rule(b: Any, x: Any, *, axes: Axes, index_dtype: Any) -> Any:
        return _lower_arg_extremum(b, x, axes[0], np.dtype(index_dtype), extremum)

    def lanes_rule(dims: Any, x: Aval, *, axes: Axes, index_dtype: Any) -> int | None:
        if dims[0] in axes:
            raise Inseparable(f"{name} chooses among all lanes")
        return None if dims[0] is None else _kept_position(dims[0], axes)

    primitive = Primitive(
        name,
        shape=shape_rule,
        evaluate=evaluate_rule,
        jvp=jvp_rule,
        transpose=unsupported(_NOT_LINEAR),
        batch=batch_rule,
        lower=lower_rule,
        lanes=lanes_rule,
        tags=frozenset({"reduction"}),
    )
    return primitive


_BLOCK = 4096
"""Neighbouring elements whose extremum is kept: one such block is searched for the place."""


def _lower_arg_extremum(b: Any, x: Any, axis: int, index_dtype: Any, extremum: str) -> Any:
    """Finds the extremum, then the first place that holds it: two passes that run in lanes.

    The second pass over a long axis is one over the extrema of blocks, then over the first block
    that has the extremum.
    """
    builder, n = b.builder, x.shape[axis]
    search = _Search(b, b.hoist(x), axis, extremum)
    shape = (*x.shape[:axis], *x.shape[axis + 1 :])
    if type(n) is not int or n < 4 * _BLOCK or "arg_blocks" in config.disable:

        def element(index: Any) -> Any:
            first = search.first(n, search.along(index))
            return builder.convert(first, index_dtype)

        return b.lazy(shape, index_dtype, element, 2.0 * _cost(x, [n]))

    def start(block: Any) -> Any:
        # The last block overlaps the one before it: the first that has the extremum is the same.
        low = builder.op("mul", search.index(block), builder.index(_BLOCK))
        return builder.op("min", low, builder.index(n - _BLOCK))

    def block_extremum(index: Any) -> Any:
        return search.extremum(_BLOCK, search.along(index[:-1], start(index[-1])))

    count = -(-n // _BLOCK)
    extrema = b.lazy((*shape, count), search.dtype, block_extremum, _cost(x, [_BLOCK]))
    extrema = b.stored(extrema)

    def element_of_blocks(index: Any) -> Any:
        low = start(search.first(count, lambda k: extrema.at((*index, k))))
        inside = search.first(_BLOCK, search.along(index, low))
        return builder.convert(builder.op("add", low, inside), index_dtype)

    return b.lazy(shape, index_dtype, element_of_blocks, _cost(x, [count + _BLOCK]))


class _Search:
    """Extrema and their places along an axis of a tensor.

    Attributes:
        dtype: of the extrema.
    """

    def __init__(self, b: Any, x: Any, axis: int, extremum: str) -> None:
        self._b, self._x, self._axis = b, x, axis
        self.dtype = accumulator(x.dtype)
        self._neutral = b.builder.const(
            (lowest if extremum == "max" else highest)(self.dtype), self.dtype
        )
        self._combine = partial(combine_extremum(extremum), b.builder)

    def index(self, place: Any) -> Any:
        """A place as a value."""
        return self._b.builder.index(place) if type(place) is int else place

    def along(self, index: Any, start: Any = 0) -> Callable[[Any], Any]:
        """The elements along the axis from some place on, by their distance from it."""
        builder, axis = self._b.builder, self._axis

        def value(place: Any) -> Any:
            if type(start) is not int:
                place = builder.op("add", start, self.index(place))
            return builder.convert(self._x.at((*index[:axis], place, *index[axis:])), self.dtype)

        return value

    def extremum(self, n: Any, value: Callable[[Any], Any]) -> Any:
        """The extremum of n elements."""

        def element(inner: Any) -> Any:
            return value(inner[0])

        return self._b.reduce([n], element, self._combine, self._neutral)

    def first(self, n: Any, value: Callable[[Any], Any]) -> Any:
        """Where the first of n elements is that equals their extremum."""
        builder = self._b.builder
        extreme = self.extremum(n, value)
        few = type(n) is int and n <= np.iinfo(np.int32).max
        dtype = np.dtype(np.int32 if few else np.int64)
        nowhere = builder.const(np.iinfo(dtype).max, dtype)

        def place(inner: Any) -> Any:
            found = value(inner[0])
            hit = builder.op("eq", found, extreme)
            if kind_of(self.dtype) == "f":
                # If there is a NaN, the extremum is NaN, which equals nothing.
                hit = builder.op("or", hit, builder.op("is_nan", found))
            here = builder.convert(self.index(inner[0]), dtype)
            return builder.op("select", hit, here, nowhere)

        found = self._b.reduce([n], place, partial(builder.op, "min"), nowhere)
        return builder.convert(found, np.dtype(np.int64))


argmax = _arg_extremum("argmax", np.argmax, "max")
argmin = _arg_extremum("argmin", np.argmin, "min")
