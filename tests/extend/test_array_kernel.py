"""Operations written as loops over arrays."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from tests.extend.worked import interpolate, like, segmented_sum

import covector as cv
import covector.numpy as cnp
from covector import extend, testing
from covector.core.errors import UnsupportedRuleError
from covector.core.parsing import parse
from covector.extend import KernelError, prange

SCALE = 0.25


@extend.scalar_kernel
def damped(x: Any) -> Any:
    return x if abs(x) < 4 else 4 + SCALE * (x - 4)


@extend.array_kernel(results=like)
def blocked_stencil(u: Any, out: Any) -> None:
    """The sum of a point's neighbours, in blocks of rows."""
    rows, columns = u.shape
    for block in prange((rows + 15) // 16):
        for i in range(max(block * 16, 1), min(block * 16 + 16, rows - 1)):
            for j in prange(1, columns - 1):
                near = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                out[i, j] = damped(SCALE * near)


def _segments(x: Any, first: Any) -> tuple[Any, Any]:
    starts = np.flatnonzero(first)
    parts = np.split(x, starts)
    return np.concatenate([np.cumsum(p) for p in parts]), len(starts)


def _stencil(u: Any) -> Any:
    out = np.zeros_like(u)
    near = u[:-2, 1:-1] + u[2:, 1:-1] + u[1:-1, :-2] + u[1:-1, 2:]
    near = np.float32(SCALE) * near
    out[1:-1, 1:-1] = np.where(abs(near) < 4, near, 4 + SCALE * (near - 4))
    return out


RNG = np.random.default_rng(0)
X = RNG.normal(size=200).astype(np.float32)
FIRST = RNG.random(200) < 0.1
TABLE = np.sort(RNG.normal(size=23)).astype(np.float32)
VALUES = RNG.normal(size=23).astype(np.float32)
FIELD = (5 * RNG.normal(size=(37, 50))).astype(np.float32)

CASES: list[tuple[Any, tuple[Any, ...], Any]] = [
    (segmented_sum, (X, FIRST), _segments(X, FIRST)),
    (interpolate, (X, TABLE, VALUES), np.interp(X, TABLE, VALUES)),
    (blocked_stencil, (FIELD,), _stencil(FIELD)),
]


def _results(value: Any) -> list[Any]:
    return [np.asarray(v) for v in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize(
    ("kernel", "args", "want"), CASES, ids=lambda c: getattr(c, "__name__", "")
)
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_values(kernel: Any, args: Any, want: Any, backend: str) -> None:
    for got, expected in zip(
        _results(cv.jit(kernel, backend=backend)(*args)), _results(want), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("kernel", "args", "want"), CASES, ids=lambda c: getattr(c, "__name__", "")
)
def test_batches_and_eager_calls(kernel: Any, args: Any, want: Any) -> None:
    first = cnp.stack([args[0], args[0][::-1]])
    axes = (0, *[None] * (len(args) - 1))
    apart = [_results(kernel(x, *args[1:])) for x in first]
    for backend in ("native", "reference"):
        mapped = cv.jit(cv.vmap(kernel, in_axes=axes), backend=backend)
        for got, *parts in zip(_results(mapped(first, *args[1:])), *apart, strict=True):
            np.testing.assert_allclose(got, np.stack(parts), rtol=1e-5, atol=1e-5)


def test_inside_of_a_loop_and_after_other_operations() -> None:
    def relaxed(u: Any) -> Any:
        return cv.lax.fori_loop(0, 5, lambda _, v: blocked_stencil(v) + 0.5 * v, cnp.sin(u))

    want = np.sin(FIELD)
    for _ in range(5):
        want = _stencil(want) + 0.5 * want
    np.testing.assert_allclose(cv.jit(relaxed)(FIELD), want, rtol=1e-4, atol=1e-5)


def test_derivatives_are_those_of_the_rules() -> None:
    slope = cv.grad(lambda x: interpolate(x, TABLE, VALUES).sum())(cnp.asarray(X))
    k = np.clip(np.searchsorted(TABLE, X, side="right") - 1, 0, 21)
    inside = k == np.searchsorted(TABLE, X, side="right") - 1
    want = (np.diff(VALUES) / np.diff(TABLE))[k]
    np.testing.assert_allclose(slope[inside], want[inside], rtol=1e-5)
    with pytest.raises(UnsupportedRuleError, match=r"blocked_stencil.defjvp or"):
        cv.grad(lambda u: blocked_stencil(u).sum())(FIELD)


def test_every_oracle_agrees() -> None:
    with cv.enable_x64(True):
        table = np.linspace(-2.0, 2.0, 6) ** 3
        testing.check_op(interpolate, np.linspace(-1.9, 2.1, 5), table, VALUES[:6].astype(float))
    testing.check_op(segmented_sum, X[:20], FIRST[:20])
    testing.check_op(blocked_stencil, FIELD[:9, :12])


def test_programs_print_and_parse() -> None:
    program = cv.make_program(blocked_stencil)(FIELD)
    again = parse(program.as_text())
    assert again.as_text() == program.as_text()


def test_kernels_are_pickled_by_name() -> None:
    assert pickle.loads(pickle.dumps(interpolate)) is interpolate  # noqa: S301


def test_indices_out_of_bounds() -> None:
    @extend.array_kernel(results=lambda x, i: like(i))
    def taken(x: Any, i: Any, out: Any) -> None:
        for k in prange(i.shape[0]):
            out[k] = x[i[k]]

    x, inside = cnp.arange(5) * 10, cnp.array([0, 4, 2])
    np.testing.assert_array_equal(cv.jit(taken)(x, inside), [0, 40, 20])
    with pytest.raises(RuntimeError, match=r"out of bounds(.|\n)*x\[i\[k\]\]"):
        cv.jit(taken)(x, cnp.array([0, 5, 2]))

    @extend.array_kernel(results=lambda x, i: like(i), bounds="clip")
    def nearest(x: Any, i: Any, out: Any) -> None:
        for k in prange(i.shape[0]):
            out[k] = x[i[k]]

    for backend in ("native", "reference"):
        got = cv.jit(nearest, backend=backend)(x, cnp.array([-3, 7, 2]))
        np.testing.assert_array_equal(got, [0, 40, 20])

    @extend.array_kernel(results=like)
    def outside(x: Any, out: Any) -> None:
        out[0] = x[5]

    with pytest.raises(extend.KernelError, match="index 5 for 5 elements along axis 0 of 'x'"):
        outside(x)


def test_iterations_of_prange_are_independent() -> None:
    @extend.array_kernel(results=like)
    def running(x: Any, out: Any) -> None:
        total = 0.0
        for i in prange(x.shape[0]):
            total += x[i]
            out[i] = total

    with pytest.raises(extend.KernelError, match="iterations of prange are independent"):
        running(X)


def test_operands_are_not_written_to() -> None:
    @extend.array_kernel(results=like)
    def overwrites(x: Any, out: Any) -> None:
        x[0] = 1.0

    with pytest.raises(extend.KernelError, match="operand 'x' cannot be written to"):
        overwrites(X)


def test_wrong_declarations_are_named() -> None:
    @extend.array_kernel(results=lambda x: x.shape)
    def undeclared(x: Any, out: Any) -> None:
        out[0] = x[0]

    with pytest.raises(TypeError, match="results are declared as ShapeDtypeStructs"):
        undeclared(X)
    short = extend.array_kernel(results=like)(interpolate.python)
    with pytest.raises(TypeError, match="1 operands, and 1 results declared"):
        short(X)
    with pytest.raises(ValueError, match="bounds says what happens"):
        extend.array_kernel(results=like, bounds="ignore")(interpolate.python)


def test_clipping_to_nothing_is_an_error_and_not_an_access():
    @extend.array_kernel(results=lambda x, e: cv.ShapeDtypeStruct(x.shape, x.dtype), bounds="clip")
    def reads(x, e, out):
        for i in range(x.shape[0]):
            out[i] = e[int(x[i]), 5]

    x = np.arange(10, dtype=np.float32)
    for fn in (reads, cv.jit(reads)):
        with pytest.raises(RuntimeError, match="out of bounds"):
            fn(x, np.zeros((0, 50_000_000), np.float32))
        assert fn(x[:0], np.zeros((0, 8), np.float32)).shape == (0,)


def test_constants_that_are_equal_but_not_the_same():
    def make(c):
        @extend.array_kernel(results=lambda x: cv.ShapeDtypeStruct(x.shape, np.float32))
        def scaled(x, out):
            for i in range(x.shape[0]):
                out[i] = (x[i] * c + x[i]) * 100000

        return scaled

    x = np.array([100000], np.int32)
    wrapped = np.float32(np.int64(2 * 10**10).astype(np.int32))
    for c, wanted in ((1, wrapped), (1.0, 2e10), (True, wrapped), (np.float32(1), 2e10)):
        assert np.asarray(make(c)(x))[0] == np.float32(wanted)

    def signed(c):
        @extend.array_kernel(results=lambda x: cv.ShapeDtypeStruct(x.shape, x.dtype))
        def zero(x, out):
            for i in range(x.shape[0]):
                out[i] = x[i] * c

        return np.signbit(np.asarray(zero(np.ones(1, np.float32))))[0]

    for zero in (0.0, np.float32(0), np.zeros((), np.float32)):
        assert not signed(zero)
        assert signed(-zero)


def test_unknown_names_of_arguments_of_called_kernels():
    @extend.scalar_kernel
    def power(x, *, p=2.0):
        return x * p

    @extend.array_kernel(results=lambda x: cv.ShapeDtypeStruct(x.shape, x.dtype))
    def doubled(x, out):
        for i in range(x.shape[0]):
            out[i] = power(x[i], q=3.0)

    with pytest.raises(KernelError, match="unknown arguments of power"):
        doubled(np.ones(3, np.float32))
