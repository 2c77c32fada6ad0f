"""Reports on what functions compile to, and why: `jit(f).explain(*args)`, `covector explain`."""

from covector.inspect.explanation import Report, explain
from covector.inspect.machine import Machine, this_machine
from covector.inspect.nests import BufferUse, Nest
from covector.inspect.sections import SECTIONS

__all__ = ["SECTIONS", "BufferUse", "Machine", "Nest", "Report", "explain", "this_machine"]
