"""Derivatives of operations that users define: their rules applied, or what is derived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from covector.core.avals import Aval, Linear, Zero, same_type
from covector.core.errors import UnsupportedRuleError, compose
from covector.core.primitive import Rule
from covector.core.trace import aval_of, eval_program
from covector.extend.mapping import Mapped, of_one, over_batches
from covector.extend.running import Bind, Running
from covector.ops.call import linearize_call
from covector.ops.common import instantiate, zeros
from covector.ops.nested import chosen
from covector.transforms.context import spread
from covector.transforms.custom_vjp import VJPRule, custom_vjp_call


def _not_yet(operands: Sequence[Any], params: dict[str, Any]) -> list[Any]:
    raise AssertionError("an operation was applied while it was being defined")


class Derivatives:
    """The rules by which an operation is differentiated.

    Args:
        name: of the operation.
        running: how it runs.
        jvp: rules of the user's, as for `operation`.
        vjp: likewise.
        transpose: likewise.
        linear: likewise.

    Attributes:
        bind: applies the operation; set when it exists.
    """

    def __init__(
        self,
        name: str,
        running: Running,
        jvp: Rule | None,
        vjp: Rule | None,
        transpose: Rule | None,
        linear: bool,
    ) -> None:
        self.bind: Bind = _not_yet
        self.jvp_rule = jvp
        self.vjp_rule = vjp
        self._name = name
        self._running = running
        self._transpose_rule = transpose
        self._linear = linear

    # --- forward ---

    def jvp(self, ctx: Any, primals: Sequence[Any], tangents: Sequence[Any], **params: Any) -> Any:
        """The jvp rule of the primitive."""
        if self.jvp_rule is not None:
            outs, found = self._by_jvp(self.jvp_rule, primals, tangents, **params)
        elif self._linear:
            outs = self.bind(primals, params)
            found = self.bind([instantiate(t) for t in tangents], params)
        elif self.vjp_rule is not None:
            rule = self._as_vjp_rule(self.vjp_rule, primals, params)
            outs, found = custom_vjp_call.jvp(ctx, primals, tangents, call=rule)
        elif self._running.decomposition is not None:
            outs, found = self._of_program(ctx, primals, tangents, **params)
        else:
            raise UnsupportedRuleError(
                compose(
                    f"differentiation of `{self._name}` is not supported",
                    found="an operation without `jvp`, `vjp` or a decomposition",
                    fix="give extend.operation a jvp=(primals, tangents) -> (result, tangent), or "
                    "stop_gradient its operands",
                )
            )
        return (outs, found) if self._running.many else (outs[0], found[0])

    def linearize_rule(self) -> Rule | None:
        """The linearize rule of the primitive, where its jvp rule alone would not do."""
        if self.jvp_rule is not None or self._linear:
            return None
        if self.vjp_rule is not None:
            return self._linearize_by_vjp
        return None if self._running.decomposition is None else self._linearize_program

    def _of_program(
        self,
        ctx: Any,
        primals: Sequence[Any],
        tangents: Sequence[Any],
        *,
        mapped: Mapped = (),
        **params: Any,
    ) -> tuple[list[Any], list[Any]]:
        nonzero = [type(t) is not Zero for t in tangents]
        both, nonzero_out = ctx.jvp(self._program(primals, mapped, params), nonzero)
        results = eval_program(both, *primals, *chosen(tangents, nonzero))
        outs = results[: len(nonzero_out)]
        return outs, spread(results[len(outs) :], nonzero_out, [aval_of(o) for o in outs])

    def _linearize_program(
        self,
        ctx: Any,
        primals: Sequence[Any],
        nonzero: Sequence[bool],
        *,
        mapped: Mapped = (),
        **params: Any,
    ) -> Any:
        return linearize_call(ctx, primals, nonzero, program=self._program(primals, mapped, params))

    def _program(self, operands: Sequence[Any], mapped: Mapped, params: dict[str, Any]) -> Any:
        assert self._running.decomposition is not None
        avals = [_aval(x) for x in operands]
        return self._running.decomposition.program(avals, params, mapped)

    def _by_jvp(
        self,
        rule: Rule,
        primals: Sequence[Any],
        tangents: Sequence[Any],
        *,
        mapped: Mapped = (),
        **params: Any,
    ) -> tuple[list[Any], list[Any]]:
        count = len(primals)
        nonzero = [type(t) is not Zero for t in tangents]
        _, sizes = of_one([aval_of(x) for x in primals], mapped)
        varies: list[bool] = []

        def both(*values: Any) -> list[Any]:
            own, live = values[:count], iter(values[count:])
            given = [
                next(live) if n else _zero_tangent(x) for x, n in zip(own, nonzero, strict=True)
            ]
            outs, found = self._pair(rule(own, given, **params))
            varies[:] = [not aval_of(o).tangent().dtype.names for o in outs]
            return [*outs, *[t for t, v in zip(found, varies, strict=True) if v]]

        layers = tuple([(*flags, *chosen(flags, nonzero)) for flags in mapped])
        values = [*primals, *chosen(tangents, nonzero)]
        results = over_batches(both, values, layers, sizes)
        outs = results[: len(varies)]
        return outs, spread(results[len(outs) :], varies, [aval_of(o) for o in outs])

    def _pair(self, found: Any) -> tuple[list[Any], list[Any]]:
        """What a jvp rule returned: flat results and tangents of their avals."""
        if not isinstance(found, (tuple, list)) or len(cast("Sequence[Any]", found)) != 2:
            raise TypeError(
                compose(
                    f"the jvp rule of {self._name} returns a pair (result, tangent)",
                    found=f"a {type(cast('object', found)).__name__}",
                )
            )
        first, second = cast("Sequence[Any]", found)
        outs, tangents = _flat(first), _flat(second)
        if len(outs) != len(tangents):
            raise TypeError(
                compose(
                    f"the jvp rule of {self._name} returns a tangent for each result",
                    found=f"{len(outs)} results and {len(tangents)} tangents",
                )
            )
        avals = [aval_of(o).tangent() for o in outs]
        return outs, [self._fitting("jvp", t, a) for t, a in zip(tangents, avals, strict=True)]

    def _fitting(self, rule: str, value: Any, aval: Aval) -> Any:
        """A tangent or cotangent that a rule returned; `None` is zero."""
        if aval.dtype.names:
            return Zero(aval)
        if value is None or type(value) is Zero:
            return zeros(aval)
        found = aval_of(value)
        if not same_type(found, aval):
            raise TypeError(
                compose(
                    f"the {rule} rule of {self._name} returns what has the shape and dtype of the "
                    f"{'result' if rule == 'jvp' else 'operand'}, {aval}",
                    found=str(found),
                )
            )
        return value

    # --- backward ---

    def _linearize_by_vjp(
        self, ctx: Any, primals: Sequence[Any], nonzero: Sequence[bool], **params: Any
    ) -> Any:
        assert self.vjp_rule is not None
        assert custom_vjp_call.linearize is not None
        rule = self._as_vjp_rule(self.vjp_rule, primals, params)
        return custom_vjp_call.linearize(ctx, primals, nonzero, call=rule)

    def _as_vjp_rule(self, rule: Rule, primals: Sequence[Any], params: dict[str, Any]) -> VJPRule:
        mapped: Mapped = params.get("mapped", ())
        own = {k: v for k, v in params.items() if k != "mapped"}
        count = len(primals)
        avals = [aval_of(x) for x in primals]
        _, sizes = of_one(avals, mapped)
        wanted = [not a.tangent().dtype.names for a in avals]

        def function(*operands: Any) -> list[Any]:
            return self.bind(operands, params)

        def forward(nonzero: Sequence[bool], *operands: Any) -> tuple[list[Any], list[Any]]:
            outs = function(*operands)
            return outs, [*operands, *outs]

        def backward(residuals: Sequence[Any], cts: Sequence[Any]) -> list[Any]:
            live = [instantiate(ct) for ct in cts if not _is_void(ct)]
            void = [_is_void(ct) for ct in cts]

            def one(*values: Any) -> list[Any]:
                operands, results = values[:count], values[count : len(residuals)]
                rest = iter(values[len(residuals) :])
                given = [
                    _zero_tangent(r) if v else next(rest)
                    for r, v in zip(results, void, strict=True)
                ]
                found = self._cotangents(rule, given, results, operands, own)
                return chosen(found, wanted)

            flags = [
                (*layer, *[True] * (len(residuals) - count), *[True] * len(live))
                for layer in mapped
            ]
            kept = tuple([tuple(chosen(layer, wanted)) for layer in mapped])
            values = [*residuals, *live]
            results = iter(over_batches(one, values, tuple(flags), sizes, kept))
            return [
                next(results) if w else Zero(a.tangent())
                for w, a in zip(wanted, avals, strict=True)
            ]

        return VJPRule(function, forward, backward, self._name)

    def _cotangents(
        self,
        rule: Rule,
        cts: Sequence[Any],
        results: Sequence[Any],
        operands: Sequence[Any],
        params: dict[str, Any],
    ) -> list[Any]:
        avals = [aval_of(x) for x in operands]
        if self._running.is_single(avals, params):
            found = rule(cts[0], results[0], tuple(operands), **params)
        else:
            found = rule(tuple(cts), tuple(results), tuple(operands), **params)
        listed = _flat(found)
        if len(listed) != len(operands):
            raise TypeError(
                compose(
                    f"the vjp rule of {self._name} returns a cotangent for each operand",
                    found=f"{len(listed)} for {len(operands)} operands",
                    fix="return a tuple, with None for operands that the result does not vary with",
                )
            )
        return [self._fitting("vjp", c, a.tangent()) for c, a in zip(listed, avals, strict=True)]

    # --- transposition ---

    def transpose(
        self, ctx: Any, cts: Any, *operands: Any, mapped: Mapped = (), **params: Any
    ) -> list[Any]:
        """The transpose rule of the primitive."""
        given = [instantiate(ct) for ct in (cts if self._running.many else [cts])]
        linear = [type(x) is Linear for x in operands]
        if self._transpose_rule is not None:
            return self._by_transpose(self._transpose_rule, given, operands, mapped, params)
        if self._linear and self.vjp_rule is not None and all(linear):
            return self._by_transpose(self._vjp_of_linear, given, operands, mapped, params)
        if self._running.decomposition is None:
            raise UnsupportedRuleError(
                compose(
                    f"transposition (reverse-mode differentiation) of `{self._name}` is not "
                    "supported",
                    found="an operation without a `transpose` rule or a decomposition",
                    fix="give extend.operation transpose=(cotangent, *operands) -> cotangents, if "
                    "it is linear; else see that its jvp applies it to primals only",
                )
            )
        pullback = ctx.transpose(self._program(operands, mapped, params), linear)
        values = [x for x in operands if type(x) is not Linear]
        results = iter(eval_program(pullback, *values, *given))
        return [next(results) if flag else None for flag in linear]

    def _vjp_of_linear(self, cts: Any, *operands: Any, **params: Any) -> Any:
        """The transpose rule that a vjp rule is; results of a linear operation are not needed."""
        assert self.vjp_rule is not None
        return self.vjp_rule(cts, None, operands, **params)

    def _by_transpose(
        self,
        rule: Rule,
        cts: Sequence[Any],
        operands: Sequence[Any],
        mapped: Mapped,
        params: dict[str, Any],
    ) -> list[Any]:
        linear = [type(x) is Linear for x in operands]
        inner, sizes = of_one([_aval(x) for x in operands], mapped)
        single = self._running.is_single(inner, params)
        values = [x for x in operands if type(x) is not Linear]

        def one(*own: Any) -> list[Any]:
            rest = iter(own[len(cts) :])
            full = [
                Linear(a) if flag else next(rest) for a, flag in zip(inner, linear, strict=True)
            ]
            found = _flat(rule(own[0] if single else tuple(own[: len(cts)]), *full, **params))
            if len(found) != len(operands):
                raise TypeError(
                    compose(
                        f"the transpose rule of {self._name} returns one value for each operand",
                        found=f"{len(found)} for {len(operands)} operands",
                        fix="return a tuple, with None for operands that are not linear",
                    )
                )
            return [
                self._fitting("transpose", c, a)
                for c, a, flag in zip(found, inner, linear, strict=True)
                if flag
            ]

        flags = [
            (*[True] * len(cts), *[f for f, n in zip(layer, linear, strict=True) if not n])
            for layer in mapped
        ]
        kept = tuple([tuple(chosen(layer, linear)) for layer in mapped])
        results = iter(over_batches(one, [*cts, *values], tuple(flags), sizes, kept))
        return [next(results) if flag else None for flag in linear]


def _flat(values: Any) -> list[Any]:
    return list(cast("Sequence[Any]", values)) if isinstance(values, (tuple, list)) else [values]


def _aval(x: Any) -> Aval:
    """The aval of an operand of a transpose rule."""
    return x.aval if type(x) is Linear else aval_of(x)


def _is_void(ct: Any) -> bool:
    """Whether it is the cotangent of an integer result."""
    return type(ct) is Zero and bool(ct.aval.dtype.names)


def _zero_tangent(x: Any) -> Any:
    aval = aval_of(x).tangent()
    return np.zeros(aval.shape, aval.dtype) if aval.dtype.names else zeros(aval)
