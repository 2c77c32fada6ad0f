"""When a chunk of lanes may leave a loop: once nothing that its lanes compute can change any more.

A batched `while` goes on until all lanes are done, and lanes that are done keep their values by
selects: on the loop's own predicate, or on a *mask*, a flag of each lane that the loop carries. A
mask serves if it can never be set again, and if whatever lane it is set for is not done either:
then a chunk whose lanes are all done has no mask set, and stays as it is. This is proved from the
programs, by induction over iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from covector.compiler.passes.constants import Value, folded, value_of
from covector.core.program import Atom, Equation, Literal, Program, Variable, param_key
from covector.ops.common import Inseparable
from covector.ops.nested import definitions, split

Key = Hashable
"""Equal for values that are equal, lane by lane."""

TRUE: Key = ("value", "|b1", b"\x01")


def check_lanes_stop(
    equation: Equation,
    own: Atom,
    outside: Outside,
    per_lane: Callable[[Variable], bool],
    uniform: Sequence[bool],
) -> None:
    """Checks that a chunk may stop when its own lanes are done.

    Args:
        equation: a `while`.
        own: what is reduced over lanes to give its predicate.
        outside: the values outside the loop.
        per_lane: whether a variable of the loop's programs is one scalar for each lane.
        uniform: for each carry, whether it is the same for all lanes.

    Raises:
        Inseparable: saying which value changes.
    """
    loop = _Loop(equation, own, outside, per_lane)
    masks: set[int] = set()
    own_used = False
    changes: list[int] = []
    for k, (old, new) in enumerate(zip(loop.before, loop.body.outputs, strict=True)):
        if new is old:
            continue
        if uniform[k]:
            changes.append(k)
            continue
        mask = loop.mask_of(old, new)
        if mask is None:
            own_used = True
        elif mask != k:
            masks.add(mask)
    for mask in masks:
        loop.check_mask(mask)
    for k in changes:
        if own_used and k in loop.asked:
            raise Inseparable(
                f"whether a lane is done depends on {loop.title(k)}, the same for all lanes"
            )


class _Loop:
    """A `while` whose lanes stop one by one.

    Attributes:
        body: its program.
        before: the carries, as inputs of the body.
        asked: the carries that the predicate of a lane depends on.
    """

    def __init__(
        self,
        equation: Equation,
        own: Atom,
        outside: Outside,
        per_lane: Callable[[Variable], bool],
    ) -> None:
        params = equation.params
        self.body: Program = params["body_program"]
        self._condition: Program = params["cond_program"]
        self._own = own
        self._outside = outside
        self._per_lane = per_lane
        num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
        cond_consts, body_consts, self._start = split(equation.inputs, num_cond, num_body)
        self._cond_consts = [outside.key(a) for a in cond_consts]
        self._body_consts = [outside.key(a) for a in body_consts]
        self.before = self.body.inputs[num_body:]
        carries: list[Key] = [("carry", k) for k in range(len(self.before))]
        tests = Expressions(self._condition, [*self._cond_consts, *carries], per_lane)
        self._predicate = tests.key(own)
        # Where a condition on what all share ends the loop, it does so for all lanes at once.
        asked = [a for a in tests.leaves(own) if a.aval.shape != ()]
        self.asked = {
            k
            for k, v in enumerate(self._condition.inputs[num_cond:])
            if any([tests.reaches(v, a) for a in asked])
        }
        self._values = Expressions(self.body, [*self._body_consts, *carries], per_lane)
        self._defined = definitions(self.body)

    def title(self, k: int) -> str:
        """What a carry is called in messages."""
        return f"the loop's value {k} ({self.before[k].aval})"

    def mask_of(self, old: Variable, new: Atom) -> int | None:
        """The number of the mask by which a carry is kept; `None` for the loop's own predicate.

        Raises:
            Inseparable: it is not kept.
        """
        k = self.before.index(old)
        if self._is_flag(k) and ("carry", k) in self._values.conjuncts(new):
            return k  # a mask itself
        last = self._defined.get(new) if type(new) is Variable else None
        if last is None or last.primitive.name != "select_n" or last.inputs[1] is not old:
            raise Inseparable(f"{self.title(k)} changes in lanes that are done")
        key = self._values.key(last.inputs[0])
        if key == self._predicate:
            return None
        for mask in range(len(self.before)):
            if key == ("carry", mask) and self._is_flag(mask):
                return mask
        raise Inseparable(f"{self.title(k)} changes by another predicate than the loop ends by")

    def _is_flag(self, k: int) -> bool:
        variable = self.before[k]
        return variable.aval.dtype == bool and self._per_lane(variable)

    def check_mask(self, mask: int) -> None:
        """Checks that a mask stays unset, and is only set for lanes that are not done.

        Raises:
            Inseparable: it could not be shown.
        """
        new = self.body.outputs[mask]
        first = self._values.conjuncts(new)
        if ("carry", mask) not in first:
            raise Inseparable(f"{self.title(mask)} may be set again in lanes that are done")
        # At the start: what the mask says holds for the predicate too.
        begun = self._outside.conjuncts(self._start[mask])
        self._check_implied([self._outside.key(a) for a in self._start], begun, mask)
        # After an iteration: likewise, given that the mask was and is set.
        carries: list[Key] = [("carry", k) for k in range(len(self.before))]
        given = Expressions(self.body, [*self._body_consts, *carries], self._per_lane, first)
        known = first | given.conjuncts(new)
        self._check_implied([given.key(a) for a in self.body.outputs], known, mask)

    def _check_implied(self, carries: Sequence[Key], known: Collection[Key], mask: int) -> None:
        test = Expressions(self._condition, [*self._cond_consts, *carries], self._per_lane)
        if not test.conjuncts(self._own) <= {*known, TRUE}:
            raise Inseparable(
                f"lanes are kept by {self.title(mask)}, of which is not known whether it is set "
                "for lanes that are done"
            )


class Expressions:
    """Values of a program as expressions of its inputs, as one lane sees them.

    Two programs compute the same for a lane where their expressions are equal.

    Args:
        program: any program.
        inputs: keys of its inputs.
        per_lane: whether a variable is one scalar for each lane: what spreads such a scalar over
            more axes is the same for the lane.
        true: keys of values known to be true.
    """

    def __init__(
        self,
        program: Program,
        inputs: Sequence[Key],
        per_lane: Callable[[Variable], bool],
        true: Collection[Key] = (),
    ) -> None:
        self._keys: dict[Variable, Key] = dict(zip(program.inputs, inputs, strict=True))
        self._defined = definitions(program)
        self._per_lane = per_lane
        self._true = true
        for equation in program.equations:
            self._add(equation)

    def _add(self, equation: Equation) -> None:
        operand = repeated(equation, self._per_lane)
        if operand is not None:
            self._keys[equation.outputs[0]] = self.key(operand)
            return
        operands = tuple([self.key(a) for a in equation.inputs])
        if equation.primitive.name == "select_n" and operands[0] in self._true:
            self._keys[equation.outputs[0]] = operands[2]
            return
        self._keys.update(_results(equation, operands))

    def key(self, atom: Atom) -> Key:
        """Equal for equal expressions."""
        return literal_key(atom) if isinstance(atom, Literal) else self._keys[atom]

    def leaves(self, atom: Atom) -> list[Atom]:
        """What all hold if a flag does."""
        return leaves(atom, self._defined, self._per_lane)

    def conjuncts(self, atom: Atom) -> set[Key]:
        """The keys of what all hold if a flag does."""
        return {self.key(leaf) for leaf in self.leaves(atom)}

    def reaches(self, variable: Variable, atom: Atom) -> bool:
        """Whether a value is computed from an input."""
        pending, seen = [atom], set[Variable]()
        while pending:
            found = pending.pop()
            if type(found) is not Variable or found in seen:
                continue
            if found is variable:
                return True
            seen.add(found)
            equation = self._defined.get(found)
            if equation is not None:
                pending.extend(equation.inputs)
        return False


class Outside:
    """Values outside a loop, by what they repeat.

    Args:
        defined: the equations of all variables around the loop.
    """

    def __init__(self, defined: Mapping[Variable, Equation]) -> None:
        self._defined = defined

    def key(self, atom: Atom) -> Key:
        """That of the value which an atom repeats."""
        while type(atom) is Variable:
            equation = self._defined.get(atom)
            operand = None if equation is None else repeated(equation, _never)
            if operand is None:
                return atom
            atom = operand
        assert isinstance(atom, Literal)
        return literal_key(atom)

    def conjuncts(self, atom: Atom) -> set[Key]:
        """What all hold if a flag does, each as what it is computed from."""

        def expanded(leaf: Atom) -> Key:
            equation = self._defined.get(leaf) if type(leaf) is Variable else None
            if equation is None:
                return self.key(leaf)
            operands = tuple([self.key(a) for a in equation.inputs])
            return _results(equation, operands)[equation.outputs[0]]

        return {expanded(leaf) for leaf in leaves(atom, self._defined, _never)}


def leaves(
    atom: Atom,
    defined: Mapping[Variable, Equation],
    per_lane: Callable[[Variable], bool],
) -> list[Atom]:
    """What all hold if a flag does: the operands of `and`, and of these likewise."""
    found: list[Atom] = []
    pending = [atom]
    while pending:
        leaf = pending.pop()
        equation = defined.get(leaf) if type(leaf) is Variable else None
        operand = None if equation is None else repeated(equation, per_lane)
        if operand is not None:
            pending.append(operand)
        elif equation is not None and equation.primitive.name == "and":
            pending.extend(equation.inputs)
        else:
            found.append(leaf)
    return found


def repeated(equation: Equation, per_lane: Callable[[Variable], bool]) -> Atom | None:
    """The operand that an equation repeats as it is, from the point of view of a lane."""
    name = equation.primitive.name
    operand = equation.inputs[0] if equation.inputs else None
    if operand is None:
        return None
    same = operand.aval.dtype == equation.outputs[0].aval.dtype
    if name in ("stop_gradient", "copy") or (name == "convert_element_type" and same):
        return operand
    if name != "broadcast_in_dim":
        return None
    scalar = operand.aval.shape == () or (type(operand) is Variable and per_lane(operand))
    return operand if scalar else None


def _never(variable: Variable) -> bool:
    return False


def _results(equation: Equation, operands: tuple[Key, ...]) -> dict[Variable, Key]:
    """Keys of the results of an equation; values where those of the operands are known."""
    values = [_value(key) for key in operands]
    value = folded(equation, values)
    if value is not None:
        return dict.fromkeys(equation.outputs, _value_key(value))
    own = (equation.primitive.name, param_key(equation.params), operands)
    return {v: _Interned((own, number)) for number, v in enumerate(equation.outputs)}


def literal_key(literal: Literal) -> Key:
    """The key of a literal."""
    value = value_of(literal, {})
    return id(literal.value) if value is None else _value_key(value)


def _value_key(value: Value) -> Key:
    return ("value", value.dtype.str, value.tobytes())


def _value(key: Any) -> Value | None:
    match key:
        case ("value", str(dtype), bytes(data)):
            return np.frombuffer(data, np.dtype(dtype)).reshape(())
        case _:
            return None


class _Interned:
    """A key whose hash is computed once: expressions share their parts many times over."""

    __slots__ = ("_hash", "value")

    def __init__(self, value: Any) -> None:
        self.value = value
        self._hash = hash(value)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, _Interned) and self._hash == other._hash and self.value == other.value
        )
