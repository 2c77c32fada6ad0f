"""Reports on what functions compile to, and why; bars for loops that take long.

`jit(f).explain(*args)` and `covector explain` make the reports, `progress(lax.scan)` the bars.
"""

from covector.inspect.explanation import Report, explain
from covector.inspect.machine import Machine, this_machine
from covector.inspect.nests import BufferUse, Nest
from covector.inspect.progress import progress
from covector.inspect.sections import SECTIONS

__all__ = [
    "SECTIONS",
    "BufferUse",
    "Machine",
    "Nest",
    "Report",
    "explain",
    "progress",
    "this_machine",
]
