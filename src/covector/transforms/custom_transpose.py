"""Linear functions whose transpose the user gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import pytree
from covector.core.avals import Aval, Linear, Zero
from covector.core.errors import UnsupportedRuleError, compose
from covector.core.primitive import Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.call import check_call, effects_of_call, evaluate_call, lower_call
from covector.ops.common import add_tangents, batch_at_front, instantiate
from covector.ops.nested import chosen, split
from covector.transforms.batching import batch_flat
from covector.transforms.closures import with_operands_for
from covector.transforms.context import BatchingContext, spread
from covector.transforms.flat import FlatFunction, check_leaves, function_name


class TransposeRule:
    """The transpose of a linear function, as a parameter of `custom_transpose_call`.

    It is traced where it is needed, and may call the function it belongs to. Rules with equal keys
    are equal, so that a function traced again gives an equal program.

    Args:
        apply: `residuals, cotangents -> cotangents`, all flat.
        key: says what the rule is, hashable.
        name: for display.
    """

    __slots__ = ("apply", "key", "name")

    def __init__(self, apply: Callable[..., list[Any]], key: Any, name: str) -> None:
        self.apply = apply
        self.key = key
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TransposeRule) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<transpose of {self.name}>"


def _direct(*args: Any, program: Program, **params: Any) -> list[Any]:
    return eval_program(program, *args)


def _jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    rule: TransposeRule,
    num_residuals: int,
) -> tuple[list[Any], list[Any]]:
    # f(r, x) is linear in x: df = f(r, dx) + (df/dr) dr, and only the latter looks inside.
    params: dict[str, Any] = {"program": program, "rule": rule, "num_residuals": num_residuals}
    outs = custom_transpose_call(*primals, **params)
    residuals, values = split(primals, num_residuals)
    residual_ts, value_ts = split(tangents, num_residuals)
    out_ts: list[Any] = [Zero(aval_of(o).tangent()) for o in outs]
    if any(type(t) is not Zero for t in value_ts):
        out_ts = custom_transpose_call(*residuals, *map(instantiate, value_ts), **params)
    moved = [type(t) is not Zero for t in residual_ts]
    if any(moved):
        both, nonzero_out = ctx.jvp(program, moved + [False] * len(values))
        found = eval_program(both, *primals, *chosen(residual_ts, moved))[len(outs) :]
        by_residuals = spread(found, nonzero_out, [aval_of(o) for o in outs])
        out_ts = [add_tangents(a, b) for a, b in zip(out_ts, by_residuals, strict=True)]
    return outs, out_ts


def _transpose(
    ctx: Context,
    cts: Sequence[Any],
    *args: Any,
    program: Program,
    rule: TransposeRule,
    num_residuals: int,
) -> list[Any]:
    residuals, values = split(args, num_residuals)
    if any(type(r) is Linear for r in residuals):
        raise UnsupportedRuleError(
            f"{rule.name} is linear in its linear arguments, not in its residuals"
        )
    operands = [*residuals, *map(instantiate, cts)]
    transposed, consts = trace_program(rule.apply, [aval_of(x) for x in operands], rule.name)
    count = len(consts)

    def back(*own: Any) -> list[Any]:
        return eval_program(program, *own[count:])

    results = custom_transpose_call(
        *(*consts, *operands),
        program=transposed,
        rule=TransposeRule(back, ("back", rule.key, count), rule.name),
        num_residuals=count + num_residuals,
    )
    moved = [r if type(v) is Linear else None for r, v in zip(results, values, strict=True)]
    return [None] * num_residuals + moved


def _batch(
    ctx: BatchingContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    rule: TransposeRule,
    num_residuals: int,
) -> tuple[list[Any], list[int | None]]:
    # All that is linear gets the batch axis, so that both directions agree which has it.
    batched = [d is not None or k >= num_residuals for k, d in enumerate(dims)]
    operands = [
        batch_at_front(x, d, ctx.axis_size) if b else x
        for x, d, b in zip(args, dims, batched, strict=True)
    ]
    own_dims = [0 if b else None for b in batched[:num_residuals]]

    def apply(*own: Any) -> list[Any]:
        own_dims_and_cts = own_dims + [0] * (len(own) - num_residuals)
        outs, out_dims = batch_flat(rule.apply, ctx, own, own_dims_and_cts)
        return [batch_at_front(o, d, ctx.axis_size) for o, d in zip(outs, out_dims, strict=True)]

    key = ("batch", rule.key, ctx.axis_size, ctx.axis_name, tuple(own_dims))
    outs = custom_transpose_call(
        *operands,
        program=ctx.batch(program, batched, True)[0],
        rule=TransposeRule(apply, key, rule.name),
        num_residuals=num_residuals,
    )
    return outs, [0] * len(outs)


custom_transpose_call = Primitive(
    "custom_transpose_call",
    shape=check_call,
    evaluate=evaluate_call,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    lower=lower_call,
    effects=effects_of_call,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call"}),
)
"""`residuals, linear operands -> outputs` by `program`, whose transpose is by `rule`."""


def linear_call(
    fun: Callable[..., Any],
    fun_transpose: Callable[..., Any],
    residual_args: Any,
    linear_args: Any,
) -> Any:
    """Calls a linear function, with its transpose for reverse mode.

    Derivatives along the linear arguments are by the two functions alone, in every mode and order;
    those along the residuals look inside. That the one is the transpose of the other is for the
    caller to see to.

    Args:
        fun: `fun(residual_args, linear_args)`, linear in the second: gives a pytree of arrays of a
            floating or complex dtype.
        fun_transpose: `fun_transpose(residual_args, cotangent)`, for a cotangent like the output of
            `fun`, gives a pytree like `linear_args`.
        residual_args: a pytree of arrays.
        linear_args: a pytree of arrays of a floating or complex dtype.

    Returns:
        What `fun` returns.

    Raises:
        TypeError: if linear arguments or outputs are integers; in reverse mode, if `fun_transpose`
            gives other structures, shapes or dtypes than `linear_args` have.

    Example:
        >>> import covector as cv
        >>> from covector.custom_derivatives import linear_call
        >>> def divided(x, y):
        ...     return linear_call(lambda r, v: v / r, lambda r, ct: ct / r, y, x)
        >>> float(divided(6.0, 3.0)), float(cv.grad(divided)(6.0, 3.0))
        (2.0, 0.3333333432674408)
    """
    name = function_name(fun)
    what = f"linear_call of {name}"
    for part, value in (("residual_args", residual_args), ("linear_args", linear_args)):
        check_leaves(f"{what}: {part}", value)
    residuals, residual_tree = pytree.flatten(residual_args)
    values, linear_tree = pytree.flatten(linear_args)
    avals, linear_avals = [aval_of(r) for r in residuals], [aval_of(v) for v in values]
    _check_linear(f"{what}: a linear argument", linear_avals)
    flat = FlatFunction(fun, pytree.structure(((residual_args, linear_args), {})))
    program, captured = trace_program(flat, [*avals, *linear_avals], name)
    _check_linear(f"{what}: an output", program.output_avals)
    out_tree, count = flat.out_tree, len(captured)

    def transposed(*own: Any) -> list[Any]:
        first, second = split(own, len(avals))
        ct = pytree.unflatten(out_tree, second)
        found = fun_transpose(pytree.unflatten(residual_tree, first), ct)
        return _cotangents(what, found, linear_tree, linear_avals)

    def apply(*own: Any) -> list[Any]:
        if not captured:
            return transposed(*own)
        return with_operands_for(captured, own[:count], transposed, own[count:], name)

    key = (fun_transpose, count, residual_tree, linear_tree, out_tree, tuple(linear_avals))
    outs = custom_transpose_call(
        *(*captured, *residuals, *values),
        program=program,
        rule=TransposeRule(apply, key, name),
        num_residuals=count + len(residuals),
    )
    return pytree.unflatten(out_tree, outs)


def _check_linear(what: str, avals: Sequence[Aval]) -> None:
    for aval in avals:
        if aval.tangent().dtype.names:
            raise TypeError(
                compose(
                    f"{what} has no derivative",
                    found=str(aval),
                    fix="integers can be residuals",
                    line=here(),
                )
            )


def _cotangents(what: str, found: Any, tree: Any, avals: Sequence[Aval]) -> list[Any]:
    """What a transpose gave, flat."""
    leaves, found_tree = pytree.flatten(found)
    if found_tree != tree:
        raise TypeError(
            compose(
                f"{what}: the transpose must return a pytree like linear_args, {tree}",
                found=str(found_tree),
                line=here(),
            )
        )
    check_leaves(f"{what}: what the transpose returns", found)
    for leaf, aval in zip(leaves, avals, strict=True):
        got, expected = aval_of(leaf), aval.tangent()
        if (got.shape, got.dtype) != (expected.shape, expected.dtype):
            raise TypeError(
                compose(
                    f"{what}: the transpose must return {expected} for a linear argument {aval}",
                    found=str(got),
                    line=here(),
                )
            )
    return leaves


class custom_transpose:  # noqa: N801  # named like its kin
    """A linear function with a transpose of the user's own.

    Args:
        fun: `fun(residuals, values)`, linear in its second argument; both are pytrees of arrays.

    Example:
        A solver that reverse mode does not look into:

        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> @cv.custom_transpose
        ... def integrate(dt, rates):
        ...     return dt * cnp.cumsum(rates)
        >>> @integrate.def_transpose
        ... def integrate_transpose(dt, ct):
        ...     return dt * cnp.cumsum(ct[::-1])[::-1]
        >>> cv.grad(lambda v: integrate(0.5, v)[1])(cnp.ones(3))
        Array([0.5, 0.5, 0. ], dtype=float32)
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        if not callable(fun):
            raise TypeError(f"custom_transpose expects a function, got {type(fun).__name__}")
        self.fun = fun
        self.transpose: Callable[..., Any] | None = None
        self.__wrapped__ = fun
        self.__name__ = function_name(fun)
        self.__doc__ = fun.__doc__

    def def_transpose(self, transpose: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the transpose.

        Args:
            transpose: `transpose(residuals, cotangent)` gives a pytree like the linear argument.

        Returns:
            `transpose`, so that this works as a decorator.
        """
        self.transpose = transpose
        return transpose

    def __call__(self, residuals: Any, values: Any) -> Any:
        if self.transpose is None:
            raise AttributeError(
                f"custom_transpose function {self.__name__} has no transpose: set it with "
                "def_transpose"
            )
        return linear_call(self.fun, self.transpose, residuals, values)
