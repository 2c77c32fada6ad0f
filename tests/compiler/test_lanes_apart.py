"""Batches of programs with many products: one element after the other, arrays in cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.lanes import products
from covector.compiler.pipeline import LANES, run_passes
from covector.core import backend
from covector.core.config import config
from covector.core.interpret import run
from covector.core.program import Program
from covector.core.verify import verify

RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def eager_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small programs are treated as large ones would be."""
    monkeypatch.setattr(products, "LARGE", 0)
    monkeypatch.setattr(products, "CACHE", 0)
    monkeypatch.setattr(products, "LONG", 8)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def in_lanes(function: Callable[..., Any], *args: Any) -> Program:
    """The program in lanes, after checking that it computes the same, on any number of threads."""
    program = run_passes(cv.make_program(function)(*args))
    after = run_passes(program, (LANES,))
    verify(after)
    leaves = [np.asarray(x) for x in cv.tree.leaves(args)]
    expected = run(program, *leaves)
    executable = backend.executable(program)
    results = executable(*leaves)
    for answers in (run(after, *leaves), results):
        for found, wanted in zip(answers, expected, strict=True):
            np.testing.assert_allclose(np.asarray(found), wanted, rtol=2e-4, atol=2e-5)
    with config.override("num_threads", 1):
        for found, wanted in zip(executable(*leaves), results, strict=True):
            np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))
    return after


def lengths(program: Program) -> list[int]:
    return [e.params["length"] for e in program.equations if e.primitive.name == "lanes"]


def network(weights: Any, x: Any) -> Any:
    a, b, c = weights
    return cnp.tanh(cnp.tanh(x @ a) @ b) @ c


def loss(weights: Any, x: Any, y: Any) -> Any:
    return ((network(weights, x) - y) ** 2).mean()


def adapted(weights: Any, x: Any, y: Any) -> Any:
    for _ in range(2):
        slopes = cv.grad(loss)(weights, x, y)
        weights = [w - 0.05 * g for w, g in zip(weights, slopes, strict=True)]
    return loss(weights, x + 0.1, y)


WEIGHTS = [normal(1, 9) / 3, normal(9, 9) / 3, normal(9, 1) / 3]


@pytest.mark.parametrize("tasks", [17, 70, 129])
def test_a_meta_gradient(tasks: int) -> None:
    def meta(weights: Any, x: Any, y: Any) -> Any:
        return cv.vmap(adapted, (None, 0, 0))(weights, x, y).mean()

    after = in_lanes(cv.value_and_grad(meta), WEIGHTS, normal(tasks, 5, 1), normal(tasks, 5, 1))
    assert lengths(after) == [tasks]


def test_results_of_each_element_and_a_loop_inside() -> None:
    def each(x: Any, w: Any) -> Any:
        x = lax.scan(lambda x, _: (cnp.tanh(x @ w), None), x, None, length=3)[0]
        for _ in range(products.MANY):
            x = cnp.sin(x @ w) + 0.5
        return x, x.max()

    after = in_lanes(cv.vmap(each), normal(18, 8, 9), normal(18, 9, 9) / 5)
    assert lengths(after) == [18]


def test_a_few_products_and_few_elements_stay_together() -> None:
    def each(x: Any, w: Any) -> Any:
        return cnp.sin(x @ w) @ w

    assert lengths(in_lanes(cv.vmap(each), normal(18, 4, 6), normal(18, 6, 6))) == []

    def meta(weights: Any, x: Any, y: Any) -> Any:
        return cv.vmap(adapted, (None, 0, 0))(weights, x, y).mean()

    assert lengths(in_lanes(cv.grad(meta), WEIGHTS, normal(3, 5, 1), normal(3, 5, 1))) == []
