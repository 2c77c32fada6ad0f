"""What an executable knows of its arguments: run-time sizes, and how long a call takes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array, KeyArray
from covector.core.avals import Aval
from covector.core.dims import Dim, DimSize
from covector.core.errors import CompilationError
from covector.loopir.ir import Block, For, Function, Parallel, Segment, Value, While, children

LONG = 10_000
"""Iterations of a loop from which on a call lets other Python threads run."""

Term = tuple[int, tuple[int, ...]]


class Signature:
    """Shapes in the form that `_native.Executable` takes them.

    A size is a number, or -(k + 1) for the k-th run-time size: first the symbols, then the
    expressions, polynomials in them.

    Args:
        symbols: the sizes that the compiled function is called with.
    """

    def __init__(self, symbols: Sequence[str]) -> None:
        self._symbols = list(symbols)
        self._numbers: dict[Dim, int] = {}
        self.expressions: list[tuple[Term, ...]] = []

    def input(self, aval: Aval) -> tuple[Any, ...]:
        """Shape and dtype of an argument."""
        return self._stored(aval)

    def result(self, aval: Aval) -> tuple[Any, ...]:
        """Shape, dtype and weak type of a result, and for keys what makes an array of words."""
        shape, dtype = self._stored(aval)
        if type(aval.dtype) is not dtypes.KeyDType:
            return shape, dtype, aval.weak_type

        def wrap(data: np.ndarray[Any, Any]) -> Array:
            return KeyArray.of(data, aval.update(shape=data.shape[:-1]))

        return shape, dtype, False, wrap

    def _stored(self, aval: Aval) -> tuple[tuple[int, ...], Any]:
        shape = tuple([self._size(n) for n in aval.shape])
        if type(aval.dtype) is dtypes.KeyDType:
            return (*shape, aval.dtype.words), np.dtype(np.uint32)
        return shape, aval.dtype

    def _size(self, size: DimSize) -> int:
        if type(size) is not Dim:
            return int(size)
        if str(size) in self._symbols:
            return -1 - self._symbols.index(str(size))
        known = self._numbers.get(size)
        if known is None:
            known = self._numbers[size] = len(self._symbols) + len(self.expressions)
            self.expressions.append(self._polynomial(size))
        return -1 - known

    def _polynomial(self, size: Dim) -> tuple[Term, ...]:
        terms: list[Term] = []
        for monomial, coefficient in size.terms:
            factors: list[int] = []
            for atom, power in monomial:
                if not isinstance(atom, str) or atom not in self._symbols:
                    raise CompilationError(
                        f"an array of size {size} is an argument or result: compiled code takes "
                        "sums and products of the sizes of arguments\n"
                        "  fix: trace with concrete shapes"
                    )
                factors += [self._symbols.index(atom)] * power
            terms.append((coefficient, tuple(factors)))
        return tuple(terms)


# --- how long a call takes ------------------------------------------------------------------------


def is_long(function: Function, sizes: Sequence[int] | None) -> bool:
    """Whether a call takes so long that releasing the interpreter lock is worth it.

    Args:
        function: what is called.
        sizes: the run-time sizes, where they are known.
    """
    return _iterations(function.body, sizes) >= LONG


def _iterations(block: Block, sizes: Sequence[int] | None) -> int:
    total = 0
    for item in block.items:
        if type(item) is Value:
            continue
        if isinstance(item, Segment):
            total += _iterations(item.function.body, sizes)
            continue
        if isinstance(item, Parallel):
            return LONG
        inner = 1 + sum([_iterations(child, sizes) for child in children(item)])
        if isinstance(item, For):
            trips = _trips(item, sizes)
            inner *= LONG if trips is None else max(trips, 1)
        elif isinstance(item, While):
            inner *= LONG
        total += inner
    return total


def _trips(loop: For, sizes: Sequence[int] | None) -> int | None:
    if loop.trips is not None or sizes is None:
        return loop.trips
    lower, upper = _number(loop.lower, sizes), _number(loop.upper, sizes)
    if upper is None:
        return None
    return max(0, -(-(upper - (lower or 0)) // loop.step))


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "index_div": lambda a, b: a // max(b, 1),
}


def _number(value: Value, sizes: Sequence[int]) -> int | None:
    """The most that an index can be, `None` if nothing is known."""
    if value.op == "const":
        return int(value.attr)
    if value.op == "dim":
        return sizes[int(value.attr)]
    found = [_number(a, sizes) for a in value.args]
    known: list[int] = [n for n in found if n is not None]
    if value.op == "min" and known:
        return min(known)
    operation = _ARITHMETIC.get(value.op)
    if operation is None or len(known) < 2:
        return None
    return int(operation(known[0], known[1]))
