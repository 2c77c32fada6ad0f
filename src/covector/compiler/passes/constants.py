"""Propagation of constants, through loops and branches too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from covector.compiler.passes.base import Substitution, substitute, with_inputs
from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval, same_type
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.ops.nested import prune, split
from covector.ops.shape import broadcast_in_dim

Value = np.ndarray[Any, Any]
"""A scalar that all elements of an array are equal to."""

Values = dict[Variable, Value]

EXACT = frozenset(
    {"abs", "add", "add_any", "and", "clamp", "convert_element_type", "div", "eq", "ge", "gt"}
    | {"le", "lt", "max", "min", "mul", "ne", "neg", "nextafter", "not", "or", "select_n"}
    | {"sign", "sub", "xor"}
)
"""Elementwise operations that give the same bits wherever they are computed."""

FILLED = frozenset(
    {"broadcast_in_dim", "copy", "dynamic_slice", "reduce_and", "reduce_max", "reduce_min"}
    | {"reduce_or", "reshape", "rev", "slice", "split", "squeeze", "stop_gradient", "tile"}
    | {"transpose", "unstack"}
)
"""Operations whose results hold nothing but elements of the first operand, or their extremum."""

ROUNDS = 4
"""How often a loop's carries are guessed anew before none is taken for a constant."""


@dataclass(frozen=True)
class Constants:
    """Computes what is known beforehand, and drops what does nothing.

    ```
    a = lt 0.0 1.0
    b = while[{ c: any c }, { c, x -> c, y: y = select_n c 0.0 x }] a x     =>
    b = while[{ c: any True }, { c, x -> c, x }] True x
    ```

    What a loop carries is a constant if it begins as one and every iteration gives the same again:
    a flag that nothing ever sets, say, which would otherwise be a value that all lanes share.
    Branches with a known index are taken. Values are only computed where every machine gives the
    same bits.
    """

    name: str = "constants"

    def run(self, program: Program) -> Program:
        """The program with known values in place of their equations."""
        fold = _Fold()
        after, _ = fold.program(program, {})
        return after if fold.changed else program


class _Fold:
    """One walk through a program.

    Attributes:
        changed: whether anything was found.
    """

    def __init__(self) -> None:
        self.changed = False

    def program(self, program: Program, known: Values) -> tuple[Program, list[Value | None]]:
        """The program given values of some of its inputs, and those of its outputs."""
        values = dict(known)
        names: Substitution = {}
        equations: list[Equation] = []
        for variable, value in known.items():
            self._replace(variable, value, values, names, equations)
        kept = {a for a in program.outputs if type(a) is Variable}
        walk = _Walk(self, values, names, equations, kept)
        for equation in program.equations:
            walk.visit(equation)
        found = [value_of(substitute(a, names), values) for a in program.outputs]
        outputs = [substitute(a, names) for a in program.outputs]
        if not names and _unchanged(equations, program.equations):
            return program, found
        return prune(program.replace(equations=equations, outputs=outputs)), found

    def _replace(
        self,
        variable: Variable,
        value: Value,
        values: Values,
        names: Substitution,
        out: list[Equation],
    ) -> None:
        """Lets a literal, spread where need be, stand for an input."""
        aval = variable.aval
        literal = _literal(value, aval)
        if aval.shape == ():
            names[variable] = literal
            return
        spread = Variable(aval)
        out.append(_spread(literal, spread, None))
        names[variable] = spread
        values[spread] = value


class _Walk:
    """The equations of one program, rewritten one after the other."""

    def __init__(
        self,
        fold: _Fold,
        values: Values,
        names: Substitution,
        equations: list[Equation],
        kept: set[Variable],
    ) -> None:
        self._fold = fold
        self._values = values
        self._names = names
        self._out = equations
        self._kept = kept
        self._control: dict[str, Callable[[Equation], None]] = {
            "scan": self._scan,
            "while": self._while,
            "cond": self._cond,
        }

    def visit(self, equation: Equation) -> None:
        """Takes over an equation, or what stands for it."""
        names = self._names
        if names:
            inputs = [substitute(a, names) for a in equation.inputs]
            if any([a is not b for a, b in zip(inputs, equation.inputs, strict=True)]):
                equation = with_inputs(equation, inputs)
        control = self._control.get(equation.primitive.name)
        if control is not None:
            control(equation)
            return
        known = [self._value(a) for a in equation.inputs]
        value = folded(equation, known)
        if value is not None:
            self._define(equation, value)
            return
        same = _same(equation, known)
        if same is not None and self._may_stand(same, equation.outputs[0]):
            self._fold.changed = True
            names[equation.outputs[0]] = same
        else:
            self._out.append(equation)

    def _may_stand(self, atom: Atom, variable: Variable) -> bool:
        a, b = atom.aval, variable.aval
        return same_type(a, b) and (a.weak_type == b.weak_type or variable not in self._kept)

    def _value(self, atom: Atom) -> Value | None:
        return value_of(atom, self._values)

    def _define(self, equation: Equation, value: Value) -> None:
        for variable in equation.outputs:
            self._values[variable] = value
            literal = _literal(value, variable.aval)
            if variable.aval.shape == ():
                self._names[variable] = literal
                self._fold.changed = True
            elif equation.primitive is broadcast_in_dim and type(equation.inputs[0]) is Literal:
                self._out.append(equation)
            else:
                self._out.append(_spread(literal, variable, equation))
                self._fold.changed = True

    # --- loops and branches -----------------------------------------------------------------------

    def _learn(self, variables: Sequence[Variable], values: Sequence[Value | None]) -> None:
        """Notes values of results; those of arrays are used, not put in their place."""
        for variable, value in zip(variables, values, strict=True):
            if value is not None:
                self._values[variable] = value
                if variable.aval.shape == ():
                    self._names[variable] = _literal(value, variable.aval)
                    self._fold.changed = True

    def _emit(self, equation: Equation, **programs: Any) -> None:
        """An equation with other programs, or as it is if they are the same."""
        params = equation.params
        if any([params[name] is not program for name, program in programs.items()]):
            equation = equation.replace(params={**params, **programs})
        self._out.append(equation)

    def _scan(self, equation: Equation) -> None:
        params = equation.params
        num_consts, num_carry = params["num_consts"], params["num_carry"]
        values = [self._value(a) for a in equation.inputs]
        body, fixed, outs = self._loop(params["program"], values, num_consts, num_carry)
        self._emit(equation, program=body)
        self._learn(equation.outputs, [*fixed, *outs])

    def _while(self, equation: Equation) -> None:
        params = equation.params
        num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
        values = [self._value(a) for a in equation.inputs]
        cond_consts, inner = split(values, num_cond)
        body, fixed, _ = self._loop(params["body_program"], inner, num_body, len(inner) - num_body)
        condition = params["cond_program"]
        known = _known(condition.inputs, [*cond_consts, *fixed])
        test, _ = self._fold.program(condition, known)
        self._emit(equation, cond_program=test, body_program=body)
        self._learn(equation.outputs, fixed)

    def _loop(
        self, body: Program, values: Sequence[Value | None], num_consts: int, num_carry: int
    ) -> tuple[Program, list[Value | None], list[Value | None]]:
        """A loop's body, which of its carries are constants, and those of its other results."""
        consts, carry, xs = split(values, num_consts, num_carry)
        after, outs = self._fold.program(body, _known(body.inputs, values))
        for attempt in count():
            new: list[Value | None] = [
                before if before is not None and _equal(before, out) else None
                for before, out in zip(carry, outs[:num_carry], strict=True)
            ]
            if all([(a is None) == (b is None) for a, b in zip(carry, new, strict=True)]):
                break
            carry = new if attempt < ROUNDS else _nothing(num_carry)
            after, outs = self._fold.program(body, _known(body.inputs, [*consts, *carry, *xs]))
        if all([value is None for value in carry]):
            return after, carry, outs[num_carry:]
        self._fold.changed = True
        # What stays the same is passed on as it is: nobody has to make it anew.
        first = after.inputs[num_consts : num_consts + num_carry]
        outputs = [
            own if value is not None else out
            for own, value, out in zip(first, carry, after.outputs, strict=False)
        ]
        after = after.replace(outputs=[*outputs, *after.outputs[num_carry:]])
        return prune(after), carry, outs[num_carry:]

    def _cond(self, equation: Equation) -> None:
        branches: tuple[Program, ...] = equation.params["branches"]
        index, *values = [self._value(a) for a in equation.inputs]
        if index is not None:
            chosen = branches[min(max(int(index), 0), len(branches) - 1)]
            self._take(equation, chosen)
            return
        found: list[list[Value | None]] = []
        programs: list[Program] = []
        for branch in branches:
            program, outs = self._fold.program(branch, _known(branch.inputs, values))
            programs.append(program)
            found.append(outs)
        if any([a is not b for a, b in zip(programs, branches, strict=True)]):
            equation = equation.replace(params={**equation.params, "branches": tuple(programs)})
        self._out.append(equation)
        first, *others = found
        same = [
            value if value is not None and all([_equal(value, o[k]) for o in others]) else None
            for k, value in enumerate(first)
        ]
        self._learn(equation.outputs, same)

    def _take(self, equation: Equation, branch: Program) -> None:
        """Puts the equations of the only possible branch in place of the choice."""
        self._fold.changed = True
        local: Substitution = dict(zip(branch.inputs, equation.inputs[1:], strict=True))
        for inner in branch.equations:
            outputs = [Variable(v.aval) for v in inner.outputs]
            inputs = [substitute(a, local) for a in inner.inputs]
            local.update(zip(inner.outputs, outputs, strict=True))
            self.visit(inner.replace(inputs=inputs, outputs=outputs))
        for variable, atom in zip(equation.outputs, branch.outputs, strict=True):
            result = substitute(substitute(atom, local), self._names)
            value = self._value(result)
            if value is not None:
                self._values[variable] = value
            self._names[variable] = result


def value_of(atom: Atom, values: Values) -> Value | None:
    """What all elements of an atom are equal to, if it is known."""
    if isinstance(atom, Literal):
        return _scalar(atom)
    return values.get(atom)


def _scalar(literal: Literal) -> Value | None:
    if literal.aval.shape != () or not _foldable(literal.aval):
        return None
    return np.asarray(literal.value._value)


def _foldable(aval: Aval) -> bool:
    """Whether arithmetic on a dtype is the same everywhere: narrow floats may be kept wider."""
    dtype = aval.dtype
    if dtypes.is_key(dtype) or dtype.names or dtypes.is_complex(dtype):
        return False
    return not dtypes.is_floating(dtype) or dtype.itemsize >= 4


def folded(equation: Equation, known: Sequence[Value | None]) -> Value | None:
    """What all elements of all results of an equation are equal to, if that can be known."""
    name = equation.primitive.name
    if not known or not all([_foldable(v.aval) for v in equation.outputs]):
        return None
    if name in FILLED:
        empty = 0 in equation.inputs[0].aval.shape
        return None if empty and name.startswith("reduce") else known[0]
    if name not in EXACT or any([value is None for value in known]):
        return _absorbed(name, known)
    with np.errstate(all="ignore"):
        return np.asarray(equation.primitive.evaluate(*known, **equation.params))


def _absorbed(name: str, known: Sequence[Value | None]) -> Value | None:
    """The value of `and x False`, of `or x True`, and of a choice between equal things."""
    given = [value for value in known if value is not None]
    if name == "select_n" and len(given) == len(known) - 1 and known[0] is None:
        return given[0] if all([_equal(given[0], v) for v in given[1:]]) else None
    if name in ("and", "or") and given and given[0].dtype == np.bool_:
        return given[0] if bool(given[0]) == (name == "or") else None
    return None


def _same(equation: Equation, known: Sequence[Value | None]) -> Atom | None:
    """The operand that an equation only repeats."""
    inputs = equation.inputs
    match equation.primitive.name:
        case "stop_gradient" | "copy" | "convert_element_type":
            return inputs[0]
        case "reduce_or" | "reduce_and" | "reduce_max" | "reduce_min" | "reduce_sum":
            return inputs[0] if not equation.params["axes"] else None
        case "and" | "or":
            return _identity(equation.primitive.name, inputs, known)
        case "select_n":
            which = known[0]
            if which is not None:
                return inputs[1 + min(max(int(which), 0), len(inputs) - 2)]
            return inputs[1] if all([a is inputs[1] for a in inputs[2:]]) else None
        case _:
            return None


def _identity(name: str, inputs: Sequence[Atom], known: Sequence[Value | None]) -> Atom | None:
    """`x` for `and x True` and `or x False`."""
    for value, other in zip(known, reversed(inputs), strict=True):
        if value is not None and value.dtype == np.bool_ and bool(value) == (name == "and"):
            return other
    return None


def _nothing(size: int) -> list[Value | None]:
    return [None] * size


def _unchanged(after: Sequence[Equation], before: Sequence[Equation]) -> bool:
    return len(after) == len(before) and all([a is b for a, b in zip(after, before, strict=True)])


def _known(variables: Sequence[Variable], values: Sequence[Value | None]) -> Values:
    return {v: x for v, x in zip(variables, values, strict=True) if x is not None}


def _equal(a: Value, b: Value | None) -> bool:
    return b is not None and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def _literal(value: Value, aval: Aval) -> Literal:
    scalar = Aval((), aval.dtype, aval.weak_type)
    return Literal(Array.of(np.asarray(value, aval.dtype), scalar), scalar)


def _spread(literal: Literal, variable: Variable, like: Equation | None) -> Equation:
    params = {"shape": variable.aval.shape, "broadcast_dimensions": ()}
    frame, scope = (None, "") if like is None else (like.frame, like.scope)
    return Equation(broadcast_in_dim, [literal], [variable], params, frame=frame, scope=scope)
