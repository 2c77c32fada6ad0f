"""Parts of programs that another backend runs: `offload`, which backends put into programs.

All transformations have been done by then, so that it has no derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from covector.core.avals import Aval, same_type
from covector.core.interpret import stored_form
from covector.core.primitive import Primitive, unsupported
from covector.core.program import Program
from covector.loopir.tensor import Lowering, Stored, Tensor

NumpyArray = np.ndarray[Any, Any]


class Part(Protocol):
    """A program with something that runs it.

    Attributes:
        program: what it computes, of arrays whose sizes are numbers.
    """

    program: Program

    def run(self, operands: Sequence[NumpyArray]) -> list[NumpyArray]:
        """Runs it on arrays that may be written to as soon as it returns."""
        ...


def _shape(*avals: Aval, part: Part) -> list[Aval]:
    wanted = part.program.input_avals
    if len(avals) != len(wanted) or not all(map(same_type, avals, wanted)):
        raise TypeError(f"offload: the part takes {wanted}, got {list(avals)}")
    return part.program.output_avals


def _evaluate(*operands: Any, part: Part) -> list[Any]:
    return part.run([np.require(x, requirements=["C", "A"]) for x in operands])


def _lower(b: Lowering, *tensors: Tensor, part: Part) -> list[Tensor]:
    operands = [b.stored(t) for t in tensors]
    results: list[Stored] = []
    for k, aval in enumerate(part.program.output_avals):
        shape, dtype = stored_form(aval)
        results.append(b.new(shape, dtype, k))
    inputs = [(t.shape, t.dtype) for t in operands]
    outputs = [(t.shape, t.dtype, False) for t in results]
    number = b.callback((part.run, inputs, outputs))
    b.builder.callback(number, [t.buffer for t in operands], [t.buffer for t in results])
    return list(results)


_DONE = "parts are given to other backends when transformations are done"

offload = Primitive(
    "offload",
    shape=_shape,
    evaluate=_evaluate,
    jvp=unsupported(_DONE),
    transpose=unsupported(_DONE),
    batch=unsupported(_DONE),
    lanes=unsupported("the other backend sees all lanes at once"),
    lower=_lower,
    multiple_results=True,
    tags=frozenset({"callback", "control"}),
)
"""Runs a program elsewhere.

Params:
    part: the program, and what runs it.
"""
