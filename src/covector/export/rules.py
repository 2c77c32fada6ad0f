"""Derivative rules of users' functions as programs, so that they can be written and read.

A `custom_jvp` rule becomes a program from operands and tangents to results and tangents, a
`custom_vjp` rule two: operands to results and residuals, residuals and cotangents to cotangents.
Values without a derivative have neither tangents nor cotangents in these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, cast

from covector.core.avals import Aval, Zero, same_type
from covector.core.dims import Dim
from covector.core.errors import DeserializationError, ExportError
from covector.core.program import Equation, Program
from covector.core.shapes import Binding
from covector.core.trace import aval_of, eval_program, trace_program
from covector.export.values import JVP_RULE, VJP_RULE
from covector.ops.common import instantiate
from covector.transforms.custom_jvp import JVPRule
from covector.transforms.custom_vjp import VJPRule


class RulePrograms(NamedTuple):
    """A rule as it is written.

    Attributes:
        programs: of the rule.
        residuals: how many values go from the forward to the backward program.
    """

    programs: Sequence[Program]
    residuals: int


def at_sizes(program: Program, args: Sequence[Any]) -> Program:
    """A program with the sizes of its arguments in place of symbolic ones.

    Args:
        program: any.
        args: what it is to be applied to.

    Raises:
        ValueError: if their shapes are not those of the program.
    """
    from covector.compiler.sizes.generalise import with_numbers

    shapes = [aval_of(x).shape for x in args]
    if shapes == [a.shape for a in program.input_avals]:
        return program
    if any(isinstance(n, Dim) for shape in shapes for n in shape):
        wanted = ", ".join(map(str, program.input_avals))
        raise ValueError(
            f"an exported function takes arrays of known sizes, or of its own: {wanted}"
        )
    binding = Binding()
    for k, (aval, shape) in enumerate(zip(program.input_avals, shapes, strict=True)):
        binding.add(f"argument {k}", aval.shape, cast("tuple[int, ...]", shape))
    return with_numbers(program, binding.values())


def _apply(program: Program, *args: Any) -> list[Any]:
    return eval_program(at_sizes(program, args), *args)


def _differentiable(avals: Sequence[Aval]) -> list[bool]:
    return [not a.tangent().dtype.names for a in avals]


def _tangents(avals: Sequence[Aval]) -> list[Aval]:
    return [a.tangent() for a in avals if not a.tangent().dtype.names]


def _spread(values: Sequence[Any], avals: Sequence[Aval]) -> list[Any]:
    """Tangents of all avals from those of the differentiable ones."""
    live = iter(values)
    return [
        next(live) if d else Zero(a.tangent())
        for a, d in zip(avals, _differentiable(avals), strict=True)
    ]


def _live(tangents: Sequence[Any], avals: Sequence[Aval]) -> list[Any]:
    """Tangents of the differentiable avals, zeros as arrays."""
    pairs = zip(tangents, _differentiable(avals), strict=True)
    return [instantiate(t) for t, d in pairs if d]


def kind_of(value: Any) -> int | None:
    """The kind of a rule; `None` for other values."""
    if isinstance(value, JVPRule):
        return JVP_RULE
    return VJP_RULE if isinstance(value, VJPRule) else None


def own_avals(equation: Equation) -> tuple[Aval, ...]:
    """Of the operands that the rule of an equation takes, what the function closes over first."""
    return tuple([a.aval for a in equation.inputs])


def programs_of(rule: Any, avals: Sequence[Aval]) -> RulePrograms:
    """A rule as programs.

    Args:
        rule: of a function with a derivative of its own.
        avals: of the function's operands.

    Returns:
        What to write.

    Raises:
        ExportError: if the rule uses traced values from outside.
    """
    if isinstance(rule, JVPRule):
        return _jvp_programs(rule, avals)
    return _vjp_programs(rule, avals)


def _traced(fn: Callable[..., Any], avals: Sequence[Aval], name: str) -> Program:
    program, captured = trace_program(fn, avals, name)
    if captured:
        raise ExportError(f"the rule of {name} uses traced values from outside")
    return program


def _jvp_programs(rule: JVPRule, avals: Sequence[Aval]) -> RulePrograms:
    def both(*values: Any) -> list[Any]:
        primals, tangents = values[: len(avals)], values[len(avals) :]
        outs, out_tangents = rule.rule(primals, _spread(tangents, avals))
        return [*outs, *_live(out_tangents, [aval_of(o) for o in outs])]

    program = _traced(both, [*avals, *_tangents(avals)], rule.name)
    return RulePrograms([program], 0)


def _vjp_programs(rule: VJPRule, avals: Sequence[Aval]) -> RulePrograms:
    counts: list[int] = []

    def forward(*values: Any) -> list[Any]:
        outs, residuals = rule.forward([True] * len(values), *values)
        counts[:] = [len(outs)]
        return [*outs, *residuals]

    forwards = _traced(forward, avals, rule.name)
    outs, residuals = (
        forwards.output_avals[: counts[0]],
        forwards.output_avals[counts[0] :],
    )

    def backward(*values: Any) -> list[Any]:
        kept, cotangents = values[: len(residuals)], values[len(residuals) :]
        return _live(rule.backward(kept, _spread(cotangents, outs)), avals)

    backwards = _traced(backward, [*residuals, *_tangents(outs)], rule.name)
    return RulePrograms([forwards, backwards], len(residuals))


class RuleOfPrograms:
    """What loaded rules call.

    Attributes:
        programs: of the rule; they may hold calls with this rule, so they come later.
        residuals: how many values go from the forward to the backward program.
    """

    def __init__(self) -> None:
        self.programs: Sequence[Program] = ()
        self.residuals = 0

    def define(self, kind: int, programs: Sequence[Program], residuals: int) -> None:
        """Gives the rule its programs."""
        if self.programs or len(programs) != (1 if kind == JVP_RULE else 2):
            raise DeserializationError("damaged: a derivative rule of other programs")
        self.programs, self.residuals = programs, residuals

    def jvp(self, primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        avals = [aval_of(x) for x in primals]
        found = _apply(self.programs[0], *primals, *_live(tangents, avals))
        outs = self.programs[0].output_avals[: self._results()]
        return found[: len(outs)], _spread(found[len(outs) :], outs)

    def _results(self) -> int:
        """How many of the outputs of a jvp program are results: those with tangents come twice."""
        avals = self.programs[0].output_avals
        for count in range(len(avals) + 1):
            if count + sum(_differentiable(avals[:count])) == len(avals):
                return count
        raise DeserializationError("a derivative rule without tangents")

    def forward(self, nonzero: Sequence[bool], *primals: Any) -> Any:
        found = _apply(self.programs[0], *primals)
        count = len(found) - self.residuals
        return found[:count], found[count:]

    def backward(self, residuals: Sequence[Any], cotangents: Sequence[Any]) -> list[Any]:
        forwards, backwards = self.programs
        count = len(forwards.outputs) - self.residuals
        live = _live(cotangents, forwards.output_avals[:count])
        return _spread(_apply(backwards, *residuals, *live), forwards.input_avals)

    def check_jvp(self, avals: Sequence[Aval], outs: Sequence[Aval]) -> None:
        """Raises `DeserializationError` unless it is the rule of such a function."""
        (program,) = self.programs
        _same(program.input_avals, [*avals, *_tangents(avals)])
        _same(program.output_avals, [*outs, *_tangents(outs)])

    def check_vjp(self, avals: Sequence[Aval], outs: Sequence[Aval]) -> None:
        """Raises `DeserializationError` unless it is the rule of such a function."""
        forwards, backwards = self.programs
        count = len(forwards.outputs) - self.residuals
        _same(forwards.input_avals, avals)
        _same(forwards.output_avals[: max(count, 0)], outs)
        _same(backwards.input_avals, [*forwards.output_avals[count:], *_tangents(outs)])
        _same(backwards.output_avals, _tangents(avals))


def new_rule(kind: int) -> Any:
    """A rule whose programs and name come later, by `made.define`."""
    made = RuleOfPrograms()
    return _LoadedJVPRule(made) if kind == JVP_RULE else _LoadedVJPRule(made)


class _LoadedJVPRule(JVPRule):
    __slots__ = ("made",)

    def __init__(self, made: RuleOfPrograms) -> None:
        super().__init__(_lacking, made.jvp, "", (made,))
        self.made = made


class _LoadedVJPRule(VJPRule):
    __slots__ = ("made",)

    def __init__(self, made: RuleOfPrograms) -> None:
        super().__init__(_lacking, made.forward, made.backward, "", (made,))
        self.made = made


def _lacking(*args: Any) -> Any:
    raise TypeError("this function was loaded without the Python function that it was made of")


def _same(found: Sequence[Aval], wanted: Sequence[Aval]) -> None:
    if len(found) != len(wanted) or not all(map(same_type, found, wanted)):
        raise DeserializationError(
            f"a derivative rule of another function: {list(found)} instead of {list(wanted)}"
        )


_LOADED = {"custom_jvp_call": _LoadedJVPRule, "custom_vjp_call": _LoadedVJPRule}


def check(equation: Equation) -> None:
    """Checks a call of a function with a rule, of which the shape rule sees the program only.

    Args:
        equation: only operations with rules are looked at.

    Raises:
        DeserializationError: if its parts do not go together.
    """
    name, params = equation.primitive.name, equation.params
    if name not in _LOADED:
        return
    rule, program, count = params.get("call"), params.get("program"), params.get("num_consts", 0)
    if not isinstance(rule, _LOADED[name]) or not isinstance(program, Program):
        raise DeserializationError(f"{name} without a rule")
    if type(count) is not int or not 0 <= count <= len(equation.inputs):
        raise DeserializationError(f"{name} with {count!r} captured values")
    if not rule.made.programs:
        raise DeserializationError("damaged: a derivative rule that is not defined")
    _same(program.input_avals, [a.aval for a in equation.inputs])
    if name == "custom_jvp_call":
        rule.made.check_jvp(own_avals(equation), program.output_avals)
    else:
        rule.made.check_vjp(own_avals(equation), program.output_avals)
