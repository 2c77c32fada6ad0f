"""Products of vectors, matrices and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.manipulation import expand_dims, moveaxis, reshape, squeeze
from covector.numpy.promote import broadcast_shapes, broadcast_to, operand, promote_dtypes
from covector.ops.contract import dot_general

__all__ = [
    "cross",
    "dot",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "outer",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]


def _contract(
    x: Any,
    y: Any,
    contract: tuple[Sequence[int], Sequence[int]],
    batch: tuple[Sequence[int], Sequence[int]] = ((), ()),
    precision: Any = None,
    preferred: Any = None,
) -> Any:
    numbers = (
        (tuple(contract[0]), tuple(contract[1])),
        (tuple(batch[0]), tuple(batch[1])),
    )
    target = None if preferred is None else dtypes.requested(preferred)
    return dot_general(
        x, y, dimension_numbers=numbers, precision=precision, preferred_element_type=target
    )


def matmul(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Matrix product; leading axes broadcast, vectors stand for a row or a column.

    Args:
        a: an array with at least one axis.
        b: another.
        precision: accepted for JAX's sake: products are made in the operands' dtype, those of
            float16 and bfloat16 accumulated in float32.
        preferred_element_type: dtype of the result.

    Raises:
        TypeError: if the contracted sizes differ.
    """
    a, b = promote_dtypes(operand(a, "matmul"), operand(b, "matmul"))
    for x in (a, b):
        if x.ndim == 0:
            raise ValueError(f"matmul needs arrays with at least one axis, got {x.aval}; use *")
    inner_a, inner_b = a.shape[-1], b.shape[max(b.ndim - 2, 0)]
    if inner_a != inner_b:
        raise TypeError(
            compose(
                "matmul needs the last axis of the first operand to be as long as the "
                "second-to-last of the second",
                found=f"{a.aval} and {b.aval}",
                fix="transpose an operand",
                line=here(),
            )
        )
    options = {"precision": precision, "preferred": preferred_element_type}
    if a.ndim == 1 or b.ndim <= 2:
        # dot_general puts the free axes of `a` first: right unless `b` has leading axes.
        return _contract(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)), **options)
    if b.ndim == 1 or a.ndim <= 2:
        out = _contract(a, b, ((a.ndim - 1,), (b.ndim - 2,)), **options)
        return moveaxis(out, 0, -2)
    lead = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    a = broadcast_to(a, (*lead, *a.shape[-2:]))
    b = broadcast_to(b, (*lead, *b.shape[-2:]))
    dims = tuple(range(len(lead)))
    return _contract(a, b, ((len(lead) + 1,), (len(lead),)), (dims, dims), **options)


def dot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum of products over the last axis of `a` and the second-to-last of `b`."""
    a, b = promote_dtypes(operand(a, "dot"), operand(b, "dot"))
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    options = {"precision": precision, "preferred": preferred_element_type}
    return _contract(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),)), **options)


def inner(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum of products over the last axes of both."""
    a, b = promote_dtypes(operand(a, "inner"), operand(b, "inner"))
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    options = {"precision": precision, "preferred": preferred_element_type}
    return _contract(a, b, ((a.ndim - 1,), (b.ndim - 1,)), **options)


def outer(a: Any, b: Any, out: None = None) -> Any:
    """All products of an element of `a` and one of `b`, both flattened."""
    if out is not None:
        raise NotImplementedError("outer: out= is not supported, arrays are immutable")
    a, b = operand(a, "outer"), operand(b, "outer")
    return reshape(a, (-1, 1)) * reshape(b, (1, -1))


def vdot(a: Any, b: Any, *, precision: Any = None, preferred_element_type: Any = None) -> Any:
    """Sum of products of all elements, the first operand conjugated."""
    from covector.ops import elementwise as el

    a = operand(a, "vdot")
    a = el.conj(a, input_dtype=a.aval.dtype) if dtypes.is_complex(a.aval.dtype) else a
    flat = reshape(a, (a.size,)), reshape(operand(b, "vdot"), (-1,))
    return dot(*flat, precision=precision, preferred_element_type=preferred_element_type)


def vecdot(
    x1: Any,
    x2: Any,
    /,
    *,
    axis: int = -1,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products along one axis, the first operand conjugated; other axes broadcast."""
    from covector.ops import elementwise as el

    a, b = promote_dtypes(operand(x1, "vecdot"), operand(x2, "vecdot"))
    a, b = moveaxis(a, axis, -1), moveaxis(b, axis, -1)
    a = el.conj(a, input_dtype=a.aval.dtype) if dtypes.is_complex(a.aval.dtype) else a
    row, column = expand_dims(a, -2), expand_dims(b, -1)
    options = {"precision": precision, "preferred_element_type": preferred_element_type}
    return squeeze(matmul(row, column, **options), (-1, -2))


def tensordot(
    a: Any,
    b: Any,
    axes: Any = 2,
    *,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """Sum of products over several axes.

    Args:
        a: an array.
        b: another.
        axes: how many trailing axes of `a` meet leading axes of `b`, or two sequences of axes.
        precision: as for `matmul`.
        preferred_element_type: dtype of the result.
    """
    a, b = promote_dtypes(operand(a, "tensordot"), operand(b, "tensordot"))
    if isinstance(axes, int):
        pairs = tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    else:
        first, second = axes
        first = (first,) if isinstance(first, int) else tuple(first)
        second = (second,) if isinstance(second, int) else tuple(second)
        pairs = tuple(x % a.ndim for x in first), tuple(x % b.ndim for x in second)
    if len(pairs[0]) != len(pairs[1]):
        raise ValueError(f"tensordot: axes {axes} name different numbers of axes")
    return _contract(a, b, pairs, precision=precision, preferred=preferred_element_type)


def kron(a: Any, b: Any) -> Any:
    """Kronecker product."""
    a, b = promote_dtypes(operand(a, "kron"), operand(b, "kron"))
    rank = max(a.ndim, b.ndim)
    left = reshape(a, (1,) * (rank - a.ndim) + tuple(a.shape))
    right = reshape(b, (1,) * (rank - b.ndim) + tuple(b.shape))
    spread = expand_dims(left, tuple(range(1, 2 * rank, 2)))
    other = expand_dims(right, tuple(range(0, 2 * rank, 2)))
    sizes = [m * n for m, n in zip(left.shape, right.shape, strict=True)]
    return reshape(spread * other, sizes)


def matvec(x1: Any, x2: Any, /) -> Any:
    """Products of matrices and vectors; other axes broadcast."""
    a, b = operand(x1, "matvec"), operand(x2, "matvec")
    return squeeze(matmul(a, expand_dims(b, -1)), -1)


def vecmat(x1: Any, x2: Any, /) -> Any:
    """Products of conjugated vectors and matrices; other axes broadcast."""
    from covector.numpy.elementwise import conjugate

    a, b = operand(x1, "vecmat"), operand(x2, "vecmat")
    return squeeze(matmul(expand_dims(conjugate(a), -2), b), -2)


def trace(
    a: Any,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    dtype: Any = None,
    out: None = None,
) -> Any:
    """The sum of a diagonal.

    Args:
        a: an array with at least two axes.
        offset: which diagonal, 0 the main one.
        axis1: the axis of rows.
        axis2: the axis of columns.
        dtype: in which to sum.
        out: must be `None`.
    """
    from covector.numpy.index_functions import diagonal
    from covector.numpy.reductions import no_out
    from covector.numpy.reductions import sum as total

    no_out("trace", out)
    return total(diagonal(a, offset, axis1, axis2), -1, dtype)


def cross(
    a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Any:
    """The cross product of vectors of two or three components.

    Args:
        a: an array of vectors.
        b: another; axes other than that of the components broadcast.
        axisa: the axis of the components of `a`.
        axisb: that of `b`.
        axisc: that of the result; of two vectors in the plane it is a number.
        axis: takes the place of the other three.
    """
    if axis is not None:
        axisa = axisb = axisc = axis
    x, y = promote_dtypes(operand(a, "cross"), operand(b, "cross"))
    x, y = moveaxis(x, axisa, -1), moveaxis(y, axisb, -1)
    if x.shape[-1] not in (2, 3) or y.shape[-1] not in (2, 3):
        raise ValueError(f"cross needs vectors of 2 or 3 components, got {x.aval} and {y.aval}")
    u, v = ([z[..., k] for k in range(z.shape[-1])] for z in (x, y))
    third = u[0] * v[1] - u[1] * v[0]
    if len(u) == 2 and len(v) == 2:
        return third
    # A vector in the plane has a third component of 0.
    if len(u) == 2:
        parts = [u[1] * v[2], -u[0] * v[2], third]
    elif len(v) == 2:
        parts = [-u[2] * v[1], u[2] * v[0], third]
    else:
        parts = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], third]
    from covector.numpy.joining import stack

    return stack(parts, axis=axisc)
