"""What is the same in each iteration of a loop, before the loop."""

from __future__ import annotations

from dataclasses import dataclass

from covector.compiler.passes.base import inside
from covector.core.program import Atom, Equation, Program, Variable, subprograms
from covector.ops.common import CHEAP
from covector.ops.nested import elements, nbytes, prune, substitute

MANY = 64
"""Elements from which on an array is worth a place in memory: below, values stay in registers,
which generated code computes before the loop by itself."""

LARGE = 1 << 24
"""Bytes from which on what is computed is not kept, unless it is smaller than its operands: it
would leave the caches."""

_LOOPS = {"scan": ("program", "num_consts"), "while": ("body_program", "body_nconsts")}
"""Programs of loops, and how many of their inputs are the same in all iterations."""


@dataclass(frozen=True)
class Invariants:
    """Moves costly equations that read only what a loop does not change in front of it.

    ```
    scan[{ a, x -> y: b = dot_general a a; y = dot_general b x }, num_consts=1] a x    =>
    b = dot_general a a
    scan[{ b, x -> y: y = dot_general b x }, num_consts=1] b x
    ```

    Products, reductions, factorisations, sorts, loops and the like move, and elementary functions
    of arrays, with what they need. Sums and reindexing stay: they fuse into what reads them.
    Nothing with effects moves, nor what a checkpoint computes again.
    """

    name: str = "invariants"

    def run(self, program: Program) -> Program:
        """The program with invariant equations before their loops."""
        equations: list[Equation] = []
        changed = False
        for equation in program.equations:
            after = inside(equation, self.run)
            if equation.primitive.name in _LOOPS:
                moved, after = _hoisted(after, *_LOOPS[equation.primitive.name])
                equations += moved
            changed |= after is not equation
            equations.append(after)
        return program.replace(equations=equations) if changed else program


def _hoisted(loop: Equation, key: str, count: str) -> tuple[list[Equation], Equation]:
    """The equations that can stand before a loop, and the loop without them."""
    body: Program = loop.params[key]
    consts: int = loop.params[count]
    if loop.params.get("length") in (0, 1):
        return [], loop
    first = loop.params["cond_nconsts"] if key == "body_program" else 0
    outer: dict[Variable, Atom] = dict(
        zip(body.inputs[:consts], loop.inputs[first : first + consts], strict=True)
    )
    runs = isinstance(loop.params.get("length"), int)
    invariant, costly = _invariant(body, set(outer), runs)
    if not costly:
        return [], loop
    moved = _copies(prune(body.replace(equations=invariant, outputs=costly)), outer)
    new = [Variable(v.aval) for v in costly]
    inner = substitute(_without(body, costly), dict(zip(costly, new, strict=True)))
    inner = prune(inner.replace(inputs=[*body.inputs[:consts], *new, *body.inputs[consts:]]))
    at = first + consts
    inputs = [*loop.inputs[:at], *[outer[v] for v in costly], *loop.inputs[at:]]
    params = {**loop.params, key: inner, count: consts + len(new)}
    return moved, loop.replace(inputs=inputs, params=params)


def _invariant(
    body: Program, known: set[Variable], runs: bool
) -> tuple[list[Equation], list[Variable]]:
    """The equations that read nothing but what is known, and the results worth keeping.

    Args:
        body: of a loop.
        known: its inputs that are the same in all iterations.
        runs: whether it runs at all. Elsewhere a `while` stays: it might not end where the loop
            around it is not entered.
    """
    known = set(known)
    found: list[Equation] = []
    for equation in body.equations:
        if equation.effects or equation.primitive.tags & {"barrier", "callback"}:
            continue
        if not runs and _may_not_end(equation):
            continue
        if all([a in known for a in equation.inputs if type(a) is Variable]):
            known.update(equation.outputs)
            found.append(equation)
    costly = [v for e in found if _is_worth_keeping(e) for v in e.outputs]
    moving = {id(e) for e in found}
    read = {
        a
        for atoms in [*[e.inputs for e in body.equations if id(e) not in moving], body.outputs]
        for a in atoms
        if type(a) is Variable
    }
    return found, _needed(found, costly, read)


def _may_not_end(equation: Equation) -> bool:
    """Whether an equation is, or holds, a loop that ends when it finds that it may."""
    inner = [e for p in subprograms(equation.params) for e in p.equations]
    return equation.primitive.name == "while" or any(map(_may_not_end, inner))


def _needed(found: list[Equation], costly: list[Variable], read: set[Variable]) -> list[Variable]:
    """The costly results that are read where they are not invariant, perhaps through others."""
    reached = set(read)
    keep = set(costly)
    for equation in reversed(found):
        if reached.isdisjoint(equation.outputs) or not keep.isdisjoint(equation.outputs):
            continue
        reached.update([a for a in equation.inputs if type(a) is Variable])
    return [v for v in costly if v in reached]


def _is_worth_keeping(equation: Equation) -> bool:
    """Whether an equation's results are better read from memory than computed again."""
    tags = equation.primitive.tags
    if tags & {"movement", CHEAP}:
        return False
    sizes = [elements(a.aval) for a in (*equation.inputs, *equation.outputs)]
    if tags & {"elementwise", "reduction", "contraction"} and max(sizes) < MANY:
        return False
    made = sum([nbytes(v.aval) for v in equation.outputs])
    read = sum([nbytes(a.aval) for a in equation.inputs])
    return made <= LARGE or ("elementwise" not in tags and made <= read)


def _without(body: Program, costly: list[Variable]) -> Program:
    """The body without the equations whose results come from outside."""
    given = set(costly)
    kept = [e for e in body.equations if given.isdisjoint(e.outputs)]
    return body.replace(equations=kept)


def _copies(program: Program, outer: dict[Variable, Atom]) -> list[Equation]:
    """Equations of a body with other variables, which are added to those given."""
    copies: list[Equation] = []
    for equation in program.equations:
        inputs = [outer[a] if type(a) is Variable else a for a in equation.inputs]
        outputs = [Variable(v.aval) for v in equation.outputs]
        outer.update(zip(equation.outputs, outputs, strict=True))
        copies.append(equation.replace(inputs=inputs, outputs=outputs))
    return copies
