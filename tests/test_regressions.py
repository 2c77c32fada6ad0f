"""Bugs found in review, one test for each kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax


@pytest.mark.parametrize("wrap", [lambda f: f, cv.jit], ids=["eager", "jit"])
def test_auxiliary_data_holds_no_tracers(wrap: Any) -> None:
    def f(x: Any) -> Any:
        return x**2, {"a": x * 3.0, "none": None}

    (value, aux), gradient = wrap(cv.value_and_grad(f, has_aux=True))(2.0)
    assert (float(value), float(aux["a"] + 1.0), float(gradient)) == (4.0, 7.0, 4.0)
    for make in (cv.vjp, cv.linearize):
        aux = wrap(lambda x, make=make: make(f, x, has_aux=True)[2])(2.0)
        assert float(aux["a"] + 1.0) == 7.0
    aux = wrap(lambda x: cv.jvp(f, (x,), (1.0,), has_aux=True)[2])(2.0)
    assert float(aux["a"] + 1.0) == 7.0


@pytest.mark.parametrize(
    "value", [np.int64(3), np.float64(3.0), np.array(3), np.arange(3.0), np.arange(3)], ids=repr
)
def test_jit_takes_numpy_data_of_64_bits(value: Any) -> None:
    f = cv.jit(lambda x: x * 2)
    for _ in range(2):
        result = f(value)
        assert result.dtype.itemsize == 4
        np.testing.assert_array_equal(np.asarray(result), np.asarray(value) * 2)
    compiled = f.lower(value).compile()
    np.testing.assert_array_equal(np.asarray(compiled(value)), np.asarray(value) * 2)


def test_equal_static_arguments_of_different_types_are_different() -> None:
    f = cv.jit(lambda x, k: cnp.asarray(k), static_argnums=1)
    found = [f(0.0, k).dtype.kind for k in (1, True, 1.0, 1, True)]
    assert found == ["i", "b", "f", "i", "b"]


def _scaled(y: Any) -> Any:
    @cv.custom_jvp
    def f(x: Any) -> Any:
        return x * y

    f.defjvps(lambda t, out, x: t * y * 5.0)
    return f


@pytest.mark.parametrize("wrap", [lambda f: f, cv.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("in_axes", [(0, 0), (None, 0)], ids=str)
def test_custom_rules_may_close_over_batched_values(wrap: Any, in_axes: Any) -> None:
    x = cnp.full(3, 2.0) if in_axes[0] == 0 else 2.0
    ys = cnp.arange(3.0)

    def both(x: Any, y: Any) -> Any:
        return _scaled(y)(x), cv.grad(_scaled(y))(x)

    values, gradients = wrap(cv.vmap(both, in_axes))(x, ys)
    np.testing.assert_allclose(values, [0.0, 2.0, 4.0])
    np.testing.assert_allclose(gradients, [0.0, 5.0, 10.0])
    outside = cv.grad(lambda x: cv.vmap(lambda x, y: _scaled(y)(x), in_axes)(x, ys).sum())
    np.testing.assert_allclose(np.sum(np.asarray(wrap(outside)(x))), 15.0)


def test_custom_rules_of_unbatched_values_stay_unbatched() -> None:
    f = _scaled(3.0)
    mapped = cv.vmap(lambda x, y: (f(x), y), in_axes=(None, 0), out_axes=(None, 0))
    assert mapped(2.0, cnp.ones(2))[0].shape == ()
    assert float(cv.grad(lambda x: mapped(x, cnp.ones(2))[0])(2.0)) == 15.0


def test_equation_of_a_custom_rule_with_captured_values_runs_eagerly() -> None:
    with cv.disable_jit():
        last, _ = lax.scan(lambda c, t: (_scaled(t)(c), c), 2.0, cnp.arange(1.0, 4.0))
    assert float(last) == 12.0
    program = cv.make_program(lambda x, y: _scaled(y)(x))(2.0, 3.0)
    from covector.core.trace import eval_program

    assert float(eval_program(program, cnp.float32(2.0), cnp.float32(3.0))[0]) == 6.0


@pytest.mark.parametrize("wrap", [lambda f: f, cv.jit], ids=["eager", "jit"])
def test_gradient_of_vmap_of_custom_vjp_with_integers(wrap: Any) -> None:
    @cv.custom_vjp
    def f(x: Any, i: Any) -> Any:
        return x * i, i + 1

    f.defvjp(lambda x, i: (f(x, i), i), lambda i, g: (g[0] * i * 10.0, None))
    i = cnp.arange(3)
    gradient = wrap(cv.grad(lambda x: cv.vmap(f)(x, i)[0].sum()))(cnp.ones(3))
    np.testing.assert_allclose(gradient, [0.0, 10.0, 20.0])
    shared = wrap(cv.grad(lambda x: cv.vmap(f, in_axes=(None, 0))(x, i)[0].sum()))(1.0)
    assert float(shared) == 30.0


def test_batched_branches_give_no_nan_derivatives_where_they_are_not_taken() -> None:
    def f(x: Any) -> Any:
        return cv.vmap(lambda v: lax.cond(v > 1.0, cnp.log, lambda w: w * w, v))(x).sum()

    for gradient in (cv.grad(f), cv.jit(cv.grad(f))):
        np.testing.assert_allclose(np.asarray(gradient(cnp.arange(4.0))), [0.0, 2.0, 0.5, 1 / 3])


def test_donated_arguments_end_with_the_call() -> None:
    f = cv.jit(lambda x, y: x + y, donate_argnums=0)
    for _ in range(2):
        x, y = cnp.ones(3), cnp.ones(3)
        assert np.asarray(f(x, y)).tolist() == [2.0, 2.0, 2.0]
        assert x.is_deleted()
        assert not y.is_deleted()
        with pytest.raises(RuntimeError, match="deleted"):
            x + y


@pytest.mark.parametrize("keep", [True, False])
def test_unused_arguments(keep: bool) -> None:
    f = cv.jit(lambda x, y, z: (z * 2.0, z), keep_unused=keep)
    for _ in range(3):
        assert float(f(1.0, cnp.ones(3), 4.0)[0]) == 8.0
    assert float(f.lower(1.0, cnp.ones(3), 4.0).compile()(1.0, cnp.ones(3), 5.0)[0]) == 10.0
