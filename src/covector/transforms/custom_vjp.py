"""Functions with a derivative rule of the user's own, in reverse mode.

Forward mode works too where the backward rule is linear in its cotangent: it is transposed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import interpret, pytree
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.common import batch_at_front, instantiate, zeros
from covector.ops.reduce import reduce_sum
from covector.transforms.batching import batch_flat
from covector.transforms.context import spread
from covector.transforms.custom_jvp import (
    batched_key,
    key_of_rule,
    merge_nondiff,
    positional,
    split_nondiff,
)
from covector.transforms.flat import FlatFunction, check_leaves, function_name


class VJPRule:
    """A function of flat operands with its rule, as a parameter of `custom_vjp_call`.

    Args:
        function: flat operands to flat outputs.
        forward: flat operands to `(flat outputs, flat residuals)`.
        backward: `(residuals, cotangents of outputs) -> cotangents of operands`, all flat; some
            may be symbolic zeros.
        name: for display.
        key: as for `JVPRule`.
    """

    __slots__ = ("backward", "forward", "function", "key", "name")

    def __init__(
        self,
        function: Callable[..., Any],
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        name: str,
        key: Any = None,
    ) -> None:
        self.key = key
        self.function = function
        self.forward = forward
        self.backward = backward
        self.name = name

    def __repr__(self) -> str:
        return f"<rule of {self.name}>"


# --- the call ---------------------------------------------------------------------------------


def _direct(*args: Any, call: VJPRule, program: Program | None = None, **params: Any) -> list[Any]:
    # An equation's operands begin with what the function closed over, which the program takes.
    return list(call.function(*args)) if program is None else eval_program(program, *args)


def _prepare(args: Sequence[Any], params: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    if "program" in params:
        return args, params
    call: VJPRule = params["call"]
    program, captured = trace_program(call.function, [aval_of(a) for a in args], call.name)
    return [*captured, *args], {"call": call, "program": program, "num_consts": len(captured)}


def _shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    return program.output_avals


def _evaluate(*args: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *args)


def _check_consts(call: VJPRule, values: Sequence[Any], nonzero: Sequence[bool]) -> None:
    for value, n in zip(values, nonzero, strict=False):
        if n:
            raise TypeError(
                f"custom_vjp function {call.name} closes over a value {aval_of(value)} that is "
                "being differentiated; its rule cannot know: pass it as an argument"
            )


def _linearize(
    ctx: Any,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    call: VJPRule,
    num_consts: int = 0,
    **params: Any,
) -> Any:
    _check_consts(call, primals[:num_consts], nonzero[:num_consts])
    primals, nonzero = primals[num_consts:], list(nonzero[num_consts:])
    outs, residuals = call.forward(*primals)
    in_avals = tuple([aval_of(p) for p in primals])
    out_avals = tuple([aval_of(o).tangent() for o in outs])
    nonzero_out = [not a.dtype.names for a in out_avals]

    def linear(values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return custom_vjp_linear(
            *values,
            *tangents,
            call=call,
            num_residuals=len(values),
            nonzero=tuple(nonzero),
            in_avals=in_avals,
            out_avals=out_avals,
        )

    return outs, nonzero_out, linear, residuals


def _jvp(ctx: Any, primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    nonzero = [type(t) is not Zero for t in tangents]
    outs, nonzero_out, linear, residuals = _linearize(ctx, primals, nonzero, **params)
    results = linear(residuals, [t for t in tangents if type(t) is not Zero])
    return outs, spread(results, nonzero_out, [aval_of(o) for o in outs])


def _batch(
    ctx: Any,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    call: VJPRule,
    program: Program | None = None,
    num_consts: int = 0,
) -> Any:
    batched = [d is not None for d in dims]
    args = [
        x if d is None else batch_at_front(x, d, ctx.axis_size)
        for x, d in zip(args, dims, strict=True)
    ]
    rule = _batched_rule(ctx, call, batched[num_consts:])
    if program is None:
        outs = custom_vjp_call(*args, call=rule)
    else:
        mapped, _ = ctx.batch(program, batched, True)
        outs = custom_vjp_call(*args, call=rule, program=mapped, num_consts=num_consts)
    return outs, [0] * len(outs)


def _batched_rule(ctx: Any, call: VJPRule, batched: Sequence[bool]) -> VJPRule:
    dims = [0 if b else None for b in batched]

    def over_batch(fn: Callable[..., Any], values: Any, value_dims: Any) -> list[Any]:
        outs, out_dims = batch_flat(fn, ctx, values, value_dims)
        return [batch_at_front(o, d, ctx.axis_size) for o, d in zip(outs, out_dims, strict=True)]

    def function(*values: Any) -> list[Any]:
        return over_batch(call.function, values, dims)

    def forward(*values: Any) -> Any:
        count = [0]

        def both(*own: Any) -> list[Any]:
            outs, residuals = call.forward(*own)
            count[0] = len(outs)
            return [*outs, *residuals]

        results = over_batch(both, values, dims)
        return results[: count[0]], results[count[0] :]

    def backward(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        # Integers have cotangents of dtype float0, which exist only as symbolic zeros.
        void = [type(ct) is Zero and bool(ct.aval.dtype.names) for ct in cts]
        without: list[Any] = []

        def pull(*own: Any) -> list[Any]:
            live = iter(own[len(residuals) :])
            given = [
                Zero(Aval(ct.aval.shape[1:], ct.aval.dtype)) if v else next(live)
                for ct, v in zip(cts, void, strict=True)
            ]
            grads = call.backward(own[: len(residuals)], given)
            without[:] = [g if type(g) is Zero and g.aval.dtype.names else None for g in grads]
            return [instantiate(g) for g, w in zip(grads, without, strict=True) if w is None]

        operands = [*residuals, *[instantiate(c) for c, v in zip(cts, void, strict=True) if not v]]
        found = iter(over_batch(pull, operands, [0] * len(operands)))
        grads = [next(found) if w is None else w for w in without]
        # Operands without a batch axis influence every example.
        return [
            g if b or type(g) is Zero else reduce_sum(g, axes=(0,))
            for g, b in zip(grads, batched, strict=True)
        ]

    return VJPRule(function, forward, backward, call.name, batched_key(ctx, call.key, batched))


def _lower(b: Any, *tensors: Any, program: Program, **params: Any) -> Any:
    return b.inline(program, tensors)


custom_vjp_call = Primitive(
    "custom_vjp_call",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=unsupported("its derivative is the rule's, not the function's"),
    batch=_batch,
    lower=_lower,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    prepare=_prepare,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call"}),
)

# --- its derivative ---------------------------------------------------------------------------
#
# `custom_vjp_linear` stands for the linear map whose transpose is the backward rule. Reverse mode
# transposes it, which calls the rule; whatever else touches it needs the map itself, which is the
# transpose of the rule.


def _linear_shape(*avals: Aval, out_avals: Sequence[Aval], **params: Any) -> list[Aval]:
    return [a for a in out_avals if not a.dtype.names]


def _forward_map(*args: Any, **params: Any) -> list[Any]:
    """Applies the linear map to tangents by transposing the backward rule."""
    program, captured = _forward_program([aval_of(a) for a in args], params)
    return eval_program(program, *captured, *args)


def _forward_program(avals: Sequence[Aval], params: dict[str, Any]) -> tuple[Program, list[Any]]:
    from covector.transforms.transpose import backward_pass

    call: VJPRule = params["call"]
    count = params["num_residuals"]
    out_avals = [a for a in params["out_avals"] if not a.dtype.names]

    def pullback(*own: Any) -> list[Any]:
        return _pull(own[:count], own[count:], params)

    def pushforward(*own: Any) -> list[Any]:
        rule, captured = trace_program(pullback, [*avals[:count], *out_avals], call.name)
        linear = [False] * (len(captured) + count) + [True] * len(out_avals)
        try:
            results = backward_pass(rule, linear, [*captured, *own[:count]], own[count:])
        except UnsupportedRuleError as error:
            raise UnsupportedRuleError(
                f"forward-mode differentiation of the custom_vjp function {call.name} needs its "
                f"backward rule to be linear in the cotangent, but it is not: {error}"
            ) from error
        return [instantiate(r) for r in results]

    return trace_program(pushforward, avals, call.name)


def _pull(residuals: Sequence[Any], cts: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    """Cotangents of the operands that have tangents, by the backward rule."""
    live = iter(cts)
    given = [Zero(a) if a.dtype.names else instantiate(next(live)) for a in params["out_avals"]]
    grads = params["call"].backward(residuals, given)
    return [instantiate(g) for g, n in zip(grads, params["nonzero"], strict=True) if n]


def _linear_transpose(
    ctx: Any, cts: Sequence[Any], *args: Any, num_residuals: int, **params: Any
) -> list[Any]:
    residuals = args[:num_residuals]
    if any(type(r) is Linear for r in residuals):
        raise UnsupportedRuleError(
            f"the custom_vjp function {params['call'].name} is not linear in its residuals"
        )
    grads = _pull(residuals, cts, params)
    return [None] * num_residuals + grads


def _linear_jvp(ctx: Any, primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
    from covector.transforms.jvp import jvp_flat

    outs, out_tangents = jvp_flat(lambda *a: _forward_map(*a, **params), primals, tangents)
    return outs, out_tangents


def _linear_batch(ctx: Any, args: Sequence[Any], dims: Sequence[int | None], **params: Any) -> Any:
    return batch_flat(lambda *a: _forward_map(*a, **params), ctx, args, dims)


def _linear_evaluate(*args: Any, **params: Any) -> list[Any]:
    from covector.core.array import as_array

    results = _forward_map(*[as_array(a) for a in args], **params)
    return [r._value for r in results]


def _linear_lower(b: Any, *tensors: Any, **params: Any) -> Any:
    avals = [Aval(t.shape, t.dtype) for t in tensors]
    program, captured = _forward_program(avals, params)
    assert not captured
    return b.inline(program, tensors)


custom_vjp_linear = Primitive(
    "custom_vjp_linear",
    shape=_linear_shape,
    evaluate=_linear_evaluate,
    jvp=_linear_jvp,
    transpose=_linear_transpose,
    batch=_linear_batch,
    lower=_linear_lower,
    lanes=unsupported("it is applied only where reverse mode has not transposed it"),
    direct=_forward_map,
    multiple_results=True,
)


# --- what users call --------------------------------------------------------------------------


class custom_vjp:  # noqa: N801  # JAX's name
    """A function whose vjp is given by a pair of functions.

    Args:
        fun: the function of pytrees of arrays.
        nondiff_argnums: positions of arguments that are not differentiated; `bwd` receives them
            first.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> @cv.custom_vjp
    ... def clip_gradient(x):
    ...     return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (cnp.clip(g, -1.0, 1.0),))
    >>> float(cv.grad(lambda x: 5.0 * clip_gradient(x))(2.0))
    1.0
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()) -> None:
        self.fun = fun
        self.__wrapped__ = fun
        self.__name__ = function_name(fun)
        self.__doc__ = fun.__doc__
        self._nondiff: tuple[int, ...] = (
            (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        )
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Sets the rule.

        Args:
            fwd: takes the arguments of the function, returns `(output, residuals)`.
            bwd: `(*nondiff, residuals, cotangent) -> tuple` with a cotangent for each
                differentiable argument; `None` stands for zeros.
        """
        self._fwd = fwd
        self._bwd = bwd

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._fwd is None or self._bwd is None:
            raise AttributeError(
                f"custom_vjp function {self.__name__} has no rule: set it with defvjp"
            )
        given = positional(self.fun, args, kwargs)
        fixed, dynamic = split_nondiff(given, self._nondiff)
        leaves, tree = pytree.flatten((dynamic, {}))
        check_leaves(f"{self.__name__}: arguments", dynamic)
        flat = FlatFunction(merge_nondiff(self.fun, fixed, len(given)), tree)
        pair = _FlatPair(self, fixed, tree, len(given), [aval_of(x) for x in leaves])
        key = key_of_rule(self, fixed, tree)
        rule = VJPRule(flat, pair.forward, pair.backward, self.__name__, key)
        outs = custom_vjp_call(*leaves, call=rule)
        return pytree.unflatten(flat.out_tree or pair.out_tree, outs)


class _FlatPair:
    """The forward and backward functions of one call, on flat values."""

    def __init__(
        self, owner: custom_vjp, fixed: dict[int, Any], tree: Any, count: int, avals: list[Aval]
    ) -> None:
        self.owner = owner
        self.fixed = fixed
        self.tree = tree
        self.count = count
        self.avals = avals
        self.out_tree: Any = None
        self.residual_tree: Any = None

    def forward(self, *flat: Any) -> Any:
        owner = self.owner
        assert owner._fwd is not None
        dynamic = pytree.unflatten(self.tree, flat)[0]
        result = merge_nondiff(owner._fwd, self.fixed, self.count)(*dynamic)
        pair = cast("tuple[Any, ...]", result)
        if not isinstance(result, tuple) or len(pair) != 2:
            raise TypeError(
                f"the forward rule of {owner.__name__} must return a pair (output, residuals), "
                f"got {type(pair).__name__}"
            )
        outs, self.out_tree = pytree.flatten(pair[0])
        residuals, self.residual_tree = pytree.flatten(pair[1])
        check_leaves(f"the residuals of {owner.__name__}", pair[1])
        return outs, residuals

    def backward(self, residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        owner = self.owner
        assert owner._bwd is not None
        nondiff = [self.fixed[i] for i in sorted(self.fixed)]
        cotangent = pytree.unflatten(self.out_tree, [_visible(ct) for ct in cts])
        residual = pytree.unflatten(self.residual_tree, residuals)
        result = owner._bwd(*nondiff, residual, cotangent)
        grads = cast("Sequence[Any]", result)
        example = pytree.unflatten(self.tree, self.avals)[0]
        several = isinstance(result, (tuple, list))
        if not several or len(grads) != len(example):
            found = len(grads) if several else type(grads).__name__
            raise TypeError(
                f"the backward rule of {owner.__name__} must return a tuple of {len(example)} "
                f"cotangents, one for each differentiable argument, got {found}"
            )
        flat: list[Any] = []
        for position, (grad, aval_tree) in enumerate(zip(grads, example, strict=True)):
            flat.extend(self._checked(position, grad, aval_tree))
        return flat

    def _checked(self, position: int, grad: Any, avals: Any) -> list[Any]:
        leaves, tree = pytree.flatten(avals)
        if grad is None:
            return [Zero(a.tangent()) for a in leaves]
        given, given_tree = pytree.flatten(grad, is_leaf=lambda x: x is None)
        name = f"the backward rule of {self.owner.__name__}: cotangent {position}"
        if len(given) != len(leaves):
            raise TypeError(f"{name} must have the structure {tree}, got {given_tree}")
        return [self._leaf(name, g, a) for g, a in zip(given, leaves, strict=True)]

    def _leaf(self, name: str, grad: Any, aval: Aval) -> Any:
        expected = aval.tangent()
        if grad is None or expected.dtype.names:
            return Zero(expected)
        found = aval_of(grad)
        if not same_type(found, expected):
            raise TypeError(f"{name}: an argument {aval} needs a cotangent {expected}, got {found}")
        return grad


def _visible(ct: Any) -> Any:
    """What a backward rule sees: zeros as arrays, float0 for outputs without a derivative."""
    if type(ct) is Zero:
        return np.zeros(ct.aval.shape, ct.aval.dtype) if ct.aval.dtype.names else zeros(ct.aval)
    return ct
