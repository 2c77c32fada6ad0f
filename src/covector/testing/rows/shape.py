"""Rows of the movement operations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from covector.ops import shape as ops
from covector.testing.optable import NUMBERS, Operand, OpRow, Shape, Twin

EVERYTHING = ("bool", *NUMBERS)


def _row(
    name: str,
    op: Callable[..., Any],
    params: dict[str, Any],
    twin: Twin,
    jax: str | None,
    *shapes: Shape,
) -> OpRow:
    operands = tuple([Operand(shape=shape) for shape in shapes or ((3, 4),)])
    return OpRow(name, op, operands, EVERYTHING, params, numpy=twin, jax=jax)


def _second_part(x: Any) -> Any:
    return ops.split(x, sizes=(1, 3), axis=1)[1]


def _last_column(x: Any) -> Any:
    return ops.unstack(x, axis=1)[-1]


def _with_middle_axis(x: Any) -> Any:
    return np.broadcast_to(x[:, None, :], (2, 3, 4))


def _side_by_side(x: Any, y: Any) -> Any:
    return np.concatenate([x, y], 1)


def _stacked(x: Any, y: Any) -> Any:
    return np.stack([x, y], 1)


def _part(x: Any) -> Any:
    return x[::2, 1:]


def _padded(x: Any, value: Any, low: int, high: int, interior: int) -> Any:
    """Padding between and around the elements of a vector."""
    n = len(x)
    spread = np.full(n + (n - 1) * interior, value)
    spread[:: interior + 1] = x
    whole = np.pad(spread, (max(low, 0), max(high, 0)), constant_values=value)
    return whole[max(-low, 0) : len(whole) - max(-high, 0)]


_PADDINGS = ((1, 2, 0), (0, 0, 2), (-1, 3, 1), (-2, -1, 2))

ROWS = (
    _row(
        "broadcast_scalar",
        ops.broadcast_in_dim,
        {"shape": (2, 3), "broadcast_dimensions": ()},
        partial(np.broadcast_to, shape=(2, 3)),
        "lax.broadcast_in_dim",
        (),
    ),
    _row(
        "broadcast_in_dim",
        ops.broadcast_in_dim,
        {"shape": (2, 3, 4), "broadcast_dimensions": (0, 2)},
        _with_middle_axis,
        "lax.broadcast_in_dim",
        (1, 4),
    ),
    *[
        _row(
            f"reshape_{'x'.join(map(str, new))}",
            ops.reshape,
            {"new_sizes": new, "dimensions": None},
            partial(np.reshape, shape=new),
            "lax.reshape",
        )
        for new in ((12,), (4, 3), (3, 2, 2), (1, 3, 4), (2, 6))
    ],
    _row(
        "squeeze",
        ops.squeeze,
        {"dimensions": (0, 2)},
        partial(np.squeeze, axis=(0, 2)),
        "lax.squeeze",
        (1, 3, 1),
    ),
    _row(
        "transpose",
        ops.transpose,
        {"permutation": (2, 0, 1)},
        partial(np.transpose, axes=(2, 0, 1)),
        "lax.transpose",
        (2, 3, 4),
    ),
    _row("rev", ops.rev, {"dimensions": (1,)}, partial(np.flip, axis=1), "lax.rev"),
    _row(
        "slice",
        ops.slice_,
        {"start_indices": (0, 1), "limit_indices": (3, 4), "strides": (2, 1)},
        _part,
        "lax.slice",
    ),
    *[
        _row(
            f"pad_{low}_{high}_{interior}",
            ops.pad,
            {"padding_config": ((low, high, interior),)},
            partial(_padded, low=low, high=high, interior=interior),
            "lax.pad",
            (4,),
            (),
        )
        for low, high, interior in _PADDINGS
    ],
    _row(
        "concatenate",
        ops.concatenate,
        {"dimension": 1},
        _side_by_side,
        "lax.concatenate_p.bind",
        (3, 4),
        (3, 2),
    ),
    _row("stack", ops.stack, {"axis": 1}, _stacked, None, (3, 4), (3, 4)),
    _row("unstack", _last_column, {}, partial(np.take, indices=3, axis=1), None),
    _row("split", _second_part, {}, partial(np.delete, obj=0, axis=1), None),
    _row("tile", ops.tile, {"reps": (2, 3)}, partial(np.tile, reps=(2, 3)), "lax.tile"),
)
