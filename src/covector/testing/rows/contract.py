"""Rows of contractions."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from covector.ops.contract import dot_general
from covector.testing.optable import NUMBERS, Operand, OpRow, Shape


def _row(name: str, lhs: Shape, rhs: Shape, numbers: Any, subscripts: str) -> OpRow:
    return OpRow(
        f"dot_general_{name}",
        dot_general,
        (Operand(shape=lhs), Operand(shape=rhs)),
        NUMBERS,
        {"dimension_numbers": numbers, "precision": None, "preferred_element_type": None},
        numpy=partial(np.einsum, subscripts),
        jax="lax.dot_general",
        ulps=32.0,
        roots=True,
    )


ROWS = (
    _row("matrices", (3, 4), (4, 2), (((1,), (0,)), ((), ())), "ik,kj->ij"),
    _row("vectors", (4,), (4,), (((0,), (0,)), ((), ())), "k,k->"),
    _row("outer", (3,), (4,), (((), ()), ((), ())), "i,j->ij"),
    _row("transposed", (4, 3), (2, 4), (((0,), (1,)), ((), ())), "ki,jk->ij"),
    _row("batch", (2, 3, 4), (4, 2, 3), (((2,), (0,)), ((0,), (1,))), "bik,kbj->bij"),
    _row("two_axes", (2, 3, 4), (4, 5, 3), (((1, 2), (2, 0)), ((), ())), "ikl,ljk->ij"),
    _row("long", (2, 40), (40, 6), (((1,), (0,)), ((), ())), "ik,kj->ij"),
)
"""One row for each kind of contraction."""
