"""Loops for what a Python loop wrote out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from covector.compiler import repeats
from covector.compiler.passes.base import Substitution, inside, substitute, with_inputs
from covector.compiler.repeats import (
    Carried,
    Fixed,
    Kept,
    Repeat,
    Repeats,
    Rows,
    Source,
    Varying,
    Within,
)
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    Variable,
)
from covector.ops.axes import rev, squeeze
from covector.ops.nested import stacked
from covector.ops.pieces import concatenate, stack
from covector.ops.scan import scan
from covector.ops.slices import slice_

_ATTEMPTS = 3
"""How often repeats are looked for again without those that are not worth a loop."""

Result = tuple[int, int]
"""An equation of an iteration, and one of its outputs."""


@dataclass(frozen=True)
class Rolling:
    """Makes loops of equations that are the same again and again, in nested programs too.

    ```
    b = sin a
    c = mul 0.1 b           f = scan[length=100, program={ a -> c:
    d = sin c         =>        b = sin a
    e = mul 0.1 d               c = mul 0.1 b }] a
    ...
    ```

    Steps that a Python loop has traced are compiled once then, as those of a `scan`. So are those
    of their gradient: what a loop forwards keeps for the one backwards is stacked. Programs of
    fewer than some hundred equations are left as they are.
    """

    name: str = "rolling"

    def run(self, program: Program) -> Program:
        """The program with loops."""
        equations = [inside(e, self.run) for e in program.equations]
        if any([a is not b for a, b in zip(equations, program.equations, strict=True)]):
            program = program.replace(equations=equations)
        if len(program.equations) <= repeats.SAVED:
            return program
        barred: list[tuple[int, int]] = []
        for _ in range(_ATTEMPTS):
            rolled = _Rolled(program, Repeats(program, barred))
            if not rolled.repeats:
                break
            costly = rolled.costly()
            if not costly:
                return rolled.rewritten()
            barred += [(repeat.start, repeat.stop) for repeat in costly]
        return program


class _Loop:
    """A repeat as a `scan`.

    Attributes:
        repeat: what it stands for.
        single: results read outside of loops, with the iterations whose they are.
        whole: results that a later loop walks through.
        reverse: whether it walks through stacks from their ends.
        stacks: the stacks of results.
    """

    def __init__(self, repeat: Repeat) -> None:
        self.repeat = repeat
        self.single: dict[Result, set[int]] = {}
        self.whole: dict[Result, None] = {}
        self.reverse = False
        self.stacks: dict[Result, Variable] = {}

    def carried(self) -> dict[Result, None]:
        """The results that an iteration hands to the next."""
        found: dict[Result, None] = {}
        for slots in self.repeat.sources:
            for source in slots:
                if type(source) is Carried:
                    found[source.equation, source.output] = None
        return found

    def taken_apart(self) -> list[tuple[Result, int]]:
        """Results, with their iterations, that are read from stacks one by one."""
        carried, last = self.carried(), self.repeat.count - 1
        return [
            (result, i)
            for result, iterations in self.single.items()
            for i in sorted(iterations)
            if i != last or result not in carried
        ]


class _Joined(NamedTuple):
    """Operands of a `stack` that are results of a loop, those from `start` up to `stop`.

    Attributes:
        iteration: whose result the first is.
        step: from one operand's iteration to the next one's.
    """

    loop: _Loop
    result: Result
    iteration: int
    step: int
    start: int
    stop: int


class _Rolled:
    def __init__(self, program: Program, found: Repeats) -> None:
        self.program = program
        self.places = found.places
        self.repeats = found.find()
        self.loops = {id(repeat): _Loop(repeat) for repeat in self.repeats}
        self._names: Substitution = {}
        self._out: list[Equation] = []
        self._owners: dict[int, _Loop] = {}
        self._stacks: dict[int, _Joined] = {}
        for repeat in self.repeats:
            owner = self.loops[id(repeat)]
            self._owners.update(dict.fromkeys(range(repeat.start, repeat.stop), owner))
        self._note_reads()

    def _note_reads(self) -> None:
        for n, equation in enumerate(self.program.equations):
            if n not in self._owners:
                joined = self._joined(equation)
                if joined is None:
                    self._note(equation.inputs)
                    continue
                self._stacks[n] = joined
                joined.loop.whole[joined.result] = None
                self._note([*equation.inputs[: joined.start], *equation.inputs[joined.stop :]])
        self._note(self.program.outputs)
        for repeat in self.repeats:
            for slots in repeat.sources:
                for source in slots:
                    self._note_source(source)

    def _note_source(self, source: Source) -> None:
        if type(source) is Fixed:
            self._note([source.atom])
        elif type(source) is Carried:
            self._note([source.first])
        elif type(source) is Rows:
            self._note(self.program.equations[source.place].inputs)
        elif type(source) is Kept:
            self.loops[id(source.repeat)].whole[source.equation, source.output] = None

    def _note(self, atoms: Iterable[Atom]) -> None:
        for atom in atoms:
            found = self._result(atom)
            if found is not None:
                loop, result, i = found
                loop.single.setdefault(result, set()).add(i)

    def _result(self, atom: Atom) -> tuple[_Loop, Result, int] | None:
        """The loop that computes an atom, which of its results that is, and the iteration."""
        place = self.places.get(atom) if type(atom) is Variable else None
        loop = None if place is None else self._owners.get(place[0])
        if place is None or loop is None:
            return None
        i, k = divmod(place[0] - loop.repeat.start, loop.repeat.period)
        return loop, (k, place[1]), i

    def _joined(self, equation: Equation) -> _Joined | None:
        """The longest part of what an equation stacks that a loop has stacked already."""
        if equation.primitive is not stack or equation.params["axis"] != 0:
            return None
        found = [self._result(atom) for atom in equation.inputs]
        longest, n = None, 0
        while n < len(found) - 1:
            start, here, after = n, found[n], found[n + 1]
            n += 1
            if here is None or after is None or after[:2] != here[:2]:
                continue
            step = after[2] - here[2]
            while n < len(found) and found[n] == (*here[:2], here[2] + step * (n - start)):
                n += 1
            if step != 0 and n - start > (longest.stop - longest.start if longest else 2):
                longest = _Joined(*here, step, start, n)
        return longest

    def costly(self) -> list[Repeat]:
        """Repeats whose loops would save little, as many results must be taken from stacks."""
        return [
            loop.repeat
            for loop in self.loops.values()
            if 4 * len(loop.taken_apart()) > (loop.repeat.count - 1) * loop.repeat.period
        ]

    # --- rewriting --------------------------------------------------------------------------------

    def rewritten(self) -> Program:
        """The program with loops in place of repeats."""
        n, equations = 0, self.program.equations
        while n < len(equations):
            loop = self._owners.get(n)
            if loop is not None:
                self._emit(loop)
                n = loop.repeat.stop
                continue
            equation = equations[n]
            if n in self._stacks:
                self._join(equation, self._stacks[n])
                n += 1
                continue
            inputs = [substitute(a, self._names) for a in equation.inputs]
            self._out.append(with_inputs(equation, inputs))
            n += 1
        outputs = [substitute(a, self._names) for a in self.program.outputs]
        return self.program.replace(equations=self._out, outputs=outputs)

    def _emit(self, loop: _Loop) -> None:
        repeat = loop.repeat
        loop.reverse = self._backwards(repeat)
        body = _Body(self, loop)
        ys = list(dict.fromkeys([*loop.whole, *[result for result, _ in loop.taken_apart()]]))
        carried = [body.results[k][o] for k, o, _ in body.carries]
        kept = [body.results[k][o] for k, o in ys]
        ends = [Variable(v.aval if v.aval.weak_type else v.aval.strong()) for v in carried]
        loop.stacks = {
            result: Variable(stacked(v.aval, repeat.count))
            for result, v in zip(ys, kept, strict=True)
        }
        program = Program(
            [*body.consts.values(), *body.carries.values(), *body.xs.values()],
            body.equations,
            [*carried, *kept],
        )
        params: dict[str, Any] = {
            "program": program,
            "num_consts": len(body.consts),
            "num_carry": len(carried),
            "length": repeat.count,
            "reverse": loop.reverse,
            "unroll": 1,
            "remat": None,
        }
        firsts = [substitute(first, self._names) for *_, first in body.carries]
        self._add(
            scan,
            [*body.consts, *firsts, *body.operands],
            [*ends, *loop.stacks.values()],
            params,
            body.equations[0],
        )
        carries = [(k, o) for k, o, _ in body.carries]
        self._name_results(loop, dict(zip(carries, ends, strict=True)))

    def _name_results(self, loop: _Loop, ends: dict[Result, Variable]) -> None:
        """Says what stands for each result that is read outside."""
        last = loop.repeat.count - 1
        for result in loop.single:
            if result in ends and last in loop.single[result]:
                self._names[self._original(loop, result, last)] = ends[result]
        for result, i in loop.taken_apart():
            stack = loop.stacks[result]
            at = last - i if loop.reverse else i
            row = self._sliced(stack, at, at + 1)
            original = self._original(loop, result, i)
            taken = Variable(original.aval)
            self._add(squeeze, [row], [taken], {"dimensions": (0,)})
            self._names[original] = taken

    def _original(self, loop: _Loop, result: Result, iteration: int) -> Variable:
        k, output = result
        return self.program.equations[loop.repeat.place(iteration, k)].outputs[output]

    def _backwards(self, repeat: Repeat) -> bool:
        """Whether more stacks are walked through backwards than forwards."""
        steps: dict[Source, int] = {}
        for source in [source for slots in repeat.sources for source in slots]:
            if type(source) is Rows:
                steps[source] = source.step
            elif type(source) is Kept:
                turned = self.loops[id(source.repeat)].reverse
                steps[source] = -source.step if turned else source.step
        backwards = sum([step < 0 for step in steps.values()])
        return backwards > len(steps) - backwards

    def walked(self, loop: _Loop, source: Kept | Rows) -> Atom:
        """What a loop walks through to read rows of an array, or the results of another loop."""
        count, first, step = loop.repeat.count, source.first, source.step
        if type(source) is Kept:
            other = self.loops[id(source.repeat)]
            result = source.equation, source.output
            return self._rows_of(other, result, (first, step, count), loop.reverse)
        (array,) = self.program.equations[cast("Rows", source).place].inputs
        return self._rows(self.name(array), first, step, count, loop.reverse)

    def _rows_of(
        self, loop: _Loop, result: Result, rows: tuple[int, int, int], reverse: bool
    ) -> Atom:
        """Results of iterations of a loop: the first, the step to the next, and how many."""
        first, step, count = rows
        if loop.reverse:
            first, step = loop.repeat.count - 1 - first, -step
        return self._rows(loop.stacks[result], first, step, count, reverse)

    def _rows(self, array: Atom, first: int, step: int, count: int, reverse: bool) -> Atom:
        start, last = sorted((first, first + step * (count - 1)))
        if count != array.aval.shape[0]:
            array = self._sliced(array, start, last + 1, abs(step))
        if (step < 0) == reverse:
            return array
        turned = Variable(array.aval)
        self._add(rev, [array], [turned], {"dimensions": (0,)})
        return turned

    def _join(self, equation: Equation, joined: _Joined) -> None:
        """Stacks what no loop has stacked, and puts it before and behind what one has."""
        rows = joined.iteration, joined.step, joined.stop - joined.start
        atoms = [self.name(atom) for atom in equation.inputs]
        parts: list[Atom] = []
        for rest in (atoms[: joined.start], atoms[joined.stop :]):
            if rest:
                parts.append(Variable(stacked(rest[0].aval, len(rest))))
                self._add(stack, rest, [cast("Variable", parts[-1])], equation.params, equation)
        part = self._rows_of(joined.loop, joined.result, rows, False)
        parts.insert(1 if joined.start else 0, part)
        self._add(concatenate, parts, equation.outputs, {"dimension": 0}, equation)

    def _sliced(self, stack: Atom, start: int, stop: int, stride: int = 1) -> Variable:
        shape = stack.aval.shape
        count = len(range(start, stop, stride))
        part = Variable(stack.aval.update(shape=(count, *shape[1:])))
        params: dict[str, Any] = {
            "start_indices": (start, *[0 for _ in shape[1:]]),
            "limit_indices": (stop, *shape[1:]),
            "strides": None if stride == 1 else (stride, *[1 for _ in shape[1:]]),
        }
        self._add(slice_, [stack], [part], params)
        return part

    def name(self, atom: Atom) -> Atom:
        """What stands for an atom."""
        return substitute(atom, self._names)

    def _add(
        self,
        primitive: Any,
        inputs: Sequence[Atom],
        outputs: Sequence[Variable],
        params: dict[str, Any],
        like: Equation | None = None,
    ) -> None:
        frame, scope = (None, "") if like is None else (like.frame, like.scope)
        self._out.append(Equation(primitive, inputs, outputs, params, frame=frame, scope=scope))


class _Body:
    """One iteration.

    Attributes:
        consts: what is the same in all iterations, with its variable in here.
        carries: equation, output and first value of each carry, likewise.
        xs: what is walked through, likewise.
        operands: the stacks for `xs`.
        equations: of the iteration.
        results: their outputs.
    """

    def __init__(self, rolled: _Rolled, loop: _Loop) -> None:
        self.rolled, self.loop = rolled, loop
        self.consts: dict[Variable, Variable] = {}
        self.carries: dict[Carried, Variable] = {}
        self.xs: dict[Any, Variable] = {}
        self.operands: list[Atom] = []
        self.equations: list[Equation] = []
        repeat = loop.repeat
        originals = rolled.program.equations[repeat.start : repeat.start + repeat.period]
        self.results = [[Variable(v.aval) for v in e.outputs] for e in originals]
        for original, slots, outputs in zip(originals, repeat.sources, self.results, strict=True):
            inputs = [
                self._operand(source, atom.aval)
                for source, atom in zip(slots, original.inputs, strict=True)
            ]
            self.equations.append(original.replace(inputs=inputs, outputs=outputs))

    def _operand(self, source: Source, aval: Aval) -> Atom:
        if type(source) is Within:
            return self.results[source.equation][source.output]
        if type(source) is Fixed:
            atom = self.rolled.name(source.atom)
            if type(atom) is Literal:
                return atom
            return self.consts.setdefault(atom, Variable(aval))
        if type(source) is Carried:
            return self.carries.setdefault(source, Variable(aval))
        if type(source) is Varying:
            key: Any = aval, b"".join([each.value._value.tobytes() for each in source.literals])
        else:
            key = source
        if key not in self.xs:
            self.xs[key] = Variable(aval)
            self.operands.append(self._walked(source, aval))
        return self.xs[key]

    def _walked(self, source: Source, aval: Aval) -> Atom:
        if type(source) is Kept or type(source) is Rows:
            return self.rolled.walked(self.loop, source)
        values = np.stack([each.value._value for each in cast("Varying", source).literals])
        if self.loop.reverse:
            values = values[::-1].copy()
        whole = stacked(aval, len(values))
        return Literal(Array.of(values, whole), whole)
