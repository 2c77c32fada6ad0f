"""Functions in C as operations: declarations, calls from compiled code, lifetime and refusals."""

from __future__ import annotations

import ctypes
import gc
import math
import os
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.backends.native import disk
from covector.extend import pointers, prototypes
from covector.testing import check_op

X = np.linspace(0.1, 2.0, 7)


@pytest.fixture(autouse=True)
def _wide():
    with cv.enable_x64(True):
        yield


def quadratic(library, name="test_quadratic", **rules):
    return extend.foreign(
        "double quadratic(double x, int32_t n)", (library, "quadratic"), name=name, **rules
    )


def smoothing(library, name="test_smooth"):
    """A linear filter; its transpose is spelled out for three points and more."""

    def transpose(ct, w, x):
        (n,) = x.aval.shape
        columns = cv.vmap(lambda e: op(w, e))(cnp.eye(n))
        return None, columns @ ct

    def jvp(primals, tangents):
        (w, x), (u, t) = primals, tangents
        left = cnp.concatenate([x[:1], x[:-1]])
        right = cnp.concatenate([x[1:], x[-1:]])
        return op(w, x), op(w, t) + u * ((left + right) / 2 - x)

    op = extend.foreign(
        "void smooth(int64_t n, double w, const double x[n], double y[n])",
        (library, "smooth"),
        name=name,
        jvp=jvp,
        transpose=transpose,
    )
    return op


# --- calls ----------------------------------------------------------------------------------------


def test_a_function_of_numbers_is_applied_to_elements(library):
    op = quadratic(library)
    expected = X**2 + 3
    np.testing.assert_allclose(op(X, np.int32(3)), expected)
    for backend in ("native", "reference"):
        found = cv.jit(op, backend=backend)(X, np.int32(3))
        np.testing.assert_allclose(found, expected)
    batch = cv.jit(cv.vmap(op, (None, 0)))(X, np.arange(4, dtype=np.int32))
    np.testing.assert_allclose(batch, X**2 + np.arange(4)[:, None])


def test_it_is_called_from_fused_loops(library):
    op = quadratic(library)
    lowered = cv.jit(lambda x: 2 * op(x + 1, cnp.int32(0))).lower(X)
    loops = lowered.as_text("loopir")
    assert loops.count("for ") == 1
    assert "cvx_quadratic_" in lowered.as_text("llvm")
    assert "callback" not in loops


def test_it_is_called_from_loops_in_lanes(library):
    op = quadratic(library)

    def model(x):
        return lax.fori_loop(0, 5, lambda i, c: 0.1 * op(c, cnp.int32(1)), x)

    found = cv.jit(cv.vmap(model))(X)
    np.testing.assert_allclose(found, [model(x) for x in X])


def test_whole_arrays(library):
    smooth = smoothing(library)
    expected = smooth(0.5, X)
    padded = np.concatenate([X[:1], X, X[-1:]])
    np.testing.assert_allclose(expected, 0.5 * X + 0.25 * (padded[2:] + padded[:-2]))
    many = cv.jit(lambda x: lax.fori_loop(0, 3, lambda i, x: smooth(0.5, x), x))(X)
    np.testing.assert_allclose(many, smooth(0.5, smooth(0.5, expected)))
    rows = np.stack([X, X[::-1], X**2])
    found = cv.jit(cv.vmap(smooth, (None, 0)))(0.5, rows)
    np.testing.assert_allclose(found, [smooth(0.5, r) for r in rows])


def test_operands_are_row_major(library):
    smooth = smoothing(library)
    wide = np.arange(14.0).reshape(7, 2)
    found = cv.jit(lambda x: smooth(0.5, x[::-1, 1]))(wide)
    np.testing.assert_allclose(found, smooth(0.5, np.ascontiguousarray(wide[::-1, 1])))


def outer(library):
    return extend.foreign(
        "int outer(int n, int m, const float x[n], const float y[m], float xy[n][m], float t[1])",
        (library, "outer"),
        name="test_outer",
    )


def test_several_results_and_a_status(library):
    op = outer(library)
    x, y = np.arange(3, dtype=np.float32), np.ones(4, np.float32)
    for f in (op, cv.jit(op), cv.jit(op, backend="reference")):
        product, total = f(x, y)
        np.testing.assert_array_equal(product, np.outer(x, y))
        np.testing.assert_array_equal(total, [12])
    for backend in ("native", "reference"):
        with pytest.raises(RuntimeError, match="foreign function outer failed"):
            cv.jit(op, backend=backend)(np.zeros(5, np.float32), y)
    assert cv.jit(op)(x, y)[1][0] == 12  # the process is none the worse


def test_a_result_that_is_returned(library):
    op = extend.foreign(
        "double dot(unsigned n, const double x[n], const double y[n])",
        (library, "dot"),
        name="test_dot",
        linear=False,
        jvp=lambda p, t: (op(*p), op(t[0], p[1]) + op(p[0], t[1])),
        transpose=lambda ct, x, y: (
            (ct * y, None) if isinstance(x, extend.Linear) else (None, ct * x)
        ),
    )
    assert op(X, X) == pytest.approx(float(X @ X))
    np.testing.assert_allclose(cv.jit(lambda x: op(x, 2 * X) + 1)(X), 2 * X @ X + 1)
    check_op(op, X, X**2)


def test_narrow_and_complex_elements(library):
    op = extend.foreign(
        "void bytes(size_t n, const uint8_t x[n], int16_t y[n])", (library, "bytes"), name="test_b"
    )
    x = np.array([0, 1, 255], np.uint8)
    np.testing.assert_array_equal(cv.jit(op)(x), [0, -3, -765])
    assert cv.jit(op)(x).dtype == np.int16
    turned = extend.foreign(
        "void turned(size_t n, const float complex z[n], float complex out[n])",
        (library, "turned"),
        name="test_turned",
    )
    z = np.array([1, 2j], np.complex64)
    for f in (turned, cv.jit(turned), cv.jit(turned, backend="reference")):
        np.testing.assert_array_equal(f(z), 1j * z)


def test_extents_are_expressions(library):
    op = extend.foreign(
        "void smooth(int64_t n, double w, const double x[n], double y[n + 2*n])",
        (library, "smooth"),
        name="test_extents",
    )
    assert cv.eval_shape(op, 0.5, X).shape == (21,)


# --- every kind of object -----------------------------------------------------------------------


def test_ctypes_functions(library):
    function = ctypes.CDLL(library).halved
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    op = extend.foreign("float halved(float)", function, name="test_halved")
    assert cv.jit(op)(np.float32(3)) == 1.5
    with pytest.raises(TypeError, match=r"\(f32\) -> f32, declared as \(f64\) -> f32"):
        extend.foreign("float halved(double)", function)
    with pytest.raises(TypeError, match="not what"):
        extend.foreign("float halved(float, float)", function)


def test_python_functions_made_into_c_stay_alive():
    made = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double)(lambda x: x + 1)
    op = extend.foreign("double plus_one(double)", made, name="test_plus_one")
    del made
    gc.collect()
    np.testing.assert_array_equal(cv.jit(op)(X), X + 1)


def test_addresses(library):
    address = ctypes.cast(ctypes.CDLL(library).halved, ctypes.c_void_p).value
    op = extend.foreign("float halved(float)", address, name="test_address")
    assert op(np.float32(3)) == 1.5
    with pytest.raises(ValueError, match="null pointer"):
        extend.foreign("float halved(float)", 0)


def test_low_level_callables(library):
    scipy = pytest.importorskip("scipy")
    function = ctypes.CDLL(library).halved
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float
    op = extend.foreign(
        "float halved(float)", scipy.LowLevelCallable(function), name="test_low_level"
    )
    assert cv.jit(op)(np.float32(3)) == 1.5
    import scipy.special.cython_special as cython_special

    capsule = scipy.LowLevelCallable.from_cython(cython_special, "j0")
    bessel = extend.foreign("double j0(double x, int)", capsule, name="test_j0")
    assert cv.jit(bessel)(0.0, np.int32(0)) == 1
    with pytest.raises(TypeError, match=r"declared as \(f32\)"):
        extend.foreign("float j0(float)", capsule)


def test_cffi_pointers(library):
    cffi = pytest.importorskip("cffi")
    ffi = cffi.FFI()
    ffi.cdef("double quadratic(double x, int32_t n);")
    loaded = ffi.dlopen(library)
    op = extend.foreign(
        "double quadratic(double x, int n)", ffi.addressof(loaded, "quadratic"), name="test_cffi"
    )
    np.testing.assert_allclose(cv.jit(op)(X, np.int32(1)), X**2 + 1)
    with pytest.raises(TypeError, match="not what"):
        extend.foreign("double quadratic(double x)", ffi.addressof(loaded, "quadratic"))


def test_libraries_of_pointers_stay(library):
    """A pointer of cffi does not keep the library that it points into; programs do."""
    cffi = pytest.importorskip("cffi")

    def made():
        ffi = cffi.FFI()
        ffi.cdef("double quadratic(double x, int32_t n);")
        return extend.foreign(
            "double quadratic(double x, int n)",
            ffi.addressof(ffi.dlopen(library), "quadratic"),
            name="test_stays",
        )

    op = made()
    gc.collect()
    np.testing.assert_allclose(cv.jit(op)(X, np.int32(1)), X**2 + 1)


def test_functions_that_numba_compiled():
    numba = pytest.importorskip("numba")

    @numba.cfunc("float64(float64, float64)")
    def rosenbrock(x, y):
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    op = extend.foreign("double rosenbrock(double x, double y)", rosenbrock, name="test_numba")
    np.testing.assert_allclose(cv.jit(op)(X, X), (1 - X) ** 2 + 100 * (X - X * X) ** 2)
    with pytest.raises(TypeError, match="not what"):
        extend.foreign("float rosenbrock(float x, float y)", rosenbrock)


def test_what_has_no_address():
    with pytest.raises(TypeError, match="ctypes function"):
        extend.foreign("double f(double)", math.sin)
    with pytest.raises(OSError, match="nowhere"):
        extend.foreign("double f(double)", ("/nowhere/lib.so", "f"))
    with pytest.raises(TypeError, match="pair"):
        extend.foreign("double f(double)", ("lib.so",))


def test_symbols_that_are_not_there(library):
    with pytest.raises(ValueError, match="no symbol missing"):
        pointers.resolve((library, "missing"))


# --- operands that do not fit ---------------------------------------------------------------------


def test_operands_are_checked(library):
    op, smooth = quadratic(library), smoothing(library)
    with pytest.raises(TypeError, match="operand x is f64"):
        op(X.astype(np.float32), np.int32(1))
    with pytest.raises(TypeError, match="takes 2 operands: x, n"):
        op(X)
    with pytest.raises(TypeError, match=r"declared as x\[n\]"):
        smooth(0.5, X[None])
    with pytest.raises(TypeError, match=r"declared as y\[n\] = \[7\]"):
        extend.foreign(
            "double dot(unsigned n, const double x[n], const double y[n])",
            (library, "dot"),
            name="test_dot_misfit",
        )(X, X[1:])
    with cv.enable_x64(False), pytest.raises(TypeError, match="enable_x64"):
        op(1.0, np.int32(1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("double", "type name"),
        ("quux f(double)", "the type 'quux'"),
        ("double f(double *x)", r"write its extents, as in double x\[n\]"),
        ("double f(const double *x)", r"const double x\[n\]"),
        ("double f(uint8_t x)", "by value"),
        ("uint8_t f(double x)", "a result of type uint8"),
        ("void f(double x)", "no result"),
        ("double f()", "no operand"),
        ("double f(void)", "no operand"),
        ("double f(int n, const double x[n], double y[n])", "another that is returned"),
        ("void f(int n, int m, const double x[n], double y[m])", "the size m"),
        ("void f(int n, const double x[n/2], double y[n])", "the size n"),
        ("void f(double n, const double x[n], double y[n])", "the size n of type"),
        ("double f(double (*g)(double))", "the type|cannot read"),
    ],
)
def test_prototypes_that_say_too_little(text, message):
    with pytest.raises(ValueError, match=message):
        prototypes.parse(text)


def test_prototypes():
    found = prototypes.parse(
        "extern int solve(const double a[n][n], size_t n, const double b[n], double x[n]);"
    )
    assert found.kinds() == (("ptr", "u64", "ptr", "ptr"), "i32")
    assert [p.role for p in found.parameters] == ["operand", "size", "operand", "result"]
    assert found.returns_status
    assert prototypes.evaluate("2*n - 1", {"n": 3}) == 5
    with pytest.raises(ValueError, match="not made of sizes"):
        prototypes.evaluate("n / 2", {"n": 3})


# --- other processes ------------------------------------------------------------------------------

SCRIPT = """
    import sys, ctypes, numpy as np, covector as cv
    from covector import extend
    cv.config.update("enable_x64", True)
    function = sys.argv[2:] and tuple(sys.argv[1:3]) or ctypes.CDLL(sys.argv[1]).quadratic
    op = extend.foreign("double quadratic(double x, int n)", function)
    print(float(cv.jit(lambda x: op(x, np.int32(1)) + 1)(3.0)))
"""


def run(*args, cache):
    environment = {**os.environ, "COVECTOR_CACHE_DIR": cache, "COVECTOR_CACHE_SIZE": "1000000"}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), *args]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=300
    )
    return float(done.stdout)


def test_code_on_disk_refers_to_libraries_by_name(library, tmp_path):
    for _ in range(2):
        assert run(library, "quadratic", cache=str(tmp_path)) == 11
    kept = list(tmp_path.rglob("*" + disk._SUFFIX))
    assert kept
    assert any(b"cvx_quadratic_" in path.read_bytes() for path in kept)


def test_code_with_an_address_is_not_kept(library, tmp_path):
    assert run(library, cache=str(tmp_path)) == 11
    kept = tmp_path.rglob("*" + disk._SUFFIX)
    assert not any(b"cvx_quadratic_" in path.read_bytes() for path in kept)


def test_pickling_goes_by_name(library):
    op = quadratic(library)
    assert pickle.loads(pickle.dumps(op)) is op  # noqa: S301  # our own


# --- all oracles ----------------------------------------------------------------------------------


def test_every_oracle_on_elements(library):
    op = quadratic(
        library,
        "test_checked",
        jvp=lambda primals, tangents: (op(*primals), 2 * primals[0] * tangents[0]),
    )
    check_op(op, X, np.int32(2))


def test_every_oracle_on_arrays(library):
    check_op(smoothing(library, "test_smooth_checked"), 0.5, X)


def test_loops_look_for_interrupts_after_each_call():
    less = extend.foreign("float fdimf(float x, float y)", ("libm.so.6", "fdimf"))
    loop = cv.jit(lambda x: lax.fori_loop(0, 100, lambda i, y: less(x, y), x))
    assert "polling every 1 " in loop.lower(np.float32(1)).as_text("loopir")
