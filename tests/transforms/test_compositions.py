"""Transformations composed in every order, on every kind of function, against JAX in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax

OURS = SimpleNamespace(
    np=cnp, lax=lax, jit=cv.jit, grad=cv.grad, vmap=cv.vmap, jvp=cv.jvp, vjp=cv.vjp,
    jacfwd=cv.jacfwd, jacrev=cv.jacrev, hessian=cv.hessian, linearize=cv.linearize,
    custom_jvp=cv.custom_jvp, custom_vjp=cv.custom_vjp, checkpoint=cv.checkpoint,
)  # fmt: skip
THEIRS = SimpleNamespace(
    np=jax.numpy, lax=jax.lax, jit=jax.jit, grad=jax.grad, vmap=jax.vmap, jvp=jax.jvp, vjp=jax.vjp,
    jacfwd=jax.jacfwd, jacrev=jax.jacrev, hessian=jax.hessian, linearize=jax.linearize,
    custom_jvp=jax.custom_jvp, custom_vjp=jax.custom_vjp, checkpoint=jax.checkpoint,
)  # fmt: skip


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with cv.enable_x64(), jax.enable_x64(True):
        yield


# --- functions of a vector of three that return a scalar ----------------------------------------


def elementwise(api: Any, x: Any) -> Any:
    return (api.np.sin(x) * api.np.exp(-x * x)).sum()


def contraction(api: Any, x: Any) -> Any:
    w = api.np.asarray(np.arange(9.0).reshape(3, 3) / 9.0)
    return api.np.tanh(w @ x) @ x


def indexing(api: Any, x: Any) -> Any:
    y = x[np.array([2, 0, 0, 1])] * 2.0
    return (y * y[::-1]).sum() + x.at[1].add(x[0] * x[2]).max()


def scan(api: Any, x: Any) -> Any:
    def body(carry: Any, t: Any) -> Any:
        carry = carry + 0.1 * api.np.sin(carry * t) * x
        return carry, carry[0] * t

    final, ys = api.lax.scan(body, x, api.np.linspace(0.1, 1.0, 5))
    return final.sum() + (ys**2).sum()


def fori(api: Any, x: Any) -> Any:
    return api.lax.fori_loop(0, 4, lambda i, y: api.np.sin(y) + x * (i + 1.0), x).sum()


def cond(api: Any, x: Any) -> Any:
    y = api.lax.cond(x[0] > 0.2, lambda v: api.np.sin(v) * v, lambda v: v**3, x)
    return (y * x).sum()


def scan_of_cond(api: Any, x: Any) -> Any:
    def body(carry: Any, t: Any) -> Any:
        carry = api.lax.cond(carry.sum() > t, lambda c: 0.5 * c * c, lambda c: c + x * t, carry)
        return carry, carry.sum()

    final, ys = api.lax.scan(body, x, api.np.arange(4.0))
    return (final * final).sum() + ys.sum()


def nested_jit(api: Any, x: Any) -> Any:
    inner = api.jit(lambda a, b: (a * b + a, api.np.cos(b)))
    y, z = inner(x, x * 2.0)
    return (y * z).sum()


def custom_jvp_only(api: Any, x: Any) -> Any:
    @api.custom_jvp
    def f(y: Any) -> Any:
        return y**2

    @f.defjvp
    def f_jvp(primals: Any, tangents: Any) -> Any:
        (y,), (t,) = primals, tangents
        return f(y), 3.0 * api.np.sin(y) * t

    return (f(x) * x).sum()


def reductions(api: Any, x: Any) -> Any:
    y = api.np.stack([x, x**2, api.np.exp(x)])
    return y.prod(0).sum() + y.max(1).sum() + api.np.cumsum(y, 0)[1].mean() + (y.var(0)).sum()


def sorting(api: Any, x: Any) -> Any:
    y = api.lax.sort(api.np.concatenate([x, x * 2.0, -x]))
    return (y * api.np.arange(9.0)).sum()


def inner_vmap(api: Any, x: Any) -> Any:
    return api.vmap(lambda a: (api.np.sin(a) * x).sum())(x * 2.0).sum()


def checkpointed(api: Any, x: Any) -> Any:
    @api.checkpoint
    def body(carry: Any, t: Any) -> Any:
        carry = api.np.sin(api.np.sin(carry * t) * x)
        return carry, carry[0]

    final, ys = api.lax.scan(body, x, api.np.linspace(0.5, 1.5, 3))
    return final.sum() + (ys**2).sum()


def implicit(api: Any, x: Any) -> Any:
    """A root by Newton's method, its derivative by a linear solve that is iterative too."""

    def f(y: Any) -> Any:
        return y + 0.2 * api.np.sin(y) - x * x

    def newton(f: Any, y: Any) -> Any:
        def step(state: Any) -> Any:
            i, y = state
            return i + 1, y - f(y) / (1.0 + 0.2 * api.np.cos(y))

        return api.lax.while_loop(lambda s: s[0] < 8, step, (0, y))[1]

    def richardson(matvec: Any, b: Any) -> Any:
        def step(state: Any) -> Any:
            i, y = state
            return i + 1, y + b - matvec(y)

        return api.lax.while_loop(lambda s: s[0] < 32, step, (0, b))[1]

    def tangent_solve(g: Any, b: Any) -> Any:
        return api.lax.custom_linear_solve(g, b, richardson, symmetric=True)

    return (api.lax.custom_root(f, x, newton, tangent_solve) ** 2).sum()


FUNCTIONS: tuple[Callable[..., Any], ...] = (
    elementwise, contraction, indexing, scan, fori, cond, scan_of_cond, nested_jit,
    custom_jvp_only, reductions, sorting, inner_vmap, checkpointed, implicit,
)  # fmt: skip

# --- transformations: from a scalar function of a vector to a function of a vector ---------------


def batched(api: Any, f: Any) -> Any:
    return lambda x: api.vmap(f)(api.np.stack([x, 1.5 * x, -x, x[::-1]]))


COMPOSITIONS: dict[str, Callable[[Any, Any], Any]] = {
    "f": lambda api, f: f,
    "jit": lambda api, f: api.jit(f),
    "vmap": batched,
    "grad": lambda api, f: api.grad(f),
    "jit grad": lambda api, f: api.jit(api.grad(f)),
    "grad jit": lambda api, f: api.grad(api.jit(f)),
    "jvp": lambda api, f: lambda x: api.jvp(f, (x,), (x[::-1] * 0.5,)),
    "jit vmap": lambda api, f: api.jit(batched(api, f)),
    "vmap jit": lambda api, f: batched(api, api.jit(f)),
    "vmap grad": lambda api, f: batched(api, api.grad(f)),
    "grad vmap": lambda api, f: api.grad(lambda x: (batched(api, f)(x) ** 2).sum()),
    "jit vmap grad": lambda api, f: api.jit(batched(api, api.grad(f))),
    "jit grad vmap": lambda api, f: api.jit(api.grad(lambda x: batched(api, f)(x).sum())),
    "jacfwd": lambda api, f: api.jacfwd(f),
    "jacrev": lambda api, f: api.jacrev(f),
    "hessian": lambda api, f: api.hessian(f),
    "jit hessian": lambda api, f: api.jit(api.hessian(f)),
    "jacfwd jacrev": lambda api, f: api.jacfwd(api.jacrev(f)),
    "jacrev jacfwd": lambda api, f: api.jacrev(api.jacfwd(f)),
    "grad of grad": lambda api, f: api.grad(lambda x: (api.grad(f)(x) ** 2).sum()),
    "jvp of grad": lambda api, f: lambda x: api.jvp(api.grad(f), (x,), (x[::-1],)),
    "linearize": lambda api, f: lambda x: api.linearize(f, x)[1](x[::-1]),
    "linearize jit": lambda api, f: lambda x: api.jit(api.linearize(f, x)[1])(x[::-1]),
    "vmap vmap": lambda api, f: lambda x: api.vmap(api.vmap(f))(x * api.np.ones((2, 2, 1))),
    "vmap jvp": lambda api, f: batched(api, lambda x: api.jvp(f, (x,), (x * 2.0,))[1]),
    "vjp jit": lambda api, f: lambda x: api.vjp(api.jit(lambda v: f(v) * v), x)[1](x[::-1]),
}


def point() -> np.ndarray[Any, Any]:
    return np.array([0.3, -0.7, 1.1])


def flat(tree: Any) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(jax.tree.map(np.asarray, tree))]


def check(compose: Any, function: Callable[..., Any], tolerance: float = 1e-9) -> None:
    ours = compose(OURS, lambda x: function(OURS, x))(cnp.asarray(point()))
    theirs = compose(THEIRS, lambda x: function(THEIRS, x))(jax.numpy.asarray(point()))
    found = [np.asarray(leaf) for leaf in cv.tree.leaves(ours)]
    wanted = flat(theirs)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_composition_agrees_with_jax(name: str, function: Callable[..., Any]) -> None:
    check(COMPOSITIONS[name], function)


def third(api: Any, f: Any) -> Any:
    return api.jit(api.jacfwd(api.jacrev(api.grad(f))))


@pytest.mark.parametrize("function", [elementwise, contraction, scan], ids=lambda f: f.__name__)
def test_third_derivatives(function: Callable[..., Any]) -> None:
    check(third, function, 1e-8)


def newton_by_while(api: Any, x: Any) -> Any:
    def step(carry: Any) -> Any:
        i, y = carry
        return i + 1, y - (y**3 - x.sum() - 5.0) / (3 * y**2)

    return api.lax.while_loop(lambda c: c[0] < 20, step, (0, x[2] + 1.0))[1]


def test_vmap_of_forward_derivative_of_while() -> None:
    check(lambda api, f: batched(api, api.jacfwd(f)), newton_by_while)


def maml(api: Any, x: Any) -> Any:
    """A meta-gradient on the sinusoid task: the loss after two steps of gradient descent."""
    rng = np.random.default_rng(0)
    inputs = api.np.asarray(rng.uniform(-5, 5, (10, 1)))
    targets = api.np.sin(inputs + 0.5)
    first = api.np.asarray(rng.normal(size=(1, 8)))
    second = api.np.asarray(rng.normal(size=(8, 1)) / 8)

    def loss(parameters: Any) -> Any:
        w1, b1, w2 = parameters
        hidden = api.np.tanh(inputs @ w1 + b1)
        return ((hidden @ w2 - targets) ** 2).mean()

    parameters = (first * x[0], x.sum() * api.np.ones(8), second * x[2])
    for _ in range(2):
        grads = api.grad(loss)(parameters)
        parameters = tuple([p - 0.01 * g for p, g in zip(parameters, grads, strict=True)])
    return loss(parameters)


@pytest.mark.parametrize("name", ["grad", "jit grad", "hessian"])
def test_maml(name: str) -> None:
    check(COMPOSITIONS[name], maml, 1e-10)


def test_maml_in_single_precision() -> None:
    with cv.enable_x64(False), jax.enable_x64(False):
        ours = cv.jit(cv.grad(lambda x: maml(OURS, x)))(cnp.asarray(point()))
        theirs = jax.grad(lambda x: maml(THEIRS, x))(jax.numpy.asarray(point()))
        np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=1e-4, atol=1e-5)
