"""Derivatives of higher order of `while`, in reverse mode more than once."""

from __future__ import annotations

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import grad, jit, lax, vmap

STEPS = 13


def looped(step):
    """`x -> ` the last carry of a while loop of `STEPS` iterations."""

    def f(x):
        def body(state):
            k, y = state
            return k + 1, step(x, y, k)

        return lax.while_loop(lambda state: state[0] < STEPS, body, (0, x))[1]

    return f


def unrolled(step):
    def f(x):
        y = x
        for k in range(STEPS):
            y = step(x, y, k)
        return y

    return f


def smooth(x, y, k):
    return y + 0.1 * cnp.sin(y * x)


def with_inner_while(x, y, k):
    def body(state):
        j, z = state
        return j + 1, z + 0.05 * cnp.cos(z * y)

    return lax.while_loop(lambda state: state[0] < 3, body, (0, y * x))[1]


def with_inner_unrolled(x, y, k):
    z = y * x
    for _ in range(3):
        z = z + 0.05 * cnp.cos(z * y)
    return z


def with_branch(x, y, k):
    return lax.cond(k % 3 == 0, lambda: y * (1 + 0.1 * x), lambda: y - 0.1 * y * y * x)


PAIRS = {
    "smooth": (looped(smooth), unrolled(smooth)),
    "nested": (looped(with_inner_while), unrolled(with_inner_unrolled)),
    "branch": (looped(with_branch), unrolled(with_branch)),
    "in_scan": (
        lambda x: lax.scan(lambda c, _: (looped(smooth)(c * x), None), x, None, length=2)[0],
        lambda x: unrolled(smooth)(unrolled(smooth)(x * x) * x),
    ),
    "in_cond": (
        lambda x: lax.cond(x > 0, looped(smooth), lambda y: y, x),
        unrolled(smooth),
    ),
    "in_checkpoint": (cv.checkpoint(looped(smooth)), unrolled(smooth)),
    "in_jit": (jit(looped(smooth)), unrolled(smooth)),
    "not_linear_outside": (
        lambda x: x * looped(smooth)(x) ** 2,
        lambda x: x * unrolled(smooth)(x) ** 2,
    ),
}


def forward_over_reverse(f):
    return lambda x: cv.jvp(grad(f), (x,), (cnp.ones_like(x),))[1]


def through_linearize(f):
    return grad(lambda x: cv.linearize(f, x)[1](cnp.float32(1)))


def of_a_pullback(f):
    return grad(lambda x: cv.vjp(f, x)[1](x)[0])


DERIVATIVES = {
    "reverse twice": lambda f: grad(grad(f)),
    "three times": lambda f: grad(grad(grad(f))),
    "forward over reverse": forward_over_reverse,
    "reverse over forward over reverse": lambda f: grad(forward_over_reverse(f)),
    "forward over reverse twice": lambda f: forward_over_reverse(grad(f)),
    "reverse over linearize": through_linearize,
    "reverse over vjp": of_a_pullback,
    "jacrev of jacfwd of grad": lambda f: cv.jacrev(cv.jacfwd(grad(f))),
}


EVERY = [("smooth", derivative) for derivative in DERIVATIVES] + [
    (pair, derivative)
    for pair in PAIRS
    for derivative in ("reverse twice", "forward over reverse twice")
    if pair != "smooth"
]


@pytest.mark.parametrize(("pair", "derivative"), EVERY)
def test_derivative(pair: str, derivative: str) -> None:
    loop, plain = PAIRS[pair]
    wanted = DERIVATIVES[derivative](plain)(np.float32(0.7))
    found = jit(DERIVATIVES[derivative](loop))(np.float32(0.7))
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("pair", ["smooth", "in_scan"])
def test_batched_derivative(pair: str) -> None:
    loop, plain = PAIRS[pair]
    xs = np.linspace(0.2, 0.9, 3).astype(np.float32)
    third = DERIVATIVES["reverse over forward over reverse"]
    np.testing.assert_allclose(
        jit(vmap(third(loop)))(xs), vmap(third(plain))(xs), rtol=2e-5, atol=2e-5
    )
    total = jit(grad(lambda xs: cnp.sum(vmap(grad(loop))(xs) * xs)))
    expected = grad(lambda xs: cnp.sum(vmap(grad(plain))(xs) * xs))
    np.testing.assert_allclose(total(xs), expected(xs), rtol=2e-5, atol=2e-5)


def until(limit):
    """How often it runs depends on the example, and on a const that is differentiated."""

    def f(x, growth):
        def body(y):
            return y * growth + 0.01 * y * y

        return lax.while_loop(lambda y: y < limit, body, x)

    return f


def test_batched_derivative_where_lanes_stop_one_by_one() -> None:
    xs = np.array([0.3, 1.5, 2.5, 5.0], np.float32)
    g = np.float32(1.2)

    def unrolled_until(steps):
        def f(x, growth):
            for _ in range(steps):
                x = x * growth + 0.01 * x * x
            return x

        return f

    second = grad(grad(until(3.0), 0), 1)
    found = jit(vmap(second, (0, None)))(xs, g)
    counts = [sum(1 for _ in _iterations(float(x))) for x in xs]
    wanted = [grad(grad(unrolled_until(n), 0), 1)(x, g) for n, x in zip(counts, xs, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=2e-5)
    hessian = jit(vmap(cv.hessian(until(3.0), (0, 1)), (0, None)))(xs, g)
    np.testing.assert_allclose(hessian[0][1], wanted, rtol=2e-5, atol=2e-5)


def _iterations(value):
    while value < 3:
        yield value
        value = value * 1.2 + 0.01 * value * value


def test_derivatives_of_higher_order_keep_snapshots_of_carries_alone() -> None:
    def workspace(f):
        costs = jit(f).lower(np.float32(0.7)).compile().cost_analysis()
        return costs["workspace_bytes"], costs["equations"]

    f = looped(smooth)
    first, second = workspace(grad(f)), workspace(grad(grad(f)))
    third = workspace(grad(grad(grad(f))))
    for k in range(2):
        assert second[k] < 2.5 * first[k]
        assert third[k] < 5 * first[k]


def test_reverse_over_reverse_with_few_slots(monkeypatch) -> None:
    import covector.ops.while_linearize as module

    monkeypatch.setattr(module, "MAX_SLOTS", 4)
    monkeypatch.setattr(module, "MIN_SLOTS", 4)

    def f(x, n):
        return lax.fori_loop(0, n, lambda k, y: y + 0.1 * cnp.sin(y * x), x)

    def reference(x, n):
        y = x
        for _ in range(n):
            y = y + 0.1 * cnp.sin(y * x)
        return y

    second = jit(grad(grad(f)))
    for n in (0, 1, 3, 4, 5, 17, 40):
        wanted = grad(grad(lambda x, n=n: reference(x, n)))(np.float32(0.7))
        np.testing.assert_allclose(second(np.float32(0.7), n), wanted, rtol=1e-4, atol=1e-4)


def test_debug_printing_is_not_repeated_by_derivatives(capfd) -> None:
    def f(x):
        def body(state):
            cv.debug.print("step {}", state[0])
            return state[0] + 1, smooth(x, state[1], state[0])

        return lax.while_loop(lambda state: state[0] < 3, body, (0, x))[1]

    for derivative in (grad(f), grad(grad(f)), forward_over_reverse(f)):
        cv.block_until_ready(jit(derivative)(np.float32(0.7)))
        assert capfd.readouterr().out.split() == ["step", "0", "step", "1", "step", "2"]
