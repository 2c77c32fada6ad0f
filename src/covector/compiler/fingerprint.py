"""What a program is compiled from, as a short text that means the same in every process.

Two programs with one fingerprint compile to the same code: it covers the equations with their
parameters, the avals of the inputs and the contents of all constants, but neither names nor source
lines. Programs that depend on something outside of themselves, as a Python function or a primitive
that a user defined, have none.
"""

from __future__ import annotations

import enum
import hashlib
from typing import Any, cast

import numpy as np

from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.dtypes import KeyDType
from covector.core.program import Atom, Equation, Program, Variable, subprograms

_PACKAGE = __name__.partition(".")[0] + "."
_PLAIN = (int, bool, str, bytes, type(None))


class _Unstable(Exception):
    """Something in the program has no text that means the same in another process."""


def fingerprint(program: Program) -> str | None:
    """Identifies what a program computes.

    Args:
        program: any program.

    Returns:
        Hexadecimal digits, or `None` for a program that cannot be identified by a text.

    Example:
        >>> import covector as cv
        >>> first = cv.jit(lambda x: x + 1).trace(2.0).program
        >>> second = cv.jit(lambda y: y + 1).trace(3.0).program
        >>> fingerprint(first) == fingerprint(second)
        True
    """
    writer = _Writer()
    try:
        return writer.program(program)
    except _Unstable:
        return None


def digest(*parts: str | bytes | memoryview) -> str:
    """A hash of texts, each told from the next.

    Args:
        parts: texts or bytes.

    Returns:
        Hexadecimal digits.
    """
    state = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(len(data).to_bytes(8, "little"))
        state.update(data)
    return state.hexdigest()


class _Writer:
    """Writes programs, each nested one once."""

    def __init__(self) -> None:
        self._avals: dict[Aval, str] = {}
        self._programs: dict[int, str] = {}
        self._literals: dict[int, str] = {}

    def program(self, program: Program) -> str:
        known = self._programs.get(id(program))
        if known is None:
            known = self._programs[id(program)] = digest("\n".join(self._lines(program)))
        return known

    def _lines(self, program: Program) -> list[str]:
        numbers: dict[Any, str] = {}
        lines = [self._aval(v.aval) for v in program.inputs]
        for variable in program.inputs:
            numbers[variable] = str(len(numbers))
        for equation in program.equations:
            atoms = ",".join([self._atom(a, numbers) for a in equation.inputs])
            for variable in equation.outputs:
                numbers[variable] = str(len(numbers))
            lines.append(f"{self._operation(equation)}({atoms}){len(equation.outputs)}")
        lines.append(",".join([self._atom(a, numbers) for a in program.outputs]))
        return lines

    def _operation(self, equation: Equation) -> str:
        primitive, params = equation.primitive, equation.params
        if primitive.decompose is not None:
            made_of = primitive.decompose(*[a.aval for a in equation.inputs], **params)
            if made_of is not None:
                return "call " + self.program(made_of)
        if not primitive.built_in:
            raise _Unstable
        if "call" in primitive.tags:  # it is inlined, and has no meaning besides its program
            return "call " + ",".join([self.program(p) for p in subprograms(params)])
        if not params:
            return primitive.name
        texts = [f"{name}={self._param(value)}" for name, value in params.items()]
        return f"{primitive.name}[{';'.join(texts)}]"

    def _atom(self, atom: Atom, numbers: dict[Any, str]) -> str:
        if type(atom) is Variable:
            return numbers[atom]
        known = self._literals.get(id(atom))
        if known is None:
            data = np.ascontiguousarray(cast("Any", atom).value._value)
            content = data.tobytes().hex() if data.nbytes <= 16 else digest(_bytes_of(data))
            known = self._literals[id(atom)] = f"{self._aval(atom.aval)}:{content}"
        return known

    def _aval(self, aval: Aval) -> str:
        known = self._avals.get(aval)
        if known is None:
            shape, dtype = ",".join(map(str, aval.shape)), self._dtype(aval.dtype)
            known = self._avals[aval] = f"{dtype}<{shape}>{'w' if aval.weak_type else ''}"
        return known

    def _dtype(self, dtype: Any) -> str:
        if isinstance(dtype, KeyDType):
            return dtype.name
        return f"{dtype.name}/{dtype.itemsize}{'' if dtype.names is None else dtype.descr}"

    def _param(self, value: Any) -> str:
        kind = cast("type[Any]", type(value))
        if kind in _PLAIN:
            return repr(value)
        if kind is float:
            return value.hex()
        if kind is complex:
            return f"{value.real.hex()}+{value.imag.hex()}j"
        if kind is Program:
            return f"{{{self.program(value)}}}"
        if kind is Aval:
            return self._aval(value)
        if kind in (tuple, list):
            return f"{kind.__name__}({','.join([self._param(v) for v in value])})"
        if kind is dict:
            return f"dict({','.join([self._param(pair) for pair in value.items()])})"
        return self._special(kind, value)

    def _special(self, kind: type[Any], value: Any) -> str:
        if isinstance(value, np.dtype | KeyDType):
            return self._dtype(value)
        if isinstance(value, np.generic | np.ndarray):
            data: Any = np.ascontiguousarray(cast("Any", value))
            return f"{self._dtype(data.dtype)}{data.shape}:{digest(_bytes_of(data))}"
        if isinstance(value, Dim):
            return f"dim {value}"
        own = kind.__module__.startswith(_PACKAGE)
        if own and isinstance(value, enum.Enum):
            return f"{kind.__qualname__}.{value.name}"
        if own and isinstance(value, tuple):
            items = cast("tuple[Any, ...]", value)
            return f"{kind.__qualname__}({','.join([self._param(v) for v in items])})"
        raise _Unstable


def _bytes_of(array: Any) -> memoryview:
    return memoryview(array.reshape(-1).view(np.uint8))
