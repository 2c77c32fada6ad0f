"""Jitted functions and what they are called with can be sent elsewhere."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp


def again(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))  # noqa: S301 - our own bytes


@cv.jit
def doubled(x: Any) -> Any:
    return 2 * x


def power(x: Any, n: int) -> Any:
    return x**n


def test_a_decorated_function_is_found_by_its_name() -> None:
    doubled(1.0)
    assert again(doubled) is doubled


def test_options_go_along() -> None:
    cube = again(cv.jit(power, static_argnames="n"))
    assert float(cube(2.0, n=3)) == 8.0


@pytest.mark.parametrize(
    ("wrap", "x"),
    [
        (cv.jit, np.float32(2.0)),
        (lambda f: cv.jit(cv.grad(f)), np.float32(2.0)),
        (lambda f: cv.jit(cv.vmap(f)), np.ones(3, np.float32)),
    ],
)
def test_functions_made_on_the_spot(wrap: Any, x: Any) -> None:
    scale = cnp.asarray(3.0)
    function = wrap(lambda x: x * scale)
    sent = cloudpickle.loads(cloudpickle.dumps(function))
    np.testing.assert_array_equal(np.asarray(sent(x)), np.asarray(function(x)))


@pytest.mark.parametrize("dtype", ["f4", "i4", "u1", "c8", "bfloat16"])
def test_arrays_that_were_pickled_are_like_others(dtype: str) -> None:
    x = np.ones(3, cnp.bfloat16 if dtype == "bfloat16" else dtype)
    for sent in (again(x), again(cnp.asarray(x)), again(x)[0]):
        for function in (
            lambda v, s=sent: cnp.add(v, s),
            cv.jit(lambda v, s=sent: cnp.where(v == s, v, s)),
            cv.jit(lambda v, s=sent: cnp.asarray(v).at[0].set(cnp.asarray(s).ravel()[0])),
            cv.vmap(lambda v, s=sent: cnp.multiply(v, s)),
        ):
            for argument in (cnp.asarray(x), again(x)):
                found = function(argument)
                assert found.dtype is np.dtype(x.dtype)
