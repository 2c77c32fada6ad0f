"""Measured errors of functions: within what is promised, and in the table of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from covector.testing import accuracy

PAGE = Path(__file__).parents[2] / "docs" / "mathematics.md"
FOUR = ("erfc", "erf_inv", "digamma", "lgamma", "pow", "asinh", "acosh", "atanh")
FUNCTIONS = sorted(accuracy.functions())


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_are_as_promised(name: str) -> None:
    for dtype, count in (("float32", 3000), ("float64", 100)):
        error = accuracy.measure(name, dtype, count, refine=50)
        assert error.ulp <= (4 if name in FOUR else 2), error
        assert error.samples > count / 2


def test_every_function_has_a_row_in_the_documentation_and_keeps_to_it() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \| [^|]+ \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE
    )
    assert sorted(name for name, _, _ in rows) == FUNCTIONS
    for name, single, double in rows:
        assert max(float(single), float(double)) <= (4 if name in FOUR else 2)


def test_a_wrong_result_is_seen() -> None:
    x = np.float32([1.0, 2.0])
    exact = accuracy.exact("exp", [x.astype(np.float64)])
    right = exact.astype(np.float32)
    assert np.all(accuracy.units("exp", [x], right, exact) <= 0.5)
    off = np.nextafter(right, np.float32(np.inf))
    assert np.all(accuracy.units("exp", [x], off, exact) > 0.5)
    assert np.all(np.isinf(accuracy.units("exp", [x], x * np.nan, exact)))
