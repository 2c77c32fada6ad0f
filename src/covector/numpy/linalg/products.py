"""Products, in the signatures of the array API: operands by position, axes at the end."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Sequence
from typing import Any

from covector.numpy import index_functions, products
from covector.numpy.contraction import einsum
from covector.numpy.linalg.arguments import check_matrices
from covector.numpy.linalg.systems import inv
from covector.numpy.manipulation import expand_dims
from covector.numpy.manipulation import matrix_transpose as transposed
from covector.numpy.promote import operand, promote_dtypes
from covector.ops import matrices as mx

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_power",
    "matrix_transpose",
    "multi_dot",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
]


def matmul(
    x1: Any, x2: Any, /, *, precision: Any = None, preferred_element_type: Any = None
) -> Any:
    """Matrix product; see `covector.numpy.matmul`."""
    return products.matmul(
        x1, x2, precision=precision, preferred_element_type=preferred_element_type
    )


def vecdot(
    x1: Any,
    x2: Any,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products along an axis; see `covector.numpy.vecdot`."""
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    return products.vecdot(x1, x2, axis=axis, **options)


def tensordot(
    x1: Any,
    x2: Any,
    /,
    *,
    axes: int | tuple[Sequence[int], Sequence[int]] = 2,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products over several axes; see `covector.numpy.tensordot`."""
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    return products.tensordot(x1, x2, axes, **options)


def cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Any:
    """The cross product of vectors of three components.

    Raises:
        ValueError: vectors have another number of components.
    """
    a, b = operand(x1, "linalg.cross"), operand(x2, "linalg.cross")
    if a.shape[axis] != 3 or b.shape[axis] != 3:
        raise ValueError(f"linalg.cross needs vectors of 3 components, got {a.aval} and {b.aval}")
    return products.cross(a, b, axis=axis)


def outer(x1: Any, x2: Any, /) -> Any:
    """All products of an element of one vector and one of another.

    Raises:
        ValueError: an argument is not a vector.
    """
    a, b = promote_dtypes(operand(x1, "linalg.outer"), operand(x2, "linalg.outer"))
    if a.ndim != 1 or b.ndim != 1:
        raise ValueError(f"linalg.outer needs vectors, got {a.aval} and {b.aval}")
    return expand_dims(a, 1) * expand_dims(b, 0)


def diagonal(x: Any, /, *, offset: int = 0) -> Any:
    """The diagonals of matrices, along a last axis."""
    return index_functions.diagonal(x, offset, -2, -1)


def trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Any:
    """The sums of the diagonals of matrices."""
    return products.trace(x, offset, -2, -1, dtype)


def matrix_transpose(x: Any, /) -> Any:
    """Matrices with rows and columns exchanged.

    Raises:
        ValueError: an array of less than two axes.
    """
    x = operand(x, "linalg.matrix_transpose")
    check_matrices("linalg.matrix_transpose", x)
    return transposed(x)


def matrix_power(a: Any, n: int) -> Any:
    """Square matrices multiplied with themselves.

    Args:
        a: square matrices.
        n: how often; the inverse counts negative.

    Raises:
        TypeError: `n` is not an integer, or the matrices are not square.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.linalg.matrix_power(cnp.array([[1, 1], [0, 1]]), 5)
        Array([[1, 5],
               [0, 1]], dtype=int32)
    """
    x = operand(a, "linalg.matrix_power")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise TypeError(f"linalg.matrix_power needs square matrices, got {x.aval}")
    try:
        n = operator.index(n)
    except TypeError as error:
        raise TypeError(f"linalg.matrix_power: the exponent must be an integer, got {n}") from error
    if n == 0:
        return mx.identity_like(x)
    power, result, n = (x, None, n) if n > 0 else (inv(x), None, -n)
    while True:
        n, bit = divmod(n, 2)
        if bit:
            result = power if result is None else products.matmul(result, power)
        if n == 0:
            return result
        power = products.matmul(power, power)


def multi_dot(arrays: Sequence[Any], *, precision: Any = None) -> Any:
    """The product of several matrices, in the order that takes the fewest operations.

    Args:
        arrays: two or more matrices; the first and the last may be vectors.
        precision: accepted for JAX's sake; see `matmul`.

    Raises:
        ValueError: there are less than two, or their shapes do not fit.
    """
    xs = [operand(x, "linalg.multi_dot") for x in arrays]
    found = ", ".join(str(x.aval) for x in xs)
    if len(xs) < 2:
        raise ValueError(f"linalg.multi_dot needs at least two arrays, got {found or 'none'}")
    ends = (xs[0].ndim in (1, 2)) and (xs[-1].ndim in (1, 2))
    if not ends or any(x.ndim != 2 for x in xs[1:-1]):
        raise ValueError(f"linalg.multi_dot needs matrices, vectors only at the ends, got {found}")
    if any(x.shape[-1] != y.shape[0] for x, y in itertools.pairwise(xs)):
        raise ValueError(
            f"linalg.multi_dot needs as many rows as the array before has columns, got {found}"
        )
    axes = [[k, k + 1] for k in range(len(xs))]
    axes[0] = axes[0][1:] if xs[0].ndim == 1 else axes[0]
    axes[-1] = axes[-1][:1] if xs[-1].ndim == 1 else axes[-1]
    operands = [part for pair in zip(xs, axes, strict=True) for part in pair]
    return einsum(*operands, precision=precision)
