"""What functions called in kernels mean: those of `math` and NumPy stand for Covector's."""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import covector.numpy as cnp
from covector.core.operand import Operand

Function = Callable[..., Any]

_RENAMED = {
    "fabs": "abs",
    "acos": "arccos",
    "asin": "arcsin",
    "atan": "arctan",
    "atan2": "arctan2",
    "acosh": "arccosh",
    "asinh": "arcsinh",
    "atanh": "arctanh",
    "pow": "power",
}
_ALIKE = frozenset(
    ("exp", "exp2", "expm1", "log2", "log10", "log1p", "sqrt", "cbrt")
    + ("sin", "cos", "tan", "sinh", "cosh", "tanh", "hypot", "copysign", "fmod")
    + ("isnan", "isinf", "isfinite", "degrees", "radians")
)
_TO_INTEGER = frozenset(("floor", "ceil", "trunc"))
_SPECIAL = {"erf": "erf", "erfc": "erfc", "gamma": "gamma", "lgamma": "gammaln"}


def is_number(value: Any) -> bool:
    """Whether a value is known while compiling."""
    return isinstance(value, (bool, int, float, complex, np.generic))


def is_integer(value: Any) -> bool:
    """Whether a value is an integer known while compiling."""
    return isinstance(value, (int, np.integer))


def as_integer(x: Any) -> Any:
    """A value truncated to the default integer type."""
    return cast_to(x, int)


def translate(function: Any) -> Function | None:
    """Covector's function for one that a kernel calls.

    Args:
        function: what the name in the kernel means.

    Returns:
        A function of scalars, `None` where there is none.
    """
    if isinstance(function, type):
        return _conversion(function)
    name = getattr(function, "__name__", "")
    module = getattr(function, "__module__", None) or ""
    if isinstance(function, np.ufunc) or module.split(".")[0] == "numpy":
        return getattr(cnp, name, None) or _special(name)
    if module == "math" and getattr(math, name, None) is function:
        return _of_math(name)
    if module == "builtins" and getattr(builtins, name, None) is function:
        return _BUILTINS.get(name)
    return function if module.split(".")[0] == "covector" else None


def _conversion(kind: Any) -> Function | None:
    if kind in (int, float, bool, complex) or issubclass(kind, np.generic):

        def convert(x: Any) -> Any:
            return cast_to(x, kind)

        return convert
    return kind if kind.__module__.split(".")[0] == "covector" else None


def cast_to(x: Any, dtype: Any) -> Any:
    """A scalar converted as `astype` does."""
    array: Any = cnp.asarray(x)
    return array.astype(dtype)


def _of_math(name: str) -> Function | None:
    if name in _TO_INTEGER:
        rounded = getattr(cnp, name)

        def to_integer(x: Any) -> Any:
            return as_integer(rounded(x))

        return to_integer
    if name == "log":
        return _log
    if name in _SPECIAL:
        return _special(_SPECIAL[name])
    if name in _ALIKE or name in _RENAMED:
        return getattr(cnp, _RENAMED.get(name, name))
    return None


def _log(x: Any, base: Any = None) -> Any:
    return cnp.log(x) if base is None else cnp.log(x) / cnp.log(base)


def _special(name: str) -> Function | None:
    from covector.scipy import special

    return getattr(special, name, None)


def _smallest(*values: Any) -> Any:
    result = values[0]
    for value in values[1:]:
        result = cnp.minimum(result, value)
    return result


def _largest(*values: Any) -> Any:
    result = values[0]
    for value in values[1:]:
        result = cnp.maximum(result, value)
    return result


def _rounded(x: Any, digits: Any = None) -> Any:
    return as_integer(cnp.round(x)) if digits is None else cnp.round(x, digits)


_BUILTINS: dict[str, Function] = {
    "abs": cnp.abs,
    "min": _smallest,
    "max": _largest,
    "round": _rounded,
    "pow": cnp.power,
    "divmod": cnp.divmod,
}


def truth(value: Any) -> Any:
    """A value as a bool: known while compiling where the value is."""
    if not isinstance(value, Operand):
        return bool(value)
    return value if value.dtype == np.bool_ else value != 0
