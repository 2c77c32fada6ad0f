"""Transposes around products: made by the product itself, with equal results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.pipeline import run_passes
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program, all_equations

RNG = np.random.default_rng(5)


def count(program: Program, name: str) -> int:
    return sum(e.primitive.name == name for e in all_equations(program))


def rewritten(function: Callable[..., Any], *args: Any) -> Program:
    """The program after all passes, after checking that it computes the same as before."""
    program = cv.make_program(function)(*args)
    after = run_passes(program)
    for found, wanted in zip(run(after, *args), run(program, *args), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    return after


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("function", "shapes", "left"),
    [
        (lambda x, y: x.T @ y, ((3, 2), (3, 4)), 0),
        (lambda x, y: x.T @ y.T, ((3, 2), (4, 3)), 0),
        (lambda x, y: (x @ y).T, ((2, 3), (3, 4)), 0),
        (lambda x, y: (x.T @ y).T + 1.0, ((3, 2), (3, 4)), 0),
        (lambda x, y: cnp.swapaxes(cnp.swapaxes(x, 1, 2) @ y, 1, 2), ((5, 3, 2), (5, 3, 4)), 0),
        (lambda x, y: cnp.swapaxes(x, 0, 1) @ y, ((2, 5, 3), (5, 3, 4)), 0),
        # The product is read otherwise, too.
        (lambda x, y: (x @ y).T @ (x @ y), ((2, 3), (3, 4)), 0),
        (lambda x, y: ((z := x @ y).T, z), ((2, 3), (3, 4)), 1),
        # Free axes in another order are the product's business, not the operand's.
        (lambda x, y: cnp.transpose(x, (1, 0, 2)) @ y, ((2, 5, 3), (3, 4)), 1),
        (lambda x, y: cnp.tensordot(x, y, 1).transpose(2, 1, 0), ((2, 5, 3), (3, 4)), 1),
    ],
)
def test_values_and_transposes_left(
    function: Callable[..., Any], shapes: tuple[tuple[int, ...], ...], left: int
) -> None:
    after = rewritten(function, *[normal(*shape) for shape in shapes])
    assert count(after, "transpose") == left


def test_inside_loops_and_in_derivatives() -> None:
    def loss(w: Any, x: Any) -> Any:
        return lax.scan(lambda x, _: (cnp.tanh(x @ w), None), x, None, length=3)[0].sum()

    args = normal(4, 4), normal(3, 4)
    assert count(rewritten(cv.grad(loss), *args), "transpose") == 0
    with config.override("disable", "transposes"):
        assert count(run_passes(cv.make_program(cv.grad(loss))(*args)), "transpose") > 0
