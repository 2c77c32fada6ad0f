"""Rows of the primitives of random bits, on the words of keys."""

from __future__ import annotations

from typing import Any

from covector.ops import random as ops
from covector.testing.optable import Domain, Operand, OpRow

WORDS = Operand(Domain(0, 2**32 - 1), "u32")
KEYS = Operand(Domain(0, 2**32 - 1), "u32", (3, 2))


def _bits(words: Any, *, bit_width: int) -> Any:
    key = ops.random_wrap(words, impl="fry")
    return ops.random_bits(key, bit_width=bit_width, shape=(2, 5))


def _split(words: Any) -> Any:
    keys = ops.random_split(ops.random_wrap(words, impl="fry"), shape=(4,))
    return ops.random_unwrap(ops.random_clone(keys))


def _fold_in(words: Any, data: Any) -> Any:
    return ops.random_unwrap(ops.random_fold_in(ops.random_wrap(words, impl="fry"), data))


def _seed(numbers: Any) -> Any:
    return ops.random_unwrap(ops.random_seed(numbers, impl="fry"))


def _hash(k0: Any, k1: Any, x0: Any, x1: Any) -> Any:
    return ops.threefry2x32(k0, k1, x0, x1)[1]


def _row(name: str, op: Any, *operands: Operand, **params: Any) -> OpRow:
    return OpRow(name, op, operands, ("u32",), params, order=0)


ROWS = (
    _row("threefry2x32", _hash, *[WORDS] * 4),
    _row("random_split", _split, KEYS),
    _row("random_fold_in", _fold_in, KEYS, Operand(Domain(0, 2**32 - 1), "u32", (3,))),
    *[_row(f"random_bits_{width}", _bits, KEYS, bit_width=width) for width in (8, 16, 32, 64)],
    OpRow("random_seed", _seed, (Operand(Domain(0, 1000), shape=(3,)),), ("i32", "u32"), order=0),
)
"""One row for each operation."""
