"""Functions of numbers and arrays, built in loop IR."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.extend.loopir import Buffer, Builder, Function, Value

INDEX = np.dtype(np.int64)
STATUS = np.dtype(np.int32)

_ANY_SIZE = 1 << 40


class Routine:
    """A function of a module that is neither an entry nor a helper.

    Args:
        name: in the module.
        function: its loop IR.
        parameters: values and buffers that it is given, in order.
        positions: where these are among the arguments of calls in loop IR; by default the first.

    Attributes:
        name: in the module.
        function: its loop IR.
        parameters: as above.
    """

    def __init__(
        self,
        name: str,
        function: Function,
        parameters: Sequence[Value | Buffer],
        positions: Sequence[int] | None = None,
    ) -> None:
        self.name = name
        self.function = function
        self.parameters = tuple(parameters)
        self._positions = range(len(self.parameters)) if positions is None else positions

    def passed(self, args: Sequence[Any]) -> list[Any]:
        """Those arguments of a call that the function is given."""
        return [args[k] for k in self._positions]


class RoutineBuilder(Builder):
    """Builds a routine: parameters are asked for in the order of the call's arguments.

    Args:
        name: of the routine.
    """

    __slots__ = ("_given", "_seen", "_taken")

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._given: list[Value | Buffer] = []
        self._taken: list[int] = []
        self._seen = 0

    def skip(self, count: int = 1) -> None:
        """The next arguments are not needed."""
        self._seen += count

    def number(self, dtype: Any = INDEX) -> Value:
        """The next argument, a number."""
        return self._next_parameter(self.parameter(dtype))

    def numbers(self, count: int) -> list[Value]:
        """The next arguments, indices."""
        return [self.number() for _ in range(count)]

    def array(self, dtype: Any) -> Buffer:
        """The next argument, the address of an array that may be read and written."""
        return self._next_parameter(self.result(np.dtype(dtype), (_ANY_SIZE,)))

    def _next_parameter(self, parameter: Any) -> Any:
        self._given.append(parameter)
        self._taken.append(self._seen)
        self._seen += 1
        return parameter

    def routine(self, *returns: Any) -> Routine:
        """Ends the function.

        Args:
            *returns: what it returns; by default a status, 0.
        """
        function = self.finish(*(returns or (self.const(0, STATUS),)))
        return Routine(f"library.{function.name}", function, self._given, self._taken)

    # Shorter names for what the library uses most

    def add(self, x: Any, y: Any) -> Any:
        """x + y."""
        return self.op("add", x, y)

    def sub(self, x: Any, y: Any) -> Any:
        """x - y."""
        return self.op("sub", x, y)

    def mul(self, x: Any, y: Any) -> Any:
        """x * y."""
        return self.op("mul", x, y)
