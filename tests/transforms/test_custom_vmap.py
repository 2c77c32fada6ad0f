"""Functions with batching rules of the user's own, against JAX."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import custom_batching, lax

OURS = SimpleNamespace(
    np=cnp, lax=lax, jit=cv.jit, grad=cv.grad, vmap=cv.vmap, jvp=cv.jvp, tree=cv.tree,
    custom_vjp=cv.custom_vjp, batching=custom_batching,
)  # fmt: skip
THEIRS = SimpleNamespace(np=jax.numpy, lax=jax.lax, jit=jax.jit, grad=jax.grad, vmap=jax.vmap,
                         jvp=jax.jvp, tree=jax.tree, custom_vjp=jax.custom_vjp,
                         batching=jax.custom_batching)  # fmt: skip

X = np.array([0.3, -1.2, 0.7])
Y = np.array([1.1, 0.4, -0.6])


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with cv.enable_x64(), jax.enable_x64(True):
        yield


def same(ours: Any, theirs: Any) -> None:
    a, tree = jax.tree.flatten(cv.tree.map(np.asarray, ours))
    b, their_tree = jax.tree.flatten(theirs)
    assert tree == their_tree
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, np.asarray(y), rtol=1e-11, atol=1e-12)
        assert x.dtype == np.asarray(y).dtype


def make(api: Any, calls: list[Any] | None = None) -> Any:
    """A function whose rule computes something else, so that its use shows."""

    @api.batching.custom_vmap
    def f(x: Any, y: Any) -> Any:
        return {"p": api.np.sin(x) * y, "q": (x + y,)}

    @f.def_vmap
    def rule(size: int, batched: Any, xs: Any, ys: Any) -> Any:
        if calls is not None:
            calls.append((size, batched))
        out = {"p": api.np.cos(xs) * ys + size, "q": (xs * ys,)}
        flag = any(batched)
        return out, {"p": flag, "q": (flag,)}

    return f


def total(api: Any, f: Any) -> Any:
    def scalar(*args: Any) -> Any:
        out = f(*args)
        return out["p"] + 2.0 * out["q"][0]

    return scalar


COMPOSITIONS = {
    "plain": lambda api, f: f(X[0], Y[0]),
    "jit": lambda api, f: api.jit(f)(X[0], Y[0]),
    "keyword": lambda api, f: f(X[0], y=Y[0]),
    "vmap": lambda api, f: api.vmap(f)(X, Y),
    "vmap_one": lambda api, f: api.vmap(f, in_axes=(None, 0))(X[0], Y),
    "vmap_axes": lambda api, f: api.vmap(f, in_axes=(1, 0), out_axes=1)(
        X[None], Y[:1, None].repeat(3, 0)),
    "jit_vmap": lambda api, f: api.jit(api.vmap(f))(X, Y),
    "vmap_jit": lambda api, f: api.vmap(api.jit(f))(X, Y),
    "nested": lambda api, f: api.vmap(api.vmap(f, (None, 0)), (0, None))(X, Y),
    "nested_both": lambda api, f: api.vmap(api.vmap(f))(X * Y[:, None], Y * X[:, None]),
    "jvp": lambda api, f: api.jvp(f, (X[0], Y[0]), (Y[0], X[1])),
    "jvp_one": lambda api, f: api.jvp(lambda x: f(x, Y[0]), (X[0],), (Y[0],)),
    "vmap_jvp": lambda api, f: api.vmap(lambda x, y: api.jvp(f, (x, y), (y, x)))(X, Y),
    "vmap_jvp_tangent": lambda api, f: api.vmap(
        lambda t: api.jvp(f, (X[0], Y[0]), (t, 2.0 * t)))(X),
    "jit_vmap_jvp": lambda api, f: api.jit(
        api.vmap(lambda x, y: api.jvp(f, (x, y), (y, x))))(X, Y),
    "jvp_vmap": lambda api, f: api.jvp(api.vmap(f), (X, Y), (Y, X)),
    "grad_vmap": lambda api, f: api.grad(lambda x: api.vmap(total(api, f))(x, Y).sum())(X),
    "scan": lambda api, f: api.lax.scan(
        lambda c, x: (api.vmap(total(api, f))(c, x), c.sum()), X, np.stack([X, Y, X])),
    "vmap_scan": lambda api, f: api.vmap(
        lambda x: api.lax.scan(lambda c, y: (total(api, f)(c, y), c), x, Y))(X),
    "vmap_cond": lambda api, f: api.vmap(
        lambda x, y: api.lax.cond(x > 0, total(api, f), lambda x, y: x * y, x, y))(X, Y),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_composition(name: str) -> None:
    run = COMPOSITIONS[name]
    same(run(OURS, make(OURS)), run(THEIRS, make(THEIRS)))


def test_reverse_mode_is_that_of_the_function() -> None:
    """Beyond JAX, which has none."""

    def plain(x: Any, y: Any) -> Any:
        return cnp.sin(x) * y + 2.0 * (x + y)

    scalar = total(OURS, make(OURS))
    expected = jax.tree.map(np.asarray, cv.grad(plain, (0, 1))(X[0], Y[0]))
    same(cv.grad(scalar, (0, 1))(X[0], Y[0]), expected)
    same(cv.jit(cv.grad(scalar, (0, 1)))(X[0], Y[0]), expected)
    each = jax.tree.map(np.asarray, cv.vmap(cv.grad(plain, (0, 1)))(X, Y))
    same(cv.vmap(cv.grad(scalar, (0, 1)))(X, Y), each)
    same(cv.jit(cv.vmap(cv.grad(scalar, (0, 1))))(X, Y), each)
    value, grads = cv.vmap(cv.value_and_grad(scalar, (0, 1)))(X, Y)
    same(grads, each)
    same(value, np.asarray(cv.vmap(scalar)(X, Y)))  # the rule's
    second = cv.tree.map(np.asarray, cv.vmap(cv.hessian(plain))(X, Y))
    same(cv.vmap(cv.jacrev(cv.jacrev(scalar)))(X, Y), second)
    # Without a batch nothing is computed twice.
    text = str(cv.make_program(cv.grad(scalar))(X[0], Y[0]))
    assert text.count("cos") == 1


def test_linear_functions_are_transposed() -> None:
    @cv.custom_vmap
    def double(x: Any) -> Any:
        return 2.0 * x

    double.def_vmap(lambda size, batched, xs: (3.0 * xs, True))
    (ct,) = cv.linear_transpose(double, 1.0)(5.0)
    assert float(ct) == 10.0


def test_inside_of_custom_vjp() -> None:
    def build(api: Any) -> Any:
        inner = make(api)

        @api.custom_vjp
        def f(x: Any, y: Any) -> Any:
            return total(api, inner)(x, y)

        f.defvjp(lambda x, y: (f(x, y), (x, y)), lambda res, g: (g * res[0], g * res[1] * 7.0))
        return f

    def everything(api: Any) -> Any:
        f = build(api)
        return api.vmap(f)(X, Y), api.vmap(api.grad(f, (0, 1)))(X, Y), api.grad(f)(X[0], Y[0])

    same(everything(OURS), everything(THEIRS))


def test_what_the_rule_is_given() -> None:
    calls: list[Any] = []
    f = make(OURS, calls)
    cv.vmap(f)(X, Y)
    cv.vmap(f, in_axes=(None, 0))(X[0], Y)
    cv.vmap(lambda x: f(x, 1.0))(X)
    assert calls == [(3, [True, True]), (3, [False, True]), (3, [True, False])]
    calls.clear()
    cv.jit(f)(1.0, 2.0)
    cv.vmap(lambda x: f(1.0, 2.0)["p"] + x)(X)
    assert calls == []


def test_trees_and_unbatched_outputs() -> None:
    def build(api: Any) -> Any:
        @api.batching.custom_vmap
        def f(tree: Any, z: Any) -> Any:
            return tree["a"] * z, tree["b"][0]

        @f.def_vmap
        def rule(size: int, batched: Any, tree: Any, z: Any) -> Any:
            assert batched == [{"a": True, "b": [False]}, False]
            return (tree["a"] * z + 1.0, tree["b"][0]), (True, False)

        axes = ({"a": 0, "b": [None]}, None)
        return api.vmap(f, in_axes=axes, out_axes=(0, None))({"a": X, "b": [Y]}, 2.0)

    same(build(OURS), build(THEIRS))


def test_sequential_vmap() -> None:
    def build(api: Any) -> Any:
        @api.batching.sequential_vmap
        def f(x: Any, tree: Any) -> Any:
            return {"s": api.np.sin(x) * tree["k"], "t": x + tree["m"]}

        mapped = api.vmap(f, in_axes=(0, {"k": None, "m": 0}))
        args = (X, {"k": Y[0], "m": Y})
        nested = api.vmap(api.vmap(f, in_axes=(0, None)), in_axes=(None, {"k": 0, "m": None}))
        return (
            f(X[0], {"k": 2.0, "m": 1.0}),
            mapped(*args),
            api.jit(mapped)(*args),
            nested(X, {"k": Y, "m": Y[0]}),
        )

    same(build(OURS), build(THEIRS))
    f = custom_batching.sequential_vmap(cnp.sin)
    program = cv.make_program(cv.vmap(f))(X)
    assert [e.primitive.name for e in program.equations] == ["scan"]
    np.testing.assert_allclose(cv.grad(lambda x: cv.vmap(f)(x).sum())(X), np.cos(X))


def test_function_with_a_collective() -> None:
    @cv.custom_vmap
    def f(x: Any) -> Any:
        return x + lax.axis_index("i")

    f.def_vmap(lambda size, batched, xs: (xs * 10.0, True))
    same(cv.vmap(lambda x: (f(x), f(1.0)), axis_name="i")(X), (X * 10.0, 1.0 + np.arange(3)))


def test_eager_loops_are_not_compiled_again() -> None:
    f = make(OURS)
    from covector.core import backend

    def run() -> Any:
        return lax.fori_loop(0, 3, lambda i, x: total(OURS, f)(x, 2.0), X[0])

    first = run()
    before = len(backend._cache.entries)
    assert float(run()) == float(first)
    assert len(backend._cache.entries) == before


def check(out: Any, flags: Any, error: type, words: str) -> None:
    @cv.custom_vmap
    def f(x: Any) -> Any:
        return x, 2.0 * x

    f.def_vmap(lambda size, batched, xs: out(xs) if flags is None else (out(xs), flags))
    with pytest.raises(error, match=words):
        cv.vmap(f)(X)


def test_errors() -> None:
    check(lambda x: (x, x), (True,), ValueError, "output and out_batched must have one structure")
    check(lambda x: (x, x), True, ValueError, "one structure")
    check(lambda x: [x, x], [True, True], ValueError, "the function itself")
    check(lambda x: x, None, TypeError, r"must return a pair \(output, out_batched\)")
    check(lambda x: (x, x), (True, 1), TypeError, "consists of booleans, got 1")
    check(lambda x: (x, x[:2]), (True, True), ValueError, r"must be f64\[3\], got f64\[2\]")
    check(lambda x: (x, x), (True, False), ValueError, r"not batched must be f64\[\], got f64\[3\]")
    check(lambda x: (x, x > 0), (True, True), ValueError, r"got bool\[3\]")
    check(lambda x: (x, "no"), (True, True), TypeError, "arrays and numbers")

    @cv.custom_vmap
    def no_rule(x: Any) -> Any:
        return x

    with pytest.raises(AttributeError, match="no_rule has no batching rule: set it with def_vmap"):
        no_rule(1.0)
    no_rule.def_vmap(lambda size, batched, xs: (xs, True))
    with pytest.raises(TypeError, match="arrays and numbers"):
        no_rule("text")
    with pytest.raises(TypeError, match="expects a function"):
        cv.custom_vmap(3)  # type: ignore[arg-type]

    def closes_over(x: Any) -> Any:
        g = cv.custom_vmap(lambda y: x * y)
        g.def_vmap(lambda size, batched, ys: (ys, True))
        return g(2.0 * x), g(1.0)

    with pytest.raises(ValueError, match=r"closes over a value that is batched(.|\n)*argument"):
        cv.vmap(closes_over)(X)
    np.testing.assert_allclose(cv.grad(lambda x: closes_over(x)[0])(3.0), 12.0)
