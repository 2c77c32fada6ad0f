"""The program IR: typed equations in A-normal form, with nested programs for control flow.

A `Program` maps its inputs to its outputs through equations, each applying a primitive to atoms
(variables or literals). Programs are closed: an array captured while tracing is a `Literal`
whatever its shape, a traced value captured from outside becomes an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast, final

from covector.core import effects as fx
from covector.core import source
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.effects import Effects

if TYPE_CHECKING:
    from covector.core.primitive import Primitive


_type_of: Callable[[Any], Any] = type


@final
class Variable:
    """A value computed in a program, or one of its inputs. Compared by identity."""

    __slots__ = ("__weakref__", "aval")

    def __init__(self, aval: Aval) -> None:
        self.aval = aval

    def __repr__(self) -> str:
        return f"<{self.aval} {id(self) & 0xFFFFFF:x}>"


@final
class Literal:
    """A constant; `value` is an `Array` of any shape."""

    __slots__ = ("aval", "value")

    def __init__(self, value: Any, aval: Aval) -> None:
        self.value = value
        self.aval = aval

    def __repr__(self) -> str:
        return f"{self.value}:{self.aval}" if self.aval.shape == () else f"const:{self.aval}"


Atom = Variable | Literal


class Equation:
    """One application of a primitive.

    Attributes:
        primitive: what is applied.
        inputs: its operands, variables or literals.
        outputs: the variables it defines.
        params: its static parameters, nested programs among them.
        effects: what it does besides computing its outputs.
        frame: where the user asked for it (see `location`).
        scope: the name scopes it was traced in, joined by "/".
    """

    __slots__ = ("effects", "frame", "inputs", "outputs", "params", "primitive", "scope")

    def __init__(
        self,
        primitive: Primitive,
        inputs: Sequence[Atom],
        outputs: Sequence[Variable],
        params: dict[str, Any],
        effects: Effects = fx.NONE,
        frame: source.Frame | source.SourceLocation | None = None,
        scope: str = "",
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.outputs = outputs
        self.params = params
        self.effects = effects
        self.frame = frame
        self.scope = scope

    @property
    def location(self) -> source.SourceLocation | None:
        """The user's line."""
        return source.resolve(self.frame)

    @property
    def place(self) -> str:
        """The user's line and the name scopes, for messages; empty if neither is known."""
        line = "" if self.location is None else str(self.location)
        return f"{line} in {self.scope}".lstrip() if self.scope else line

    def replace(self, **changes: Any) -> Equation:
        """A copy with some attributes changed."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return Equation(**(fields | changes))

    def __repr__(self) -> str:
        outputs = ", ".join(map(repr, self.outputs))
        inputs = ", ".join(map(repr, self.inputs))
        return f"{outputs} = {self.primitive.name} {inputs}"


class Program:
    """A function from arrays to arrays as a list of equations.

    Attributes:
        inputs: the variables it is called with.
        equations: in an order in which each uses only what stands before it.
        outputs: what it returns; an output may be an input or a literal.
        name: the Python function it was traced from, for display.
    """

    __slots__ = ("__weakref__", "_effects", "_key", "equations", "inputs", "name", "outputs")

    def __init__(
        self,
        inputs: Sequence[Variable],
        equations: Sequence[Equation],
        outputs: Sequence[Atom],
        name: str = "",
    ) -> None:
        self.inputs = list(inputs)
        self.equations = list(equations)
        self.outputs = list(outputs)
        self.name = name
        self._effects: Effects | None = None
        self._key: tuple[Any, ...] | None = None

    @property
    def input_avals(self) -> list[Aval]:
        return [v.aval for v in self.inputs]

    @property
    def output_avals(self) -> list[Aval]:
        return [a.aval for a in self.outputs]

    @property
    def effects(self) -> Effects:
        """The union of the equations' effects."""
        if self._effects is None:
            found = [e.effects for e in self.equations if e.effects]
            self._effects = fx.NONE.union(*found) if found else fx.NONE
        return self._effects

    def replace(
        self,
        inputs: Sequence[Variable] | None = None,
        equations: Sequence[Equation] | None = None,
        outputs: Sequence[Atom] | None = None,
    ) -> Program:
        """A copy with some parts changed."""
        return Program(
            self.inputs if inputs is None else inputs,
            self.equations if equations is None else equations,
            self.outputs if outputs is None else outputs,
            self.name,
        )

    def key(self) -> tuple[Any, ...]:
        """A hashable value that two programs share when they are the same up to names.

        Scalar literals count by value, array literals by identity of their data.
        """
        if self._key is None:
            self._key = _structural_key(self)
        return self._key

    def as_text(self, source: bool = False) -> str:
        """The textual form, which `covector.core.parsing.parse` reads back.

        Args:
            source: end each equation with a comment that says where it was traced.
        """
        from covector.core.printing import print_program

        return print_program(self, source=source)

    def __str__(self) -> str:
        from covector.core.printing import print_program

        return print_program(self, arrays=False)


def symbols_of(program: Program) -> list[str]:
    """The symbols in the shapes of a program's inputs, as they come."""
    names: dict[str, None] = {}
    for aval in program.input_avals:
        for size in aval.shape:
            if type(size) is Dim:
                names.update(dict.fromkeys(sorted(size.symbols)))
    return list(names)


def subprograms(params: dict[str, Any]) -> Iterator[Program]:
    """The nested programs among an equation's parameters."""
    for value in params.values():
        kind = _type_of(value)
        if kind is Program:
            yield value
        elif kind is tuple and value and type(value[0]) is Program:
            yield from value


def map_subprograms(params: dict[str, Any], fn: Callable[[Program], Program]) -> dict[str, Any]:
    """The parameters with `fn` applied to each nested program."""
    mapped: dict[str, Any] = {}
    for name, value in params.items():
        kind = _type_of(value)
        if kind is Program:
            mapped[name] = fn(value)
        elif kind is tuple and value and type(value[0]) is Program:
            mapped[name] = tuple(fn(p) for p in value)
        else:
            mapped[name] = value
    return mapped


def all_equations(program: Program) -> Iterator[Equation]:
    """Every equation, those of nested programs included."""
    for equation in program.equations:
        yield equation
        for nested in subprograms(equation.params):
            yield from all_equations(nested)


def lines_of(program: Program) -> tuple[str, ...]:
    """The user's lines of every equation, those of nested programs included."""
    return tuple([str(equation.location) for equation in all_equations(program)])


def count_equations(program: Program) -> int:
    """How many equations there are, nested programs included."""
    return sum(1 for _ in all_equations(program))


def _structural_key(program: Program) -> tuple[Any, ...]:
    numbers: dict[Variable, int] = {}
    for variable in program.inputs:
        numbers[variable] = len(numbers)
    parts: list[Any] = [tuple(v.aval for v in program.inputs)]
    for equation in program.equations:
        atoms = tuple([_atom_key(a, numbers) for a in equation.inputs])
        for variable in equation.outputs:
            numbers[variable] = len(numbers)
        params = tuple([(k, param_key(v)) for k, v in equation.params.items()])
        parts.append((equation.primitive.name, atoms, params))
    parts.append(tuple([_atom_key(a, numbers) for a in program.outputs]))
    return tuple(parts)


def _atom_key(atom: Atom, numbers: dict[Variable, int]) -> Any:
    if type(atom) is Variable:
        return numbers[atom]
    if atom.aval.shape == ():
        return (atom.aval, atom.value._value.tobytes())
    return (atom.aval, _Identity(atom.value))


class _Identity:
    """Hashes and compares an object by identity, and keeps it alive."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def param_key(value: Any) -> Any:
    """A hashable stand-in for a parameter value."""
    kind = _type_of(value)
    if kind is Program:
        return value.key()
    if kind is tuple:
        return tuple([param_key(v) for v in value])
    if isinstance(value, dict):
        entries = cast("dict[Any, Any]", value)
        return tuple([(k, param_key(v)) for k, v in entries.items()])
    if isinstance(value, list):
        return ("list", tuple([param_key(v) for v in cast("list[Any]", value)]))
    try:
        hash(value)
    except TypeError:
        return _Identity(value)
    return (kind, value)
