"""Factories: families of primitives whose members differ in a line or two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval, Zero
from covector.core.primitive import Primitive, Rule, unsupported
from covector.core.trace import aval_of
from covector.ops import common
from covector.ops.common import CHEAP, CHEAP_COST, broadcast_to, check_dtypes, move_axis

Function = (
    Callable[[Any], Any]
    | Callable[[Any, Any], Any]
    | Callable[[Any, Any, Any], Any]
    | Callable[[Any, Any, Any, Any], Any]
    | Callable[..., Any]
)
"""Any function; the alternatives give lambdas the types of their parameters."""

_HALVES = frozenset({dtypes.float16, dtypes.bfloat16})

NOT_LINEAR = "it is not a linear function of its operands"


def elementwise(
    name: str,
    *,
    evaluate: Function,
    jvp: Function | Sequence[Function | None] | None,
    scalar: str | Function,
    kinds: str | None = "fc",
    result: Callable[[Any], Any] | None = None,
    jvp_uses_result: bool = False,
    jvp_rule: Rule | None = None,
    transpose: Rule | None = None,
    cost: float = 1.0,
    arity: int | None = None,
    check: Callable[..., None] | None = None,
) -> Primitive:
    """A primitive that acts on each element alone.

    Operands have equal shapes, except that rank-0 ones are used at every element.

    Args:
        name: of the primitive.
        evaluate: NumPy function of the operands.
        jvp: for each operand `(tangent, *operands) -> contribution`, `None` where the derivative
            is zero; a single function for unary operations; `None` where all derivatives vanish.
        scalar: the loop IR operation, or `(builder, *values, **params) -> value`.
        kinds: which dtypes it takes (see `common.KINDS`).
        result: dtype of the result given the operands'; the same by default.
        jvp_uses_result: the jvp functions take `(tangent, result, *operands)`.
        jvp_rule: the whole rule, where sharing work between operands pays; replaces `jvp`.
        transpose: for operations linear in some operands.
        cost: estimated instructions per element.
        arity: number of operands; found from `jvp` when it is given.
        check: extra checks of the operands' avals and parameters.

    Example:
        >>> sin = elementwise(
        ...     "sin", evaluate=np.sin, jvp=lambda t, x: mul(t, cos(x)), scalar="sin"
        ... )  # doctest: +SKIP
    """
    rules: list[Rule | None]
    if jvp is None:
        rules = [None] * (arity or 1)
    else:
        rules = [jvp] if callable(jvp) else [*jvp]
    tidy = _tidy if result is None else _tidy_to(result)
    compute: Rule = evaluate

    def evaluate_rule(*operands: Any, **params: Any) -> Any:
        return tidy(compute(*operands, **params), operands[0].dtype)

    def batch_rule(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
        args, dim = align_batched(args, dims)
        return primitive(*args, **params), dim

    def lower_rule(b: Any, *tensors: Any, **params: Any) -> Any:
        return lower_elementwise(b, scalar, tensors, result, cost, params)

    primitive = Primitive(
        name,
        shape=_shape_rule(name, len(rules), kinds, result, check),
        evaluate=evaluate_rule,
        jvp=jvp_rule or _not_yet,
        transpose=transpose or unsupported(NOT_LINEAR),
        batch=batch_rule,
        lower=lower_rule,
        lanes=lanes_elementwise,
        tags=frozenset({"elementwise", CHEAP} if cost <= CHEAP_COST else {"elementwise"}),
    )
    if jvp_rule is None:
        # These rules apply the primitive itself, which had to exist first.
        primitive.jvp = _jvp_rule(primitive, rules, jvp_uses_result)
    return primitive


def _not_yet(*args: Any, **params: Any) -> Any:
    raise AssertionError("a primitive was differentiated while it was being defined")


def lanes_elementwise(dims: Sequence[int | None], *avals: Aval, **params: Any) -> int | None:
    """The lanes rule of operations on each element alone."""
    return common.same_lane(dims, *avals)


# --- evaluation ---------------------------------------------------------------------------------


def _tidy(value: Any, dtype: Any) -> Any:
    return np.asarray(value, dtype)


def _tidy_to(result: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def tidy(value: Any, dtype: Any) -> Any:
        return np.asarray(value, result(dtype))

    return tidy


def in_float32(fn: Rule) -> Callable[..., Any]:
    """A NumPy function that computes in float32 where its operands are float16 or bfloat16."""

    def widened(*operands: Any, **params: Any) -> Any:
        if operands[0].dtype in _HALVES:
            operands = tuple([x.astype(np.float32) for x in operands])
        return fn(*operands, **params)

    return widened


# --- shapes -------------------------------------------------------------------------------------


def _shape_rule(
    name: str,
    arity: int,
    kinds: str | None,
    result: Callable[[Any], Any] | None,
    check: Callable[..., None] | None,
) -> Rule:
    """The shape rule: a fast path for one or two operands of one dtype, and the general case."""
    accepted = common.members("biufc" if kinds is None else kinds)

    def general(avals: Sequence[Aval]) -> Aval:
        if len(avals) != arity:
            raise TypeError(f"{name} takes {arity} operands, got {len(avals)}")
        dtype = check_dtypes(name, avals, kinds)
        shape = common_shape(name, avals)
        weak = all([a.weak_type for a in avals])
        return Aval(shape, dtype if result is None else result(dtype), weak)

    def shape_rule(*avals: Aval, **params: Any) -> Aval:
        if check is not None:
            check(*avals, **params)
        if len(avals) != arity or arity > 2:
            return general(avals)
        x, y = avals[0], avals[-1]
        if x.dtype is not y.dtype or x.dtype not in accepted:
            return general(avals)
        wider = x if arity == 1 else _of_result(x, y)
        if wider is None:
            return general(avals)
        if result is None:
            return wider
        return Aval(wider.shape, result(x.dtype), wider.weak_type)

    return shape_rule


def _of_result(x: Aval, y: Aval) -> Aval | None:
    """The operand that has the shape and the weak type of the result, if one has both."""
    if (x.shape == y.shape or not y.shape) and (not x.weak_type or y.weak_type):
        return x
    if (x.shape == y.shape or not x.shape) and (not y.weak_type or x.weak_type):
        return y
    return None


def common_shape(name: str, avals: Sequence[Aval]) -> tuple[Any, ...]:
    """The shape of all operands that are not rank-0.

    Raises:
        TypeError: if they differ.
    """
    shape: tuple[Any, ...] = ()
    for aval in avals:
        if aval.shape == ():
            continue
        if shape == ():
            shape = aval.shape
        elif aval.shape != shape:
            found = ", ".join(str(a) for a in avals)
            raise TypeError(
                f"{name} requires operands of equal shapes, got {found}; broadcast them with "
                "lax.broadcast_in_dim, or use covector.numpy, which broadcasts"
            )
    return shape


# --- derivatives --------------------------------------------------------------------------------


def _jvp_rule(primitive: Primitive, rules: Sequence[Rule | None], uses_result: bool) -> Rule:
    if all(rule is None for rule in rules):
        return _jvp_vanishing(primitive)
    if len(rules) == 1 and rules[0] is not None:
        return _jvp_of_one(primitive, rules[0], uses_result)

    def jvp_rule(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive(*primals, **params)
        operands = (out, *primals) if uses_result else primals
        total: Any = None
        for tangent, rule in zip(tangents, rules, strict=True):
            if rule is not None and type(tangent) is not Zero:
                part = rule(tangent, *operands, **params)
                total = part if total is None else common.add_tangents(total, part)
        return out, at_shape(total, out)

    return jvp_rule


def _jvp_vanishing(primitive: Primitive) -> Rule:
    def jvp_rule(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        out = primitive(*primals, **params)
        return out, Zero(aval_of(out).tangent())

    return jvp_rule


def _jvp_of_one(primitive: Primitive, rule: Rule, uses_result: bool) -> Rule:
    if uses_result:

        def jvp_of_result(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
            out = primitive(primals[0], **params)
            return out, rule(tangents[0], out, primals[0], **params)

        return jvp_of_result

    def jvp_of_operand(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
        return primitive(primals[0], **params), rule(tangents[0], primals[0], **params)

    return jvp_of_operand


def at_shape(tangent: Any, out: Any) -> Any:
    """The tangent of a result: `None` is zero, a rank-0 one is broadcast to the result's shape."""
    aval = aval_of(out)
    if tangent is None:
        return Zero(aval.tangent())
    return tangent if tangent.shape == aval.shape else broadcast_to(tangent, aval.shape)


# --- lowering -----------------------------------------------------------------------------------


def lower_elementwise(
    b: Any,
    scalar: str | Rule,
    tensors: Sequence[Any],
    result: Callable[[Any], Any] | None,
    cost: float,
    params: dict[str, Any],
) -> Any:
    """The lazy tensor that applies a scalar operation at each index."""
    shape: Any = max((t.shape for t in tensors), key=len)
    dtype = tensors[0].dtype if result is None else result(tensors[0].dtype)
    total = cost + sum(t.cost for t in tensors)
    element = _element(b.builder, scalar, tensors, params)
    return b.lazy(shape, dtype, element, total)


def _element(
    builder: Any, scalar: str | Rule, tensors: Sequence[Any], params: dict[str, Any]
) -> Callable[[Any], Any]:
    """The function from an index to the result there."""
    if not isinstance(scalar, str):
        return lambda index: scalar(builder, *elements(tensors, index), **params)
    op, first, last = builder.op, tensors[0].at, tensors[-1].at
    if len(tensors) == 1:
        return lambda index: op(scalar, first(index))
    if len(tensors) == 2 and len(tensors[0].shape) == len(tensors[1].shape):
        return lambda index: op(scalar, first(index), last(index))
    return lambda index: op(scalar, *elements(tensors, index))


def elements(tensors: Sequence[Any], index: Any) -> list[Any]:
    """The operands' elements at an index; rank-0 operands have one element."""
    return [t.at(index) if t.shape else t.at(()) for t in tensors]


# --- batching -----------------------------------------------------------------------------------


def align_batched(args: Sequence[Any], dims: Sequence[int | None]) -> tuple[list[Any], int]:
    """Operands of an elementwise operation with their batch axes in one place.

    Returns:
        The operands, all of rank 0 (unbatched) or of equal shape, and the batch axis.
    """
    from covector.ops.shape import broadcast_in_dim

    first = dims[0]
    if len(args) == 1 and first is not None:
        return list(args), first
    dim, shape = _target_layout(args, dims)
    aligned: list[Any] = []
    for x, d in zip(args, dims, strict=True):
        own = aval_of(x).shape
        if d is None:
            if own != ():
                kept = tuple(i for i in range(len(shape)) if i != dim)
                x = broadcast_in_dim(x, shape=shape, broadcast_dimensions=kept)
        elif len(own) == 1 and len(shape) > 1:
            x = broadcast_in_dim(x, shape=shape, broadcast_dimensions=(dim,))
        else:
            x = move_axis(x, d, dim)
        aligned.append(x)
    return aligned, dim


def _target_layout(args: Sequence[Any], dims: Sequence[int | None]) -> tuple[int, Any]:
    """The batch axis and the shape of the result: the layout of the largest batched operand."""
    ranks = [len(aval_of(x).shape) - (d is not None) for x, d in zip(args, dims, strict=True)]
    rank = max(ranks)
    for x, d, r in zip(args, dims, ranks, strict=True):
        if d is not None and r == rank:
            return d, aval_of(x).shape
    # Only rank-0 operands are batched: put their axis in front of an unbatched one's shape.
    size = next(aval_of(x).shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    full = next(aval_of(x).shape for x, r in zip(args, ranks, strict=True) if r == rank)
    return 0, (size, *full)
