"""Scalars of a general program: which of them belong to its sizes.

The mean over a batch is a sum divided by a literal, its size. Such literals are parameters of the
general program: their values are read at run time, from constants of the executable. Programs that
agree in everything but the values of scalars have one *skeleton*; where an executable of the
skeleton takes the scalars that differ as parameters, it serves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from covector.compiler.sizes.generalise import General
from covector.core import dtypes
from covector.core.array import Array
from covector.core.dims import Dim
from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    all_equations,
    map_subprograms,
)

ARITHMETIC = frozenset(
    ("add", "sub", "mul", "div", "rem", "max", "min", "clamp", "convert_element_type", "select_n")
) | frozenset(("broadcast_in_dim", "eq", "ne", "lt", "le", "gt", "ge", "dynamic_slice"))
"""Operations that take a scalar at run time as well as one they know. Others (powers, shifts) are
made for the number they are given."""

SCALING = frozenset(("mul", "div", "convert_element_type"))
"""Where a 1 may be one less than a size; elsewhere that is a plain 1."""


class Skeleton(NamedTuple):
    """A general program apart from the values of its scalars.

    Attributes:
        program: each place of a scalar has a literal of its own.
        places: the literals, in order, with the operation that uses each.
    """

    program: Program
    places: list[tuple[Literal, str]]

    @property
    def values(self) -> list[np.ndarray[Any, Any]]:
        """The scalars."""
        return [literal.value._value for literal, _ in self.places]

    def key(self) -> tuple[Any, ...]:
        """What programs of one skeleton share."""
        blank = np.zeros((), np.int8)
        return (_blanked(self.program, blank).key(), tuple([str(a.aval) for a, _ in self.places]))


def skeleton(program: Program) -> Skeleton:
    """Finds the scalars of a program."""
    places: list[tuple[Literal, str]] = []
    return Skeleton(_apart(program, places), places)


def _apart(program: Program, places: list[tuple[Literal, str]]) -> Program:
    """The program with one literal for each place, noted with its user."""
    equations: list[Equation] = []
    for equation in program.equations:
        name = equation.primitive.name
        atoms = [_own(atom, name, places) for atom in equation.inputs]
        params = map_subprograms(equation.params, lambda nested: _apart(nested, places))
        equations.append(equation.replace(inputs=atoms, params=params))
    outputs = [_own(atom, "", places) for atom in program.outputs]
    return program.replace(equations=equations, outputs=outputs)


def _own(atom: Atom, user: str, places: list[tuple[Literal, str]]) -> Atom:
    if not (isinstance(atom, Literal) and _is_number(atom)):
        return atom
    literal = Literal(Array.of(atom.value._value, atom.aval), atom.aval)
    places.append((literal, user))
    return literal


def _is_number(literal: Literal) -> bool:
    dtype = literal.aval.dtype
    return literal.aval.shape == () and not dtypes.is_key(dtype) and not dtypes.is_bool(dtype)


class _Blank:
    """The value of a literal whose value does not matter."""

    __slots__ = ("_value",)

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        self._value = value


def _blanked(program: Program, blank: np.ndarray[Any, Any]) -> Program:
    def hide(atom: Atom) -> Atom:
        if isinstance(atom, Literal) and _is_number(atom):
            return Literal(_Blank(blank), atom.aval)
        return atom

    equations = [
        e.replace(
            inputs=[hide(a) for a in e.inputs],
            params=map_subprograms(e.params, lambda nested: _blanked(nested, blank)),
        )
        for e in program.equations
    ]
    outputs = [hide(a) for a in program.outputs]
    return program.replace(equations=equations, outputs=outputs)


# --- which scalars depend on a size ---------------------------------------------------------------


def parameters(general: General, found: Skeleton) -> frozenset[int]:
    """The places whose scalar may come from a size: its value is that of a count, or 1/count.

    A scalar that only happens to have such a value is read at run time without need, which costs
    next to nothing. One that depends on a size in another way is found when a second size differs.
    """
    counts = {float(n) for n in _counts(general)}
    near = counts | {n - 1.0 for n in counts} | {n + 1.0 for n in counts}
    values = near | {1.0 / n for n in near if n} | {n**0.5 for n in near if n > 0}
    values |= {1.0 / v for v in values if v}
    values |= {-v for v in values}
    of_one = 1 in general.values.values()
    return frozenset(
        [
            k
            for k, (literal, user) in enumerate(found.places)
            if user in ARITHMETIC and _is_among(literal, values, with_one=of_one or user in SCALING)
        ]
    )


def _is_among(literal: Literal, values: Iterable[float], with_one: bool) -> bool:
    value = literal.value._value[()]
    if dtypes.is_complex(literal.aval.dtype):
        return False
    number = float(value)
    if number == 0.0 or (number == 1.0 and not with_one):
        return False
    if dtypes.is_integer(literal.aval.dtype):
        return number in values
    return any([float(np.asarray(v).astype(literal.aval.dtype)) == number for v in values])


def _counts(general: General) -> set[int]:
    """The sizes, and the numbers of elements along them and other axes."""
    counts = set(general.values.values())
    equations = all_equations(general.program)
    for shape in {a.aval.shape for e in equations for a in (*e.inputs, *e.outputs)}:
        size: Any = 1
        for extent in shape:
            size = size * extent
            if type(size) is Dim:
                counts.add(size.evaluate(general.values))
    return counts
