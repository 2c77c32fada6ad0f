"""Control flow against `jax.lax`, under every transformation.

Each program is written once for both, and takes the modules to use, `lax` and `xp`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core import pytree
from covector.lax import control_flow as lax


@dataclass(frozen=True)
class Case:
    """A program and arguments for it, the first of them float arrays to differentiate."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.fn.__name__


CASES: list[Case] = []


def case(*args: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a program."""

    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(fn, args))
        return fn

    return register


def f32(*values: Any) -> Any:
    return np.asarray(values if len(values) > 1 else values[0], np.float32)


XS = f32([0.3, -0.7, 1.1, 0.2])
MATRIX = f32([[0.3, -0.7], [1.1, 0.2], [0.5, 0.9]])


@case(f32(0.4), XS)
def scan_closing_over(lax, xp, w, xs):
    def body(carry, x):
        y = xp.sin(carry) * w + x * x
        return y, (y, carry * x)

    return lax.scan(body, w * 2, xs)


@case(f32(0.4), XS)
def scan_reversed(lax, xp, w, xs):
    return lax.scan(lambda c, x: (c * w + x, c * x), 1.0 + w, xs, reverse=True)


@case(f32(0.4), XS)
def scan_unrolled(lax, xp, w, xs):
    return lax.scan(lambda c, x: (c * w + x, c * x), 1.0 + w, xs, unroll=3)


@case(f32(0.4), MATRIX)
def scan_of_trees(lax, xp, w, xs):
    def body(carry, x):
        a, (b, n) = carry["a"], carry["rest"]
        return {"a": a * x["x"].sum(), "rest": (b + x["x"] * a, n + 1)}, {"y": x["k"] * b}

    init = {"a": w, "rest": (xp.zeros(2, "float32"), 0)}
    ks = xp.arange(3, dtype="float32")
    return lax.scan(body, init, {"x": xs, "k": ks})


@case(f32(0.4))
def scan_without_xs(lax, xp, w):
    return lax.scan(lambda c, _: (c * w + 1.0, None), 1.0, None, length=5)


@case(f32(0.4), XS[:0])
def scan_of_length_zero(lax, xp, w, xs):
    return lax.scan(lambda c, x: (c * x, c + x), w, xs)


@case(f32(0.4), XS)
def scan_that_depends_late(lax, xp, w, xs):
    # The second carry has a derivative only from the second iteration on.
    def body(carry, x):
        a, b, c = carry
        return (x * w, a, b * 1.5), c

    return lax.scan(body, (0.0, 0.0, 0.0), xs)


@case(f32(0.4), XS)
def scan_with_invariants(lax, xp, w, xs):
    table = xp.sin(xs) * w

    def body(i, x):
        scale = xp.exp(table).sum()
        return i + 2, scale * x * x * i + xp.cos(w) * table[0]

    return lax.scan(body, 1, xs)


@case(f32(0.4), MATRIX)
def scan_nested(lax, xp, w, xs):
    def outer(carry, row):
        inner, ys = lax.scan(lambda c, x: (c * x + w, c * c), carry, row)
        return inner, (ys, inner * w)

    return lax.scan(outer, w, xs)


@case(f32(0.4), XS)
def scan_of_matrices(lax, xp, w, xs):
    def body(state, x):
        rows = xp.arange(48.0, dtype="float32").reshape(6, 8) * x * 0.01
        new = xp.sin(state + rows) * w
        return new, new[:, 1]

    return lax.scan(body, xp.ones((6, 8), "float32") * w, xs)


@case(f32(0.4), f32([0.1] * 40))
def scan_that_updates(lax, xp, w, xs):
    def body(state, i):
        a, total = state
        a = a.at[i].set(a[i - 1] * w + a[i])
        return (a, total + a * w), a[3]

    return lax.scan(body, (xs, xs * 0), xp.arange(1, 6))


@case(f32(0.4), XS)
def fori_with_index(lax, xp, w, xs):
    def body(i, carry):
        return carry * w + xp.asarray(xs)[i] * i

    return lax.fori_loop(0, 4, body, w)


@case(f32(0.4), f32(0.9), np.int32(5))
def fori_with_traced_bound(lax, xp, w, x, n):
    return lax.fori_loop(1, n, lambda i, c: xp.sin(c) * w + c * x * i, x)


@case(f32(0.4), f32(0.9))
def while_until_large(lax, xp, w, x):
    def condition(state):
        return state[0] < 3.0

    def body(state):
        y, n, same = state
        return y * (1.5 + w * w), n + 1, same

    return lax.while_loop(condition, body, (x, 0, w))


@case(f32(0.4), XS)
def while_on_vectors(lax, xp, w, xs):
    def body(state):
        i, v, a = state
        return i + 1, xp.sin(v) * w + v, a + w * v.sum()

    return lax.while_loop(lambda s: (s[0] < 9) & (s[2] < 5.0), body, (0, xs, 0.0))


@case(f32(0.9), f32(0.4))
def while_nested(lax, xp, x, w):
    def inner(y):
        return lax.while_loop(lambda z: z < 2.0, lambda z: z * 1.7 + w, y)

    def body(state):
        n, y = state
        return n + 1, inner(xp.abs(y) + 0.1) * 0.6 * x

    return lax.while_loop(lambda s: s[0] < 4, body, (0, x))


@case(f32(0.4), f32(-0.3))
def cond_on_value(lax, xp, w, x):
    return lax.cond(x > 0, lambda a: (xp.sin(a) * w, a), lambda a: (xp.exp(a) * a * w, w), x * w)


@case(f32(0.4), XS)
def cond_in_scan(lax, xp, w, xs):
    def body(c, x):
        c = lax.cond(c * x > 0.1, lambda: xp.sin(c) * w, lambda: c + xp.cos(x) * c)
        return c, c * w

    return lax.scan(body, w, xs)


@case(f32(0.4), XS)
def cond_of_arrays(lax, xp, w, xs):
    big = xp.ones((5, 9), "float32") * w
    return lax.cond(
        xs.sum() > 0.1, lambda a, b: (a * b * 2.0, b), lambda a, b: (xp.cos(a), b * b), big, w
    )


@case(f32(0.4), f32(0.3))
def switch_of_three(lax, xp, w, x):
    index = (x * 10).astype("int32") - 2
    return lax.switch(
        index, [lambda a: a * w, lambda a: xp.sin(a) * a * w, lambda a: a / w + xp.exp(w)], x
    )


@case(f32(0.4), MATRIX)
def map_rows(lax, xp, w, xs):
    return lax.map(lambda row: xp.sin(row).sum() * w, xs)


@case(f32(0.4), MATRIX)
def map_in_batches(lax, xp, w, xs):
    return lax.map(lambda row: {"y": xp.sin(row) * w, "s": row.sum()}, xs, batch_size=2)


@case(f32(0.4), f32([[0.3, -0.7, 1.1, 0.2, 0.9], [0.8, 0.1, -0.4, 1.2, 0.6]]))
def associative_scan_of_pairs(lax, xp, w, xs):
    def combine(a, b):
        return a[0] * b[0], a[1] * b[0] + b[1]

    return lax.associative_scan(combine, (xs * w, xs), axis=1)


@case(XS, f32(0.4))
def associative_scan_reversed(lax, xp, xs, w):
    return lax.associative_scan(lambda a, b: a * b + w * 0.0, xs, reverse=True)


def total(outputs: Any, numpy: Any) -> Any:
    """A scalar that depends on every output."""
    leaves = jax.tree.leaves(outputs) if numpy is jnp else pytree.leaves(outputs)
    parts = [numpy.sum(x * x) * (k + 1) for k, x in enumerate(leaves) if x.dtype.kind == "f"]
    return functools.reduce(lambda a, b: a + b, parts)


def differentiable(args: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(k for k, a in enumerate(args) if a.dtype.kind == "f")


def tangents(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        a * 0.7 - 0.4 if a.dtype.kind == "f" else np.zeros(a.shape, jax.dtypes.float0) for a in args
    )


def lanes(xp: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Three different lanes of each float argument."""
    return tuple(
        xp.stack([a, a * 0.8, a * 1.3]) if a.dtype.kind == "f" else xp.stack([a, a, a])
        for a in args
    )


def value(api, fn, args):
    return fn(*args)


def jitted(api, fn, args):
    return api.jit(fn)(*args)


def jvp(api, fn, args):
    return api.jvp(fn, args, tangents(args))


def gradient(api, fn, args):
    return api.grad(lambda *a: total(fn(*a), api.numpy), differentiable(args))(*args)


def linearized(api, fn, args):
    out, f_jvp = api.linearize(fn, *args)
    return out, f_jvp(*tangents(args))


def jit_of_gradient(api, fn, args):
    return api.jit(api.grad(lambda *a: total(fn(*a), api.numpy), differentiable(args)))(*args)


def batched(api, fn, args):
    return api.vmap(fn)(*lanes(api.numpy, args))


def batched_first(api, fn, args):
    axes = (0,) + (None,) * (len(args) - 1)
    return api.vmap(fn, in_axes=axes)(lanes(api.numpy, args)[0], *args[1:])


def batched_last(api, fn, args):
    axes = (None,) * (len(args) - 1) + (0,)
    return api.vmap(fn, in_axes=axes)(*args[:-1], lanes(api.numpy, args)[-1])


def gradient_of_batched(api, fn, args):
    many = lanes(api.numpy, args)
    return api.grad(lambda *a: total(api.vmap(fn)(*a), api.numpy), differentiable(args))(*many)


def batched_gradient(api, fn, args):
    grad = api.grad(lambda *a: total(fn(*a), api.numpy), differentiable(args))
    return api.vmap(grad)(*lanes(api.numpy, args))


def jvp_of_gradient(api, fn, args):
    grad = api.grad(lambda *a: total(fn(*a), api.numpy), differentiable(args))
    return api.jvp(grad, args, tangents(args))


def gradient_of_gradient(api, fn, args):
    grad = api.grad(lambda *a: total(fn(*a), api.numpy))
    return api.grad(lambda *a: api.numpy.sum(grad(*a) ** 2), differentiable(args))(*args)


TRANSFORMATIONS = [
    value,
    jitted,
    jvp,
    gradient,
    linearized,
    jit_of_gradient,
    batched,
    batched_first,
    batched_last,
    gradient_of_batched,
    batched_gradient,
    jvp_of_gradient,
    gradient_of_gradient,
]


class Covector:
    """What the transformations above need, of Covector."""

    numpy = cnp
    jit = staticmethod(cv.jit)
    jvp = staticmethod(cv.jvp)
    grad = staticmethod(cv.grad)
    linearize = staticmethod(cv.linearize)
    vmap = staticmethod(cv.vmap)


def is_while(case: Case) -> bool:
    return case.name.startswith("while") or "traced_bound" in case.name


# JAX has no reverse mode for them: the same loops with a static bound are the oracle.
REVERSE = {f for f in TRANSFORMATIONS if "gradient" in f.__name__ or f is linearized}


def masked_while(cond_fun, body_fun, init):
    """A `while_loop` of at most 32 iterations that JAX can differentiate."""

    def body(_, val):
        return jax.lax.cond(cond_fun(val), body_fun, lambda v: v, val)

    init = jax.tree.map(jnp.asarray, init)
    return jax.lax.fori_loop(0, 32, body, init)


class StaticLax:
    """`jax.lax` with loops that can be differentiated in reverse."""

    while_loop = staticmethod(masked_while)

    @staticmethod
    def fori_loop(lower, upper, body, init):
        def step(val):
            i, x = val
            return i + 1, body(i, x)

        return masked_while(lambda v: v[0] < upper, step, (lower, init))[1]


def combinations() -> list[Any]:
    """Each transformation with a fifth of the programs; all with --hypothesis-profile=long."""
    everything = hypothesis.settings.default.max_examples > 1000
    return [
        pytest.param(case, transformation, id=f"{case.name}-{transformation.__name__}")
        for k, case in enumerate(CASES)
        for j, transformation in enumerate(TRANSFORMATIONS)
        if everything or (k + j) % 5 == 0
    ]


class Jax:
    """What the transformations above need, of JAX."""

    numpy = jnp
    jit, jvp, grad, linearize, vmap = jax.jit, jax.jvp, jax.grad, jax.linearize, jax.vmap


@pytest.mark.parametrize(("case", "transformation"), combinations())
def test_against_jax(case, transformation):
    reverse = transformation in REVERSE and is_while(case)
    reference = functools.partial(case.fn, StaticLax if reverse else jax.lax, jnp)
    expected = jax.jit(lambda *args: transformation(Jax, reference, args))(*case.args)
    args = tuple(map(cnp.asarray, case.args))
    for backend in ("reference", "native"):
        with cv.config.override("backend", backend):
            found = transformation(Covector, functools.partial(case.fn, lax, cnp), args)
        assert_alike(found, expected)


def assert_alike(found: Any, expected: Any) -> None:
    found_leaves, _ = pytree.flatten(found)
    expected_leaves = jax.tree.leaves(expected)
    assert len(found_leaves) == len(expected_leaves)
    for a, b in zip(found_leaves, expected_leaves, strict=True):
        if b.dtype == jax.dtypes.float0:
            continue
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-4, atol=2e-5)
