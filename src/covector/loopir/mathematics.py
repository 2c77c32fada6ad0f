"""Definitions of the elementary functions."""

from __future__ import annotations

from covector.loopir.builder import Builder
from covector.loopir.ir import DType, Function
from covector.loopir.scalars import F32

_LIBM = {"rsqrt", "logistic", "erf_inv"}


def definition(name: str, dtype: DType) -> Function:
    """A scalar function that computes an elementary function.

    Args:
        name: operation of the table.
        dtype: float32 or float64.

    Returns:
        The function.
    """
    b = Builder(name)
    arity = 2 if name in ("pow", "atan2") else 1
    args = [b.parameter(dtype) for _ in range(arity)]
    one = b.const(1.0, dtype)
    if name == "rsqrt":
        return b.finish(b.op("div", one, b.op("sqrt", *args)))
    if name == "logistic":
        return b.finish(b.op("div", one, b.op("add", one, b.op("exp", b.op("neg", *args)))))
    if name == "erf_inv":
        return b.finish(_erf_inv(b, args[0]))
    symbol = f"{name}f" if dtype is F32 else name
    return b.finish(b.pure_call(symbol, dtype, *args))


def _erf_inv(b: Builder, x):
    w = b.op("neg", b.op("log1p", b.op("neg", b.op("mul", x, x))))
    p1 = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164, 0.246640727, 1.50140941]
    p2 = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047, 1.00167406, 2.83297682]
    def poly(cs, v):
        r = b.const(cs[0], x.dtype)
        for c in cs[1:]:
            r = b.op("add", b.op("mul", r, v), c)
        return r
    small = poly(p1, b.op("sub", w, 2.5))
    large = poly(p2, b.op("sub", b.op("sqrt", w), 3.0))
    y = b.op("mul", b.select(b.op("lt", w, 5.0), small, large), x)
    inf = b.op("mul", x, float("inf"))
    return b.select(b.op("eq", b.op("abs", x), 1.0), inf, y)
