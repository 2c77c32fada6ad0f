"""Rewriting by rules, until none applies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from covector.compiler.passes.base import Substitution, substitute, with_inputs
from covector.compiler.passes.cse import CommonSubexpressions
from covector.compiler.passes.matching import Bound, Pattern
from covector.compiler.passes.rules import Rule, Simplify
from covector.compiler.placed import Fired
from covector.core import dtypes, notes
from covector.core.errors import PassError, compose
from covector.core.program import (
    Atom,
    Equation,
    Program,
    Variable,
    count_equations,
    map_subprograms,
    subprograms,
)
from covector.ops.convert import convert_element_type
from covector.ops.nested import count_uses, prune


@dataclass(frozen=True)
class Rewrites:
    """Puts replacements in the place of patterns, in loops and branches too, until no rule applies.

    ```
    b = exp a
    c = reduce_sum[axes=(0,)] b    =>    c = ...the replacement's equations
    d = log c                            d = add c m
    ```

    A pattern is looked for as a graph of operations; then it is traced anew for the operands that
    were found, and has to be the same program. Nothing is computed twice: a match is left alone if
    something else reads a value in its middle. A rule leaves alone what lies entirely in one of its
    own replacements.

    Attributes:
        rules: tried in order at each equation, from the results of patterns on.
        simplify: what programs have gone through before this pass; patterns go through it too.
        limit: how many replacements there may be for each equation of a program.
    """

    rules: tuple[Rule, ...]
    simplify: Simplify
    limit: int = 100

    @property
    def name(self) -> str:
        """Of its rules, joined."""
        return "+".join([rule.name for rule in self.rules])

    @property
    def version(self) -> str:
        """Those of its rules; empty if one has none."""
        versions = [rule.version for rule in self.rules]
        return "+".join(versions) if all(versions) else ""

    def run(self, program: Program) -> Program:
        """The program without patterns.

        Raises:
            PassError: if a rule fails, or rules still apply after very many replacements.
        """
        run = _Run(self, self.limit * max(1, count_equations(program)))
        after = run.program(program)
        for rule in self.rules:
            notes.leave(Fired(rule.name, run.fired[rule.name]))
        if not run.fired.total():
            return program
        return CommonSubexpressions().run(after)


class _Match(NamedTuple):
    rule: Rule
    params: dict[str, Any]
    operands: list[Atom]
    equations: list[Equation]


class _Written(NamedTuple):
    """Which replacement an equation belongs to."""

    rule: Rule
    number: int


class _Run:
    """One run of the pass.

    Attributes:
        fired: how often each rule was applied.
    """

    def __init__(self, rewrites: Rewrites, limit: int) -> None:
        self.fired: Counter[str] = Counter()
        self._rewrites = rewrites
        self._limit = limit
        self._written: dict[Equation, _Written] = {}

    def program(self, program: Program) -> Program:
        """A program and those inside it without patterns."""
        while True:
            before = self.fired.total()
            after = _Sweep(self, program).run()
            if self.fired.total() == before:
                return after
            program = prune(after)

    def inside(self, equation: Equation) -> Equation:
        """An equation with its own programs rewritten."""
        if next(subprograms(equation.params), None) is None:
            return equation
        params = map_subprograms(equation.params, self.program)
        pairs = zip(subprograms(equation.params), subprograms(params), strict=True)
        if all([a is b for a, b in pairs]):
            return equation
        return self.copied(equation, equation.replace(params=params))

    def copied(self, equation: Equation, copy: Equation) -> Equation:
        """A copy of an equation, which belongs to the same replacement."""
        if equation in self._written:
            self._written[copy] = self._written[equation]
        return copy

    def find(
        self,
        equation: Equation,
        defined: dict[Variable, Equation],
        uses: dict[Variable, int],
    ) -> _Match | None:
        """The first rule that applies to an equation."""
        if equation.effects or len(equation.outputs) != 1:
            return None
        dtype = equation.outputs[0].aval.dtype
        if dtypes.is_key(dtype):
            return None
        for rule in self._rewrites.rules:
            for skeleton in rule.skeletons(dtype, self._rewrites.simplify):
                for rough in skeleton.matches(equation, defined):
                    match = self._exact(rule, skeleton, rough, equation, defined)
                    if match is not None and self._may(match, equation, uses):
                        return match
        return None

    def _exact(
        self,
        rule: Rule,
        skeleton: Pattern,
        rough: Bound,
        equation: Equation,
        defined: dict[Variable, Equation],
    ) -> _Match | None:
        """A match of the pattern for the very operands and parameters of a rough one."""
        params = _params(rule, skeleton.matched(rough, defined))
        avals = [rough[v].aval for v in skeleton.inputs]
        program = rule.pattern_for(avals, params, self._rewrites.simplify)
        if program is None:
            return None
        pattern = Pattern(program, exact=True, ordered=rule.ordered)
        for bound in pattern.matches(equation, defined):
            operands = [bound[v] for v in pattern.inputs]
            if rule.applies(operands, params):
                return _Match(rule, params, operands, pattern.matched(bound, defined))
        return None

    def _may(self, match: _Match, root: Equation, uses: dict[Variable, int]) -> bool:
        """Whether nothing else needs what the match computes, and it is not the rule's own work."""
        own = {self._written.get(e) for e in match.equations}
        if len(own) == 1:
            (written,) = own
            if written is not None and written.rule is match.rule:
                return False
        others = [e for e in match.equations if e is not root]
        inside = count_uses(Program([], match.equations, []))
        return all([uses.get(v, 0) == inside.get(v, 0) for e in others for v in e.outputs])

    def replaced(self, match: _Match, root: Equation) -> tuple[list[Equation], Atom]:
        """The equations of a replacement, and its result."""
        rule, rewrites = match.rule, self._rewrites
        self.fired[rule.name] += 1
        if self.fired.total() > self._limit:
            self._endless()
        aval = root.outputs[0].aval
        avals = [a.aval for a in match.operands]
        program = rule.replacement_for(avals, match.params, rewrites.simplify, aval)
        names: Substitution = dict(zip(program.inputs, match.operands, strict=True))
        written = _Written(rule, self.fired.total())
        equations: list[Equation] = []
        for equation in program.equations:
            fresh = [Variable(v.aval) for v in equation.outputs]
            inputs = [substitute(a, names) for a in equation.inputs]
            names.update(zip(equation.outputs, fresh, strict=True))
            place = {"frame": root.frame, "scope": root.scope}
            equations.append(equation.replace(inputs=inputs, outputs=fresh, **place))
            self._written[equations[-1]] = written
        return equations, substitute(program.outputs[0], names)

    def _endless(self) -> None:
        counts = ", ".join([f"{name} {n} times" for name, n in self.fired.most_common(3) if n])
        raise PassError(
            compose(
                f"rules come to an end: {self._rewrites.name} still applies",
                found=f"{counts}, more than {self._rewrites.limit} times an equation",
                fix="let no rule undo another one, or restrict one by `when`; a larger `limit` "
                "allows for more",
            )
        )


class _Sweep:
    """Goes through the equations of a program once, in order."""

    def __init__(self, run: _Run, program: Program) -> None:
        self._run = run
        self._program = program
        self._names: Substitution = {}
        self._out: list[Equation] = []
        self._defined: dict[Variable, Equation] = {}
        self._uses = count_uses(program)
        self._results = {a for a in program.outputs if type(a) is Variable}
        self._changed = False

    def run(self) -> Program:
        for equation in self._program.equations:
            pending = [equation]
            while pending:
                pending.extend(reversed(self._visit(pending.pop())))
        if not self._changed:
            return self._program
        outputs = [substitute(a, self._names) for a in self._program.outputs]
        return self._program.replace(equations=self._out, outputs=outputs)

    def _visit(self, equation: Equation) -> list[Equation]:
        """Takes an equation over; or gives what is to be taken over in its place."""
        run, names = self._run, self._names
        if names:
            inputs = [substitute(a, names) for a in equation.inputs]
            if any([a is not b for a, b in zip(inputs, equation.inputs, strict=True)]):
                equation = run.copied(equation, with_inputs(equation, inputs))
        inner = run.inside(equation)
        self._changed |= inner is not equation
        equation = inner
        self._define(equation)
        match = run.find(equation, self._defined, self._uses)
        if match is None:
            self._out.append(equation)
            return []
        self._changed = True
        equations, result = run.replaced(match, equation)
        self._count(equations)
        self._stand_for(equation.outputs[0], result, equations, equation)
        return equations

    def _define(self, equation: Equation) -> None:
        self._defined.update(dict.fromkeys(equation.outputs, equation))

    def _count(self, equations: Sequence[Equation]) -> None:
        for equation in equations:
            for atom in equation.inputs:
                if type(atom) is Variable:
                    self._uses[atom] = self._uses.get(atom, 0) + 1

    def _stand_for(
        self, variable: Variable, result: Atom, equations: list[Equation], root: Equation
    ) -> None:
        """Lets a replacement's result stand for that of the pattern."""
        if result.aval.weak_type != variable.aval.weak_type and variable in self._results:
            aval = variable.aval
            params = {"new_dtype": aval.dtype, "weak_type": aval.weak_type}
            kept = Variable(aval)
            equations.append(
                root.replace(
                    primitive=convert_element_type, inputs=[result], outputs=[kept], params=params
                )
            )
            result = kept
        self._names[variable] = result
        if type(result) is Variable:
            uses = self._uses.get(result, 0) + self._uses.get(variable, 0)
            self._uses[result] = uses


def _params(rule: Rule, equations: Sequence[Equation]) -> dict[str, Any]:
    """The static parameters of a pattern: those of that name that its operations have."""
    found = dict(rule.defaults)
    for equation in equations:
        found.update({k: v for k, v in equation.params.items() if k in rule.defaults})
    return found
