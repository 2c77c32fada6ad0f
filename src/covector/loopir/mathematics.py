"""Definitions of the elementary functions in operations of the table.

An operation such as "sin" stays one operation in the loop IR. Backends emit its definition once,
as a function of scalars or of vectors, and inline it where that pays. Definitions are free of
branches, but for ranges that are almost never met, so that they run in lanes.

Errors, in units in the last place: at most 2, or 4 for pow, the inverse hyperbolic functions, erfc,
erf_inv, lgamma and digamma (absolute near roots other than 0 of lgamma and, for negative arguments,
digamma). Subnormal arguments and results keep to this; zeros, infinities and NaN are as IEEE 754
and C have it.
"""

from __future__ import annotations

from collections.abc import Callable

from covector.loopir import math_exponential as exponential
from covector.loopir import math_special as special
from covector.loopir import math_trigonometric as trigonometric
from covector.loopir.builder import Builder
from covector.loopir.ir import DType, Function, LoopIRError
from covector.loopir.math_support import Real
from covector.loopir.scalars import TABLE

DEFINITIONS: dict[str, Callable[..., Real]] = {
    "exp": exponential.exp,
    "exp2": exponential.exp2,
    "expm1": exponential.expm1,
    "log": exponential.log,
    "log2": exponential.log2,
    "log10": exponential.log10,
    "log1p": exponential.log1p,
    "logistic": exponential.logistic,
    "sinh": exponential.sinh,
    "cosh": exponential.cosh,
    "tanh": exponential.tanh,
    "asinh": exponential.asinh,
    "acosh": exponential.acosh,
    "atanh": exponential.atanh,
    "rsqrt": exponential.rsqrt,
    "cbrt": exponential.cbrt,
    "hypot": exponential.hypot,
    "pow": exponential.pow_,
    "sin": trigonometric.sin,
    "cos": trigonometric.cos,
    "tan": trigonometric.tan,
    "sin_large": trigonometric.sin_large,
    "cos_large": trigonometric.cos_large,
    "tan_large": trigonometric.tan_large,
    "atan": trigonometric.atan,
    "atan2": trigonometric.atan2,
    "asin": trigonometric.asin,
    "acos": trigonometric.acos,
    "erf": special.erf,
    "erfc": special.erfc,
    "erf_inv": special.erf_inv,
    "lgamma": special.lgamma,
    "digamma": special.digamma,
}

RARE = frozenset({"sin_large", "cos_large", "tan_large"})
"""Functions that backends should not inline."""

_functions: dict[tuple[str, DType], Function] = {}


def definition(name: str, dtype: DType) -> Function:
    """The definition of an elementary function.

    Args:
        name: operation of the table marked `elementary`.
        dtype: float32 or float64.

    Returns:
        A scalar function with a parameter for each operand and one result; always the same object.

    Raises:
        LoopIRError: for a function without a definition.

    Example:
        >>> import numpy as np
        >>> definition("exp", np.dtype("f4")).params
        [<%0 = parameter: float32>]
    """
    found = _functions.get((name, dtype))
    if found is None:
        rule = DEFINITIONS.get(name)
        if rule is None:
            raise LoopIRError(f"{name} has no definition")
        b = Builder(name)
        params = [Real(b, b.parameter(dtype)) for _ in range(TABLE[name].arity)]
        found = _functions[name, dtype] = b.finish(rule(*params).value)
    return found
