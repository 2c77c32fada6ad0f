"""Symbolic sizes as values: `x / x.shape[0]` where the size is known only at run time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.primitive import Primitive, unsupported


def _shape(*, size: Any, dtype: Any) -> Aval:
    if dtype not in dtypes.INTEGER:
        raise TypeError(f"a size is an integer, found dtype {dtype}")
    return Aval((), dtype, True)


def _evaluate(*, size: Any, dtype: Any) -> Any:
    return np.asarray(int(size), dtype)


def _batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    return dimension_size(**params), None


def _lower(b: Any, *, size: Any, dtype: Any) -> Any:
    builder = b.builder
    (extent,) = b.extents(Aval((size,), dtype))

    def element(index: Sequence[Any]) -> Any:
        if type(extent) is int:
            return builder.const(np.array(extent).astype(dtype)[()], dtype)
        return builder.convert(extent, dtype)

    return b.lazy((), dtype, element, 1.0)


def _lanes(dims: Any, **params: Any) -> None:
    return None


dimension_size = Primitive(
    "dimension_size",
    shape=_shape,
    evaluate=_evaluate,
    jvp=unsupported("it has no operands"),
    transpose=unsupported("it has no operands"),
    batch=_batch,
    lower=_lower,
    lanes=_lanes,
)


def _as_value(size: Dim) -> Any:
    return dimension_size(size=size, dtype=dtypes.default_int())


# Sizes are below primitives; as with the methods of arrays, this one is added from above.
for _name in ("__covector_array__",):
    setattr(Dim, _name, _as_value)
