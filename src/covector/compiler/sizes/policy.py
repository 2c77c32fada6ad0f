"""Which programs are worth code for all sizes.

- Loops over a batch that run in lanes are compiled for all sizes at once: a lane does not know how
  many there are.
- Loops that carry arrays of the size itself are compiled for each size: few elements live in
  registers, and what is done with many depends on how many they are.
- So are products of matrices outside of lanes, unless the matrices are small: which rows and
  columns a library or a tile takes is decided by their number.
- Other programs without loops are compiled for all sizes too, unless their arrays are large: how
  threads share work on these depends on their sizes.
"""

from __future__ import annotations

from math import prod

from covector.compiler.lanes.regions import is_loop
from covector.compiler.sizes.extents import sizes_of
from covector.compiler.sizes.generalise import General
from covector.core.avals import Shape
from covector.core.dims import Dim
from covector.core.program import Equation, Program, all_equations, subprograms

LARGE = 2**18
"""Elements of an array from which on a program without loops is compiled for its size."""


def too_large(general: General) -> bool:
    """Whether a program without loops has arrays for which one compiles code of their own."""
    if any([is_loop(e) for e in all_equations(general.program)]):
        return False
    program = general.program
    arrays = [*program.inputs, *[v for e in program.equations for v in e.outputs]]
    return any([_elements(v.aval.shape, general.values) >= LARGE for v in arrays])


def _elements(shape: Shape, values: dict[str, int]) -> int:
    return prod([n.evaluate(values) if type(n) is Dim else int(n) for n in shape])


SMALL_PRODUCT = 1024
"""Elements of a matrix, apart from symbolic sizes, from which on its products are for its size."""


class SpecialSizes(Exception):
    """A program is to be compiled for its own sizes; the text says why."""


def checked(program: Program) -> Program:
    """The program, unless arrays of a symbolic size go through loops or large products.

    A lane does not know how many there are, so loops in lanes may; what has another symbolic size
    there, each lane would make for itself, and where lanes keep arrays has a known size.

    Raises:
        SpecialSizes: naming the equation.
    """
    for equation in program.equations:
        if equation.primitive.name == "lanes":
            for nested in subprograms(equation.params):
                _check_lane(equation, checked(nested))
        if equation.primitive.name == "dot_general" and _known_work(equation) >= SMALL_PRODUCT:
            raise SpecialSizes(
                f"dot_general{_place(equation)}: it is made for the size of matrices"
            )
        size = next(sizes_of(Program([], [equation], [])), None) if is_loop(equation) else None
        if size is not None:
            raise SpecialSizes(
                f"{equation.primitive.name}{_place(equation)}: arrays of size {size} go "
                "through it, and it does not run in lanes"
            )
    return program


def _check_lane(lanes: Equation, program: Program) -> None:
    """Refuses arrays of a symbolic size in lanes; they may read those that all of them share."""
    shapes = [v.aval.shape for e in program.equations for v in e.outputs]
    size = next((n for shape in shapes for n in shape if type(n) is Dim), None)
    if size is not None:
        raise SpecialSizes(f"lanes{_place(lanes)}: each has an array of size {size}")


def _place(equation: Equation) -> str:
    return f" at {equation.location}" if equation.location is not None else ""


def _known_work(equation: Equation) -> int:
    """Multiplications of a product of matrices for each element of its symbolic sizes."""
    shapes = [a.aval.shape for a in (*equation.inputs, *equation.outputs)]
    if not any([type(n) is Dim for shape in shapes for n in shape]):
        return 0
    return max([prod([n for n in shape if type(n) is int]) for shape in shapes])


def has_uniform_results(program: Program) -> bool:
    """Whether lanes of a number known at run time have results that are the same for all of them.

    Without any lane nothing would compute these.
    """
    return any(
        [
            e.primitive.name == "lanes"
            and type(e.params["length"]) is Dim
            and None in e.params["out_dims"]
            for e in all_equations(program)
        ]
    )
