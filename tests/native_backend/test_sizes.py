"""Run-time sizes: one LLVM compilation for all sizes of a batch, with the results of each size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.backends.native import compilations
from covector.backends.native.engine import get_engine
from covector.core import backend
from covector.core.config import config
from covector.core.dims import symbol

SIZES = (1, 7, 16, 1000, 16384)

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def nothing_known():
    backend.clear_cache()


def normals(*shape: int) -> np.ndarray:
    return rng.normal(size=shape).astype(np.float32)


def specialised(function: Callable[..., Any], *args: Any) -> Any:
    with config.override("disable", "run_time_sizes"):
        return cv.jit(lambda *a: function(*a))(*args)


def check_equal(found: Any, expected: Any, rtol: float) -> None:
    for x, y in zip(cv.tree.leaves(found), cv.tree.leaves(expected), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        if rtol:
            scale = max(1.0, float(np.abs(y).max(initial=0)))
            np.testing.assert_allclose(x, y, rtol=rtol, atol=rtol * scale)
        else:
            assert x.tobytes() == y.tobytes()


def counted(
    function: Callable[..., Any], make: Callable[[int], tuple[Any, ...]], sizes: Any, rtol: float
) -> int:
    """Runs a function at several sizes; how many compilations that took."""
    compiled = cv.jit(function)
    runs = [(make(n),) for n in sizes]
    before = compilations()
    found = [compiled(*args) for (args,) in runs]
    after = compilations()
    for (args,), result in zip(runs, found, strict=True):
        check_equal(result, specialised(function, *args), rtol)
    return after - before


def lorenz(y):
    rates = cnp.stack([10 * (y[1] - y[0]), y[0] * (28 - y[2]) - y[1], y[0] * y[1] - 8 / 3 * y[2]])
    return y + 0.01 * rates


def simulate(y):
    return lax.scan(lambda c, _: (lorenz(c), c[0]), y, None, length=20)


def collatz(n):
    def step(c):
        return cnp.where(c[0] % 2 == 0, c[0] // 2, 3 * c[0] + 1), c[1] + 1

    return lax.while_loop(lambda c: c[0] > 1, step, (n, 0))[1]


def loss(p, x, y):
    hidden = cnp.tanh(x @ p["w1"] + p["b1"])
    return cnp.mean((hidden @ p["w2"] + p["b2"] - y) ** 2)


def batch(n):
    weights = {"w1": normals(3, 8), "b1": normals(8), "w2": normals(8, 2), "b2": normals(2)}
    return weights, normals(n, 3), normals(n, 2)


def states(n):
    return (normals(n, 3),)


def softmax(x):
    e = cnp.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def network(p, x):
    return cnp.tanh(p["w1"].T @ x + p["b1"]) @ p["w2"]


# The tolerance is 0 where nothing is summed along the batch: each element is computed alike.
FUNCTIONS = {
    "elementwise": (lambda x: cnp.sin(x) * 2 + 1, states, 0),
    "one axis": (lambda x: cnp.exp(x) / (1 + x * x), lambda n: (normals(n),), 0),
    "ensemble": (cv.vmap(simulate), states, 0),
    "ensemble gradient": (cv.grad(lambda y: (cv.vmap(simulate)(y)[0] ** 2).sum()), states, 0),
    "ensemble mean": (lambda y: cv.vmap(simulate)(y)[0].mean(), states, 1e-6),
    "mean gradient": (cv.grad(lambda y: (cv.vmap(simulate)(y)[0] ** 2).mean()), states, 0),
    "while": (cv.vmap(collatz), lambda n: (rng.integers(1, 999, n).astype(np.int32),), 0),
    "loss": (loss, batch, 1e-5),
    "loss gradient": (cv.grad(loss), batch, 1e-5),
    # Large products of known sizes are made by BLAS, which rounds once where the machine can.
    "network": (
        cv.vmap(network, (None, 0)),
        lambda n: batch(n)[:2],
        0 if get_engine().target.fma else 1e-6,
    ),
    "softmax": (softmax, states, 0),
    "iota": (lambda x: x * cnp.arange(x.shape[0])[:, None], states, 0),
    "size as data": (lambda x: x / x.shape[0] + x.shape[0] - 1, states, 0),
    "sort of rows": (lambda x: cnp.sort(x, 1), states, 0),
    "normals": (
        cv.vmap(lambda key: cv.random.normal(key, (3,))),
        lambda n: (cv.random.split(cv.random.key(0), n),),
        0,
    ),
    "reads of a table": (
        lambda table, i: table[i] * 2,
        lambda n: (normals(10, 3), rng.integers(0, 10, n).astype(np.int32)),
        0,
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_five_sizes_take_one_compilation(name):
    function, make, rtol = FUNCTIONS[name]
    assert counted(function, make, SIZES, rtol) == 1


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_order_of_sizes_does_not_matter(name):
    function, make, rtol = FUNCTIONS[name]
    assert counted(function, make, (33, 2, 64, 1), rtol) == 1


@pytest.mark.parametrize(
    "function",
    [
        lambda x: cnp.cumsum(x, 0),
        lambda x: x[-1] + x[0],
        lambda x: x[::-1] * 2,
        lambda x: cnp.sort(x, 0),
        lambda x: (x - x.mean(0)) / (x.std(0) + 1e-3),
        lambda x: cnp.concatenate([x, x[:1]]),
        lambda x: cnp.pad(x, ((1, 1), (0, 0))),
        lambda x: x[1:] - x[:-1],
        lambda x: x.reshape(-1),
        lambda x: x.T @ x,
        lambda x: x @ x.T,
        lambda x: x.argmax(0),
        lambda x: x.at[0].add(1.0),
        lambda x: lax.scan(lambda c, r: (c + r, c), x[0], x),
        lambda x: cnp.tril(cnp.ones((x.shape[0], 3))) * x,
        lambda x: cnp.broadcast_to(x[:, None], (x.shape[0], 4, 3)),
        lambda x: cnp.outer(x[:, 0], x[:, 1]),
    ],
)
def test_whatever_is_done_along_the_batch_is_right(function):
    counted(function, states, (1, 2, 3, 7, 40, 33, 1000), 1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: cnp.repeat(x, 2, 0)[1:],
        lambda x: cnp.roll(cnp.repeat(x, 2), 1),
        lambda x: cnp.stack([x, -x], 1).reshape(-1),
        lambda x: cnp.repeat(x, 3).reshape(3, -1) + 1,
        lambda x: cnp.repeat((x * 100).astype(cnp.uint32), 2),
    ],
)
def test_axes_that_operations_make_and_merge_are_no_words_of_keys(function):
    counted(function, lambda n: (normals(n) ** 2,), (19, 2, 1, 40), 0)


@pytest.mark.parametrize("target", [lambda n: (2 * n,), lambda n: (n * 2, 1), lambda n: (2, n)])
def test_reshape_of_symbolic_pairs(target):
    n = symbol("n")
    x = np.arange(10, dtype=np.uint32).reshape(5, 2)
    function = cv.jit(lambda x: lax.reshape(x + 1, target(x.shape[0])))
    compiled = function.lower(cv.ShapeDtypeStruct((n, 2), np.uint32)).compile()
    np.testing.assert_array_equal(compiled(x), (x + 1).reshape(target(5)))


def test_reshape_of_batches_of_keys():
    def draw(x):
        keys = cv.vmap(cv.random.key)(x)
        return cv.random.key_data(cnp.broadcast_to(keys[:, None], (x.shape[0], 2)).reshape(-1))

    counted(draw, lambda n: (np.arange(n, dtype=np.uint32),), (5, 2, 1, 9), 0)


def test_a_batch_of_one_does_not_decide_how_others_run():
    weights = 0.2 * normals(40, 50), 0.2 * normals(50, 40)

    def rollout(p, x):
        return lax.fori_loop(0, 3, lambda _, s: cnp.tanh(cnp.tanh(s @ p[0]) @ p[1]) + x, x)

    def value(p, x):
        return cnp.sum(cv.vmap(lambda y: rollout(p, y))(x) ** 2)

    # Code for each size gives these bits; vectors of lanes, as for one lane, would give others.
    counted(cv.grad(value), lambda n: (weights, normals(n, 40)), [1, 96], 0)


def test_no_elements():
    function, make, _ = FUNCTIONS["ensemble"]
    counted(function, make, (5, 0, 7), 0)
    counted(lambda x: x.sum(0), states, (0, 4, 0), 1e-6)


def test_a_literal_that_equals_the_size_is_no_size():
    assert counted(lambda x: x * 16.0 + 7.0, states, (16, 7, 5), 0) == 1


def test_python_that_asks_for_the_size_gives_programs_of_their_own():
    def function(x):
        return x * 2 if x.shape[0] > 10 else x + 1

    assert counted(function, states, (5, 20, 6, 21), 0) == 2


def test_arguments_whose_sizes_are_fixed():
    function = cv.jit(lambda x: x + 1, fixed_size_argnums=0)
    before = compilations()
    for n in 5, 6:
        np.testing.assert_array_equal(function(cnp.ones(n)), np.full(n, 2.0))
    assert compilations() - before == 2


def test_one_argument_may_be_fixed_and_another_not():
    function = cv.jit(lambda table, x: table.sum() + x, fixed_size_argnames="table")
    before = compilations()
    for n in 3, 4, 5:
        function(normals(8), normals(n))
    assert compilations() - before == 1
    function(normals(9), normals(5))
    assert compilations() - before == 2


def test_recognition_is_told(capsys):
    function = cv.jit(lambda x: x * 3 + 1)
    with cv.debug.debug_level(1):
        function(normals(5))
        function(normals(6))
    told = capsys.readouterr().err
    assert "compiled <lambda>" in told
    assert "recognised" in told


def test_loops_over_arrays_of_the_size_are_compiled_for_it():
    def diffuse(x):
        return lax.fori_loop(0, 5, lambda _, x: x + 0.1 * (cnp.roll(x, 1) - x), x)

    assert counted(diffuse, lambda n: (normals(n),), (8, 9), 1e-6) == 2


def test_loops_in_branches_that_have_arrays_of_the_size():
    def function(x, flag):
        def long(x):
            return lax.fori_loop(0, 3, lambda i, c: cnp.roll(c, 1, axis=0) * 0.5 + x, x)

        return lax.cond(flag, long, lambda x: x + 1, x)

    for disabled in ({"lanes"}, set()):
        with config.override("disable", config.disable | disabled):
            for size in (5, 40):
                x = normals(size, 4)
                for flag in (True, False):
                    found = cv.jit(function)(x, flag)
                    np.testing.assert_allclose(found, function(x, flag), rtol=1e-6, atol=1e-6)


def test_lanes_that_have_arrays_of_the_size_are_compiled_for_it():
    """The lanes are the rows of a Jacobian, each of which has an array over the batch."""

    def clipped(x):
        pairs = cnp.outer(x, x)
        whole = lax.fori_loop(0, 3, lambda _, y: cnp.clip(cnp.ceil(y), -4, 4), pairs)
        return cnp.broadcast_to(pairs, (2, 3, 3)), cnp.cumsum(whole, 0)

    assert counted(cv.vmap(cv.jacrev(clipped)), lambda n: (normals(n, 3),), (3, 5), 1e-6) == 2


def test_threads_share_a_reduction_of_one_large_array():
    """Its only large array is an argument; code for all sizes would leave it to one thread."""
    x = np.ones(2**20, np.float32)
    assert "parallel" in cv.jit(lambda x: cnp.sum(x)).lower(x).as_text("loopir")
    assert "dim 0" in cv.jit(lambda x: cnp.sum(x)).lower(x[: 2**10]).as_text("loopir")


def test_symbolic_shapes_run_natively():
    compiled = (
        cv.jit(lambda x, y: (cnp.concatenate([x, y]) * 2, (x @ x.T).sum()))
        .lower(
            cv.ShapeDtypeStruct((symbol("n"), 3), np.float32),
            cv.ShapeDtypeStruct((symbol("m"), 3), np.float32),
        )
        .compile()
    )
    for sizes in (4, 2), (1, 9), (40, 0):
        x, y = (normals(k, 3) for k in sizes)
        both, total = compiled(x, y)
        np.testing.assert_array_equal(both, np.concatenate([x, y]) * 2)
        np.testing.assert_allclose(total, (x @ x.T).sum(), rtol=1e-4, atol=1e-4)
    with pytest.raises(TypeError, match="must be"):
        compiled(normals(4, 2), normals(2, 3))
