"""Callbacks into Python: values, effects, transformations and messages, on both backends."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import UnsupportedRuleError
from covector.lax import control_flow as lax
from covector.lax.callbacks import debug_callback, io_callback, pure_callback


@pytest.fixture(params=["reference", "native"], autouse=True)
def backend(request):
    with cv.config.override("backend", request.param), cv.core.config.checked():
        yield request.param


SCALAR = cv.ShapeDtypeStruct((), np.float32)
XS = np.arange(4.0, dtype=np.float32)


def test_pytrees_go_in_and_out():
    def host(x, *, scale):
        assert isinstance(x["a"], cv.Array)
        return {"sum": np.asarray(x["a"]).sum() * scale["s"], "n": np.int32(7)}

    like = {"n": cv.ShapeDtypeStruct((), np.int32), "sum": SCALAR}

    def f(x):
        return pure_callback(host, like, {"a": x}, scale={"s": 2.0})

    for g in (f, cv.jit(f)):
        out = g(XS)
        assert float(out["sum"]) == 12.0
        assert int(out["n"]) == 7


def test_results_of_python_types_are_converted():
    f = cv.jit(lambda x: pure_callback(lambda x: float(x) + 1, SCALAR, x))
    assert f(1.0).dtype == np.float32
    f = cv.jit(lambda x: pure_callback(np.sinh, cv.ShapeDtypeStruct((4,), np.float32), x))
    np.testing.assert_allclose(f(XS), np.sinh(XS))


def test_inside_a_loop():
    def f(x):
        def body(c, x):
            return c + pure_callback(lambda v: np.asarray(v) * 2, SCALAR, x), None

        return lax.scan(body, 0.0, x)[0]

    assert float(cv.jit(f)(XS)) == 12.0


@pytest.mark.parametrize(
    "method",
    ["sequential", "sequential_unrolled", "expand_dims", "broadcast_all", "legacy_vectorized"],
)
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (1, 0)])
def test_batching(method, axes):
    x = np.arange(12.0, dtype=np.float32).reshape(4, 3)
    y = np.arange(4.0, dtype=np.float32) + 1
    args = (x if axes[0] == 0 else x.T if axes[0] == 1 else x[0], y if axes[1] == 0 else y[0])

    def run(vmap, callback, struct):
        shapes = []

        def host(a, b):
            a, b = np.asarray(a), np.asarray(b)
            shapes.append((a.shape, b.shape))
            if method == "legacy_vectorized" and axes == (0, None):
                return a.sum(-1) * b
            if method == "legacy_vectorized" and axes == (None, 0):
                return a.sum() * b
            return (a.sum(-1) * b).astype(np.float32)

        def f(a, b):
            return callback(host, struct((), np.float32), a, b, vmap_method=method)

        return np.asarray(vmap(f, in_axes=axes)(*args)), sorted(shapes)

    expected, expected_shapes = run(jax.vmap, jax.pure_callback, jax.ShapeDtypeStruct)
    found, shapes = run(cv.vmap, pure_callback, cv.ShapeDtypeStruct)
    np.testing.assert_allclose(found, expected)
    assert shapes == expected_shapes


def test_batching_needs_a_method():
    f = cv.vmap(lambda x: pure_callback(lambda v: v, SCALAR, x))
    with pytest.raises(NotImplementedError, match="pass vmap_method, one of sequential"):
        f(XS)
    with pytest.raises(ValueError, match="vmap_method must be one of"):
        pure_callback(lambda v: v, SCALAR, 1.0, vmap_method="parallel")


def test_there_is_no_derivative():
    for call in (pure_callback, io_callback):
        with pytest.raises(UnsupportedRuleError, match="custom_jvp"):
            cv.grad(lambda x, call=call: call(lambda v: v, SCALAR, x))(1.0)


def test_what_is_returned_is_checked():
    cases = [
        (lambda x: np.zeros(3, np.float32), r"float32\[3\] where f32\[\] was declared"),
        (lambda x: np.int16(3), r"int16\[\] where f32\[\] was declared"),
        (lambda x: (x, x), "returned the pytree"),
    ]
    for host, message in cases:
        for wrap in (lambda f: f, cv.jit):
            f = wrap(lambda x, host=host: pure_callback(host, SCALAR, x))
            with pytest.raises(RuntimeError, match=message):
                f(1.0)
    with pytest.raises(TypeError, match="must consist of objects with shape and dtype"):
        pure_callback(lambda x: x, 3.0, 1.0)
    with pytest.raises(TypeError, match="callback must be a function"):
        pure_callback(3, SCALAR, 1.0)


def test_errors_pass_through():
    def host(x):
        raise KeyError("mine")

    for wrap in (lambda f: f, cv.jit):
        f = wrap(lambda x: pure_callback(host, SCALAR, x))
        with pytest.raises(KeyError, match="mine"):
            f(1.0)


def test_side_effects_happen_once_each_in_order():
    seen = []

    @cv.jit
    def f(xs):
        def body(c, x):
            io_callback(lambda v: seen.append(float(v)), None, x, ordered=True)
            return c + x, None

        total, _ = lax.scan(body, 0.0, xs)
        io_callback(lambda v: seen.append(("total", float(v))), None, total, ordered=True)
        return total

    f(XS)
    assert seen == [0.0, 1.0, 2.0, 3.0, ("total", 6.0)]


def test_unused_results_of_io_callbacks_are_computed():
    seen = []
    f = cv.jit(lambda x: (io_callback(lambda v: seen.append(1) or v, SCALAR, x), x)[1])
    f(1.0)
    assert seen == [1]


def test_ordered_side_effects_are_not_batched():
    def f(x):
        return io_callback(lambda v: v, SCALAR, x, ordered=True)

    with pytest.raises(ValueError, match="ordered=True"):
        cv.vmap(f)(XS)
    seen = []
    out = cv.vmap(lambda x: io_callback(lambda v: seen.append(float(v)) or v, SCALAR, x))(XS)
    assert out.tolist() == seen == XS.tolist()


def test_debugging_under_transformations():
    seen = []

    def f(x):
        debug_callback(lambda v: seen.append(np.asarray(v).tolist()), x)
        return cnp.tanh(x)

    f(1.0)
    assert seen == [1.0]
    cv.jit(f)(2.0)
    assert seen[1:] == [2.0]
    cv.grad(f)(3.0)
    assert seen[2:] == [3.0]
    cv.vmap(f)(XS)
    assert seen[3:] == XS.tolist()
    cv.jit(cv.vmap(cv.grad(f)))(XS)
    assert seen[7:] == XS.tolist()


def test_large_operands():
    x = np.arange(3000.0, dtype=np.float32).reshape(60, 50)
    like = cv.ShapeDtypeStruct((50, 60), np.float32)

    def f(x):
        return pure_callback(lambda v: np.asarray(v).T, like, x * 2) + 1

    np.testing.assert_array_equal(cv.jit(f)(x), x.T * 2 + 1)
    assert jnp.asarray(x).shape == (60, 50)


def test_errors_have_both_tracebacks_and_leave_the_process_usable():
    def fails(x):
        if np.any(np.asarray(x) > 2):
            raise KeyError("too large")
        return np.asarray(x)

    def body(x):
        return cv.pure_callback(fails, cv.typeof(x), x, vmap_method="broadcast_all") + 1

    @cv.jit
    def looped(xs):
        # Lanes, threads and the interpreter lock given up: what comes before is a long loop.
        ys = cv.vmap(lambda x: lax.fori_loop(0, 50, lambda i, y: cnp.sin(y) + x, x))(xs)
        return body(xs) + 0 * ys

    for run in (looped, cv.jit(cv.vmap(body)), cv.vmap(body), looped):
        with pytest.raises(KeyError, match="too large") as caught:
            run(cnp.arange(5000.0))
        names = [entry.name for entry in caught.traceback]
        assert names[0] == "test_errors_have_both_tracebacks_and_leave_the_process_usable"
        assert names[-1] == "fails"
        (note,) = caught.value.__notes__
        assert "in the callback fails, called at" in note
        assert "test_callback.py" in note
        assert float(run(cnp.zeros(5000))[0]) == 1.0


def test_breakpoints(monkeypatch):
    seen = []

    def stop():
        frame = sys._getframe(1)
        seen.append((frame.f_locals["where"], frame.f_locals["values"]))

    monkeypatch.setattr(sys, "breakpointhook", stop)

    @cv.jit
    def f(x):
        text, y = "not an array", x * 2
        cv.debug.breakpoint(half=x / 2)
        return y, text and None

    f(3.0)
    f(5.0)
    cv.vmap(lambda x: f(x)[0])(cnp.arange(2.0))
    assert [sorted(values) for _, values in seen] == [["half", "x", "y"]] * 4
    assert [float(values["y"]) for _, values in seen] == [6.0, 10.0, 0.0, 2.0]
    assert "test_callback.py" in seen[0][0]
