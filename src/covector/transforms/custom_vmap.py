"""Functions with a batching rule of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from covector.core import dtypes, interpret, pytree
from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.effects import Effects
from covector.core.errors import compose
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.common import batch_at_front, front, instantiate
from covector.ops.shape import squeeze
from covector.ops.slices import slice_in_dim
from covector.transforms.closures import with_operands_for
from covector.transforms.custom_jvp import is_pair, positional
from covector.transforms.flat import FlatFunction, check_leaves, function_name
from covector.transforms.jvp import jvp_flat

_Batched = tuple[list[Any], list[bool]]


class VmapRule:
    """A batching rule, as a parameter of `custom_vmap_call`.

    Rules with equal keys are equal, so that a function traced again gives an equal program.

    Args:
        apply: `(ctx, in_batched, operands) -> (outputs, out_batched)`, all flat; what is batched
            has its batch axis first.
        key: says what the rule is, hashable.
        name: for display.
    """

    __slots__ = ("apply", "key", "name")

    def __init__(self, apply: Callable[..., _Batched], key: Any, name: str) -> None:
        self.apply = apply
        self.key = key
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VmapRule) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return f"<batching rule of {self.name}>"


def _direct(*args: Any, program: Program, **params: Any) -> list[Any]:
    return eval_program(program, *args)


def _shape(*avals: Aval, program: Program, **params: Any) -> list[Aval]:
    wanted = program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"custom_vmap: the program takes {wanted}, got {list(avals)}")
    return program.output_avals


def _effects(*, program: Program, **params: Any) -> Effects:
    return program.effects


def _evaluate(*args: Any, program: Program, **params: Any) -> list[Any]:
    return interpret.run(program, *args)


def _batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    program: Program,
    rule: VmapRule,
) -> tuple[list[Any], list[int | None]]:
    in_batched = [d is not None for d in dims]
    operands = front(args, dims)
    if any(in_batched):
        outs, out_batched = rule.apply(ctx, in_batched, operands)
    else:  # only a collective over this axis inside of the function
        outs, out_batched = _by_function(ctx, program, in_batched, operands)
    return outs, [0 if b else None for b in out_batched]


def _by_function(
    ctx: BatchContext, program: Program, in_batched: Sequence[bool], operands: Sequence[Any]
) -> _Batched:
    mapped, out_batched = ctx.batch(program, in_batched)
    return eval_program(mapped, *operands), out_batched


def _jvp(
    ctx: Context,
    primals: Sequence[Any],
    tangents: Sequence[Any],
    *,
    program: Program,
    rule: VmapRule,
) -> tuple[list[Any], list[Any]]:
    """Batched, it is the derivative of the rule."""
    nonzero = [type(t) is not Zero for t in tangents]
    wanted = [dtypes.is_inexact(a.dtype) for a in program.output_avals]
    both, _ = ctx.jvp(program, nonzero, wanted)
    given = [t for t in tangents if type(t) is not Zero]
    results = custom_vmap_call(
        *primals, *given, program=both, rule=_pushforward_rule(rule, nonzero, wanted)
    )
    outs, found = results[: len(wanted)], iter(results[len(wanted) :])
    out_tangents = [
        next(found) if w else Zero(aval_of(out).tangent())
        for out, w in zip(outs, wanted, strict=True)
    ]
    return outs, out_tangents


def _pushforward_rule(rule: VmapRule, nonzero: Sequence[bool], wanted: Sequence[bool]) -> VmapRule:
    count = len(nonzero)

    def apply(ctx: BatchContext, in_batched: Sequence[bool], operands: Sequence[Any]) -> _Batched:
        given = iter(zip(operands[count:], in_batched[count:], strict=True))
        primals: list[Any] = []
        tangents: list[Any] = []
        flags: list[bool] = []
        for x, batched, n in zip(operands, in_batched, nonzero, strict=False):
            t, t_batched = next(given) if n else (None, batched)
            # Primal and tangent have the batch axis both or not at all.
            either = batched or t_batched
            x = batch_at_front(x, None, ctx.axis_size) if either and not batched else x
            if t is None:
                t = Zero(aval_of(x).tangent())
            elif either and not t_batched:
                t = batch_at_front(t, None, ctx.axis_size)
            primals.append(x)
            tangents.append(t)
            flags.append(either)
        out_batched: list[bool] = []

        def batched_function(*own: Any) -> list[Any]:
            outs, found = rule.apply(ctx, flags, own)
            out_batched.extend(found)
            return outs

        outs, out_tangents = jvp_flat(batched_function, primals, tangents)
        kept = [instantiate(t) for t, w in zip(out_tangents, wanted, strict=True) if w]
        kept_batched = [b for b, w in zip(out_batched, wanted, strict=True) if w]
        if not any(in_batched[:count]) and ctx.axis_size != 0:
            # Only tangents have the axis (in a Jacobian): outputs are the same all along it.
            outs = [_first(o) if b else o for o, b in zip(outs, out_batched, strict=True)]
            out_batched = [False] * len(wanted)
        return [*outs, *kept], out_batched + kept_batched

    return VmapRule(apply, ("jvp", rule.key, tuple(nonzero), tuple(wanted)), rule.name)


def _first(x: Any) -> Any:
    return squeeze(slice_in_dim(x, 0, 1, 0), dimensions=(0,))


def _linearize(
    ctx: Context,
    primals: Sequence[Any],
    nonzero: Sequence[bool],
    *,
    program: Program,
    rule: VmapRule,
) -> tuple[list[Any], list[bool], Callable[..., list[Any]], list[Any]]:
    """Batched, the outputs are the rule's, and the derivative is that of the function itself.

    A rule has other intermediate values than the function, and reverse mode must know what it
    keeps before anything is batched.
    """
    body = ctx.linearize(program, nonzero)
    count = len(program.outputs)

    def apply(ctx: BatchContext, in_batched: Sequence[bool], operands: Sequence[Any]) -> _Batched:
        outs, out_batched = rule.apply(ctx, in_batched, operands)
        known, known_batched = _by_function(ctx, body.known, in_batched, operands)
        return [*outs, *known[count:]], [*out_batched, *known_batched[count:]]

    known_rule = VmapRule(apply, ("linearize", rule.key, tuple(nonzero)), rule.name)
    results = custom_vmap_call(*primals, program=body.known, rule=known_rule)

    def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
        return eval_program(body.linear, *residuals, *tangents)

    return results[:count], body.nonzero_out, linear, results[count:]


def _transpose(
    ctx: Context, cts: Sequence[Any], *args: Any, program: Program, rule: VmapRule
) -> list[Any]:
    linear = [type(a) is Linear for a in args]
    transposed = ctx.transpose(program, linear)
    values = [a for a in args if type(a) is not Linear]
    results = iter(eval_program(transposed, *values, *[instantiate(ct) for ct in cts]))
    return [next(results) if is_linear else None for is_linear in linear]


def _lower(b: Any, *tensors: Any, program: Program, **params: Any) -> Any:
    return b.inline(program, tensors)


custom_vmap_call = Primitive(
    "custom_vmap_call",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    linearize=_linearize,
    transpose=_transpose,
    batch=_batch,
    lower=_lower,
    lanes=unsupported("calls are inlined before lanes are looked for"),
    effects=_effects,
    direct=_direct,
    multiple_results=True,
    tags=frozenset({"call"}),
)


class custom_vmap:  # noqa: N801  # JAX's name
    """A function that is batched by a rule.

    Without `vmap` it is the function itself. Its derivatives are those of the function; where
    `vmap` meets a forward-mode derivative (`vmap(jvp(f))`), that of the rule.

    Args:
        fun: a function of pytrees of arrays.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> @cv.custom_vmap
        ... def total(x, y):
        ...     return x + y
        >>> @total.def_vmap
        ... def total_vmap(axis_size, in_batched, xs, ys):
        ...     print(axis_size, in_batched)
        ...     return xs + ys, True
        >>> cv.vmap(total, in_axes=(0, None))(cnp.arange(3), 10)
        3 [True, False]
        Array([10, 11, 12], dtype=int32)
    """

    def __init__(self, fun: Callable[..., Any]) -> None:
        if not callable(fun):
            raise TypeError(f"custom_vmap expects a function, got {type(fun).__name__}: {fun!r}")
        self.fun = fun
        self.vmap_rule: Callable[..., Any] | None = None
        self.__wrapped__ = fun
        self.__name__ = function_name(fun)
        self.__doc__ = fun.__doc__

    def def_vmap(self, vmap_rule: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the rule.

        Args:
            vmap_rule: `(axis_size, in_batched, *args) -> (output, out_batched)`. `in_batched` is
                a list with an entry for each argument: of its structure, with booleans that say
                which arrays have the batch axis, as their first one. `out_batched` says the same
                of the output.

        Returns:
            `vmap_rule`, so that this works as a decorator.
        """
        self.vmap_rule = vmap_rule
        return vmap_rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.vmap_rule is None:
            raise AttributeError(
                f"custom_vmap function {self.__name__} has no batching rule: set it with def_vmap"
            )
        given = tuple(positional(self.fun, args, kwargs))
        leaves, tree = pytree.flatten((given, {}))
        check_leaves(f"{self.__name__}: arguments", given)
        flat = FlatFunction(self.fun, tree)
        avals = [aval_of(x) for x in leaves]
        program, captured = trace_program(flat, avals, self.__name__)
        rule = self._flat_rule(captured, tree, flat.out_tree, program.output_avals)
        outs = custom_vmap_call(*captured, *leaves, program=program, rule=rule)
        return pytree.unflatten(flat.out_tree, outs)

    def _flat_rule(
        self, captured: Sequence[Any], tree: Any, out_tree: Any, avals: Sequence[Aval]
    ) -> VmapRule:
        num_consts = len(captured)
        vmap_rule = self.vmap_rule
        assert vmap_rule is not None

        def apply(
            ctx: BatchContext, in_batched: Sequence[bool], operands: Sequence[Any]
        ) -> _Batched:
            if any(in_batched[:num_consts]):
                raise ValueError(
                    compose(
                        f"custom_vmap function {self.__name__} closes over a value that is "
                        "batched; its rule cannot know",
                        fix="pass it as an argument",
                        line=here(),
                    )
                )
            flags = pytree.unflatten(tree, in_batched[num_consts:])[0]
            out_batched: list[bool] = []

            def batched_function(*own: Any) -> list[Any]:
                args = pytree.unflatten(tree, own)[0]
                result = vmap_rule(ctx.axis_size, list(flags), *args)
                outs, found = self._checked(result, out_tree, avals, ctx.axis_size)
                out_batched[:] = found
                return outs

            consts, own = operands[:num_consts], operands[num_consts:]
            if not captured:
                return batched_function(*own), out_batched
            outs = with_operands_for(captured, consts, batched_function, own, self.__name__)
            return outs, out_batched

        key = (vmap_rule, num_consts, tree, out_tree, tuple(avals))
        return VmapRule(apply, key, self.__name__)

    def _checked(
        self, result: Any, out_tree: Any, avals: Sequence[Aval], axis_size: Any
    ) -> _Batched:
        what = f"the batching rule of {self.__name__}"
        if not is_pair(result):
            raise TypeError(
                f"{what} must return a pair (output, out_batched), got {type(result).__name__}"
            )
        outs, tree = pytree.flatten(result[0])
        flags, flags_tree = pytree.flatten(result[1])
        if tree != flags_tree:
            raise ValueError(
                f"{what}: output and out_batched must have one structure, got {tree} and "
                f"{flags_tree}"
            )
        if tree != out_tree:
            raise ValueError(
                f"{what} returns an output of structure {tree}, the function itself {out_tree}"
            )
        check_leaves(f"the output of {what}", result[0])
        for out, flag, aval in zip(outs, flags, avals, strict=True):
            if not isinstance(flag, bool):
                raise TypeError(f"{what}: out_batched consists of booleans, got {flag!r:.60}")
            shape = (axis_size, *aval.shape) if flag else aval.shape
            if not same_type(aval_of(out), aval.update(shape=shape)):
                raise ValueError(
                    f"{what}: an output marked {'' if flag else 'not '}batched must be "
                    f"{aval.update(shape=shape)}, got {aval_of(out)}"
                )
        return outs, flags
