"""Installs the methods that arrays and tracers share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from covector.core.array import Array
from covector.core.errors import ConcretizationTypeError, compose
from covector.core.operand import install_methods
from covector.core.source import here
from covector.numpy import (
    elementwise,
    index_functions,
    interchange,
    joining,
    manipulation,
    products,
    reductions,
    sorting,
)
from covector.ops import elementwise as el


def _reshape(self: Any, *shape: Any, order: str = "C") -> Any:
    sizes = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return manipulation.reshape(self, sizes, order)


def _transpose(self: Any, *axes: Any) -> Any:
    if not axes or axes == (None,):
        return manipulation.transpose(self)
    order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
    return manipulation.transpose(self, order)


def _astype(self: Any, dtype: Any, copy: bool = False, device: None = None) -> Any:
    from covector.numpy.types import astype

    return astype(self, dtype, copy=copy, device=device)


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


def _clip(self: Any, min: Any = None, max: Any = None) -> Any:
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


def _nonzero(self: Any, *, fill_value: Any = None, size: int | None = None) -> Any:
    return index_functions.nonzero(self, size=size, fill_value=fill_value)


def _compress(
    self: Any,
    condition: Any,
    axis: int | None = None,
    *,
    out: None = None,
    size: int | None = None,
    fill_value: Any = 0,
) -> Any:
    reductions.no_out("compress", out)
    return index_functions.compress(condition, self, axis, size=size, fill_value=fill_value)


def _contains(self: Any, value: Any) -> bool:
    return bool(reductions.any(elementwise.equal(self, value)))


def _itemsize(self: Any) -> int:
    return self.dtype.itemsize


def _tobytes(self: Any, order: Any = "C") -> bytes:
    return _concrete(self, "tobytes()")._value.tobytes(order)


def _block_until_ready(self: Any) -> Any:
    # Results are always there.
    return self


def _is_ready(self: Any) -> bool:
    return True


def _copy_to_host_async(self: Any) -> None:
    pass


def _dlpack(self: Any, **options: Any) -> Any:
    # A copy, as other libraries may write to what they are given.
    return _concrete(self, "__dlpack__()")._value.copy().__dlpack__(**options)


def _dlpack_device(self: Any) -> tuple[int, int]:
    return (1, 0)


def install() -> None:
    """Gives arrays and tracers their methods."""
    install_methods(
        {
            "all": reductions.all,
            "any": reductions.any,
            "argmax": reductions.argmax,
            "argmin": reductions.argmin,
            "argpartition": sorting.argpartition,
            "argsort": sorting.argsort,
            "astype": _astype,
            "block_until_ready": _block_until_ready,
            "choose": index_functions.choose,
            "clip": _clip,
            "compress": _compress,
            "conj": _conjugate,
            "conjugate": _conjugate,
            "copy": _copy,
            "copy_to_host_async": _copy_to_host_async,
            "cumprod": reductions.cumprod,
            "cumsum": reductions.cumsum,
            "diagonal": index_functions.diagonal,
            "dot": products.dot,
            "flatten": _flatten,
            "is_ready": _is_ready,
            "item": _item,
            "max": reductions.max,
            "mean": reductions.mean,
            "min": reductions.min,
            "nonzero": _nonzero,
            "prod": reductions.prod,
            "ptp": reductions.ptp,
            "ravel": manipulation.ravel,
            "repeat": joining.repeat,
            "reshape": _reshape,
            "round": _round,
            "searchsorted": sorting.searchsorted,
            "sort": sorting.sort,
            "squeeze": manipulation.squeeze,
            "std": reductions.std,
            "sum": reductions.sum,
            "swapaxes": manipulation.swapaxes,
            "take": index_functions.take,
            "tobytes": _tobytes,
            "tolist": _tolist,
            "trace": products.trace,
            "transpose": _transpose,
            "var": reductions.var,
            "view": interchange.view,
            "itemsize": property(_itemsize),
            "flat": property(manipulation.ravel),
            "T": property(manipulation.transpose),
            "mT": property(_matrix_transpose),
            "real": property(elementwise.real),
            "imag": property(elementwise.imag),
            "at": property(_at),
            "__contains__": _contains,
            "__dlpack__": _dlpack,
            "__dlpack_device__": _dlpack_device,
            "__iter__": _iter,
            "__array_namespace__": _namespace,
        }
    )
