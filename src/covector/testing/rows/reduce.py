"""Rows of the reductions, cumulative operations, windowed reductions and sorts."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from covector.core.dtypes import int32
from covector.ops import cumulative, reduce, reduce_window
from covector.ops.sort import sort, top_k
from covector.testing.optable import (
    COMPLEXES,
    FLOATS,
    INTEGERS,
    NUMBERS,
    ORDERED,
    Domain,
    Operand,
    OpRow,
)

MATRIX = Operand(shape=(3, 4))
BITS = Operand(Domain(-100, 100), shape=(3, 4))
# XLA adds up half precision in half precision where this does so in float32.
LOOSE = 64.0

_SUMS = {"sum": np.sum, "prod": np.prod}
_EXTREMA = {"max": np.max, "min": np.min}
_BITWISE = {
    "and": np.bitwise_and.reduce,
    "or": np.bitwise_or.reduce,
    "xor": np.bitwise_xor.reduce,
}
_AXES = {"rows": (0,), "columns": (1,), "all": (0, 1)}


def _reductions(names: dict[str, Any], dtypes: tuple[str, ...], **options: Any) -> list[OpRow]:
    operand = BITS if options.get("order") == 0 else MATRIX
    return [
        OpRow(
            f"reduce_{name}_{which}",
            getattr(reduce, f"reduce_{name}"),
            (operand,),
            dtypes,
            {"axes": axes},
            numpy=partial(twin, axis=axes),
            jax=f"lax.reduce_{name}",
            roots=name == "sum",
            ulps=LOOSE,
            **options,
        )
        for name, twin in names.items()
        for which, axes in _AXES.items()
    ]


def _arg_extremum(name: str, twin: Any) -> OpRow:
    return OpRow(
        name,
        getattr(reduce, name),
        (MATRIX,),
        ORDERED,
        {"axes": (1,), "index_dtype": int32},
        numpy=partial(twin, axis=1),
        jax=f"lax.{name}",
        jax_params={"axis": 1, "index_dtype": int32},
        order=0,
    )


def _accumulated(x: Any, *, twin: np.ufunc, backwards: bool) -> Any:
    if backwards:
        return np.flip(twin.accumulate(np.flip(x, 1), axis=1), 1)
    return twin.accumulate(x, axis=1)


def _cumulative(name: str, twin: np.ufunc, dtypes: tuple[str, ...]) -> list[OpRow]:
    return [
        OpRow(
            f"{name}_{'backwards' if backwards else 'forwards'}",
            getattr(cumulative, name),
            (MATRIX,),
            dtypes,
            {"axis": 1, "reverse": backwards},
            numpy=partial(_accumulated, twin=twin, backwards=backwards),
            jax=f"lax.{name}",
            roots=True,
            ulps=LOOSE,
        )
        for backwards in (False, True)
    ]


_WINDOW = {
    "window_dimensions": (2, 3),
    "window_strides": (1, 2),
    "padding": ((0, 1), (1, 1)),
    "base_dilation": (1, 1),
    "window_dilation": (1, 1),
}


def _windowed(name: str) -> OpRow:
    return OpRow(
        f"reduce_window_{name}",
        getattr(reduce_window, f"reduce_window_{name}"),
        (MATRIX,),
        INTEGERS + FLOATS,
        _WINDOW,
        jax=f"lax.reduce_window_{name}_p.bind",
        order=2 if name == "sum" else 1,
        roots=name == "sum",
        ulps=LOOSE,
    )


def _sorted(x: Any, *, dimension: int) -> Any:
    return sort(x, dimension=dimension, is_stable=True, num_keys=1)[0]


def _largest(x: Any, *, k: int) -> Any:
    return top_k(x, k=k, axis=1)[0]


def _two_largest(x: Any) -> Any:
    return np.flip(np.sort(x, axis=1), 1)[:, :2]


ROWS = (
    *_reductions(_SUMS, NUMBERS),
    *_reductions(_EXTREMA, ORDERED),
    *_reductions(_BITWISE, ("bool", *INTEGERS), order=0),
    _arg_extremum("argmax", np.argmax),
    _arg_extremum("argmin", np.argmin),
    *_cumulative("cumsum", np.add, NUMBERS),
    *_cumulative("cumprod", np.multiply, NUMBERS),
    *_cumulative("cummax", np.maximum, INTEGERS + FLOATS),
    *_cumulative("cummin", np.minimum, INTEGERS + FLOATS),
    *_cumulative("cumlogsumexp", np.logaddexp, FLOATS),
    *[_windowed(name) for name in ("sum", "max", "min")],
    OpRow(
        "sort",
        _sorted,
        (MATRIX,),
        ORDERED + COMPLEXES,
        {"dimension": 0},
        numpy=partial(np.sort, axis=0),
        jax="lax.sort",
    ),
    OpRow(
        "top_k",
        _largest,
        (MATRIX,),
        ORDERED,
        {"k": 2},
        numpy=_two_largest,
    ),
)
