"""Programs as tables of bytes, and back: each nested program once, before those that hold it."""

from __future__ import annotations

import itertools
from typing import Any

from covector.core.avals import Aval
from covector.core.effects import NONE
from covector.core.errors import DeserializationError, ExportError, VerificationError, compose
from covector.core.program import Atom, Equation, Literal, Program, Variable, symbols_of
from covector.core.verify import verify_flat
from covector.export import rules
from covector.export.values import (
    LONGEST_TEXT,
    MOST_TEXTS,
    ValueReader,
    ValueWriter,
)
from covector.export.wire import Reader, Writer
from covector.ops.registry import load_all

TEXTS, AVALS, CONSTANTS, PROGRAMS = b"TEXT", b"AVAL", b"DATA", b"PROG"
SECTIONS = frozenset({TEXTS, AVALS, CONSTANTS, PROGRAMS})

MOST_PROGRAMS, MOST_EQUATIONS, MOST_ATOMS = 1 << 16, 1 << 20, 1 << 16
MOST_IN_ALL = 1 << 24
"""Equations of a program with those of nested ones, which count each time that they are held."""
DEEPEST = 64
"""Programs within programs."""

_REASONS = {
    "pure_callback": "it calls a Python function",
    "io_callback": "it calls a Python function",
    "debug_callback": "it calls a Python function",
    "array_kernel": "a kernel is kept as Python source, which is not read from strangers",
    "lanes": "only the compiler makes it",
    "custom_vjp_linear": "the rule of a custom_vjp function is part of it",
    "custom_vmap_call": "its rule for batches is a Python function",
    "custom_transpose_call": "its transpose is a Python function",
}
_FIXES = {
    "debug_callback": "leave the debugging out of what is exported",
    "array_kernel": "export a library instead, or write it as operations on arrays",
    "custom_vmap_call": "export the batched function: export(jit(vmap(f)))",
    "custom_transpose_call": "export the gradient as well: export(jit(grad(f)))",
}


def _reason(name: str) -> str | None:
    """Why an operation has no place in a file."""
    return _REASONS.get(name)


def write(program: Program) -> dict[bytes, bytes]:
    """The sections of a program.

    Args:
        program: any valid program.

    Raises:
        ExportError: for what cannot leave the process, with the user's line.
    """
    return _ProgramWriter().sections(program)


class _ProgramWriter:
    def __init__(self) -> None:
        self._values = ValueWriter(self._number, self._rule)
        self._numbers: dict[int, int] = {}
        # The programs themselves, so that their ids stay their own.
        self._written: list[tuple[Program, Writer]] = []
        self._equation: Equation | None = None
        self._rules: dict[Any, int] = {}
        self._rule_numbers = itertools.count()

    def sections(self, program: Program) -> dict[bytes, bytes]:
        self._number(program)
        values = self._values
        parts: dict[bytes, Writer] = {tag: Writer() for tag in (TEXTS, AVALS, CONSTANTS, PROGRAMS)}
        parts[PROGRAMS].number(len(self._written))
        for _, written in self._written:
            parts[PROGRAMS].raw(bytes(written.data))
        parts[CONSTANTS].number(len(values.constants))
        for number, data in values.constants:
            parts[CONSTANTS].number(number)
            parts[CONSTANTS].raw(data)
        parts[AVALS].number(len(values.avals))
        for aval in list(values.avals):
            self._aval(aval, parts[AVALS])
        parts[TEXTS].number(len(values.texts))
        for text in values.texts:
            parts[TEXTS].text(text)
        return {tag: bytes(part.data) for tag, part in parts.items()}

    def _aval(self, aval: Aval, out: Writer) -> None:
        from covector.core import dtypes

        out.number(self._values.text(dtypes.short_name(aval.dtype)))
        out.number(int(aval.weak_type))
        out.number(len(aval.shape))
        for size in aval.shape:
            self._values.size(size, out)

    def _number(self, program: Program) -> int:
        known = self._numbers.get(id(program))
        if known is None:
            enclosing, out = self._equation, Writer()
            self._program(program, out)
            self._equation = enclosing
            known = self._numbers[id(program)] = len(self._written)
            self._written.append((program, out))
        return known

    def _rule(self, value: Any, out: Writer) -> bool:
        """Writes a rule where it is met first; its programs may refer to it by its number."""
        kind, equation = rules.kind_of(value), self._equation
        if kind is None or equation is None:
            return False
        avals = rules.own_avals(equation)
        known = self._rules.get((value.key, avals)) if value.key is not None else None
        number = known if known is not None else next(self._rule_numbers)
        out.number(kind)
        out.number(number)
        out.number(int(known is None))
        if known is not None:
            return True
        if value.key is not None:
            self._rules[value.key, avals] = number
        found = rules.programs_of(value, avals)
        out.number(self._values.text(value.name))
        out.number(found.residuals)
        out.number(len(found.programs))
        for program in found.programs:
            out.number(self._number(program))
        return True

    def _program(self, program: Program, out: Writer) -> None:
        names: dict[Variable, int] = {}
        out.number(self._values.text(program.name))
        self._define(program.inputs, names, out)
        out.number(len(program.equations))
        for equation in program.equations:
            self._equation = equation
            try:
                self._write_equation(equation, names, out)
            except ExportError as error:
                if "\n  at: " in str(error):
                    raise
                raise ExportError(self._refusal(equation, str(error))) from None
        self._atoms(program.outputs, names, out)

    def _refusal(self, equation: Equation, reason: str) -> str:
        name = equation.primitive.name
        return compose(
            f"{name} cannot be serialised",
            found=reason,
            line=equation.place or None,
            fix=_FIXES.get(name, "leave it out of the function that is exported"),
        )

    def _write_equation(self, equation: Equation, names: dict[Variable, int], out: Writer) -> None:
        reason = _reason(equation.primitive.name)
        if reason is not None or equation.effects:
            raise ExportError(reason or "it has effects")
        out.number(self._values.text(equation.primitive.name))
        out.number(self._values.text(equation.scope))
        self._atoms(equation.inputs, names, out)
        out.number(len(equation.params))
        for name, value in equation.params.items():
            out.number(self._values.text(name))
            self._values.value(value, out)
        self._define(equation.outputs, names, out)

    def _define(self, variables: Any, names: dict[Variable, int], out: Writer) -> None:
        out.number(len(variables))
        for variable in variables:
            names[variable] = len(names)
            out.number(self._values.aval(variable.aval))

    def _atoms(self, atoms: Any, names: dict[Variable, int], out: Writer) -> None:
        out.number(len(atoms))
        for atom in atoms:
            if isinstance(atom, Literal):
                out.number(2 * self._values.constant(atom.value, atom.aval) + 1)
            else:
                out.number(2 * names[atom])


def read(sections: dict[bytes, Reader]) -> Program:
    """The program of its sections, checked by the shape rules of its operations.

    Args:
        sections: readers of what `write` gave.

    Raises:
        DeserializationError: for anything that is not a valid program.
    """
    load_all()
    reader = _ProgramReader(sections)
    program = reader.program()
    try:
        for each in reader.programs:
            verify_flat(each)
    except VerificationError as error:
        raise DeserializationError(f"it holds a program that is not valid: {error}") from error
    return program


class _ProgramReader:
    """Reads the table of programs.

    Attributes:
        programs: all of them, those of derivative rules included.
    """

    def __init__(self, sections: dict[bytes, Reader]) -> None:
        source = sections[TEXTS]
        texts = [source.text(LONGEST_TEXT) for _ in range(source.count(MOST_TEXTS, "texts"))]
        source.finish()
        self._values = values = ValueReader(texts, self._nested, self._rule)
        for tag, define in (
            (AVALS, values.define_aval),
            (CONSTANTS, values.define_constant),
        ):
            source = sections[tag]
            for _ in range(source.count(MOST_EQUATIONS, "entries")):
                define(source)
            source.finish()
        self._source = sections[PROGRAMS]
        self.programs: list[Program] = []
        self._sizes: list[int] = []
        self._depths: list[int] = []
        self._held: list[int] = []
        self._rules: dict[tuple[int, int], Any] = {}
        self._with_rules: list[Equation] = []

    def program(self) -> Program:
        source = self._source
        count = source.count(MOST_PROGRAMS, "programs")
        if count == 0:
            raise DeserializationError("damaged: there is no program")
        for _ in range(count):
            self._held = []
            found = self._program(source)
            held = self._held
            size = len(found.equations) + sum([self._sizes[k] for k in held])
            depth = 1 + max([self._depths[k] for k in held], default=0)
            if size > MOST_IN_ALL or depth > DEEPEST:
                raise DeserializationError(f"{size} equations in {depth} levels are too many")
            self.programs.append(found)
            self._sizes.append(size)
            self._depths.append(depth)
        source.finish()
        for equation in self._with_rules:
            rules.check(equation)
        main = self.programs[-1]
        unknown = self._values.symbols - set(symbols_of(main))
        if unknown:
            raise DeserializationError(f"no argument tells the sizes {', '.join(sorted(unknown))}")
        return main

    def _nested(self, source: Reader) -> Program:
        number = source.index(len(self.programs), "nested program")
        self._held.append(number)
        return self.programs[number]

    def _rule(self, kind: int, source: Reader) -> Any:
        number = source.number(MOST_PROGRAMS, "number of a rule")
        rule = self._rules.setdefault((kind, number), rules.new_rule(kind))
        if source.number(1, "mark of a definition"):
            rule.name = self._values.text(source)
            residuals = source.number(MOST_ATOMS, "number of residuals")
            count = source.count(2, "programs of a rule")
            programs = [self._nested(source) for _ in range(count)]
            rule.made.define(kind, programs, residuals)
        return rule

    def _program(self, source: Reader) -> Program:
        name = self._values.text(source)
        defined: list[Variable] = []
        inputs = self._define(source, defined)
        count = source.count(MOST_EQUATIONS, "equations")
        equations = [self._equation(source, defined) for _ in range(count)]
        return Program(inputs, equations, self._atoms(source, defined), name)

    def _equation(self, source: Reader, defined: list[Variable]) -> Equation:
        values = self._values
        primitive = values.primitive(source)
        reason = _reason(primitive.name)
        if reason is not None:
            raise DeserializationError(f"{primitive.name} has no place here: {reason}")
        scope = values.text(source)
        inputs = self._atoms(source, defined)
        params: dict[str, Any] = {}
        for _ in range(source.count(64, "parameters")):
            name = values.text(source)
            if name in params:
                raise DeserializationError(f"{primitive.name} has two parameters {name!r}")
            params[name] = values.value(source)
        if primitive.effects is not None and primitive.effects(**params) != NONE:
            raise DeserializationError(f"{primitive.name} has effects")
        outputs = self._define(source, defined)
        equation = Equation(primitive, inputs, outputs, params, scope=scope)
        if "call" in params:
            self._with_rules.append(equation)
        return equation

    def _define(self, source: Reader, defined: list[Variable]) -> list[Variable]:
        count = source.count(MOST_ATOMS, "variables")
        found = [Variable(self._values.aval(source)) for _ in range(count)]
        defined += found
        return found

    def _atoms(self, source: Reader, defined: list[Variable]) -> list[Atom]:
        atoms: list[Atom] = []
        for _ in range(source.count(MOST_ATOMS, "operands")):
            number = source.number(1 << 40, "operand")
            if number & 1:
                constants = self._values.constants
                if number >> 1 >= len(constants):
                    raise DeserializationError("damaged: there is no such constant")
                array = constants[number >> 1]
                atoms.append(Literal(array, array.aval))
            elif number >> 1 < len(defined):
                atoms.append(defined[number >> 1])
            else:
                raise DeserializationError("damaged: a value is used before it is defined")
        return atoms
