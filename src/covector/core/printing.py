"""Programs as text.

The text reads like the definition of a function and `covector.core.parsing.parse` reads it back:

    program step(a: f32[3], b: ~f32[]) {
      c: f32[3] = sin a
      d: f32[3] = mul c 2.0:f32[]
    } -> d, b

Outputs that nothing uses print as `_`. Nested programs stand in the parameters of their equation.
What appears more than once, and arrays of more than `INLINE_ELEMENTS` elements, print as
references (`@step`, `@0`) to definitions after the line `where`.
"""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.numerals import format_number
from covector.core.params import param_fields
from covector.core.primitive import Primitive
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.source import SourceLocation

INLINE_ELEMENTS = 16
"""Larger arrays print in the `where` section, as their bytes in base64."""

_BYTES_PER_LINE = 72
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")
_PLAIN_WORD = re.compile(r"[^\s'\"#]+")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Words of the grammar that a variable could be called.
_RESERVED = frozenset(("inf", "nan", "where", "bool", "program"))


def print_program(
    program: Program,
    *,
    source: bool = False,
    arrays: bool = True,
    objects: list[Any] | None = None,
) -> str:
    """The text of a program.

    Args:
        program: what to print.
        source: end each equation with a comment that says where it was traced.
        arrays: print the data of large arrays; without them the text is for people only.
        objects: receives the parameters that are opaque Python objects, in the order of the
            numbers they print with (`<callable f #0>`).

    Example:
        >>> from covector.core.program import Program, Variable
        >>> x = Variable(Aval((3,), dtypes.float32))
        >>> print(print_program(Program([x], [], [x], "identity")))
        program identity(a: f32[3]) {
        } -> a
    """
    printer = Printer(source=source, arrays=arrays, objects=objects)
    printer.survey(program)
    return printer.whole(program)


def print_equation(program: Program, equation: Equation) -> str:
    """The text of one equation, its variables named as in the text of the whole program."""
    printer = Printer(source=False, arrays=False, objects=None)
    printer.survey(program)
    printer.whole(program)
    return "\n".join(printer.equation(equation, ""))


class Printer:
    """The state of printing: names given so far, and what the `where` section must hold."""

    def __init__(self, *, source: bool, arrays: bool, objects: list[Any] | None) -> None:
        self._source = source
        self._arrays = arrays
        self._objects: list[Any] = [] if objects is None else objects
        self._fresh = variable_names()
        self._names: dict[Variable, str] = {}
        self._scopes: dict[int, dict[Variable, str]] = {}
        self._avals: dict[Aval, str] = {}
        self._used: set[Variable] = set()
        self._seen: set[int] = set()
        self._repeated: set[int] = set()
        # Definitions still to be printed after `where`, by the identity of what they define.
        self._references: dict[int, str] = {}
        self._taken: dict[str, int] = {}
        self._definitions: list[tuple[str, Any]] = []

    def survey(self, program: Program) -> None:
        """Finds the variables that are used, and the programs and arrays that appear twice."""
        pending = [program]
        self._seen.add(id(program))
        while pending:
            current = pending.pop()
            self._note_atoms(current.outputs)
            for equation in current.equations:
                self._note_atoms(equation.inputs)
                for nested in programs_within(equation.params):
                    if self._is_new(nested):
                        pending.append(nested)

    def _note_atoms(self, atoms: Sequence[Atom]) -> None:
        for atom in atoms:
            if isinstance(atom, Variable):
                self._used.add(atom)
            elif atom.aval.shape != ():
                self._is_new(atom.value)

    def _is_new(self, value: Any) -> bool:
        if id(value) in self._seen:
            self._repeated.add(id(value))
            return False
        self._seen.add(id(value))
        return True

    # --- programs and equations ---

    def whole(self, program: Program) -> str:
        """The text with its `where` section."""
        lines = self.program(program, "")
        if self._definitions:
            lines.append("where")
        for name, value in self._pop_definitions():
            if isinstance(value, Program):
                first, *rest = self.program(value, "  ")
                lines += [f"  {name} = {first}", *rest]
            else:
                lines += self._array_definition(name, value)
        return "\n".join(lines)

    def _pop_definitions(self) -> Iterator[tuple[str, Any]]:
        # Definitions may add definitions.
        done = 0
        while done < len(self._definitions):
            yield self._definitions[done]
            done += 1

    def program(self, program: Program, indent: str) -> list[str]:
        """The lines of a program; the first is not indented."""
        # Programs are closed. Names are a program's own: another one may share its variables.
        enclosing, self._names = self._names, self._scopes.setdefault(id(program), {})
        inputs = ", ".join([f"{self._name(v)}: {self._aval(v.aval)}" for v in program.inputs])
        lines = [f"program {_program_name(program.name)}({inputs}) {{"]
        inner = indent + "  "
        for equation in program.equations:
            lines += self.equation(equation, inner)
        outputs = ", ".join([self._atom(a) for a in program.outputs])
        lines.append(f"{indent}}} -> {outputs}" if outputs else f"{indent}}} ->")
        # Those of the outermost program stay, for equations of it that are printed by themselves.
        self._names = enclosing or self._names
        return lines

    def equation(self, equation: Equation, indent: str) -> list[str]:
        """The lines of an equation, the first one indented."""
        # Names in the order in which they show: outputs first, then those of nested programs.
        head = f"{indent}{self._outputs(equation.outputs)}{equation.primitive.name}"
        lines = self._params(equation.params, indent) if equation.params else [""]
        lines[0] = head + lines[0]
        operands = "".join([f" {self._atom(a)}" for a in equation.inputs])
        effects = "".join(sorted([f" !{e.name}" for e in equation.effects]))
        comment = _source_comment(equation) if self._source else ""
        lines[-1] += f"{operands}{effects}{comment}"
        return lines

    def _outputs(self, outputs: Sequence[Variable]) -> str:
        if not outputs:
            return ""
        used = self._used
        names = [self._name(v) if v in used else "_" for v in outputs]
        avals = [self._aval(v.aval) for v in outputs]
        return ", ".join([f"{n}: {a}" for n, a in zip(names, avals, strict=True)]) + " = "

    def _name(self, variable: Variable) -> str:
        name = self._names.get(variable)
        if name is None:
            name = self._names[variable] = next(self._fresh)
        return name

    def _params(self, params: dict[str, Any], indent: str) -> list[str]:
        if not holds_program(params):
            return ["[" + ", ".join([f"{k}={self.value(v)}" for k, v in params.items()]) + "]"]
        # One line for each nested program and for each run of other parameters between them.
        inner = indent + "  "
        lines = ["["]
        after_program = True
        for key, value in params.items():
            nested = holds_program(value)
            text = f"{key}={self.value(value, inner)}"
            if after_program or nested:
                lines += f"{inner}{text},".split("\n")
            else:
                lines[-1] += f" {text},"
            after_program = nested
        lines.append(f"{indent}]")
        return lines

    # --- atoms ---

    def _atom(self, atom: Atom) -> str:
        if type(atom) is Variable:
            # A variable nobody defined, in a program that does not verify, must print all the same.
            return self._names.get(atom) or f"?{id(atom) & 0xFFFFFF:x}"
        assert isinstance(atom, Literal)
        array = atom.value._value
        if atom.aval.shape != () and (
            array.size > INLINE_ELEMENTS or id(atom.value) in self._repeated
        ):
            return f"{self._reference(atom.value, '')}:{self._aval(atom.aval)}"
        return f"{format_array(array)}:{self._aval(atom.aval)}"

    def _aval(self, aval: Aval) -> str:
        text = self._avals.get(aval)
        if text is None:
            text = self._avals[aval] = str(aval)
        return text

    def _reference(self, value: Any, name: str) -> str:
        known = self._references.get(id(value))
        if known is None:
            count = self._taken[name] = self._taken.get(name, -1) + 1
            suffix = f"_{count}" if name and count else "" if name else f"{count}"
            known = self._references[id(value)] = f"@{name}{suffix}"
            self._definitions.append((known, value))
        return known

    def _array_definition(self, name: str, array: Any) -> list[str]:
        head = f"  {name}: {self._aval(array.aval)} ="
        data = array._value
        if data.size <= INLINE_ELEMENTS:
            return [f"{head} {format_array(data)}"]
        if not self._arrays:
            return [f"{head} ..."]
        raw = data.tobytes()
        starts = range(0, len(raw), _BYTES_PER_LINE)
        chunks = [base64.b64encode(raw[i : i + _BYTES_PER_LINE]).decode() for i in starts]
        return [f"{head} base64(", *[f"    '{chunk}'" for chunk in chunks], "  )"]

    # --- parameters ---

    def value(self, value: Any, indent: str = "") -> str:
        """The text of a parameter value."""
        kind = cast("type[Any]", type(value))
        simple = _SIMPLE.get(kind)
        if simple is not None:
            return simple(value)
        if isinstance(value, Program):
            return self._nested(value, indent)
        if kind is tuple or kind is list:
            return self._sequence(value, indent)
        if kind is dict:
            return self._mapping(value, indent)
        return self._dtype_or_scalar(kind, value) or self._named(value)

    def _dtype_or_scalar(self, kind: type[Any], value: Any) -> str:
        if issubclass(kind, np.dtype) or kind is dtypes.KeyDType:
            return dtypes.short_name(value)
        if issubclass(kind, np.generic) and value.dtype in dtypes.ARRAY_DTYPES:
            return f"{format_number(value, value.dtype)}:{dtypes.short_name(value.dtype)}"
        return ""

    def _nested(self, program: Program, indent: str) -> str:
        if id(program) in self._repeated:
            return self._reference(program, re.sub(r"\W", "", program.name) or "program")
        return "\n".join(self.program(program, indent))

    def _sequence(self, values: Sequence[Any], indent: str) -> str:
        brackets = "()" if isinstance(values, tuple) else "[]"
        inner = indent + "  "
        items = [self.value(item, inner) for item in values]
        if len(items) == 1 and brackets == "()":
            items[0] += ","
        return self._bracketed(brackets, values, items, indent)

    def _mapping(self, values: dict[Any, Any], indent: str) -> str:
        inner = indent + "  "
        items = [f"{self.value(k)}: {self.value(v, inner)}" for k, v in values.items()]
        return self._bracketed("{}", values, items, indent)

    def _bracketed(self, brackets: str, values: Any, items: list[str], indent: str) -> str:
        if holds_program(values):
            lines = "".join([f"{indent}  {item.removesuffix(',')},\n" for item in items])
            return f"{brackets[0]}\n{lines}{indent}{brackets[1]}"
        return f"{brackets[0]}{', '.join(items)}{brackets[1]}"

    def _named(self, value: Any) -> str:
        cls = cast("type[Any]", type(value))
        fields = param_fields(cls)
        if fields is not None:
            if isinstance(value, enum.Enum):
                return f"{cls.__name__}.{value.name}"
            items = [f"{field}={self.value(getattr(value, field))}" for field in fields]
            return f"{cls.__name__}({', '.join(items)})"
        if isinstance(value, Primitive):
            return f"<primitive {value.name}>"
        return self._object(value)

    def _object(self, value: Any) -> str:
        numbers = [i for i, known in enumerate(self._objects) if known is value]
        if not numbers:
            numbers = [len(self._objects)]
            self._objects.append(value)
        kind = "callable" if callable(value) else "object"
        label = getattr(value, "__qualname__", None) or type(value).__qualname__
        return f"<{kind} {re.sub(r'[^A-Za-z0-9_.]', '', label)} #{numbers[0]}>"


def variable_names() -> Iterator[str]:
    """`a` to `z`, `aa`, `ab` ...; words of the grammar are left out."""
    prefixes = [""]
    while True:
        names = [prefix + letter for prefix in prefixes for letter in _LETTERS]
        for name in names:
            if name not in _RESERVED:
                yield name
        prefixes = names


def programs_within(value: Any) -> Iterator[Program]:
    """The programs a parameter value holds, at any depth of containers."""
    kind = cast("type[Any]", type(value))
    if kind is Program:
        yield value
    elif kind is tuple or kind is list:
        for item in value:
            if type(item) not in _SIMPLE:
                yield from programs_within(item)
    elif kind is dict:
        for item in value.values():
            if type(item) not in _SIMPLE:
                yield from programs_within(item)


def holds_program(value: Any) -> bool:
    """Whether there is a program in a parameter value."""
    return next(programs_within(value), None) is not None


def format_array(array: np.ndarray[Any, Any]) -> str:
    """A number, or nested lists of numbers."""
    dtype = array.dtype
    if dtype.itemsize == 0:  # float0 has no values to tell apart
        return "[]"
    if array.ndim == 0:
        return format_number(array[()], dtype)
    return _nested_list(array, lambda element: format_number(element, dtype))


def _nested_list(array: np.ndarray[Any, Any], text: Callable[[Any], str]) -> str:
    items = [text(e) if array.ndim == 1 else _nested_list(e, text) for e in array]
    return f"[{', '.join(items)}]"


def _program_name(name: str) -> str:
    return name if not name or _PLAIN_NAME.fullmatch(name) else repr(name)


def quote_word(text: str) -> str:
    """A word in a comment, in quotes where it would not read as one word."""
    return text if _PLAIN_WORD.fullmatch(text) else repr(text)


def _source_comment(equation: Equation) -> str:
    location: SourceLocation | None = equation.location
    text = ""
    if location is not None:
        file, function = quote_word(location.file), quote_word(location.function)
        text += f" {file}:{location.line} ({function})"
    if equation.scope:
        text += f" in {quote_word(equation.scope)}"
    return f"  #{text}" if text else ""


def _format_float(value: float) -> str:
    return format_number(value, dtypes.float64)


def _format_complex(value: complex) -> str:
    return format_number(value, dtypes.complex128)


_SIMPLE: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    bool: repr,
    int: repr,
    float: _format_float,
    complex: _format_complex,
    str: repr,
    bytes: repr,
    Aval: str,
    Dim: str,
}
