"""Comparison and choice: eq, lt, their total-order variants, select_n.

Names and meanings are those of `jax.lax`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.primitive import Primitive
from covector.core.trace import aval_of
from covector.ops.common import CHEAP, is_linear, kind_of, like, unbroadcast, where
from covector.ops.factory import (
    align_batched,
    at_shape,
    common_shape,
    elementwise,
    lanes_elementwise,
)

Scalar = Any


def boolean(dtype: Any) -> Any:
    """The result dtype of predicates."""
    return dtypes.bool_


# --- comparison ---------------------------------------------------------------------------------


def _comparison(name: str, evaluate: Callable[..., Any], kinds: str = "biuf") -> Primitive:
    return elementwise(
        name,
        evaluate=evaluate,
        jvp=None,
        arity=2,
        scalar=name,
        kinds=kinds,
        result=boolean,
    )


eq = _comparison("eq", np.equal, "biufc")
ne = _comparison("ne", np.not_equal, "biufc")
lt = _comparison("lt", np.less)
le = _comparison("le", np.less_equal)
gt = _comparison("gt", np.greater)
ge = _comparison("ge", np.greater_equal)

# --- total order --------------------------------------------------------------------------------


def _rank(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Integers in the total order of floats: -NaN < -inf < ... < -0 < 0 < ... < inf < NaN."""
    if kind_of(x.dtype) != "f":
        return x
    bits = np.asarray(x).view(np.dtype(f"i{x.dtype.itemsize}"))
    return where(bits < 0, bits ^ np.iinfo(bits.dtype).max, bits)


def _rank_scalar(builder: Any, x: Scalar) -> Scalar:
    if kind_of(x.dtype) != "f":
        return x
    signed = np.dtype(f"i{x.dtype.itemsize}")
    bits = builder.op("bitcast", x, attr=signed)
    mirrored = builder.op("xor", bits, int(np.iinfo(signed).max))
    return builder.select(builder.op("lt", bits, 0), mirrored, bits)


def _total_comparison(name: str, operation: str, evaluate: Callable[..., Any]) -> Primitive:
    def evaluate_rule(x: Any, y: Any) -> Any:
        return evaluate(_rank(x), _rank(y))

    def scalar(builder: Any, x: Scalar, y: Scalar) -> Scalar:
        return builder.op(operation, _rank_scalar(builder, x), _rank_scalar(builder, y))

    return elementwise(
        name,
        evaluate=evaluate_rule,
        jvp=None,
        arity=2,
        scalar=scalar,
        kinds="biuf",
        result=boolean,
        cost=5.0,
    )


eq_to = _total_comparison("eq_to", "eq", np.equal)
le_to = _total_comparison("le_to", "le", np.less_equal)
lt_to = _total_comparison("lt_to", "lt", np.less)

# --- select_n -----------------------------------------------------------------------------------


def _select_shape(which: Aval, *cases: Aval) -> Aval:
    if len(cases) == 2:
        a, b = cases
        # The common types: equal shapes, or rank-0 operands beside one of the result's shape.
        if which.dtype is dtypes.bool_ and a.dtype is b.dtype and not (a.weak_type or b.weak_type):
            wide = a if a.shape else b
            if (
                (wide.shape == which.shape or not which.shape)
                and (wide.shape == b.shape or not b.shape)
                and wide.dtype in dtypes.ARRAY_DTYPES
            ):
                return wide
    return _select_general_shape(which, cases)


def _select_general_shape(which: Aval, cases: Sequence[Aval]) -> Aval:
    if not cases:
        raise TypeError("select_n needs at least one case")
    if kind_of(which.dtype) not in "biu":
        raise TypeError(f"select_n needs a predicate of bool or integer dtype, got {which}")
    if kind_of(which.dtype) == "b" and len(cases) > 2:
        raise TypeError(f"select_n with a bool predicate takes two cases, got {len(cases)}")
    dtype = cases[0].dtype
    if any(c.dtype != dtype for c in cases):
        found = ", ".join(map(str, cases))
        raise TypeError(f"select_n needs cases of equal dtype, got {found}; convert one")
    shape = common_shape("select_n", (which, *cases))
    if kind_of(dtype) == "k" and any(c.shape != shape for c in cases):
        found = ", ".join(map(str, (which, *cases)))
        raise TypeError(f"select_n of PRNG keys needs cases of the result's shape, got {found}")
    return Aval(shape, dtype, all(c.weak_type for c in cases))


def _select_evaluate(which: Any, *cases: Any) -> Any:
    if 0 < which.ndim < max(c.ndim for c in cases):
        which = which[..., None]  # the cases are PRNG keys, whose words have an axis
    out: Any = cases[0]
    for k, case in enumerate(cases[1:], 1):
        out = where(which if which.dtype == np.bool_ else which >= k, case, out)
    shape = np.broadcast_shapes(which.shape, *(c.shape for c in cases))
    return np.array(np.broadcast_to(out, shape))


def _select_jvp(ctx: Any, primals: Any, tangents: Any) -> Any:
    out = select_n(*primals)
    nonzero = [t for t in tangents[1:] if type(t) is not Zero]
    if not nonzero:
        return out, Zero(aval_of(out).tangent())
    nil = like(nonzero[0], 0)
    cases = [nil if type(t) is Zero else t for t in tangents[1:]]
    return out, at_shape(select_n(primals[0], *cases), out)


def _select_transpose(ctx: Any, ct: Any, which: Any, *cases: Any) -> list[Any]:
    cotangents: list[Any] = [None]
    for k, case in enumerate(cases):
        part = None
        if is_linear(case):
            part = unbroadcast(_masked(ct, which, k, len(cases)), case.aval)
        cotangents.append(part)
    return cotangents


def _masked(ct: Any, which: Any, k: int, count: int) -> Any:
    """`ct` where case `k` of `count` was chosen, elsewhere 0.

    The first and the last case are also chosen by integers beyond them.
    """
    if count == 1:
        return ct
    nil = like(ct, 0)
    if kind_of(which.dtype) == "b":
        return select_n(which, nil, ct) if k else select_n(which, ct, nil)
    if k == 0:
        return select_n(lt(which, like(which, 1)), nil, ct)
    if k == count - 1:
        return select_n(ge(which, like(which, k)), nil, ct)
    return select_n(eq(which, like(which, k)), nil, ct)


def _select_batch(ctx: Any, args: Any, dims: Any) -> Any:
    args, dim = align_batched(args, dims)
    # Keys have no rank-0 form beside a full predicate.
    shape = aval_of(args[0]).shape
    if shape and kind_of(args[1].dtype) == "k":
        from covector.ops.common import broadcast_to

        args = [args[0], *(broadcast_to(c, shape) for c in args[1:])]
    return select_n(*args), dim


def _select_lower(b: Any, which: Any, *cases: Any) -> Any:
    builder = b.builder
    rank = len(which.shape)
    longest = max(cases, key=lambda c: len(c.shape))
    shape = longest.shape if len(longest.shape) >= rank else which.shape
    is_bool = which.dtype == np.bool_

    def element(index: Any) -> Any:
        predicate = which.at(index[:rank])
        values = [c.at(index) if c.shape else c.at(()) for c in cases]
        out = values[0]
        for k, value in enumerate(values[1:], 1):
            chosen = predicate if is_bool else builder.op("ge", predicate, k)
            out = builder.select(chosen, value, out)
        return out

    cost = which.cost + sum(c.cost for c in cases) + len(cases)
    return b.lazy(shape, cases[0].dtype, element, cost)


select_n = Primitive(
    "select_n",
    shape=_select_shape,
    evaluate=_select_evaluate,
    jvp=_select_jvp,
    transpose=_select_transpose,
    batch=_select_batch,
    lower=_select_lower,
    lanes=lanes_elementwise,
    tags=frozenset({"elementwise", CHEAP}),
)
