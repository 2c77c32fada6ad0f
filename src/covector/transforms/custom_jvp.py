"""Functions with a derivative rule of the user's own, in forward mode."""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, cast

import numpy as np

from covector.core import interpret, pytree
from covector.core.avals import Aval, Zero, same_type
from covector.core.errors import compose
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.common import batch_at_front, instantiate, zeros
from covector.transforms.batching import batch_flat
from covector.transforms.closures import applying, refuse_tangents, with_operands_for
from covector.transforms.context import spread
from covector.transforms.flat import FlatFunction, check_leaves, function_name


class JVPRule:
    """A function of flat operands with its rule, as a parameter of `custom_jvp_call`.

    Args:
        function: flat operands to flat outputs.
        rule: `(primals, tangents) -> (outputs, output tangents)`, all flat; tangents may be
            symbolic zeros.
        name: for display.
        key: what two rules share that are the same for operands of the same types; `None` if that
            is not known.
    """

    __slots__ = ("function", "key", "name", "rule")

    def __init__(
        self, function: Callable[..., Any], rule: Callable[..., Any], name: str, key: Any = None
    ) -> None:
        self.function = function
        self.rule = rule
        self.name = name
        self.key = key

    def with_operands_for(self, captured: Sequence[Any]) -> JVPRule:
        """The same of a function that takes what it closes over first; tangents of it are zero."""
        count = len(captured)

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[list[Any], list[Any]]:
            tangents = tangents[count:]
            nonzero = [type(t) is not Zero for t in tangents]

            def both(*values: Any) -> list[Any]:
                own = values[: len(nonzero)]
                given = spread(values[len(nonzero) :], nonzero, [aval_of(x) for x in own])
                outs, out_tangents = self.rule(own, given)
                return [*outs, *[instantiate(t) for t in out_tangents]]

            operands = [*primals[count:], *[t for t in tangents if type(t) is not Zero]]
            found = with_operands_for(captured, primals[:count], both, operands, self.name)
            half = len(found) // 2
            return found[:half], found[half:]

        return JVPRule(self.function, rule, self.name, closing_key(self.key, count))

    def __repr__(self) -> str:
        return f"<rule of {self.name}>"


def _direct(*args: Any, call: JVPRule, program: Program | None = None, **params: Any) -> list[Any]:
    # An equation's operands begin with what the function closed over, which the program takes.
    if program is not None:
        return eval_program(program, *args)
    return list(applying("custom_jvp", call.name, call.function, *args))


def _prepare(args: Sequence[Any], params: dict[str, Any]) -> tuple[Sequence[Any], dict[str, Any]]:
    """Traces the function, so that the equation holds a program; captured values come first."""
    if "program" in params:
        return args, params
    call: JVPRule = params["call"]
    avals = [aval_of(a) for a in args]
    program, captured = trace_program(call.function, avals, call.name)
    if captured:
        call = call.with_operands_for(captured)
    return [*captured, *args], {"call": call, "program": program, "num_consts": len(captured)}


def _shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    return program.output_avals


def _evaluate(*args: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *args)


def _jvp(
    ctx: Any,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    call: JVPRule,
    program: Program | None = None,
    num_consts: int = 0,
) -> Any:
    moved = [type(t) is not Zero for t in tangents[:num_consts]]
    refuse_tangents("custom_jvp", call.name, primals, moved)
    outs, out_tangents = applying("custom_jvp", call.name, call.rule, primals, tangents)
    if program is None:
        return outs, out_tangents
    check_outputs(f"the jvp rule of {call.name}", outs, program)
    return outs, out_tangents


def check_outputs(what: str, outs: Sequence[Any], program: Program) -> None:
    """Raises unless what a rule gives as outputs is of the function's shapes and dtypes."""
    found, wanted = [aval_of(o) for o in outs], program.output_avals
    if len(found) != len(wanted) or not all(map(same_type, found, wanted)):
        raise TypeError(
            compose(
                f"{what} must return the output of the function, {_listed(wanted)}",
                found=_listed(found),
                line=here(),
            )
        )


def _listed(avals: Sequence[Aval]) -> str:
    return ", ".join(map(str, avals)) if avals else "nothing"


def _batch(
    ctx: Any,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    call: JVPRule,
    program: Program | None = None,
    num_consts: int = 0,
) -> Any:
    batched = [d is not None for d in dims]
    args = [
        batch_at_front(x, d, ctx.axis_size) if b else x
        for x, d, b in zip(args, dims, batched, strict=True)
    ]
    rule = _batched_rule(ctx, call, batched)
    if program is None:
        outs = custom_jvp_call(*args, call=rule)
    else:
        mapped, _ = ctx.batch(program, batched, True)
        outs = custom_jvp_call(*args, call=rule, program=mapped, num_consts=num_consts)
    return outs, [0] * len(outs)


def _batched_rule(ctx: Any, call: JVPRule, batched: Sequence[bool]) -> JVPRule:
    dims = [0 if b else None for b in batched]

    def function(*values: Any) -> list[Any]:
        outs, out_dims = batch_flat(call.function, ctx, values, dims)
        return [batch_at_front(o, d, ctx.axis_size) for o, d in zip(outs, out_dims, strict=True)]

    def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        count = len(primals)
        nonzero = [type(t) is not Zero for t in tangents]

        def both(*values: Any) -> list[Any]:
            live = iter(values[count:])
            own = values[:count]
            given = [
                next(live) if n else Zero(aval_of(x).tangent())
                for x, n in zip(own, nonzero, strict=True)
            ]
            outs, out_tangents = call.rule(own, given)
            return [*outs, *[instantiate(t) for t in out_tangents]]

        live_tangents = [t for t in tangents if type(t) is not Zero]
        live_dims = [d for d, n in zip(dims, nonzero, strict=True) if n]
        outs, out_dims = batch_flat(both, ctx, [*primals, *live_tangents], [*dims, *live_dims])
        placed = [batch_at_front(o, d, ctx.axis_size) for o, d in zip(outs, out_dims, strict=True)]
        half = len(placed) // 2
        return placed[:half], placed[half:]

    return JVPRule(function, rule, call.name, batched_key(ctx, call.key, batched))


def batched_key(ctx: Any, key: Any, batched: Sequence[bool]) -> Any:
    """The key of a rule that is mapped over a batch."""
    return None if key is None else ("batched", key, tuple(batched), ctx.axis_size)


def closing_key(key: Any, count: int) -> Any:
    """The key of a rule that is given `count` operands for what it closes over."""
    return None if key is None else ("closing", key, count)


def key_of_rule(owner: Any, fixed: dict[int, Any], tree: Any) -> Any:
    """The key of a rule.

    Args:
        owner: the function of the user's.
        fixed: its arguments that are not differentiated, by position.
        tree: structure of the others.
    """
    return (owner, tuple([(k, _identity(fixed[k])) for k in sorted(fixed)]), tree)


def _identity(value: Any) -> Any:
    try:
        hash(value)
    except TypeError:
        return ("object", id(value))  # the rule keeps it
    return (value.__class__, value)


def _transpose(ctx: Any, cts: Any, *args: Any, program: Program, **params: Any) -> Any:
    # Applied to a tangent it is linear, and its rule no longer matters.
    from covector.core.avals import Linear

    linear = [type(a) is Linear for a in args]
    transposed = ctx.transpose(program, linear)
    values = [a for a in args if type(a) is not Linear]
    results = iter(eval_program(transposed, *values, *[instantiate(ct) for ct in cts]))
    return [next(results) if is_linear else None for is_linear in linear]


def _lower(b: Any, *tensors: Any, program: Program, **params: Any) -> Any:
    return b.inline(program, tensors)


custom_jvp_call = Primitive(
    "custom_jvp_call",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=_transpose,
    batch=_batch,
    lower=_lower,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    prepare=_prepare,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call"}),
)


class SymbolicZero:
    """A tangent or cotangent known to be zero, as rules with `symbolic_zeros=True` see it.

    Attributes:
        aval: its shape and dtype.
    """

    __slots__ = ("aval",)

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    @property
    def shape(self) -> Any:
        return self.aval.shape

    @property
    def ndim(self) -> int:
        return len(self.aval.shape)

    @property
    def dtype(self) -> Any:
        return self.aval.dtype

    def instantiate(self) -> Any:
        """An array of zeros; of dtype float0 for what has no derivative."""
        aval = self.aval
        return np.zeros(aval.shape, aval.dtype) if aval.dtype.names else zeros(aval)

    def __repr__(self) -> str:
        return f"SymbolicZero({self.aval})"


class custom_jvp:  # noqa: N801  # JAX's name
    """A function whose jvp is given by a rule.

    Args:
        fun: the function of pytrees of arrays.
        nondiff_argnums: positions of arguments that are not differentiated; the rule receives
            them first.
        nondiff_argnames: names of further ones.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> @cv.custom_jvp
    ... def log1pexp(x):
    ...     return cnp.log(1 + cnp.exp(x))
    >>> @log1pexp.defjvp
    ... def log1pexp_jvp(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), (1 - 1 / (1 + cnp.exp(x))) * t
    >>> float(cv.grad(log1pexp)(100.0))
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
        self._jvp: Callable[..., Any] | None = None
        self._symbolic_zeros = False

    def defjvp(self, jvp: Callable[..., Any], symbolic_zeros: bool = False) -> Callable[..., Any]:
        """Sets the rule.

        Args:
            jvp: `(*nondiff, primals, tangents) -> (output, output_tangent)`.
            symbolic_zeros: zero tangents arrive as `SymbolicZero` instead of arrays of zeros.

        Returns:
            `jvp`, so that this works as a decorator.
        """
        self._jvp = jvp
        self._symbolic_zeros = symbolic_zeros
        return jvp

    def defjvps(self, *jvps: Callable[..., Any] | None) -> None:
        """Sets one rule for each argument, `(tangent, output, *primals) -> output_tangent`.

        `None` stands for a derivative of zero.
        """
        if self._nondiff:
            raise TypeError("defjvps does not go with nondiff_argnums: use defjvp")

        def jvp(primals: Any, tangents: Any) -> Any:
            out = self(*primals)
            parts = [r(t, out, *primals) for r, t in zip(jvps, tangents, strict=True) if r]
            total = pytree.map(_zero_tangent, out)
            for part in parts:
                total = pytree.map(operator.add, total, part)
            return out, total

        self.defjvp(jvp)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return functools.partial(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._jvp is None:
            raise AttributeError(
                f"custom_jvp function {self.__name__} has no rule: set it with defjvp"
            )
        given = positional(self.fun, args, kwargs)
        fixed, dynamic = split_nondiff(given, self._nondiff)
        leaves, tree = pytree.flatten((dynamic, {}))
        check_leaves(f"{self.__name__}: arguments", dynamic)
        flat = FlatFunction(merge_nondiff(self.fun, fixed, len(given)), tree)
        rule = self._flat_rule(fixed, tree, flat)
        key = key_of_rule(self, fixed, tree)
        outs = custom_jvp_call(*leaves, call=JVPRule(flat, rule, self.__name__, key))
        return pytree.unflatten(flat.out_tree, outs)

    def _flat_rule(self, fixed: dict[int, Any], tree: Any, flat: FlatFunction) -> Any:
        nondiff = [fixed[i] for i in sorted(fixed)]

        def rule(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
            assert self._jvp is not None
            given = [self._tangent(t) for t in tangents]
            primal_args = pytree.unflatten(tree, primals)[0]
            tangent_args = pytree.unflatten(tree, given)[0]
            pair = self._jvp(*nondiff, primal_args, tangent_args)
            if not is_pair(pair):
                raise TypeError(
                    f"the jvp rule of {self.__name__} must return a pair "
                    f"(output, output_tangent), got {type(pair).__name__}"
                )
            outs, out_tree = pytree.flatten(pair[0])
            out_tangents, tangent_tree = pytree.flatten(pair[1])
            self._check(outs, out_tree, out_tangents, tangent_tree, flat)
            flat.out_tree = out_tree  # the function itself may never be called
            return outs, [_as_tangent(o, t) for o, t in zip(outs, out_tangents, strict=True)]

        return rule

    def _tangent(self, tangent: Any) -> Any:
        if type(tangent) is not Zero:
            return tangent
        zero = SymbolicZero(tangent.aval)
        return zero if self._symbolic_zeros else zero.instantiate()

    def _check(
        self, outs: Any, out_tree: Any, tangents: Any, tangent_tree: Any, flat: FlatFunction
    ) -> None:
        name = f"the jvp rule of {self.__name__}"
        if out_tree != tangent_tree:
            raise TypeError(
                f"{name} must return an output and a tangent of one structure, got {out_tree} "
                f"and {tangent_tree}"
            )
        if flat.out_tree is not None and out_tree != flat.out_tree:
            raise TypeError(
                f"{name} returns an output of structure {out_tree}, "
                f"the function itself {flat.out_tree}"
            )
        check_leaves(f"the output of {name}", outs)
        for out, tangent in zip(outs, tangents, strict=True):
            expected = aval_of(out).tangent()
            if isinstance(tangent, SymbolicZero) or expected.dtype.names:
                continue
            check_leaves(f"the tangent of {name}", tangent)
            if not same_type(aval_of(tangent), expected):
                raise TypeError(
                    compose(
                        f"{name}: an output {aval_of(out)} needs a tangent {expected}",
                        found=str(aval_of(tangent)),
                        line=here(),
                    )
                )


def _zero_tangent(out: Any) -> Any:
    return instantiate(Zero(aval_of(out).tangent()))


def is_pair(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether a rule returned what it must: a tuple or list of two."""
    return isinstance(value, (tuple, list)) and len(cast("Sequence[Any]", value)) == 2


def _as_tangent(out: Any, tangent: Any) -> Any:
    expected = aval_of(out).tangent()
    if isinstance(tangent, SymbolicZero) or expected.dtype.names:
        return Zero(expected)
    return tangent


def positional(fun: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> list[Any]:
    """All arguments in positional order, defaults filled in."""
    if not kwargs:
        try:
            bound = inspect.signature(fun).bind(*args)
        except (TypeError, ValueError):
            return list(args)
    else:
        bound = inspect.signature(fun).bind(*args, **kwargs)
    bound.apply_defaults()
    if bound.kwargs:
        raise TypeError(
            f"{function_name(fun)}: keyword-only arguments {sorted(bound.kwargs)} cannot be passed "
            "to a function with a custom rule; make them positional"
        )
    return list(bound.args)


def nondiff_positions(
    fun: Callable[..., Any], argnums: int | Sequence[int], argnames: str | Sequence[str]
) -> tuple[int, ...]:
    """Positions of the arguments that are not differentiated.

    Raises:
        ValueError: if `fun` has no parameter of one of the names.
    """
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    names = (argnames,) if isinstance(argnames, str) else tuple(argnames)
    parameters = list(inspect.signature(fun).parameters) if names else []
    for name in names:
        if name not in parameters:
            raise ValueError(
                compose(
                    f"nondiff_argnames: {function_name(fun)} has no parameter {name!r}",
                    found=", ".join(parameters),
                    line=here(),
                )
            )
    return (*positions, *map(parameters.index, names))


def split_nondiff(
    args: Sequence[Any], nondiff: Sequence[int]
) -> tuple[dict[int, Any], tuple[Any, ...]]:
    """The arguments at `nondiff` by position, and the others."""
    numbers = {n % len(args) for n in nondiff}
    fixed = {n: args[n] for n in numbers}
    return fixed, tuple([a for i, a in enumerate(args) if i not in numbers])


def merge_nondiff(fun: Callable[..., Any], fixed: dict[int, Any], count: int) -> Callable[..., Any]:
    """`fun` as a function of the other arguments."""

    def merged(*dynamic: Any) -> Any:
        rest = iter(dynamic)
        return fun(*[fixed[i] if i in fixed else next(rest) for i in range(count)])

    merged.__name__ = function_name(fun)
    return merged
