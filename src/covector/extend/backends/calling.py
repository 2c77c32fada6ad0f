"""Arguments and results of a compiled program: from arrays to memory and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.interpret import stored_form
from covector.core.program import Program, symbols_of
from covector.core.shapes import Binding

NumpyArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bound:
    """What a program is called with.

    Attributes:
        arguments: contiguous, aligned arrays in native byte order, to be read only.
        sizes: the run-time sizes, by name, in the order of `Signature.symbols`.
    """

    arguments: list[NumpyArray]
    sizes: Mapping[str, int]


class Signature:
    """What a program takes and returns, as memory.

    A PRNG key is its words, along one more axis at the end. All other arrays are kept as NumPy
    keeps them.

    Args:
        program: as the backend was given it.

    Attributes:
        symbols: the names of the sizes known at run time only.

    Example:
        >>> import covector as cv, numpy as np
        >>> program = cv.make_program(lambda x: x + 1)(cv.ShapeDtypeStruct((3,), "float32"))
        >>> signature = Signature(program)
        >>> call = signature.bind([np.zeros(3, np.float32)])
        >>> (result,) = signature.new_results(call.sizes)
        >>> result[:] = call.arguments[0] + 1
        >>> signature.wrap([result])
        [Array([1., 1., 1.], dtype=float32)]
    """

    def __init__(self, program: Program) -> None:
        self.symbols = tuple(symbols_of(program))
        self._inputs = [stored_form(aval) for aval in program.input_avals]
        self._avals = program.output_avals

    def bind(self, args: Sequence[Any]) -> Bound:
        """Brings arguments into the form in which compiled code reads them.

        Args:
            args: arrays, those that the executable was called with.

        Returns:
            Arrays of the dtypes that the program takes, and the run-time sizes.

        Raises:
            TypeError: if their number or dtypes are not the program's.
            ValueError: if their shapes are not.
        """
        if len(args) != len(self._inputs):
            raise TypeError(f"the program takes {len(self._inputs)} arguments, got {len(args)}")
        binding = Binding()
        arguments: list[NumpyArray] = []
        for k, (arg, (shape, dtype)) in enumerate(zip(args, self._inputs, strict=True)):
            value = as_array(arg)._value
            if value.dtype != dtype:
                raise TypeError(f"argument {k} is {value.dtype}, the program takes {dtype}")
            binding.add(f"argument {k}", shape, value.shape)
            arguments.append(np.require(value, requirements=["C", "A"]))
        sizes = binding.values()
        return Bound(arguments, {name: sizes[name] for name in self.symbols})

    def new_results(self, sizes: Mapping[str, int]) -> list[NumpyArray]:
        """Memory for results, uninitialised.

        Args:
            sizes: of the call.

        Returns:
            A contiguous array for each.
        """
        forms = [stored_form(aval) for aval in self._avals]
        return [np.empty(_concrete(shape, sizes), dtype) for shape, dtype in forms]

    def wrap(self, results: Sequence[NumpyArray]) -> list[Array]:
        """The arrays that an executable returns.

        Args:
            results: of the call, which nothing writes to from now on.

        Returns:
            Arrays with the dtypes and weak types of the program's results.
        """
        return [
            Array.of(value, _with_shape(aval, value.shape))
            for value, aval in zip(results, self._avals, strict=True)
        ]


def _concrete(shape: Sequence[Any], sizes: Mapping[str, int]) -> tuple[int, ...]:
    return tuple([n.evaluate(sizes) if isinstance(n, Dim) else int(n) for n in shape])


def _with_shape(aval: Aval, stored: tuple[int, ...]) -> Aval:
    return aval.update(shape=stored[: len(aval.shape)])
