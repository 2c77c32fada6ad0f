"""Rows of gather, the scatters and dynamic slices."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from covector.core.primitive import Primitive
from covector.ops import index as ops
from covector.ops import scatter as scatters
from covector.ops.windows import (
    GatherDimensionNumbers,
    GatherScatterMode,
    ScatterDimensionNumbers,
)
from covector.testing.optable import NUMBERS, ORDERED, Domain, Operand, OpRow, Shape

EVERYTHING = ("bool", *NUMBERS)
NONZERO = Operand(Domain(0.5, 3))
PLAIN = {"indices_are_sorted": False, "unique_indices": False}

ROWS_OF = ((1,), (0,), (0,))
BLOCKS_OF = ((1, 2), (), (0, 1))
"""Dimension numbers: whole rows, and blocks that begin anywhere."""


def _places(shape: Shape) -> Operand:
    """Starts of windows in 5 x 4 operands, some outside."""
    return Operand(Domain(-2, 6), "i32", shape)


def _gather(
    name: str, numbers: Any, sizes: Shape, places: Shape, mode: str, twin: Callable[..., Any] | None
) -> OpRow:
    params = {"slice_sizes": sizes, "fill_value": None, **PLAIN}
    return OpRow(
        name,
        ops.gather,
        (Operand(shape=(5, 4)), _places(places)),
        EVERYTHING,
        {
            "dimension_numbers": GatherDimensionNumbers(*numbers),
            "mode": GatherScatterMode.from_any(mode),
            **params,
        },
        numpy=twin,
        jax="lax.gather",
        jax_params={
            "dimension_numbers": GatherDimensionNumbers(*numbers),
            "mode": mode,
            **params,
        },
        differentiable=(0,),
    )


def _clipped_rows(x: Any, places: Any) -> Any:
    return x[np.clip(places[:, 0], 0, 4)]


def _filled_rows(x: Any, places: Any) -> Any:
    outside = (places < 0) | (places > 4)
    return np.where(outside, np.nan, _clipped_rows(x, places))


def _scatter(
    primitive: Primitive,
    numbers: Any,
    places: Shape,
    updates: Shape,
    mode: str,
    kinds: tuple[str, ...] = NUMBERS,
    operand: Operand | None = None,
    twin: Callable[..., Any] | None = None,
) -> OpRow:
    domain = (operand or Operand()).domain
    dimension_numbers = ScatterDimensionNumbers(*numbers)
    return OpRow(
        f"{primitive.name}_{mode}",
        primitive,
        (Operand(domain, shape=(5, 4)), _places(places), Operand(domain, shape=updates)),
        kinds,
        {
            "dimension_numbers": dimension_numbers,
            "mode": GatherScatterMode.from_any(mode),
            **PLAIN,
        },
        numpy=twin,
        jax=f"lax.{primitive.name.replace('-', '_')}",
        jax_params={"dimension_numbers": dimension_numbers, "mode": mode, **PLAIN},
        differentiable=(0, 2),
        # JAX has no derivative of products with repeated places, and another one for extrema
        # where places are moved.
        order=2 if primitive.name in ("scatter", "scatter-add", "scatter-sub") else 1,
    )


def _by_ufunc(ufunc: Any, x: Any, places: Any, updates: Any) -> Any:
    out = x.copy()
    for place, row in zip(places[:, 0], updates, strict=True):
        if 0 <= place < len(out):
            out[place] = ufunc(out[place], row)
    return out


def _last(old: Any, new: Any) -> Any:
    return new


def _slice(x: Any, i: Any, j: Any) -> Any:
    i, j = np.clip(i, 0, 3), np.clip(j, 0, 1)
    return x[i : i + 2, j : j + 3]


def _updated(x: Any, update: Any, i: Any, j: Any) -> Any:
    out = x.copy()
    i, j = np.clip(i, 0, 3), np.clip(j, 0, 1)
    out[i : i + 2, j : j + 3] = update
    return out


def _rows_scatter(primitive: Primitive, ufunc: Any, **options: Any) -> OpRow:
    twin = partial(_by_ufunc, ufunc)
    return _scatter(primitive, ROWS_OF, (6, 1), (6, 4), "drop", twin=twin, **options)


ROWS = (
    _gather("gather_rows", ROWS_OF, (1, 4), (6, 1), "clip", _clipped_rows),
    _gather("gather_rows_or_fill", ROWS_OF, (1, 4), (6, 1), "fill", _filled_rows),
    _gather("gather_blocks", BLOCKS_OF, (2, 3), (6, 2), "clip", None),
    _rows_scatter(scatters.scatter, _last, kinds=EVERYTHING),
    _rows_scatter(scatters.scatter_add, np.add),
    _rows_scatter(scatters.scatter_sub, np.subtract),
    _rows_scatter(scatters.scatter_mul, np.multiply, operand=NONZERO),
    _rows_scatter(scatters.scatter_min, np.minimum, kinds=ORDERED),
    _rows_scatter(scatters.scatter_max, np.maximum, kinds=ORDERED),
    _scatter(scatters.scatter_add, BLOCKS_OF, (6, 2), (6, 2, 3), "clip"),
    OpRow(
        "dynamic_slice",
        ops.dynamic_slice,
        (Operand(shape=(5, 4)), _places(()), _places(())),
        EVERYTHING,
        {"slice_sizes": (2, 3)},
        numpy=_slice,
        differentiable=(0,),
    ),
    OpRow(
        "dynamic_update_slice",
        ops.dynamic_update_slice,
        (Operand(shape=(5, 4)), Operand(shape=(2, 3)), _places(()), _places(())),
        EVERYTHING,
        numpy=_updated,
        differentiable=(0, 1),
    ),
)
"""One row for each operation and kind of window."""
