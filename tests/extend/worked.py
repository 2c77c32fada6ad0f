"""Operations that tests define as a user would: the mathematics, and a rule or two.

`tests/extend/test_worked.py` counts the lines of each that are not its mathematics.
"""

from __future__ import annotations

from typing import Any

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.extend import prange


def like(x: Any, *others: Any) -> Any:
    return cv.ShapeDtypeStruct(x.shape, x.dtype)


# --- Lambert's W, by implicit differentiation -----------------------------------------------------


@extend.decomposition(name="test_lambertw")
def lambertw(x):
    """The principal branch of Lambert's W, for x >= 0, by Halley's iteration."""

    def unsettled(state):
        w, step, count = state
        tolerance = 4 * cnp.finfo(x.dtype).eps
        return cnp.any(cnp.abs(step) > tolerance * (1 + cnp.abs(w))) & (count < 40)

    def halley(state):
        w, _, count = state
        e = cnp.exp(w)
        f = w * e - x
        step = f / (e * (w + 1) - (w + 2) * f / (2 * w + 2))
        return w - step, step, count + 1

    return lax.while_loop(unsettled, halley, (cnp.log1p(x), cnp.ones_like(x), 0))[0]


@lambertw.defjvp
def _implicit(primals, tangents):
    # W exp(W) = x, so that W' exp(W) (1 + W) = 1.
    (x,), (t,) = primals, tangents
    w = lambertw(x)
    return w, t / (x + cnp.exp(w))


# --- interpolation in a table ---------------------------------------------------------------------


@extend.array_kernel(results=like)
def interpolate(x: Any, xs: Any, ys: Any, out: Any) -> None:
    """Linear interpolation in a table, by bisection."""
    n = xs.shape[0]
    for i in prange(x.shape[0]):
        low, high = 0, n - 1
        while high - low > 1:
            middle = (low + high) // 2
            if xs[middle] <= x[i]:
                low = middle
            else:
                high = middle
        t = (x[i] - xs[low]) / (xs[low + 1] - xs[low])
        out[i] = ys[low] + min(max(t, 0.0), 1.0) * (ys[low + 1] - ys[low])


@interpolate.defjvp
def _interpolate_jvp(primals: Any, tangents: Any) -> Any:
    (x, xs, ys), (dx, dxs, dys) = primals, tangents
    k = cnp.clip(cnp.searchsorted(xs, x, side="right") - 1, 0, xs.shape[0] - 2)
    width = xs[k + 1] - xs[k]
    t = (x - xs[k]) / width
    near = cnp.clip(t, 0, 1)
    dt = cnp.where(near == t, dx - dxs[k] - t * (dxs[k + 1] - dxs[k]), 0) / width
    return interpolate(*primals), (
        (1 - near) * dys[k] + near * dys[k + 1] + dt * (ys[k + 1] - ys[k])
    )


# --- running sums of segments ---------------------------------------------------------------------


@extend.array_kernel(results=lambda x, first: (like(x), cv.ShapeDtypeStruct((), "int32")))
def segmented_sum(x: Any, first: Any, out: Any, segments: Any) -> None:
    """Running sums that begin anew where a segment does, and how many there are."""
    total = 0.0
    count = 0
    for i in range(x.shape[0]):
        if first[i]:
            total = 0.0
            count += 1
        total += x[i]
        out[i] = total
    segments[()] = count


def _backwards(first: Any, cotangents: Any) -> Any:
    # What is added to later sums of a segment is read from its end on.
    last = cnp.roll(first, -1).at[-1].set(True)
    sums, _ = segmented_sum(cotangents[0][::-1], last[::-1])
    return sums[::-1], None


segmented_sum.defvjp(lambda x, first: (segmented_sum(x, first), first), _backwards)


# --- a stencil in blocks of rows ------------------------------------------------------------------


@extend.array_kernel(results=like)
def laplacian(u: Any, out: Any) -> None:
    """Five points, zero on the boundary."""
    rows, columns = u.shape
    for block in prange((rows + 15) // 16):
        for i in range(max(block * 16, 1), min(block * 16 + 16, rows - 1)):
            for j in prange(1, columns - 1):
                near = u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]
                out[i, j] = near - 4 * u[i, j]


def _transposed(_: Any, cotangent: Any) -> Any:
    # Symmetric, but for the boundary, which is read and not written.
    return (laplacian(cnp.pad(cotangent[1:-1, 1:-1], 2))[1:-1, 1:-1],)


laplacian.defvjp(lambda u: (laplacian(u), None), _transposed)


# --- C functions ----------------------------------------------------------------------------------


def through_cffi(library: str) -> Any:
    from cffi import FFI

    ffi = FFI()
    ffi.cdef("double quadratic(double x, int32_t n);")
    pointer = ffi.addressof(ffi.dlopen(library), "quadratic")
    op = extend.foreign(
        "double quadratic(double x, int32_t n)",
        pointer,
        name="worked_cffi",
        jvp=lambda primals, tangents: (op(*primals), 2 * primals[0] * tangents[0]),
    )
    return op


def through_numba() -> Any:
    import numba

    @numba.cfunc("float64(float64, float64)")
    def rosenbrock(x: Any, y: Any) -> Any:
        return (1 - x) ** 2 + 100 * (y - x * x) ** 2

    def jvp(primals: Any, tangents: Any) -> Any:
        (x, y), (dx, dy) = primals, tangents
        steep = 200 * (y - x * x)
        return op(x, y), (2 * (x - 1) - 2 * x * steep) * dx + steep * dy

    op = extend.foreign("double f(double x, double y)", rosenbrock, name="worked_numba", jvp=jvp)
    return op
