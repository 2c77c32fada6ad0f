"""Complex functions against mpmath: relative error of the number, branch cuts, special points."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from covector.loopir.complexes import RULES

C64, C128 = np.dtype(np.complex64), np.dtype(np.complex128)
FUNCTIONS = (
    *("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh"),
    *("asin", "acos", "atan", "asinh", "acosh", "atanh"),
    *("square", "sign", "abs", "logistic"),
)
MPMATH = {
    "exp2": lambda z: mp.power(2, z),
    "log2": lambda z: mp.log(z) / mp.log(2),
    "log10": lambda z: mp.log(z) / mp.log(10),
    "log1p": lambda z: mp.log(1 + z),
    "expm1": lambda z: mp.exp(z) - 1,
    "rsqrt": lambda z: 1 / mp.sqrt(z),
    "square": lambda z: z * z,
    "sign": lambda z: z / abs(z),
    "abs": abs,
    "logistic": lambda z: 1 / (1 + mp.exp(-z)),
}


def samples(dtype: np.dtype) -> np.ndarray:
    rng = np.random.default_rng(7)
    scales = np.exp(rng.uniform(-9, 2, 200))
    z = scales * np.exp(1j * rng.uniform(-np.pi, np.pi, 200))
    return z.astype(dtype)


@pytest.mark.parametrize("dtype", [C64, C128], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, dtype, elementwise):
    z = samples(dtype)
    out = z.real.dtype if name == "abs" else dtype
    found = elementwise(lambda b, v: b.op(name, v), [dtype], out, len(z), True)(z)[0]
    function = MPMATH.get(name) or getattr(mp, name)
    with mp.workdps(40):
        wanted = np.array([complex(function(mp.mpc(v))) for v in z.astype(complex).tolist()])
    error = np.abs(found - wanted) / np.abs(wanted) / np.finfo(dtype).eps
    worst = int(np.argmax(error))
    assert error[worst] <= 8, f"{name}({z[worst]}) = {found[worst]}, not {wanted[worst]}"


@pytest.mark.parametrize("dtype", [C64, C128], ids=str)
def test_power(dtype, elementwise):
    x, y = samples(dtype), samples(dtype)[::-1].copy() / 4
    found = elementwise(lambda b, *v: b.op("pow", *v), [dtype] * 2, dtype, len(x), True)(x, y)[0]
    pairs = zip(x.astype(complex).tolist(), y.astype(complex).tolist(), strict=True)
    wanted = np.array([complex(mp.power(mp.mpc(a), mp.mpc(c))) for a, c in pairs])
    scale = 1 + np.abs(y * np.log(np.abs(x).astype(float)))
    error = np.abs(found - wanted) / np.abs(wanted) / np.finfo(dtype).eps / scale
    assert error.max() <= 16


@pytest.mark.parametrize("name", ["log", "sqrt", "asin", "acos", "atan", "asinh", "acosh", "atanh"])
def test_branch_cuts(name, elementwise):
    """Both sides of every cut, told apart by the sign of zero."""
    points = [complex(x, y) for x in (-2.0, -0.5, 0.5, 2.0) for y in (0.0, -0.0)]
    points += [complex(x, y) for y in (-2.0, -0.5, 0.5, 2.0) for x in (0.0, -0.0)]
    z = np.array(points)
    numpy_name = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}.get(name, name)
    numpy_name = {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}.get(name, numpy_name)
    found = elementwise(lambda b, v: b.op(name, v), [C128], C128, len(z), True)(z)[0]
    np.testing.assert_allclose(found, getattr(np, numpy_name)(z), rtol=1e-14, atol=1e-15)


@np.errstate(all="ignore")
def test_extreme_sizes(elementwise):
    """Nothing overflows or vanishes that need not."""
    z = np.array([1e200 + 1e200j, 1e-200 - 1e-200j, 1e160 + 1j, 3e-310j, -1e-300 + 0j])
    for name in ("abs", "sqrt", "log"):
        out = np.dtype("f8") if name == "abs" else C128
        found = elementwise(lambda b, v, n=name: b.op(n, v), [C128], out, len(z), True)(z)[0]
        np.testing.assert_allclose(found, getattr(np, name)(z), rtol=1e-13)
    one = np.ones(len(z), C128)
    found = elementwise(lambda b, u, v: b.op("div", u, v), [C128] * 2, C128, len(z), True)(one, z)
    np.testing.assert_allclose(found[0][:3], (1 / z)[:3], rtol=1e-13)


def test_every_rule_is_tested():
    tested = {*FUNCTIONS, "pow"}
    arithmetic = {"real", "imag", "conj", "neg", "add", "sub", "mul", "div", "eq", "ne", "select"}
    predicates = {"is_nan", "is_finite", "is_inf"}
    assert set(RULES) == tested | arithmetic | predicates
