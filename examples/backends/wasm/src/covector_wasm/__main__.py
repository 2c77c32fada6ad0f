"""Prints what passes of the conformance kit."""

from __future__ import annotations

import sys

from covector.testing import conformance

report = conformance("wasm", sys.argv[1:] or None)
print(report)
sys.exit(0 if report.ok else 1)
