"""A simulated systolic-array accelerator as a backend for Covector."""

from __future__ import annotations

from covector_accelerator.backend import Accelerator
from covector_accelerator.isa import AssemblyError, assembly, parse
from covector_accelerator.machine import Machine
from covector_accelerator.reports import Report, measuring, report
from covector_accelerator.timing import Counters

__all__ = [
    "Accelerator",
    "AssemblyError",
    "Counters",
    "Machine",
    "Report",
    "assembly",
    "measuring",
    "parse",
    "report",
]
