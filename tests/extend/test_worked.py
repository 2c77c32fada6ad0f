"""Five operations of users, each checked in every way, and short."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.extend import worked

import covector as cv
from covector.testing import check_op

RNG = np.random.default_rng(0)
TABLE = np.array([-2.0, -0.7, 0.4, 1.1, 2.5])
MATHEMATICS = {"lambertw", "interpolate", "segmented_sum", "laplacian", "rosenbrock"}


@pytest.fixture(autouse=True)
def _wide():
    with cv.enable_x64(True):
        yield


def check(op: Any, *args: Any) -> None:
    report = check_op(op, *args)
    assert not [c for c in report.checks if c.status == "FAILED"]
    done = {c.name for c in report.checks if c.status == "ok"}
    assert {"derivative 1, rev", "vmap of vmap"} <= done


def test_lambert_w() -> None:
    check(worked.lambertw, np.array([0.5, 1.25, 3.0]))


def test_interpolation() -> None:
    check(worked.interpolate, np.array([-1.9, 0.1, 2.1]), TABLE, RNG.normal(size=5))


def test_segmented_sums() -> None:
    check(worked.segmented_sum, RNG.normal(size=7), np.array([1, 0, 0, 1, 1, 0, 0], bool))


def test_a_stencil() -> None:
    check(worked.laplacian, RNG.normal(size=(4, 5)))


def test_c_through_cffi(library: str) -> None:
    pytest.importorskip("cffi")
    check(worked.through_cffi(library), np.array([0.5, -1.25, 3.0]), np.int32(2))


def test_c_through_numba() -> None:
    pytest.importorskip("numba")
    check(worked.through_numba(), np.array([0.5, -1.25, 3.0]), np.array([0.1, 0.2, 0.3]))


def test_what_is_not_mathematics_is_short() -> None:
    """Statements of each section, but for the body of the function that it is about."""
    source = Path(worked.__file__).read_text()
    _, *sections = source.split("# --- ")
    assert len(sections) == 5
    for section in sections:
        tree = ast.parse(section.partition("\n")[2])
        lines = {
            line for node in ast.walk(tree) if isinstance(node, ast.stmt) for line in _of(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name in MATHEMATICS:
                lines -= {line for inner in node.body for line in _of(inner)}
        # The last section has two operations.
        assert len(lines) <= (40 if "C functions" in section else 20), section


def _of(node: Any) -> range:
    first = min([node.lineno, *[d.lineno for d in getattr(node, "decorator_list", ())]])
    return range(first, node.end_lineno + 1)
