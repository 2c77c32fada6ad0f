"""Functions with a derivative rule of the user's own, in reverse mode.

Forward mode works too where the backward rule is linear in its cotangent: it is transposed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import interpret, pytree
from covector.core.avals import Aval, Linear, Zero
from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.common import batch_at_front, instantiate
from covector.ops.nested import stacked
from covector.ops.reduce import reduce_sum
from covector.transforms.batching import batch_flat
from covector.transforms.closures import applying, refuse_tangents, with_operands_for
from covector.transforms.context import refuse_captured, spread
from covector.transforms.custom_jvp import (
    batched_key,
    check_outputs,
    closing_key,
    key_of_rule,
    merge_nondiff,
    nondiff_positions,
    positional,
    split_nondiff,
)
from covector.transforms.custom_vjp_pair import FlatPair
from covector.transforms.flat import FlatFunction, check_leaves, function_name


class VJPRule:
    """A function of flat operands with its rule, as a parameter of `custom_vjp_call`.

    Args:
        function: flat operands to flat outputs.
        forward: `(which operands are differentiated, *operands) -> (outputs, residuals)`, flat.
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

    def with_operands_for(self, captured: Sequence[Any]) -> VJPRule:
        """The same of a function that takes what it closes over first; it has no cotangents."""
        count, name = len(captured), self.name

        def forward(nonzero: Sequence[bool], *values: Any) -> tuple[list[Any], list[Any]]:
            consts = values[:count]
            num_outs: list[int] = []

            def both(*own: Any) -> list[Any]:
                outs, residuals = self.forward(nonzero[count:], *own)
                num_outs.append(len(outs))
                return [*outs, *residuals]

            found = with_operands_for(captured, consts, both, values[count:], name)
            return found[: num_outs[0]], [*consts, *found[num_outs[0] :]]

        def backward(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            consts, values = residuals[:count], residuals[count:]
            live = [ct for ct in cts if type(ct) is not Zero]
            zeros: list[Any] = []

            def pull(*own: Any) -> list[Any]:
                rest = iter(own[len(values) :])
                given = [ct if type(ct) is Zero else next(rest) for ct in cts]
                grads = self.backward(own[: len(values)], given)
                zeros[:] = [g if type(g) is Zero else None for g in grads]
                return [g for g in grads if type(g) is not Zero]

            found = iter(with_operands_for(captured, consts, pull, [*values, *live], name))
            grads = [next(found) if z is None else z for z in zeros]
            return [*[Zero(aval_of(c).tangent()) for c in consts], *grads]

        return VJPRule(self.function, forward, backward, name, closing_key(self.key, count))

    def __repr__(self) -> str:
        return f"<rule of {self.name}>"


# --- the call ---------------------------------------------------------------------------------


def _direct(*args: Any, call: VJPRule, program: Program | None = None, **params: Any) -> list[Any]:
    # An equation's operands begin with what the function closed over, which the program takes.
    if program is not None:
        return eval_program(program, *args)
    return list(applying("custom_vjp", call.name, call.function, *args))


def _prepare(args: Sequence[Any], params: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    if "program" in params:
        return args, params
    call: VJPRule = params["call"]
    program, captured = trace_program(call.function, [aval_of(a) for a in args], call.name)
    if captured:
        call = call.with_operands_for(captured)
    return [*captured, *args], {"call": call, "program": program, "num_consts": len(captured)}


def _shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    return program.output_avals


def _evaluate(*args: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *args)


def _linearize(
    ctx: Any,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    call: VJPRule,
    program: Program | None = None,
    num_consts: int = 0,
) -> Any:
    refuse_tangents("custom_vjp", call.name, primals, nonzero[:num_consts])
    outs, residuals = applying("custom_vjp", call.name, call.forward, nonzero, *primals)
    if program is not None:
        check_outputs(f"the forward rule of {call.name}", outs, program)
    out_avals = tuple([aval_of(o).tangent() for o in outs])
    nonzero_out = [not a.dtype.names for a in out_avals]

    def linear(values: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return custom_vjp_linear(
            *values,
            *tangents,
            call=call,
            num_residuals=len(values),
            nonzero=tuple(nonzero),
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
    rule = _batched_rule(ctx, call, batched)
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

    def forward(nonzero: Sequence[bool], *values: Any) -> Any:
        count = [0]

        def both(*own: Any) -> list[Any]:
            outs, residuals = call.forward(nonzero, *own)
            count[0] = len(outs)
            return [*outs, *residuals]

        results = over_batch(both, values, dims)
        return results[: count[0]], results[count[0] :]

    def backward(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
        # Integers have cotangents of dtype float0, which exist only as symbolic zeros.
        void = [type(ct) is Zero for ct in cts]
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

        operands = [*residuals, *[c for c, v in zip(cts, void, strict=True) if not v]]
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
    given = [Zero(a) if a.dtype.names else next(live) for a in params["out_avals"]]
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


def _linear_batch(
    ctx: Any,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    call: VJPRule,
    nonzero: Sequence[bool],
    out_avals: Sequence[Aval],
    num_residuals: int,
) -> Any:
    # It stays the map of a rule, which need not be linear as long as nobody pushes tangents on.
    operands = [batch_at_front(x, d, ctx.axis_size) for x, d in zip(args, dims, strict=True)]
    outs = custom_vjp_linear(
        *operands,
        call=_batched_rule(ctx, call, [True] * len(nonzero)),
        num_residuals=num_residuals,
        nonzero=nonzero,
        out_avals=tuple([stacked(a, ctx.axis_size) for a in out_avals]),
    )
    return outs, [0] * len(outs)


def _linear_evaluate(*args: Any, **params: Any) -> list[Any]:
    from covector.core.array import as_array

    results = _forward_map(*[as_array(a) for a in args], **params)
    return [r._value for r in results]


def _linear_lower(b: Any, *tensors: Any, **params: Any) -> Any:
    avals = [Aval(t.shape, t.dtype) for t in tensors]
    program, captured = _forward_program(avals, params)
    refuse_captured(program, captured)
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
        nondiff_argnames: names of further ones.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> @cv.custom_vjp
    ... def clip_gradient(x):
    ...     return x
    >>> clip_gradient.defvjp(lambda x: (x, None), lambda _, g: (cnp.clip(g, -1.0, 1.0),))
    >>> float(cv.grad(lambda x: 5.0 * clip_gradient(x))(2.0))
    1.0
    """

    def __init__(
        self,
        fun: Callable[..., Any],
        nondiff_argnums: int | Sequence[int] = (),
        nondiff_argnames: str | Sequence[str] = (),
    ) -> None:
        self.fun = fun
        self.__wrapped__ = fun
        self.__name__ = function_name(fun)
        self.__doc__ = fun.__doc__
        self._nondiff = nondiff_positions(fun, nondiff_argnums, nondiff_argnames)
        self._fwd: Callable[..., Any] | None = None
        self._bwd: Callable[..., Any] | None = None
        self._symbolic_zeros = False

    def defvjp(
        self, fwd: Callable[..., Any], bwd: Callable[..., Any], symbolic_zeros: bool = False
    ) -> None:
        """Sets the rule.

        Args:
            fwd: takes the arguments of the function, returns `(output, residuals)`.
            bwd: `(*nondiff, residuals, cotangent) -> tuple` with a cotangent for each
                differentiable argument; `None` stands for zeros.
            symbolic_zeros: `fwd` is given a `CustomVJPPrimal` for each array, which says whether
                it is differentiated, and `bwd` a `SymbolicZero` for each cotangent known to be
                zero, instead of an array of zeros.

        Example:
            >>> import covector as cv
            >>> @cv.custom_vjp
            ... def scaled(x, y):
            ...     return x * y
            >>> def fwd(x, y):
            ...     print(x.perturbed, y.perturbed)
            ...     return x.value * y.value, (x.value, y.value)
            >>> scaled.defvjp(fwd, lambda kept, g: (g * kept[1], g * kept[0]), symbolic_zeros=True)
            >>> float(cv.grad(scaled)(2.0, 3.0))
            True False
            3.0
        """
        self._fwd = fwd
        self._bwd = bwd
        self._symbolic_zeros = bool(symbolic_zeros)

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
        pair = FlatPair(self, fixed, flat, len(given), [aval_of(x) for x in leaves])
        key = key_of_rule(self, fixed, tree)
        rule = VJPRule(flat, pair.forward, pair.backward, self.__name__, key)
        outs = custom_vjp_call(*leaves, call=rule)
        return pytree.unflatten(flat.out_tree or pair.out_tree, outs)
