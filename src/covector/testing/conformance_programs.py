"""Programs that every backend should run: loops, branches, transformations, sizes and types."""

# Examples are written as users write them, with lambdas that have no types.
# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax


class Example(NamedTuple):
    """A function and what to call it with.

    Attributes:
        family: what it is an example of.
        name: of the function.
        function: of arrays.
        arguments: NumPy arrays.
    """

    family: str
    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


_rng = np.random.default_rng(5)
_X = _rng.uniform(-1, 1, 6).astype(np.float32)
_M = _rng.uniform(-1, 1, (5, 6)).astype(np.float32)
_W = _rng.uniform(-1, 1, (6, 6)).astype(np.float32)
_N = np.int32(7)


# --- loops ----------------------------------------------------------------------------------------


def running_sum(x: Any) -> Any:
    """A scan with one result for each step."""
    return lax.scan(lambda c, v: (c + v, c * v), np.float32(0), x)


def backwards(x: Any) -> Any:
    """A scan from the last element to the first."""
    return lax.scan(lambda c, v: (cnp.sin(c) + v, c), np.float32(1), x, reverse=True)


def matrix_steps(x: Any, w: Any) -> Any:
    """A recurrence of vectors."""
    return lax.scan(lambda c, _: (cnp.tanh(w @ c), c.sum()), x, None, length=5)


def swapped(x: Any) -> Any:
    """Carries that change places."""
    return lax.fori_loop(0, 5, lambda i, c: (c[1], c[0] + c[1] * i), (x, x + 1))


def many_rounds(x: Any, n: Any) -> Any:
    """A loop whose length is an argument."""
    return lax.fori_loop(0, n, lambda i, c: c * 0.9 + i, x)


def no_rounds(x: Any) -> Any:
    """A scan over nothing."""
    return lax.scan(lambda c, v: (c + v, c), np.float32(2), x[:0])


def halved(x: Any) -> Any:
    """A while loop that ends by the values of its carry."""
    return lax.while_loop(lambda c: c[0].max() > 0.01, lambda c: (c[0] / 2, c[1] + 1), (x, 0))


def newton(x: Any) -> Any:
    """A while loop in a scan."""

    def root(a: Any) -> Any:
        def goes_on(s: Any) -> Any:
            return (cnp.abs(s[0] * s[0] - a) > 1e-3) & (s[1] < 20)

        return lax.while_loop(goes_on, lambda s: ((s[0] + a / s[0]) / 2, s[1] + 1), (a + 1, 0))

    return lax.scan(lambda c, v: (c + 1, root(cnp.abs(v) + 0.5)), 0, x)


def table(x: Any) -> Any:
    """A loop in a loop, with updates in place."""

    def row(i: Any, m: Any) -> Any:
        return lax.fori_loop(0, 6, lambda j, n: n.at[i, j].add(x[i] * x[j] + n[j, i]), m)

    return lax.fori_loop(0, 6, row, cnp.zeros((6, 6), cnp.float32))


# --- branches -------------------------------------------------------------------------------------


def one_side(x: Any, n: Any) -> Any:
    """A branch on an argument."""
    return lax.cond(n > 3, cnp.sin, lambda v: v * 2, x)


def three_ways(x: Any, n: Any) -> Any:
    """A switch with an index out of range, which is clamped."""
    sides: list[Callable[[Any], Any]] = [cnp.sin, cnp.cos, lambda v: v - 1]
    return [lax.switch(i, sides, x) for i in (n - 7, n - 6, n)]


def branching_steps(x: Any) -> Any:
    """A branch in a loop."""

    def step(c: Any, v: Any) -> Any:
        return lax.cond(v > 0, lambda: (c + v, True), lambda: (c * v, False))

    return lax.scan(step, np.float32(1), x)


# --- transformations ------------------------------------------------------------------------------


def loss(w: Any, x: Any) -> Any:
    """A small network."""
    return cnp.sum(cnp.tanh(w @ cnp.tanh(w @ x)) ** 2)


def scan_loss(x: Any, w: Any) -> Any:
    """A recurrence to differentiate."""
    return cnp.sum(matrix_steps(x, w)[1])


def branch_loss(x: Any) -> Any:
    """A loop with branches to differentiate."""
    return branching_steps(x)[0]


@cv.custom_jvp
def log1p_exp(x: Any) -> Any:
    """A function with a derivative of its own."""
    return cnp.log1p(cnp.exp(x))


@log1p_exp.defjvp
def _log1p_exp_jvp(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return log1p_exp(x), t / (1 + cnp.exp(-x))


def nested_calls(x: Any) -> Any:
    """Functions compiled inside of functions."""
    inner = cv.jit(lambda v: cnp.sin(v) + 1)
    return cv.jit(lambda v: inner(v) * inner(v + 1))(x)


def jacobians(x: Any) -> Any:
    """Forwards over reverse, and reverse over forwards."""

    def f(v: Any) -> Any:
        return cnp.sin(v).sum() * v

    return cv.jacfwd(f)(x), cv.jacrev(f)(x), cv.hessian(lambda v: f(v).sum())(x)


# --- sizes and types ------------------------------------------------------------------------------


def nothing(x: Any) -> Any:
    """Arrays without elements."""
    empty = x[:0]
    return empty * 2, empty.sum(), cnp.concatenate([empty, x])


def passed_on(x: Any, n: Any) -> Any:
    """Results that are arguments, constants, and one result twice."""
    y = x + n
    return x, y, y, np.float32(3), cnp.arange(4)


def mixed_types(x: Any, n: Any) -> Any:
    """Several dtypes in one program."""
    z = x + 1j * x
    return z * z, abs(z), x > 0, (x * 10).astype(cnp.int8), n / 3, cnp.uint32(n) << 3


def halves(x: Any) -> Any:
    """Sixteen-bit floats."""
    return x.astype(cnp.float16) * 3, x.astype(cnp.bfloat16) + 1


def random_numbers(n: Any) -> Any:
    """Keys that are made, split and used inside."""
    first, second = cv.random.split(cv.random.key(n))
    return cv.random.uniform(first, (4,)), cv.random.randint(second, (5,), 0, 100)


def shuffled(x: Any, m: Any) -> Any:
    """Movement: slices, transposes, gathers, concatenation."""
    places = cnp.argsort(x)
    return x[places][::-1], m.T[1:4:2], cnp.roll(m, 2, 1), m[:, places], cnp.cumsum(m, 0)


def all_examples() -> Iterator[Example]:
    """Every example."""
    xs, ms = (_X,), (_X, _W)
    for f in (running_sum, backwards, swapped, no_rounds, table):
        yield Example("loops", f.__name__, f, xs)
    yield Example("loops", "matrix_steps", matrix_steps, ms)
    for f in (halved, newton):
        yield Example("while", f.__name__, f, xs)
    yield Example("while", "many_rounds", many_rounds, (_X, _N))
    for f in (one_side, three_ways):
        yield Example("branches", f.__name__, f, (_X, _N))
    yield Example("branches", "branching_steps", branching_steps, xs)
    yield Example("nested", "nested_calls", nested_calls, xs)
    yield Example("nested", "custom_jvp", lambda x: cv.grad(lambda v: log1p_exp(v).sum())(x), xs)
    for f in (running_sum, halved, newton, branching_steps):
        yield Example("vmap", f.__name__, cv.vmap(f), (_M,))
    yield Example("vmap", "matrix_steps", cv.vmap(matrix_steps, (0, None)), (_M, _W))
    yield Example(
        "vmap", "many_rounds", cv.vmap(many_rounds), (_M[:, 0], np.arange(5, dtype=np.int32))
    )
    yield Example("grad", "network", cv.grad(loss), (_W, _X))
    yield Example("grad", "jacobians", jacobians, xs)
    yield Example("grad", "of each lane", cv.vmap(cv.grad(loss), (None, 0)), (_W, _M))
    yield Example("scan gradients", "recurrence", cv.grad(scan_loss, (0, 1)), ms)
    yield Example("scan gradients", "branches", cv.grad(branch_loss), xs)
    yield Example("scan gradients", "vmap", cv.vmap(cv.grad(scan_loss), (0, None)), (_M, _W))
    tangent = (np.ones_like(_X),)
    yield Example("scan gradients", "forwards", lambda x: cv.jvp(branch_loss, (x,), tangent), xs)
    yield Example("sizes and types", "nothing", nothing, xs)
    for f in (passed_on, mixed_types):
        yield Example("sizes and types", f.__name__, f, (_X, _N))
    yield Example("sizes and types", "halves", halves, xs)
    yield Example("sizes and types", "random_numbers", random_numbers, (_N,))
    yield Example("sizes and types", "shuffled", shuffled, (_X, _M))
