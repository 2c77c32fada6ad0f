"""What the equations of a program hold, as bytes: avals, sizes, constants and parameters.

Each kind of value has a number of its own, which no other one gets in later versions. What is no
data has none: Python functions, pointers, objects.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import dims, dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.dims import Composite, Dim
from covector.core.errors import DeserializationError, ExportError
from covector.core.interpret import stored_form
from covector.core.params import param_fields, param_type
from covector.core.primitive import REGISTRY, Primitive
from covector.core.program import Program
from covector.export.wire import Reader, Writer

MOST_TEXTS, LONGEST_TEXT = 1 << 20, 1 << 16
MOST_AXES = 32
LARGEST_SIZE = (1 << 62) - 1
MOST_TERMS, MOST_FACTORS, HIGHEST_POWER, MOST_OPERANDS, MOST_NESTED = 8, 4, 8, 4, 6
"""Of a symbolic size: terms, factors of one, power of a factor, operands of `max`, `//` inside."""
MOST_PRODUCTS = 4096
"""Terms that the product of the symbolic sizes of one value may have."""
DEEPEST = 16
"""Nesting of the values of a parameter."""
MOST_ITEMS = 1 << 16
LARGEST_INTEGER = (1 << 64) - 1

NONE, FALSE, TRUE, INTEGER, FLOAT, COMPLEX, TEXT, BYTES, TUPLE, LIST, DICT = range(11)
DTYPE, SIZE, SCALAR, AVAL, PROGRAM, RECORD, MEMBER, PRIMITIVE, JVP_RULE, VJP_RULE = range(11, 21)
"""Kinds of values."""

_OPERATIONS = ("//", "max", "min")
_PACKAGE = "covector."
_SOURCE_CODE = frozenset({"KernelDefinition"})
"""Parameter types that hold Python source, which is not read from strangers."""


def record_type(name: str) -> Any:
    """The parameter type of a name, if it is one of Covector's own that is plain data."""
    found = param_type(name)
    own = found is not None and found.__module__.startswith(_PACKAGE)
    return found if own and name not in _SOURCE_CODE else None


class ValueWriter:
    """Writes values; texts, avals and constants are numbered.

    Args:
        program: gives a nested program its number.
        rule: writes a custom derivative rule, or says that it is none.
    """

    def __init__(
        self, program: Callable[[Program], int], rule: Callable[[Any, Writer], bool]
    ) -> None:
        self.texts: dict[str, int] = {}
        self.avals: dict[Aval, int] = {}
        self.constants: list[tuple[int, bytes]] = []
        self._constants: dict[Any, int] = {}
        self._program = program
        self._rule = rule

    def text(self, value: str) -> int:
        """The number of a text."""
        if len(value.encode()) > LONGEST_TEXT:
            raise ExportError(f"a text of {len(value)} letters is too long to be exported")
        return self.texts.setdefault(value, len(self.texts))

    def aval(self, aval: Aval) -> int:
        """The number of an aval."""
        return self.avals.setdefault(aval, len(self.avals))

    def constant(self, array: Array, aval: Aval) -> int:
        """The number of a constant."""
        number = self.aval(aval)
        key = (number, array._value.tobytes()) if aval.shape == () else id(array)
        known = self._constants.get(key)
        if known is None:
            known = self._constants[key] = len(self.constants)
            data = np.ascontiguousarray(array._value)
            self.constants.append((number, data.astype(_little(data.dtype)).tobytes()))
        return known

    def size(self, size: Any, out: Writer) -> None:
        """A number, or a symbolic size."""
        if not isinstance(size, Dim):
            out.number(0)
            out.signed(int(size))
            return
        out.number(1)
        out.number(len(size.terms))
        for monomial, coefficient in size.terms:
            out.signed(coefficient)
            out.number(len(monomial))
            for atom, power in monomial:
                self._atom(atom, out)
                out.number(power)

    def _atom(self, atom: str | Composite, out: Writer) -> None:
        if isinstance(atom, str):
            out.number(0)
            out.number(self.text(atom))
            return
        out.number(1 + _OPERATIONS.index(atom.op))
        out.number(len(atom.operands))
        for operand in atom.operands:
            self.size(operand, out)

    def value(self, value: Any, out: Writer) -> None:
        """A parameter.

        Raises:
            ExportError: if it is no data.
        """
        kind = cast("type[Any]", type(value))
        plain = _PLAIN.get(kind)
        if plain is not None:
            plain(self, value, out)
        elif isinstance(value, np.dtype | dtypes.KeyDType):
            self._texts(out, DTYPE, dtypes.short_name(cast("Any", value)))
        elif isinstance(value, np.generic):
            self._scalar(value, out)
        elif isinstance(value, Primitive):
            self._texts(out, PRIMITIVE, value.name)
        elif record_type(kind.__name__) is kind:
            self._record(value, kind, out)
        elif not self._rule(value, out):
            raise ExportError(f"a parameter is no data: {kind.__name__} {value!r:.60}")

    def _texts(self, out: Writer, kind: int, *texts: str) -> None:
        out.number(kind)
        for text in texts:
            out.number(self.text(text))

    def _integer(self, value: int, out: Writer) -> None:
        if abs(value) > LARGEST_INTEGER:
            raise ExportError(f"an integer of more than 64 bits cannot be exported: {value}")
        out.number(INTEGER)
        out.signed(value)

    def _float(self, value: float, out: Writer) -> None:
        out.number(FLOAT)
        out.raw(struct.pack("<d", value))

    def _complex(self, value: complex, out: Writer) -> None:
        out.number(COMPLEX)
        out.raw(struct.pack("<dd", value.real, value.imag))

    def _bytes(self, value: bytes, out: Writer) -> None:
        out.number(BYTES)
        out.blob(value)

    def _items(self, value: Sequence[Any], out: Writer) -> None:
        out.number(TUPLE if isinstance(value, tuple) else LIST)
        out.number(len(value))
        for item in value:
            self.value(item, out)

    def _dict(self, value: dict[Any, Any], out: Writer) -> None:
        out.number(DICT)
        out.number(len(value))
        for key, item in value.items():
            self.value(key, out)
            self.value(item, out)

    def _size(self, value: Dim, out: Writer) -> None:
        out.number(SIZE)
        self.size(value, out)

    def _scalar(self, value: Any, out: Writer) -> None:
        array = np.asarray(value)
        self._texts(out, SCALAR, dtypes.short_name(array.dtype))
        out.raw(array.astype(_little(array.dtype)).tobytes())

    def _aval(self, value: Aval, out: Writer) -> None:
        out.number(AVAL)
        out.number(self.aval(value))

    def _nested(self, value: Program, out: Writer) -> None:
        out.number(PROGRAM)
        out.number(self._program(value))

    def _record(self, value: Any, kind: type[Any], out: Writer) -> None:
        if isinstance(value, enum.Enum):
            self._texts(out, MEMBER, kind.__name__, value.name)
            return
        fields = param_fields(kind) or ()
        self._texts(out, RECORD, kind.__name__)
        out.number(len(fields))
        for field in fields:
            out.number(self.text(field))
            self.value(getattr(value, field), out)


_PLAIN: dict[type[Any], Callable[[ValueWriter, Any, Writer], None]] = {
    type(None): lambda self, value, out: out.number(NONE),
    bool: lambda self, value, out: out.number(TRUE if value else FALSE),
    int: ValueWriter._integer,
    float: ValueWriter._float,
    complex: ValueWriter._complex,
    str: lambda self, value, out: self._texts(out, TEXT, value),
    bytes: ValueWriter._bytes,
    tuple: ValueWriter._items,
    list: ValueWriter._items,
    dict: ValueWriter._dict,
    Dim: ValueWriter._size,
    Aval: ValueWriter._aval,
    Program: ValueWriter._nested,
}


def _little(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<") if dtype.names is None and dtype.byteorder == ">" else dtype


class ValueReader:
    """Reads what `ValueWriter` wrote, or refuses.

    Args:
        texts: by number.
        program: the nested program of a number.
        rule: reads a custom derivative rule of a kind.
    """

    def __init__(
        self,
        texts: list[str],
        program: Callable[[Reader], Program],
        rule: Callable[[int, Reader], Any],
    ) -> None:
        self._texts = texts
        self._program = program
        self._rule = rule
        self.avals: list[Aval] = []
        self.constants: list[Array] = []
        self.symbols: set[str] = set()
        """Names of all symbolic sizes that were read."""
        self._products = 1
        self._makers: dict[int, Callable[[Reader, int], Any]] = {
            NONE: lambda source, depth: None,
            FALSE: lambda source, depth: False,
            TRUE: lambda source, depth: True,
            INTEGER: lambda source, depth: source.signed(LARGEST_INTEGER),
            FLOAT: lambda source, depth: struct.unpack("<d", source.raw(8))[0],
            COMPLEX: lambda source, depth: complex(*struct.unpack("<dd", source.raw(16))),
            TEXT: lambda source, depth: self.text(source),
            BYTES: lambda source, depth: source.blob(LONGEST_TEXT, "bytes"),
            TUPLE: lambda source, depth: tuple(self._items(source, depth)),
            LIST: self._items,
            DICT: self._dict,
            DTYPE: lambda source, depth: self._dtype(source),
            SIZE: lambda source, depth: self.size(source),
            SCALAR: lambda source, depth: self._scalar(source),
            AVAL: lambda source, depth: self.aval(source),
            PROGRAM: lambda source, depth: self._program(source),
            RECORD: self._record,
            MEMBER: lambda source, depth: self._member(source),
            PRIMITIVE: lambda source, depth: self.primitive(source),
            JVP_RULE: lambda source, depth: self._rule(JVP_RULE, source),
            VJP_RULE: lambda source, depth: self._rule(VJP_RULE, source),
        }

    def text(self, source: Reader) -> str:
        """A text, by its number."""
        return self._texts[source.index(len(self._texts), "text")]

    def aval(self, source: Reader) -> Aval:
        """An aval, by its number."""
        return self.avals[source.index(len(self.avals), "aval")]

    def constant(self, source: Reader) -> Array:
        """A constant, by its number."""
        return self.constants[source.index(len(self.constants), "constant")]

    def _dtype(self, source: Reader) -> Any:
        name = self.text(source)
        try:
            return dtypes.from_short_name(name)
        except ValueError:
            raise DeserializationError(f"there is no dtype {name!r}") from None

    def primitive(self, source: Reader) -> Primitive:
        """An operation, by its name."""
        name = self.text(source)
        found = REGISTRY.get(name)
        if found is None:
            raise DeserializationError(
                f"it uses the operation {name!r}, which is not known here\n"
                "  fix: if the operation is your own, import the module that defines it first; "
                "else install a newer Covector"
            )
        return found

    # --- avals and constants ---

    def define_aval(self, source: Reader) -> None:
        """Reads an aval, which gets the next number."""
        dtype = self._dtype(source)
        weak = bool(source.number(1, "weak type"))
        self._products = 1
        shape = [self.size(source) for _ in range(source.count(MOST_AXES, "axes"))]
        total = getattr(dtype, "itemsize", 1) or 1
        for extent in shape:
            if not isinstance(extent, Dim):
                if extent < 0:
                    raise DeserializationError(f"an axis of {extent} elements")
                total *= max(extent, 1)
        if total > LARGEST_SIZE:
            raise DeserializationError(f"an array of shape {tuple(shape)} is too large")
        self.avals.append(Aval(shape, dtype, weak))

    def define_constant(self, source: Reader) -> None:
        """Reads a constant, which gets the next number."""
        aval = self.aval(source)
        if dims.is_symbolic(aval.shape):
            raise DeserializationError(f"a constant of unknown size, {aval}")
        shape, dtype = stored_form(aval)
        if dtype.itemsize == 0:
            self.constants.append(Array.of(np.zeros(shape, dtype), aval))
            return
        count = int(np.prod([int(n) for n in shape], dtype=object))
        data = source.raw(count * dtype.itemsize)
        value = np.frombuffer(data, _little(dtype)).astype(dtype).reshape(shape)
        if dtype == dtypes.bool_ and count and int(value.view(np.uint8).max()) > 1:
            raise DeserializationError("damaged: a truth value that is neither 0 nor 1")
        value.flags.writeable = False
        self.constants.append(Array.of(value, aval))

    # --- sizes ---

    def size(self, source: Reader) -> Any:
        """A number, or a symbolic size that is not too complicated."""
        size = self._size(source, [MOST_NESTED])
        if isinstance(size, Dim):
            self._products *= len(size.terms)
            if len(size.terms) > MOST_TERMS or self._products > MOST_PRODUCTS:
                raise DeserializationError("symbolic sizes that are too complicated")
        return size

    def _size(self, source: Reader, nested: list[int]) -> Any:
        if source.number(1, "kind of size") == 0:
            return source.signed(LARGEST_SIZE)
        total: Any = 0
        for _ in range(source.count(MOST_TERMS, "terms")):
            term: Any = source.signed(LARGEST_SIZE)
            for _ in range(source.count(MOST_FACTORS, "factors")):
                atom = self._atom(source, nested)
                term = term * atom ** source.number(HIGHEST_POWER, "power")
                if isinstance(term, Dim) and len(term.terms) > MOST_TERMS:
                    raise DeserializationError("symbolic sizes that are too complicated")
            total = total + term
        return total

    def _atom(self, source: Reader, nested: list[int]) -> Any:
        operation = source.number(len(_OPERATIONS), "operation on sizes")
        if operation == 0:
            name = self.text(source)
            self.symbols.add(name)
            return dims.symbol(name)
        nested[0] -= 1
        if nested[0] < 0:
            raise DeserializationError("symbolic sizes that are too complicated")
        count = source.count(MOST_OPERANDS, "operands")
        operands = [self._size(source, nested) for _ in range(count)]
        if operation == 1:
            if count != 2:
                raise DeserializationError("a quotient has two operands")
            return operands[0] // operands[1]
        if not operands:
            raise DeserializationError("an extremum of nothing")
        return (dims.maximum if operation == 2 else dims.minimum)(*operands)

    # --- parameters ---

    def value(self, source: Reader) -> Any:
        """A parameter."""
        self._products = 1
        return self._value(source, 0)

    def _value(self, source: Reader, depth: int) -> Any:
        if depth > DEEPEST:
            raise DeserializationError(f"values nested more than {DEEPEST} deep")
        return self._makers[source.index(len(self._makers), "kind of value")](source, depth)

    def _items(self, source: Reader, depth: int) -> list[Any]:
        count = source.count(MOST_ITEMS, "items")
        return [self._value(source, depth + 1) for _ in range(count)]

    def _dict(self, source: Reader, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(source.count(MOST_ITEMS, "items")):
            key = self._value(source, depth + 1)
            if not isinstance(key, str | int):
                raise DeserializationError("a dict in a parameter has texts or integers as keys")
            found[key] = self._value(source, depth + 1)
        return found

    def _scalar(self, source: Reader) -> Any:
        dtype = self._dtype(source)
        if dtype not in dtypes.ARRAY_DTYPES:
            raise DeserializationError(f"there are no numbers of dtype {dtype}")
        data = bytes(source.raw(dtype.itemsize))
        if dtype == dtypes.bool_ and data not in (b"\0", b"\1"):
            raise DeserializationError("damaged: a truth value that is neither 0 nor 1")
        return np.frombuffer(data, _little(dtype)).astype(dtype)[0]

    def _record_type(self, source: Reader, enumeration: bool) -> Any:
        name = self.text(source)
        found = record_type(name)
        if found is None or issubclass(found, enum.Enum) is not enumeration:
            raise DeserializationError(f"there is no type of parameters {name!r}")
        return found

    def _member(self, source: Reader) -> Any:
        kind = self._record_type(source, True)
        name = self.text(source)
        if name not in kind.__members__:
            raise DeserializationError(f"{kind.__name__} has no member {name!r}")
        return kind.__members__[name]

    def _record(self, source: Reader, depth: int) -> Any:
        kind = self._record_type(source, False)
        known = param_fields(kind) or ()
        fields: dict[str, Any] = {}
        for _ in range(source.count(len(known), "fields")):
            name = self.text(source)
            if name not in known or name in fields:
                raise DeserializationError(f"{kind.__name__} has no field {name!r} here")
            fields[name] = self._value(source, depth + 1)
        try:
            return kind(**fields)
        except (TypeError, ValueError) as error:
            raise DeserializationError(f"{kind.__name__}: {error}") from None
