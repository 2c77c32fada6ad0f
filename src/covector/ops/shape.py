"""The movement operations, which re-index their operands; they are defined by topic elsewhere."""

from __future__ import annotations

from covector.ops.axes import (
    broadcast_in_dim,
    expand_dims,
    iota,
    reshape,
    rev,
    squeeze,
    transpose,
)
from covector.ops.pieces import concatenate, split, stack, tile, unstack
from covector.ops.slices import pad, slice_, slice_in_dim

__all__ = [
    "broadcast_in_dim",
    "concatenate",
    "expand_dims",
    "iota",
    "pad",
    "reshape",
    "rev",
    "slice_",
    "slice_in_dim",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
]
