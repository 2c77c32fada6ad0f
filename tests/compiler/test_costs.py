"""Estimated costs of programs."""

from __future__ import annotations

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.costs import cost_of

X = np.ones((8, 4), np.float32)


@pytest.mark.parametrize(
    ("function", "flops", "transcendentals"),
    [
        (lambda x: x + x, 32, 0),
        (lambda x: cnp.exp(x) * 2, 32, 32),
        (lambda x: x @ x.T, 2 * 8 * 8 * 4, 0),
        (lambda x: x.sum(), 32, 0),
        (lambda x: lax.scan(lambda c, _: (c * 2.0, None), x, None, length=5)[0], 160, 0),
        (lambda x: cv.jit(cnp.sin)(x), 0, 32),
        (lambda x: lax.conv(x[None, None], x[None, None, :3, :3], (1, 1), "VALID"), 2 * 12 * 9, 0),
    ],
)
def test_work_is_counted(function, flops, transcendentals):
    cost = cost_of(cv.make_program(function)(X))
    assert (cost["flops"], cost["transcendentals"]) == (flops, transcendentals)


def test_loops_without_a_bound_are_counted_once():
    program = cv.make_program(lambda x: lax.while_loop(lambda c: c < 9.0, lambda c: c + 1, x))(1.0)
    assert cost_of(program)["unbounded loops"] == 1


def test_the_compiled_function_says_its_cost():
    many = np.ones((64, 3), np.float32)
    step = cv.vmap(lambda x: lax.scan(lambda c, _: (c * 2.0, None), x, None, length=5)[0])
    cost = cv.jit(step).lower(many).compile().cost_analysis()
    assert cost["flops"] == 64 * 3 * 5
    assert cost["bytes_in"] == cost["bytes_out"] == 64 * 3 * 4
