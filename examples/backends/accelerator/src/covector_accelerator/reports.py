"""What calls took on the accelerator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

from covector.extend.backends import get_backend
from covector_accelerator.backend import Accelerator
from covector_accelerator.machine import Machine
from covector_accelerator.timing import Counters


@dataclass
class Report:
    """What was done with an accelerator; printed, it is a table.

    Attributes:
        machine: its parameters.
        counters: what was counted.
        result: what the function returned, of `report`.
    """

    machine: Machine
    counters: Counters
    result: Any = None

    @property
    def seconds(self) -> float:
        """The time of transfers and runs, one after the other."""
        return (self.counters.cycles + self.counters.link_cycles) / self.machine.clock_hz

    @property
    def utilisation(self) -> float:
        """The multiplications that were made, of those the array could have made in that time."""
        return self.counters.utilisation(self.machine)

    @property
    def joules(self) -> float:
        """All energy."""
        return self.counters.picojoules * 1e-12

    def __str__(self) -> str:
        c = self.counters
        busy = c.macs / (c.busy * self.machine.rows * self.machine.columns) if c.busy else 0.0
        energy = ", ".join([f"{name} {pj * 1e-6:,.3g}" for name, pj in c.energy.items() if pj])
        rows = {
            "parts run": f"{c.runs:,} ({c.instructions:,} instructions)",
            "cycles": f"{c.cycles:,.0f} running, {c.link_cycles:,.0f} for transfers",
            "time": f"{self.seconds * 1e6:,.1f} us at {self.machine.clock_hz / 1e6:,.0f} MHz",
            "array": f"{c.macs:,} multiplications, utilisation {self.utilisation:.1%} "
            f"({busy:.0%} while it multiplied)",
            "vector unit": f"{c.vector_elements:,} elements",
            "link": f"{c.link_in:,} bytes in, {c.link_out:,} out",
            "dram": f"{c.dram_read:,} bytes read, {c.dram_written:,} written",
            "scratchpad": f"{c.scratchpad:,} bytes",
            "energy": f"{self.joules * 1e6:,.3g} uJ: {energy}",
        }
        width = max(map(len, rows))
        return "\n".join([f"{name:<{width}}  {text}" for name, text in rows.items()])


@contextlib.contextmanager
def measuring(backend: str = "accelerator") -> Generator[Report]:
    """Counts what this thread does with an accelerator in a `with` block.

    Args:
        backend: name of the backend.

    Yields:
        The report, which is complete when the block ends.

    Raises:
        TypeError: if the backend is no accelerator.
    """
    found = get_backend(backend)
    if not isinstance(found, Accelerator):
        raise TypeError(f"the backend {backend!r} is no Accelerator, but a {type(found).__name__}")
    with found.chip.counting() as counters:
        yield Report(found.chip.machine, counters)


def report(
    function: Callable[..., Any], *args: Any, backend: str = "accelerator", **kwargs: Any
) -> Report:
    """What a call of a function takes on an accelerator.

    Args:
        function: jitted for it, or a function that calls such functions.
        args: its arguments.
        backend: name of the backend.
        kwargs: keyword arguments of the function.

    Returns:
        The report; the function's result is in it.
    """
    with measuring(backend) as found:
        found.result = function(*args, **kwargs)
    return found
