"""Reverse mode of `checkpoint`: what is saved, and a linear part that computes the rest.

The body is linearized first. From the residuals it wants, the walk goes back through what computes
them: it ends at operands and at values that the policy allows to save, and all equations it passes
are computed again by the linear part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covector.core import effects as fx
from covector.core.primitive import Linearized
from covector.core.program import Atom, Equation, Program, Variable, subprograms
from covector.ops.nested import definitions, prune, split, substitute
from covector.ops.policies import Nothing, Policy
from covector.ops.residuals import report_saved

_DEBUG = frozenset((fx.DEBUG, fx.ORDERED_DEBUG))

_TRANSPARENT = frozenset(
    ("jit", "checkpoint", "cond", "custom_jvp_call", "custom_vjp_call", "scan")
)
"""Primitives whose outputs are, one for one, the outputs of the programs they hold."""


class SplitCall:
    """A linearized call, its residuals settled.

    Attributes:
        known: `operands -> outputs, saved values`.
        linear: `kept operands, kept results, tangents -> output tangents`; it computes the other
            residuals from what is kept.
        operands: positions of the kept operands.
        results: positions of the kept results, outputs and saved values alike.
    """

    __slots__ = ("known", "linear", "operands", "results")

    def __init__(
        self, known: Program, linear: Program, operands: list[int], results: list[int]
    ) -> None:
        self.known = known
        self.linear = linear
        self.operands = operands
        self.results = results


def split_residuals(
    body: Linearized, num_outs: int, policy: Policy | None, *, barrier: bool
) -> SplitCall:
    """Decides for each residual whether it is saved or computed again.

    Args:
        body: the linearization; its residuals are what the derivative uses.
        num_outs: how many outputs of the known program are not residuals.
        policy: what may be saved; `None` for nothing but operands.
        barrier: keep the values computed again apart from the first ones in later passes.
    """
    known = _without_calls(body.known)
    outs, residuals = split(known.outputs, num_outs)
    walk = _Walk(known, policy or Nothing())
    walk.follow([a for a in residuals if type(a) is Variable])
    again = [e for e in known.equations if id(e) in walk.again]

    variables, tangents = split(body.linear.inputs, body.num_residuals)
    renamed = substitute(body.linear, dict(zip(variables, residuals, strict=True)))
    linear = prune(renamed.replace(equations=[*again, *renamed.equations]))
    # Of what is computed again not all is read, and so not all operands are.
    read = {a for e in linear.equations for a in e.inputs if type(a) is Variable}
    read.update([a for a in linear.outputs if type(a) is Variable])
    operands = [k for k, v in enumerate(known.inputs) if v in walk.operands and v in read]
    saved = [v for v in walk.saved if v in read]
    results = [*outs, *[v for v in saved if v not in outs]]
    first = {v: k for k, v in reversed(list(enumerate(results))) if type(v) is Variable}
    kept = [known.inputs[k] for k in operands] + saved
    report_saved("checkpoint", known, kept, again=again)
    linear = linear.replace(inputs=[*kept, *tangents])
    if barrier and again:
        linear = behind_barriers(linear, len(kept))
    return SplitCall(
        prune(known.replace(outputs=results)), linear, operands, [first[v] for v in saved]
    )


class _Walk:
    """From residuals back to what is kept.

    Attributes:
        operands: inputs of the known program that are kept.
        saved: values computed in it that are kept, in order of discovery.
        again: ids of the equations that are computed again.
    """

    def __init__(self, known: Program, policy: Policy) -> None:
        self._policy = policy
        self._defined = definitions(known)
        self.operands: set[Variable] = set()
        self.saved: dict[Variable, None] = {}
        self.again: set[int] = set()
        for equation in known.equations:
            # What shows values is shown them again when they are computed again.
            if _is_debug(equation) and not equation.outputs and not _allows(policy, equation):
                self._repeat(equation)

    def follow(self, variables: Sequence[Variable]) -> None:
        """Finds what is needed for some variables."""
        pending = list(variables)
        while pending:
            variable = pending.pop()
            equation = self._defined.get(variable)
            if equation is None:
                self.operands.add(variable)
            elif variable in self.saved or id(equation) in self.again:
                continue
            elif self._may_save(equation, equation.outputs.index(variable)):
                self.saved[variable] = None
            else:
                self.again.add(id(equation))
                pending.extend([a for a in equation.inputs if type(a) is Variable])

    def _repeat(self, equation: Equation) -> None:
        self.again.add(id(equation))
        self.follow([a for a in equation.inputs if type(a) is Variable])

    def _may_save(self, equation: Equation, position: int) -> bool:
        if equation.effects and not _is_debug(equation):
            return True  # it must not happen twice
        return any(_allows(self._policy, e) for e in origins(equation, position))


def _allows(policy: Policy, equation: Equation) -> bool:
    avals = [a.aval for a in equation.inputs]
    return bool(policy(equation.primitive, *avals, **equation.params))


def _is_debug(equation: Equation) -> bool:
    return bool(equation.effects) and equation.effects <= _DEBUG


def origins(equation: Equation, position: int) -> Iterator[Equation]:
    """The equations an output comes from, in the programs of control flow where they are.

    Args:
        equation: any equation.
        position: of one of its outputs.
    """
    found = False
    if equation.primitive.name in _TRANSPARENT:
        for program in subprograms(equation.params):
            atom = program.outputs[position]
            inner = definitions(program).get(atom) if type(atom) is Variable else None
            if inner is not None:
                found = True
                yield from origins(inner, inner.outputs.index(atom))  # type: ignore[arg-type]
    if not found:
        yield equation


def _without_calls(program: Program) -> Program:
    """The program with the equations of `jit` calls in place of the calls."""
    if not any(e.primitive.name == "jit" for e in program.equations):
        return program
    names: dict[Variable, Atom] = {}
    equations: list[Equation] = []

    def emit(equation: Equation, scope: dict[Variable, Atom], fresh: bool) -> None:
        inputs = [_follow(a, scope) for a in equation.inputs]
        if equation.primitive.name == "jit":
            nested: Program = equation.params["program"]
            local: dict[Variable, Atom] = dict(zip(nested.inputs, inputs, strict=True))
            for inner in nested.equations:
                emit(inner, local, fresh=True)
            results = [_follow(a, local) for a in nested.outputs]
            scope.update(zip(equation.outputs, results, strict=True))
            return
        outputs = equation.outputs
        if fresh:
            outputs = [Variable(v.aval) for v in outputs]
            scope.update(zip(equation.outputs, outputs, strict=True))
        equations.append(equation.replace(inputs=inputs, outputs=outputs))

    for equation in program.equations:
        emit(equation, names, fresh=False)
    outputs = [_follow(a, names) for a in program.outputs]
    return program.replace(equations=equations, outputs=outputs)


def _follow(atom: Atom, names: dict[Variable, Atom]) -> Atom:
    return names.get(atom, atom) if type(atom) is Variable else atom


def behind_barriers(program: Program, count: int) -> Program:
    """The program with a barrier behind each of its first inputs.

    Args:
        program: any program.
        count: how many inputs have one.
    """
    from covector.ops.remat import optimization_barrier

    behind: dict[Variable, Atom] = {v: Variable(v.aval) for v in program.inputs[:count]}
    # One for each: what is not used can be dropped without the others.
    barriers = [Equation(optimization_barrier, [v], [w], {}) for v, w in behind.items()]  # type: ignore[list-item]
    rest = substitute(program, behind)
    return rest.replace(equations=[*barriers, *rest.equations])
