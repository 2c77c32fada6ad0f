"""Carries of a scan that never change: for its derivative they are consts."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

from covector.core.program import Program
from covector.ops.nested import chosen, others, split

Linear = Callable[[Sequence[Any], Sequence[Any]], list[Any]]
Result = tuple[list[Any], list[bool], Linear, list[Any]]
"""What a linearize rule gives."""


def fixed_carries(program: Program, num_consts: int, num_carry: int) -> list[bool]:
    """Which carries of a loop's body are results as they were given."""
    carry = program.inputs[num_consts : num_consts + num_carry]
    return [a is v for a, v in zip(program.outputs, carry, strict=False)]


_without_fixed: weakref.WeakKeyDictionary[Program, Program] = weakref.WeakKeyDictionary()


class WithoutFixed:
    """A loop whose carries that never change are consts instead, of which nothing is stacked.

    Args:
        program: `consts, carry, xs -> carry, ys`.
        num_consts: how many consts it has.
        fixed: which carries never change.

    Attributes:
        params: the parameters of the other loop.
    """

    def __init__(self, program: Program, num_consts: int, fixed: list[bool]) -> None:
        self._sizes = (num_consts, len(fixed))
        self._fixed = fixed
        body = _without_fixed.get(program)
        if body is None:
            carry, ys = split(program.outputs, len(fixed))
            body = program.replace(
                inputs=self._regrouped(program.inputs), outputs=[*others(carry, fixed), *ys]
            )
            # Transformations of a program are remembered as long as the program is there.
            _without_fixed[program] = body
        count = sum(fixed)
        self.params: dict[str, Any] = {
            "program": body,
            "num_consts": num_consts + count,
            "num_carry": len(fixed) - count,
        }

    def _regrouped(self, items: Sequence[Any]) -> list[Any]:
        consts, carry, xs = split(items, *self._sizes)
        return [*consts, *chosen(carry, self._fixed), *others(carry, self._fixed), *xs]

    def given(
        self, primals: Sequence[Any], nonzero: Sequence[bool]
    ) -> tuple[list[Any], list[bool]]:
        """Operands of the other loop, and which of them have tangents."""
        return self._regrouped(primals), self._regrouped(nonzero)

    def restored(
        self,
        primals: Sequence[Any],
        nonzero: Sequence[bool],
        result: Result,
    ) -> Result:
        """What the linearize rule gives for the loop as it was."""
        outs, nonzero_out, inner, residuals = result
        given = list(nonzero)

        def linear(residuals: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
            left = iter(tangents)
            every = [next(left) if nz else None for nz in given]
            results = iter(inner(residuals, [t for t in self._regrouped(every) if t is not None]))
            found = [next(results) if nz else None for nz in nonzero_out]
            return [t for t in self._merged(every, found) if t is not None]

        return self._merged(primals, outs), self._merged(given, nonzero_out), linear, residuals

    def _merged(self, operands: Sequence[Any], results: Sequence[Any]) -> list[Any]:
        """Results with those of the fixed carries in their places."""
        _, carry, _ = split(operands, *self._sizes)
        left = iter(results)
        merged = [c if f else next(left) for c, f in zip(carry, self._fixed, strict=True)]
        return [*merged, *left]
