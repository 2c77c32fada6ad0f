"""Functions that between them use every kind of value that a serialised function can hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.export import Exported, export, symbolic_shape

Shape = cv.ShapeDtypeStruct
PARAMS = [
    (np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8), np.zeros(8, np.float32)),
    (np.linspace(1, -1, 16, dtype=np.float32).reshape(8, 2), np.ones(2, np.float32)),
]


def network(params: Any, x: Any) -> Any:
    *hidden, (w, b) = params
    for weights, biases in hidden:
        x = cnp.tanh(x @ weights + biases)
    return x @ w + b


def loss(params: Any, x: Any, y: Any) -> Any:
    return cnp.mean((network(params, x) - y) ** 2)


def pendulum(start: Any, step: Any) -> Any:
    """Runge and Kutta's method, a hundred steps."""

    def slope(y: Any) -> Any:
        return cnp.stack([y[1], -cnp.sin(y[0])])

    def advance(y: Any, _: Any) -> Any:
        k1 = slope(y)
        k2 = slope(y + 0.5 * step * k1)
        k3 = slope(y + 0.5 * step * k2)
        k4 = slope(y + step * k3)
        y = y + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    return lax.scan(advance, start, None, length=100)


@cv.custom_vjp
def clipped(x: Any) -> Any:
    return x


clipped.defvjp(lambda x: (x, None), lambda _, g: (cnp.clip(g, -1.0, 1.0),))


@cv.custom_jvp
def log1pexp(x: Any) -> Any:
    return cnp.log1p(cnp.exp(x))


@log1pexp.defjvp
def _log1pexp_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return log1pexp(x), t * (1 - cnp.exp(-log1pexp(x)))


def control(x: Any, n: Any) -> dict[str, Any]:
    halved, steps = lax.while_loop(
        lambda c: c[1] < n, lambda c: (c[0] / 2, c[1] + 1), (x, np.int32(0))
    )
    picked = lax.switch(steps % 3, [cnp.sin, cnp.cos, lambda v: v * v], halved)
    return {"picked": picked, "steps": steps}


def indexed(x: Any, i: Any) -> Any:
    taken = x[i] + x[::-1][:3].sum()
    order = cnp.argsort(x)
    return taken, x.at[i].add(2.0), order, cnp.where(x > 0, x, 0).astype(cnp.bfloat16)


def joined(x: Any, y: Any) -> Any:
    both = cnp.concatenate([x, y, x])
    return cnp.pad(both, (1, 2)), cnp.mean(both), both.reshape(-1, 1)


def drawn(key: Any) -> Any:
    first, second = cv.random.split(key)
    return cv.random.normal(first, (4,)), second


def windows(image: Any, kernel: Any) -> Any:
    found = lax.conv_general_dilated(image, kernel, (1, 1), "SAME")
    return lax.reduce_window(found, -cnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def matrices(a: Any) -> Any:
    spectrum = cnp.fft.rfft(a[0])
    return cnp.linalg.cholesky(a @ a.T + 5 * cnp.eye(4)), spectrum


def rules(x: Any) -> Any:
    return cnp.sum(clipped(x) * log1pexp(x) + cv.nn.softmax(x))


n, m = symbolic_shape("n, m")
F = "float32"
FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "mlp gradient": (cv.value_and_grad(loss), (PARAMS, Shape((n, 3), F), Shape((n, 2), F))),
    "ode": (pendulum, (Shape((2,), F), Shape((), F))),
    "control": (control, (2.0, np.int32(3))),
    "indexing": (indexed, (np.ones(7, np.float32), np.arange(3))),
    "sizes": (joined, (Shape((2 * n + 1,), F), Shape((m,), F))),
    "keys": (drawn, (cv.random.key(3),)),
    "windows": (windows, (Shape((1, 2, 6, 6), F), Shape((3, 2, 3, 3), F))),
    "matrices": (matrices, (Shape((4, 4), F),)),
    "rules": (rules, (Shape((n,), F),)),
    "jitted": (lambda x: cv.jit(cnp.sin)(x) + cv.jit(cnp.sin)(x), (Shape((3,), F),)),
    "ensemble": (
        cv.vmap(cv.grad(lambda s, t: pendulum(s, t)[0].sum(), argnums=(0, 1))),
        (Shape((n, 2), F), Shape((n,), F)),
    ),
}


@cache
def exported(name: str) -> Exported:
    function, args = FUNCTIONS[name]
    return export(cv.jit(function))(*args)


@cache
def serialized(name: str) -> bytes:
    return bytes(exported(name).serialize())
