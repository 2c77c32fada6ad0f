"""The functional simulator: what a program computes, whatever it takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector_accelerator import vector
from covector_accelerator.isa import Instruction, Load, Matmul, Move, Place, Store, Vector, Weights

Array = np.ndarray[Any, Any]


def simulate(code: Sequence[Instruction], dram: Sequence[Array]) -> None:
    """Runs a program.

    Args:
        code: the program.
        dram: flat arrays, the tensors by number; stores write to them.
    """
    slots: dict[int, Array] = {}
    weights = np.zeros((0, 0))
    for instruction in code:
        match instruction:
            case Load(slot, place):
                slots[slot] = np.array(_elements(dram, place))
            case Store(slot, place):
                _elements(dram, place)[...] = slots[slot]
            case Move(tensor, place):
                dram[tensor][: place.size] = _elements(dram, place).reshape(-1)
            case Weights(slot):
                weights = slots[slot]
            case Matmul(slot, rows, dtype, adds):
                product = _product(slots[rows], weights, dtype)
                if adds:
                    product += slots[slot]
                slots[slot] = product
            case Vector(name, slot, operands, dtype):
                values = [x if isinstance(x, float) else slots[x] for x in operands]
                slots[slot] = vector.apply(name, values, dtype)


def _elements(dram: Sequence[Array], place: Place) -> Array:
    """A view of elements in DRAM."""
    data = dram[place.tensor]
    size = data.itemsize
    strides = [n * size for n in place.strides]
    return np.ndarray(place.shape, data.dtype, data.view(np.uint8), place.offset * size, strides)


def _product(rows: Array, weights: Array, dtype: str) -> Array:
    """Operands are widened to the type of the sums, which are exact for integers."""
    kind = vector.DTYPES[dtype]
    with np.errstate(all="ignore"):
        return rows.astype(kind) @ weights.astype(kind)
