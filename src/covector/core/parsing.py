"""Programs from text: the inverse of `covector.core.printing`."""

from __future__ import annotations

import ast
import base64
import enum
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dims, dtypes
from covector.core import effects as fx
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.numerals import read_number
from covector.core.params import param_type
from covector.core.primitive import REGISTRY, Primitive
from covector.core.program import Atom, Equation, Literal, Program, Variable
from covector.core.shapes import parse_dim, parse_shape
from covector.core.source import SourceLocation
from covector.core.tokens import ParseError, Tokens

__all__ = ["ParseError", "parse"]


def parse(text: str, objects: Sequence[Any] = ()) -> Program:
    """Reads the textual form of a program.

    Args:
        text: what `Program.as_text()` gives.
        objects: what the opaque parameters (`<callable f #0>`) stand for, by number;
            `print_program(..., objects=found)` collects them.

    Raises:
        ParseError: naming the line and what was expected there. The modules that define the
            program's primitives and parameter types must have been imported.

    Example:
        >>> program = parse("program (a: f32[3]) {\\n} -> a")
        >>> program.input_avals
        [f32[3]]
    """
    return _Parser(text, objects).whole()


_CONSTANTS = {"None": None, "True": True, "False": False}
_OPERATORS = frozenset("+-*/")
_WORD = r"('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[^\s'\"#]+)"
_SOURCE = re.compile(rf"#(?: {_WORD}:(\d+) \({_WORD}\))?(?: in {_WORD})?")

Scope = dict[str, Variable]


class _Parser:
    """Recursive descent; recursion follows nesting, not length."""

    def __init__(self, text: str, objects: Sequence[Any]) -> None:
        self._tokens = Tokens(text)
        self._objects = objects
        self._avals: dict[str, Aval] = {}
        # References are used before their definitions: they stand for empty programs and for
        # literals without a value, which are filled in when all definitions have been read.
        self._programs: dict[str, Program] = {}
        self._arrays: dict[str, list[Literal]] = {}
        self._values: dict[str, Array] = {}
        self._defined: set[str] = set()

    # --- programs ---

    def whole(self) -> Program:
        """A program with its `where` section, to the end of the text."""
        tokens = self._tokens
        tokens.skip_blank()
        tokens.expect("program")
        program = self._program(Program([], [], []))
        tokens.skip_blank()
        if tokens.accept("where"):
            tokens.skip_blank()
            while tokens.current.kind == "reference":
                self._definition()
                tokens.skip_blank()
        if tokens.current.kind != "end":
            tokens.fail("expected the end of the program")
        for name in (*self._arrays, *self._programs):
            if name not in self._defined:
                tokens.fail(f"{name} is used, but not defined after `where`")
        for name, literals in self._arrays.items():
            for literal in literals:
                literal.value = self._values.get(name)
        return program

    def _program(self, program: Program) -> Program:
        """Fills in a program from what follows the word `program`."""
        tokens = self._tokens
        if tokens.current.kind == "name":
            program.name = tokens.take().text
        elif tokens.current.kind == "string":
            program.name = ast.literal_eval(tokens.take().text)
        scope: Scope = {}
        tokens.expect("(")
        tokens.skip_blank()
        while not tokens.accept(")"):
            program.inputs.append(self._variable(scope))
            tokens.separator(")")
        tokens.expect("{")
        tokens.skip_blank()
        while not tokens.accept("}"):
            program.equations.append(self._equation(scope))
            tokens.skip_blank()
        tokens.expect("->")
        program.outputs = self._program_outputs(scope)
        return program

    def _variable(self, scope: Scope) -> Variable:
        """The definition of a variable, `a: f32[3]`."""
        at = self._tokens.at
        name = self._tokens.expect_kind("name", "the name of a variable")
        self._tokens.expect(":")
        variable = Variable(self._aval())
        if name in scope:
            self._tokens.fail(f"{name} is defined twice", at)
        if name != "_":
            scope[name] = variable
        return variable

    def _program_outputs(self, scope: Scope) -> list[Atom]:
        tokens = self._tokens
        outputs: list[Atom] = []
        while self._at_atom():
            outputs.append(self._atom(scope))
            if not tokens.accept(","):
                break
            # The comma may as well separate a nested program from what stands behind it.
            if not self._at_atom() or tokens.following.text == "=":
                tokens.at -= 1
                break
        return outputs

    def _equation(self, scope: Scope) -> Equation:
        tokens = self._tokens
        outputs = self._equation_outputs(scope) if tokens.following.text == ":" else []
        primitive = self._primitive()
        # Parameters follow without a blank; a bracket after a blank is the literal of an array.
        params = self._params() if tokens.adjacent("[") else {}
        inputs: list[Atom] = []
        while self._at_atom():
            inputs.append(self._atom(scope))
        effects = self._effects()
        location, where = self._source()
        if tokens.current.kind not in ("newline", "end") and tokens.current.text != "}":
            tokens.fail("expected an operand or the end of the equation")
        return Equation(primitive, inputs, outputs, params, effects, location, where)

    def _equation_outputs(self, scope: Scope) -> list[Variable]:
        outputs = [self._variable(scope)]
        while self._tokens.accept(","):
            outputs.append(self._variable(scope))
        self._tokens.expect("=")
        return outputs

    def _primitive(self) -> Primitive:
        at = self._tokens.at
        name = self._tokens.expect_kind("name", "the name of a primitive")
        primitive = REGISTRY.get(name)
        if primitive is None:
            self._tokens.fail(
                f"there is no primitive {name} (is the module that defines it imported?)", at
            )
        return primitive

    def _effects(self) -> fx.Effects:
        effects: list[fx.Effect] = []
        while self._tokens.current.kind == "effect":
            at = self._tokens.at
            effect = fx.BY_NAME.get(self._tokens.take().text[1:])
            if effect is None:
                self._tokens.fail(f"effects are {', '.join(sorted(fx.BY_NAME))}", at)
            effects.append(effect)
        return frozenset(effects) if effects else fx.NONE

    def _source(self) -> tuple[SourceLocation | None, str]:
        """The location and the scope in the comment at the end of an equation."""
        if self._tokens.current.kind != "comment":
            return None, ""
        match = _SOURCE.fullmatch(self._tokens.take().text)
        if match is None:
            return None, ""
        file, line, function, scope = [None if g is None else _unquote(g) for g in match.groups()]
        location = SourceLocation(file, int(line or 0), function or "") if file else None
        return location, scope or ""

    # --- atoms ---

    def _at_atom(self) -> bool:
        kind, text, _ = self._tokens.current
        if kind == "name":
            return text != "program"
        return kind in ("number", "reference") or text == "["

    def _atom(self, scope: Scope) -> Atom:
        tokens = self._tokens
        kind, text, _ = tokens.current
        if kind == "reference":
            return self._array_reference()
        if kind == "name" and text not in ("True", "False"):
            variable = scope.get(text)
            if variable is None:
                tokens.fail(f"{text} is not defined")
            tokens.at += 1
            return variable
        elements = self._elements()
        tokens.expect(":")
        aval = self._aval()
        return Literal(self._array(elements, aval), aval)

    def _elements(self) -> Any:
        """The texts of a number or of nested lists of numbers."""
        tokens = self._tokens
        if not tokens.accept("["):
            if tokens.current.kind not in ("number", "name"):
                tokens.fail("expected a number")
            return tokens.take().text
        items: list[Any] = []
        tokens.skip_blank()
        while not tokens.accept("]"):
            items.append(self._elements())
            tokens.separator("]")
        return items

    def _array(self, elements: Any, aval: Aval) -> Array:
        at = self._tokens.at - 1
        shape, dtype = _stored_form(aval)
        if dtype == dtypes.float0:
            return Array.of(np.zeros(shape, dtype), aval)
        try:
            numbers = [read_number(text, dtype) for text in _flatten(elements)]
            return Array.of(np.array(numbers, dtype).reshape(shape), aval)
        except (ValueError, TypeError) as error:
            self._tokens.fail(f"not the elements of {aval}: {error}", at)

    def _array_reference(self) -> Literal:
        name = self._tokens.take().text
        self._tokens.expect(":")
        literal = Literal(None, self._aval())
        self._arrays.setdefault(name, []).append(literal)
        return literal

    def _aval(self) -> Aval:
        at = self._tokens.at
        text = self._tokens.expect_kind("aval", "a shape and dtype such as f32[3]")
        aval = self._avals.get(text)
        if aval is None:
            try:
                aval = self._avals[text] = _read_aval(text)
            except ValueError as error:
                self._tokens.fail(str(error), at)
        return aval

    # --- definitions after `where` ---

    def _definition(self) -> None:
        tokens = self._tokens
        at = tokens.at
        name = tokens.take().text
        if name in self._defined:
            tokens.fail(f"{name} is defined twice", at)
        self._defined.add(name)
        if tokens.accept(":"):
            aval = self._aval()
            tokens.expect("=")
            self._values[name] = self._array_definition(aval)
        else:
            tokens.expect("=")
            tokens.expect("program")
            self._program(self._programs.setdefault(name, Program([], [], [])))

    def _array_definition(self, aval: Aval) -> Array:
        tokens = self._tokens
        if tokens.current.text == "...":
            tokens.fail("the text was printed without the data of its arrays")
        if not tokens.accept("base64"):
            return self._array(self._elements(), aval)
        at = tokens.at
        tokens.expect("(")
        tokens.skip_blank()
        chunks: list[str] = []
        while not tokens.accept(")"):
            chunks.append(tokens.expect_kind("string", "a string in base64")[1:-1])
            tokens.skip_blank()
        try:
            # Chunk by chunk: each has its own padding.
            data = b"".join([base64.b64decode(chunk, validate=True) for chunk in chunks])
            shape, dtype = _stored_form(aval)
            return Array.of(np.frombuffer(data, dtype).reshape(shape), aval)
        except ValueError as error:
            tokens.fail(f"not the data of {aval}: {error}", at)

    # --- parameters ---

    def _params(self) -> dict[str, Any]:
        tokens = self._tokens
        params: dict[str, Any] = {}
        tokens.expect("[")
        tokens.skip_blank()
        while not tokens.accept("]"):
            name = tokens.expect_kind("name", "the name of a parameter")
            tokens.expect("=")
            params[name] = self._value()
            tokens.separator("]")
        return params

    def _value(self) -> Any:
        tokens = self._tokens
        kind, text, _ = tokens.current
        if kind == "mark":
            return self._bracketed_value(text)
        if kind == "number":
            return self._number()
        if kind == "name":
            return self._named_value(text)
        if kind == "aval":
            return self._aval()
        if kind not in ("string", "dtype", "reference", "opaque"):
            tokens.fail("expected the value of a parameter")
        tokens.at += 1
        if kind == "string":
            return ast.literal_eval(text)
        if kind == "dtype":
            return dtypes.from_short_name(text)
        if kind == "reference":
            return self._programs.setdefault(text, Program([], [], []))
        return self._opaque(text)

    def _bracketed_value(self, text: str) -> Any:
        tokens = self._tokens
        if text == "(":
            return self._tuple()
        if text == "{":
            return self._mapping()
        if text == "-":
            return self._dimension()
        if text != "[":
            tokens.fail("expected the value of a parameter")
        return self._items("]")[0]

    def _items(self, closing: str) -> tuple[list[Any], bool]:
        """The values in brackets, and whether a comma followed the last one."""
        tokens = self._tokens
        tokens.at += 1
        items: list[Any] = []
        comma = False
        tokens.skip_blank()
        while not tokens.accept(closing):
            items.append(self._value())
            tokens.skip_blank()
            comma = tokens.current.text == ","
            tokens.separator(closing)
        return items, comma

    def _tuple(self) -> Any:
        start = self._tokens.at
        items, comma = self._items(")")
        if len(items) == 1 and not comma:
            # Parentheses of arithmetic: (n + 1)//2
            self._tokens.at = start
            return self._dimension()
        return tuple(items)

    def _mapping(self) -> dict[Any, Any]:
        tokens = self._tokens
        tokens.at += 1
        items: dict[Any, Any] = {}
        tokens.skip_blank()
        while not tokens.accept("}"):
            key = self._value()
            tokens.expect(":")
            items[key] = self._value()
            tokens.separator("}")
        return items

    def _number(self) -> Any:
        tokens = self._tokens
        text = tokens.current.text
        if tokens.following.text in _OPERATORS:
            return self._dimension()
        tokens.at += 1
        if tokens.current.text == ":" and tokens.following.kind == "dtype":
            return self._numpy_scalar(text)
        if text.endswith("j"):
            return complex(read_number(text, dtypes.complex128))
        if re.fullmatch(r"[+-]?\d+", text):
            return int(text)
        return float(read_number(text, dtypes.float64))

    def _numpy_scalar(self, text: str) -> Any:
        tokens = self._tokens
        tokens.at += 1
        at = tokens.at
        try:
            return read_number(text, dtypes.as_dtype(dtypes.from_short_name(tokens.take().text)))
        except ValueError as error:
            tokens.fail(str(error), at)

    def _dimension(self) -> Any:
        at = self._tokens.at
        try:
            return parse_dim(self._tokens.expression())
        except ValueError as error:
            self._tokens.fail(f"expected the value of a parameter ({error})", at)

    def _named_value(self, text: str) -> Any:
        tokens = self._tokens
        if text in _CONSTANTS:
            tokens.at += 1
            if tokens.current.text == ":" and tokens.following.text == "bool":
                return self._numpy_scalar(text)
            return _CONSTANTS[text]
        if text == "program":
            tokens.at += 1
            return self._program(Program([], [], []))
        name, _, member = text.partition(".")
        cls: Any = param_type(name)
        if cls is None:
            return self._dimension()
        tokens.at += 1
        if issubclass(cls, enum.Enum):
            if member not in cls.__members__:
                tokens.fail(f"{name} has no member {member!r}", tokens.at - 1)
            return cls[member]
        return self._instance(cls)

    def _instance(self, cls: Any) -> Any:
        tokens = self._tokens
        at = tokens.at - 1
        fields: dict[str, Any] = {}
        tokens.expect("(")
        while not tokens.accept(")"):
            field = tokens.expect_kind("name", "the name of a field")
            tokens.expect("=")
            fields[field] = self._value()
            tokens.separator(")")
        try:
            return cls(**fields)
        except (TypeError, ValueError) as error:
            tokens.fail(str(error), at)

    def _opaque(self, text: str) -> Any:
        kind, _, label = text[1:-1].partition(" ")
        if kind == "primitive":
            if label not in REGISTRY:
                self._tokens.fail(f"there is no primitive {label}", self._tokens.at - 1)
            return REGISTRY[label]
        number = label.rpartition("#")[2]
        if not number.isdigit() or int(number) >= len(self._objects):
            self._tokens.fail(
                "a Python object has no text of its own: pass it in `objects`", self._tokens.at - 1
            )
        return self._objects[int(number)]


def _stored_form(aval: Aval) -> tuple[Any, np.dtype[Any]]:
    """Shape and dtype of the data behind an array: keys are words along a trailing axis."""
    if dims.is_symbolic(aval.shape):
        raise ValueError("an array has no symbolic dimension")
    if isinstance(aval.dtype, dtypes.KeyDType):
        return (*aval.shape, aval.dtype.words), dtypes.uint32
    return aval.shape, aval.dtype


def _flatten(elements: Any) -> list[str]:
    if isinstance(elements, str):
        return [elements]
    return [text for item in elements for text in _flatten(item)]


def _unquote(word: str) -> str:
    return ast.literal_eval(word) if word[0] in "'\"" else word


def _read_aval(text: str) -> Aval:
    head, _, body = text[:-1].partition("[")
    weak = head.startswith("~")
    dtype = dtypes.from_short_name(head[1:] if weak else head)
    return Aval(parse_shape(body), dtype, weak)
