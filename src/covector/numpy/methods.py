"""Installs the methods that arrays and tracers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array
from covector.core.errors import (
    ConcretizationTypeError,
    TracerArrayConversionError,
    TracerBoolConversionError,
    TracerIntegerConversionError,
    compose,
)
from covector.core.operand import install_methods
from covector.core.source import here
from covector.core.trace import Tracer
from covector.numpy import elementwise, manipulation, products, reductions
from covector.numpy.promote import convert
from covector.ops import elementwise as el


def _reshape(self: Any, *shape: Any, order: str = "C") -> Any:
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return manipulation.reshape(self, sizes, order)


def _transpose(self: Any, *axes: Any) -> Any:
    if not axes or axes == (None,):
        return manipulation.transpose(self)
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return manipulation.transpose(self, order)


def _astype(self: Any, dtype: Any, copy: bool = False) -> Any:
    target = dtypes.requested(dtype, "astype")
    if dtypes.is_complex(self.dtype) and not dtypes.is_complex(target) and target != dtypes.bool_:
        self = el.real(self)
    return convert(self, target)


def _item(self: Any, *index: Any) -> Any:
    value = _concrete(self, "item()")
    return value._value.item(*index)


def _tolist(self: Any) -> Any:
    return _concrete(self, "tolist()")._value.tolist()


def _concrete(x: Any, what: str) -> Array:
    array = x.concrete()
    if array is None:
        raise ConcretizationTypeError(
            compose(
                f"{what} needs a value known while tracing",
                found=f"a traced value {x.aval} of {x._trace.name}",
                fix="compute it outside of jit or vmap, or keep it an array",
                line=here(),
            )
        )
    return array


def _iter(self: Any) -> Iterator[Any]:
    if self.ndim == 0:
        raise TypeError("iteration over a 0-d array")
    from covector.ops.pieces import unstack

    return iter(unstack(self, axis=0) if self.shape[0] else [])


def _flatten(self: Any, order: str = "C") -> Any:
    return manipulation.ravel(self, order)


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:  # NumPy's names
    from covector.numpy.rounding import clip

    return clip(self, min, max)


def _round(self: Any, decimals: int = 0, out: None = None) -> Any:
    from covector.numpy.rounding import round as round_

    return round_(self, decimals, out)


def _copy(self: Any) -> Any:
    return el.copy(self)


def _at(self: Any) -> Any:
    from covector.numpy.indexing import At

    return At(self)


install_methods(
    {
        "all": reductions.all,
        "any": reductions.any,
        "argmax": reductions.argmax,
        "argmin": reductions.argmin,
        "astype": _astype,
        "clip": _clip,
        "conj": lambda self: elementwise.conjugate(self),
        "conjugate": lambda self: elementwise.conjugate(self),
        "copy": _copy,
        "cumprod": reductions.cumprod,
        "cumsum": reductions.cumsum,
        "dot": products.dot,
        "flatten": _flatten,
        "item": _item,
        "max": reductions.max,
        "mean": reductions.mean,
        "min": reductions.min,
        "prod": reductions.prod,
        "ptp": reductions.ptp,
        "ravel": manipulation.ravel,
        "repeat": manipulation.repeat,
        "reshape": _reshape,
        "round": _round,
        "squeeze": manipulation.squeeze,
        "std": reductions.std,
        "sum": reductions.sum,
        "swapaxes": manipulation.swapaxes,
        "tolist": _tolist,
        "transpose": _transpose,
        "var": reductions.var,
        "T": property(lambda self: manipulation.transpose(self)),
        "mT": property(lambda self: manipulation.swapaxes(self, -1, -2)),
        "real": property(lambda self: elementwise.real(self)),
        "imag": property(lambda self: elementwise.imag(self)),
        "at": property(_at),
        "__iter__": _iter,
        "__array_namespace__": lambda self, api_version=None: _namespace(),
    }
)


def _namespace() -> Any:
    import covector.numpy

    return covector.numpy


# --- what a tracer cannot do --------------------------------------------------------------------


def _tracer_bool(self: Tracer) -> bool:
    value = self.concrete()
    if value is not None:
        return bool(value)
    raise TracerBoolConversionError(
        compose(
            "a Python `if`, `while`, `and`, `or` or `not` needs a value known while tracing",
            found=f"a traced value {self.aval} of {self._trace.name}",
            fix="use covector.numpy.where, lax.cond or lax.while_loop, or mark the argument static "
            "(static_argnums)",
            line=here(),
        )
    )


def _tracer_number(kind: type) -> Any:
    def number(self: Tracer) -> Any:
        value = self.concrete()
        if value is not None:
            return kind(value)
        raise ConcretizationTypeError(
            compose(
                f"{kind.__name__}() needs a value known while tracing",
                found=f"a traced value {self.aval} of {self._trace.name}",
                fix=f"use x.astype({kind.__name__}), or mark the argument static",
                line=here(),
            )
        )

    return number


def _tracer_index(self: Tracer) -> int:
    value = self.concrete()
    if value is not None:
        return value.__index__()
    raise TracerIntegerConversionError(
        compose(
            "an integer known while tracing is needed here (a size, an axis, a Python index)",
            found=f"a traced value {self.aval} of {self._trace.name}",
            fix="mark the argument static (static_argnums), or index an array instead of a list",
            line=here(),
        )
    )


def _tracer_array(self: Tracer, dtype: Any = None, copy: Any = None) -> np.ndarray[Any, Any]:
    value = self.concrete()
    if value is not None:
        return value.__array__(dtype, copy)
    raise TracerArrayConversionError(
        compose(
            "NumPy needs the values of an array",
            found=f"a traced value {self.aval} of {self._trace.name}",
            fix="use covector.numpy instead of numpy in functions that are traced",
            line=here(),
        )
    )


def _tracer_len(self: Tracer) -> int:
    if not self.aval.shape:
        raise TypeError("len() of a 0-d array")
    return self.aval.shape[0]


Tracer.__bool__ = _tracer_bool  # type: ignore[attr-defined]
Tracer.__int__ = _tracer_number(int)  # type: ignore[attr-defined]
Tracer.__float__ = _tracer_number(float)  # type: ignore[attr-defined]
Tracer.__complex__ = _tracer_number(complex)  # type: ignore[attr-defined]
Tracer.__index__ = _tracer_index  # type: ignore[attr-defined]
Tracer.__array__ = _tracer_array  # type: ignore[attr-defined]
Tracer.__len__ = _tracer_len  # type: ignore[attr-defined]
