"""Installs the methods that arrays and tracers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from covector.core import dtypes
from covector.core.array import Array
from covector.core.errors import ConcretizationTypeError, compose
from covector.core.operand import install_methods
from covector.core.source import here
from covector.numpy import elementwise, joining, manipulation, products, reductions
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
    from covector.numpy.updates import At

    return At(self)


def _conjugate(self: Any) -> Any:
    return elementwise.conjugate(self)


def _matrix_transpose(self: Any) -> Any:
    return manipulation.swapaxes(self, -1, -2)


def _namespace(self: Any, api_version: str | None = None) -> Any:
    import covector.numpy

    return covector.numpy


def install() -> None:
    """Gives arrays and tracers their methods."""
    install_methods(
        {
            "all": reductions.all,
            "any": reductions.any,
            "argmax": reductions.argmax,
            "argmin": reductions.argmin,
            "astype": _astype,
            "clip": _clip,
            "conj": _conjugate,
            "conjugate": _conjugate,
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
            "repeat": joining.repeat,
            "reshape": _reshape,
            "round": _round,
            "squeeze": manipulation.squeeze,
            "std": reductions.std,
            "sum": reductions.sum,
            "swapaxes": manipulation.swapaxes,
            "tolist": _tolist,
            "transpose": _transpose,
            "var": reductions.var,
            "T": property(manipulation.transpose),
            "mT": property(_matrix_transpose),
            "real": property(elementwise.real),
            "imag": property(elementwise.imag),
            "at": property(_at),
            "__iter__": _iter,
            "__array_namespace__": _namespace,
        }
    )
