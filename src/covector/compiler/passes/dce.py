"""Dead code elimination."""

from __future__ import annotations

from dataclasses import dataclass

from covector.core.program import Program
from covector.ops.nested import prune


@dataclass(frozen=True)
class DeadCode:
    """Drops equations whose results are not used and that have no effects.

    ```
    b = sin a
    c = cos a      =>    b = sin a
    -> b                 -> b
    ```
    """

    name: str = "dce"

    def run(self, program: Program) -> Program:
        """The program without dead equations."""
        return prune(program)
