"""The reference backend: programs run by the interpreter, one `evaluate` rule at a time.

It is slow and obviously right, so it is the oracle that other backends are tested against.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.compiler.costs import cost_of
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.backend import Options
from covector.core.interpret import run, stored_form
from covector.core.program import Program, Variable, all_equations, count_equations

_STAGES = ("", "program")


class ReferenceBackend:
    """Runs programs on NumPy and SciPy.

    There is one level of effort.
    """

    name = "reference"

    def compile(self, program: Program, options: Options) -> Interpreted:
        """Makes a program executable."""
        return Interpreted(program, options.name or program.name)


class Interpreted:
    """A program that the interpreter runs when it is called.

    Example:
        >>> from covector.core.parsing import parse
        >>> same = ReferenceBackend().compile(parse("program (a: i32[]) {\\n} -> a"), Options())
        >>> same(3)
        [Array(3, dtype=int32)]
    """

    def __init__(self, program: Program, name: str) -> None:
        self._program = program
        self._name = name

    def __call__(self, *args: Any) -> Sequence[Array]:
        try:
            results = run(self._program, *[as_array(a)._value for a in args])
        except BaseException:
            for equation in all_equations(self._program):
                if equation.primitive.name == "progress":
                    equation.params["meter"].aborted()
            raise
        # Outputs with symbolic dimensions have the shapes of the results.
        return [
            Array.of(value, _concrete(aval, value))
            for value, aval in zip(results, self._program.output_avals, strict=True)
        ]

    def as_text(self, stage: str = "") -> str:
        """The program: the interpreter compiles nothing, so there is one stage.

        Raises:
            ValueError: another stage was asked for.
        """
        if stage not in _STAGES:
            raise ValueError(f"the reference backend has the stage 'program', not {stage!r}")
        return self._program.as_text()

    def cost(self) -> dict[str, Any]:
        """Counts over the program, the bodies of loops taken once.

        Returns:
            `equations`: how many are evaluated; `bytes`: what they and the inputs take if nothing
            is freed; and what `covector.compiler.costs.cost_of` estimates.
        """
        return {
            **cost_of(self._program),
            "equations": count_equations(self._program),
            "bytes": sum([_bytes(v) for v in _variables(self._program)]),
        }

    def __repr__(self) -> str:
        return f"<interpreted program {self._name or '(unnamed)'}>"


def _concrete(aval: Aval, value: Any) -> Aval:
    shape, _ = stored_form(aval)
    return aval.update(shape=value.shape[: len(aval.shape)]) if value.shape != shape else aval


def _variables(program: Program) -> list[Variable]:
    return [*program.inputs, *[v for e in program.equations for v in e.outputs]]


def _bytes(variable: Variable) -> Any:
    return variable.aval.size * variable.aval.dtype.itemsize
