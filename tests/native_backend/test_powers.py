"""Powers with constant exponents: errors against float64 and mpmath, special values, the switch."""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.backends.native.engine import get_engine
from covector.core.config import config

EXPONENTS = (-2.5, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
# In units in the last place: of machines that multiply and add with one rounding, and of others.
LIMIT = 2.5 if get_engine().target.fma else 4.0


def power(dtype: Any, exponent: float) -> Any:
    return cv.jit(lambda x: cnp.power(x, cnp.asarray(exponent, dtype)))


def operations(fn: Any, x: Any) -> str:
    return fn.lower(x).as_text("loopir")


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_error_of_float32(exponent: float) -> None:
    generator = np.random.default_rng(7)
    parts = [np.exp2(generator.uniform(-149, 128, 40_000)), generator.uniform(1, 4, 20_000)]
    x = np.concatenate(parts).astype(np.float32)
    found = np.asarray(power(np.float32, exponent)(x))
    with np.errstate(all="ignore"):
        exact = x.astype(np.float64) ** exponent
        nearest = exact.astype(np.float32)
    finite = np.isfinite(nearest)
    unit = np.spacing(np.abs(nearest[finite])).astype(np.float64)
    error = np.abs(found[finite].astype(np.float64) - exact[finite]) / unit
    assert np.where(np.isfinite(error), error, 0.0).max() <= LIMIT
    # Where one of them overflows and the other does not, both are at the end of the range.
    edge = np.isfinite(found) != finite
    assert np.all(np.abs(exact[edge] / 2.0**128 - 1.0) < 1e-6)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_error_of_float64(exponent: float) -> None:
    generator = np.random.default_rng(8)
    x = np.exp2(generator.uniform(-400, 400, 2000))
    with cv.enable_x64(True):
        found = np.asarray(power(np.float64, exponent)(x))
    with mp.workdps(40):
        exact = [mp.mpf(float(v)) ** exponent for v in x]
        errors = [
            abs(mp.mpf(float(f)) - e) / mp.mpf(float(np.spacing(abs(f))))
            for f, e in zip(found, exact, strict=True)
            if 0 < abs(f) < np.inf
        ]
    assert len(errors) > 1500
    assert max(errors) <= LIMIT


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_special_values_are_those_of_the_general_power(exponent: float) -> None:
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, -2.0, 1e-45, 3e38, -1e-45]
    x = np.asarray(special, np.float32)
    found = np.asarray(power(np.float32, exponent)(x))
    with config.override("disable", frozenset(("half_powers",))):
        general = power(np.float32, exponent)
        assert "pow" in operations(general, x) or exponent == 0.0
        expected = np.asarray(general(x))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_array_equal(np.signbit(found[:4]), np.signbit(expected[:4]))


def test_other_exponents_are_general_powers() -> None:
    x = np.ones(8, np.float32)
    assert "pow" in operations(power(np.float32, 0.3), x)
    assert "pow" not in operations(power(np.float32, -1.5), x)
