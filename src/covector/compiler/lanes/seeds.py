"""Where lanes may begin: the operands of a loop along whose axes it may separate.

From one of them lanes are followed to others: forwards to what is computed of it, iteration after
iteration, and sideways to what is computed with. To begin at one of those leads to the same lanes
again, and to the same objections.
"""

from __future__ import annotations

from collections.abc import Sequence

from covector.compiler.lanes.flow import Axis, Blocked, State
from covector.compiler.lanes.regions import followed
from covector.core.dims import DimSize
from covector.core.program import Equation, Program
from covector.ops.common import Inseparable


class Tried:
    """The beginnings that were tried in vain for a loop.

    Args:
        program: what is separated.
        loop: a loop in it.
    """

    def __init__(self, program: Program, loop: Equation) -> None:
        self._program = program
        self._loop = loop
        self._found: set[tuple[DimSize, int, int]] = set()
        self._over_steps = False
        self._at_once: set[DimSize] = set()

    def add(self, axis: Axis, seed: Sequence[State]) -> None:
        """Notes that the loop does not separate with given states of its operands."""
        if along_steps(self._loop, seed):
            self._over_steps = True
            return
        try:
            step = followed(self._program, self._loop, axis, seed)
        except (Blocked, Inseparable):
            return  # how far the lanes would have gone is not known
        self._found.update(_places(axis, step.ins))

    def covers(self, axis: Axis, seed: Sequence[State]) -> bool:
        """Whether the lanes of a beginning tried before came by here, or met what these meet."""
        if self._over_steps and along_steps(self._loop, seed):
            return True
        return self._found.issuperset(_places(axis, seed))

    def first_at_once(self, axis: Axis) -> bool:
        """Whether lanes are to begin in all operands at once for the first time."""
        first = axis.size not in self._at_once
        self._at_once.add(axis.size)
        return first


def along_steps(loop: Equation, seed: Sequence[State]) -> bool:
    """Whether lanes begin along the axis whose elements a scan visits one after the other."""
    if loop.primitive.name != "scan":
        return False
    first_x = loop.params["num_consts"] + loop.params["num_carry"]
    return any([state == 0 and type(state) is int for state in seed[first_x:]])


def every_operand(loop: Equation, axis: Axis) -> list[State]:
    """Lanes that begin in all operands of a loop at once which have one axis of that size."""
    states: list[State] = []
    first_x = len(loop.inputs)
    if loop.primitive.name == "scan":
        first_x = loop.params["num_consts"] + loop.params["num_carry"]
    for k, atom in enumerate(loop.inputs):
        dims = [d for d, n in enumerate(atom.aval.shape) if n == axis.size]
        dims = [d for d in dims if d > 0 or k < first_x]
        states.append(dims[0] if len(dims) == 1 else None)
    return states


def _places(axis: Axis, states: Sequence[State]) -> list[tuple[DimSize, int, int]]:
    return [(axis.size, k, state) for k, state in enumerate(states) if type(state) is int]
