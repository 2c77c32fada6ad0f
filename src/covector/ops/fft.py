"""Fourier transforms over the last one to three axes.

Name, parameters and meaning are those of JAX's primitive. Compiled code calls `_native/fft.c`;
evaluation is SciPy's.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.array import Array as Constant
from covector.core.avals import Aval
from covector.core.params import register_param_type
from covector.core.primitive import Primitive
from covector.core.trace import aval_of
from covector.loopir.ir import CONTEXT
from covector.loopir.tensor import Lowering
from covector.ops import common
from covector.ops import indices as ix
from covector.ops.arithmetic import mul
from covector.ops.common import Inseparable, linear_jvp, move_axis
from covector.ops.convert import conj
from covector.ops.matrix_primitives import SUFFIX, is_empty, scratch
from covector.ops.shape import broadcast_in_dim

Array = np.ndarray[Any, Any]

MOST_AXES = 3
"""How many axes one transform takes."""


@register_param_type
class FftType(IntEnum):
    """Which Fourier transform to make."""

    FFT = 0
    """Of complex numbers, forwards: with exp(-2 pi i j k / n)."""

    IFFT = 1
    """Of complex numbers, backwards: divided by the number of elements."""

    RFFT = 2
    """Of real numbers, forwards: the first n // 2 + 1 results of the last axis."""

    IRFFT = 3
    """To real numbers, backwards, from the first n // 2 + 1 elements of the last axis."""


def _fft_shape(x: Aval, *, fft_type: FftType, fft_lengths: tuple[Any, ...]) -> Aval:
    name, count = fft_type.name, len(fft_lengths)
    real = fft_type is FftType.RFFT
    if not 1 <= count <= MOST_AXES:
        raise ValueError(f"{name} transforms 1 to {MOST_AXES} axes, got fft_lengths {fft_lengths}")
    if count > x.ndim:
        raise ValueError(
            f"{name} input {x} must have at least as many axes as fft_lengths {fft_lengths}"
        )
    if x.dtype not in SUFFIX or dtypes.is_complex(x.dtype) == real:
        wanted = "float32 or float64" if real else "complex64 or complex128"
        raise ValueError(f"{name} input must be {wanted}, got {x}")
    batch, core = x.shape[:-count], x.shape[-count:]
    *others, last = fft_lengths
    half = last // 2 + 1
    expected = (*others, half) if fft_type is FftType.IRFFT else tuple(fft_lengths)
    # Nothing has to come from nothing: that needs no first element.
    from_nothing = fft_type is FftType.IRFFT and last == 0 and core == (*others, 0)
    if core != expected and not from_nothing:
        raise ValueError(
            f"{name} input {x} must have the last axes {expected} for fft_lengths {fft_lengths}"
        )
    if real and type(last) is int and last == 0:
        raise ValueError(f"{name} needs at least one element along the last axis, got {x}")
    if real:
        return Aval((*batch, *others, half), dtypes.complex_of(x.dtype))
    if fft_type is FftType.IRFFT:
        return Aval((*batch, *fft_lengths), dtypes.real_of(x.dtype))
    return x.strong()


def _fft_evaluate(x: Array, *, fft_type: FftType, fft_lengths: tuple[int, ...]) -> Array:
    out = _fft_shape(Aval(x.shape, x.dtype), fft_type=fft_type, fft_lengths=fft_lengths)
    if x.size == 0 or is_empty(out.shape):
        return np.zeros(out.shape, out.dtype)
    axes = tuple(range(x.ndim - len(fft_lengths), x.ndim))
    module = importlib.import_module("scipy.fft")
    if fft_type is FftType.IRFFT:
        return module.irfftn(x, s=fft_lengths, axes=axes)
    transforms = {FftType.FFT: module.fftn, FftType.IFFT: module.ifftn, FftType.RFFT: module.rfftn}
    return transforms[fft_type](x, axes=axes)


def _fft_jvp(ctx: Any, primals: Any, tangents: Any, **params: Any) -> Any:
    return linear_jvp(fft, ctx, primals, tangents, **params)


def _fft_transpose(
    ctx: Any, ct: Any, x: Any, *, fft_type: FftType, fft_lengths: tuple[Any, ...]
) -> list[Any]:
    # Elements that stand for two conjugate ones count twice.
    params = {"fft_lengths": fft_lengths}
    if fft_type is FftType.RFFT:
        halved = mul(_conjugate(ct), _weights(ct, fft_lengths[-1], 0.5))
        back = fft(halved, fft_type=FftType.IRFFT, **params)
        return [mul(back, common.like(back, _number(fft_lengths)))]
    if fft_type is FftType.IRFFT:
        if aval_of(ct).size == 0:
            return [common.zeros(x.aval)]
        half = fft(ct, fft_type=FftType.RFFT, **params)
        doubled = mul(half, _weights(half, fft_lengths[-1], 2.0))
        return [_conjugate(mul(doubled, common.like(doubled, 1 / max(_number(fft_lengths), 1))))]
    return [fft(ct, fft_type=fft_type, **params)]


def _conjugate(x: Any) -> Any:
    return conj(x, input_dtype=x.dtype)


def _number(lengths: Sequence[Any]) -> int:
    if any(type(n) is not int for n in lengths):
        raise NotImplementedError(
            f"the derivative of a real Fourier transform of symbolic lengths {tuple(lengths)} is "
            "not supported; use concrete sizes"
        )
    return math.prod(lengths)


def _weights(like: Any, n: Any, inner: float) -> Any:
    """`inner` where an element of half a spectrum stands for two, 1 at the ends that do not."""
    shape = aval_of(like).shape
    _number((n,))
    values = np.full(shape[-1], inner, like.dtype)
    values[:1] = 1
    if n % 2 == 0:
        values[-1:] = 1
    vector = Constant.of(values, Aval(values.shape, like.dtype))
    return broadcast_in_dim(vector, shape=shape, broadcast_dimensions=(len(shape) - 1,))


def _fft_batch(ctx: Any, args: Any, dims: Any, **params: Any) -> Any:
    (x,), (dim,) = args, dims
    if dim >= len(aval_of(x).shape) - len(params["fft_lengths"]):
        x, dim = move_axis(x, dim, 0), 0
    return fft(x, **params), dim


def _fft_lanes(dims: Any, x: Aval, *, fft_type: FftType, fft_lengths: Any) -> int | None:
    lane = dims[0]
    if lane is not None and lane >= x.ndim - len(fft_lengths):
        raise Inseparable("it transforms along the lanes")
    return lane


def _fft_lower(b: Lowering, x: Any, *, fft_type: FftType, fft_lengths: tuple[Any, ...]) -> Any:
    rank, count = len(x.shape), len(fft_lengths)
    first = rank - count
    lengths = b.extents(Aval(fft_lengths, x.dtype))
    inverse = fft_type in (FftType.IFFT, FftType.IRFFT)
    if fft_type is FftType.RFFT:
        half = b.extents(Aval((fft_lengths[-1] // 2 + 1,), x.dtype))
        out = b.new((*x.shape[:-1], *half), dtypes.complex_of(x.dtype))
        _call_rows(b, f"cv_rfft_{SUFFIX[x.dtype]}", lengths[-1], b.stored(x), out)
        _transform_axes(b, out, range(first, rank - 1), inverse)
        return out
    if fft_type is FftType.IRFFT:
        out = b.new((*x.shape[:-1], lengths[-1]), dtypes.real_of(x.dtype))
        work: Any = b.stored(x)
        if count > 1:
            work = scratch(b, x.shape, x.dtype)
            b.fill(work, x)
            _transform_axes(b, work, range(first, rank - 1), inverse)
        _call_rows(b, f"cv_irfft_{SUFFIX[x.dtype]}", lengths[-1], work, out)
        return out
    out = b.update_in_place(x)
    _transform_axes(b, out, range(first, rank), inverse)
    return out


def _index(b: Lowering, i: Any) -> Any:
    return b.builder.index(i) if type(i) is int else i


def _transform_axes(b: Lowering, work: Any, axes: Sequence[int], inverse: bool) -> None:
    """Complex transforms in place, one axis after the other."""
    if is_empty(work.shape):
        return
    for axis in axes:
        outer = ix.product(b.builder, work.shape[:axis])
        inner = ix.product(b.builder, work.shape[axis + 1 :])
        sizes = [_index(b, i) for i in (outer, work.shape[axis], inner)]
        symbol = f"cv_fft_{SUFFIX[work.dtype]}"
        b.builder.call(
            symbol,
            np.dtype(np.int32),
            CONTEXT,
            *sizes,
            work.buffer,
            b.builder.index(int(inverse)),
            leaves=True,
        )


def _call_rows(b: Lowering, symbol: str, n: Any, source: Any, out: Any) -> None:
    """Real transforms of rows, from one buffer to another."""
    if is_empty(source.shape, out.shape):
        return
    rows = ix.product(b.builder, out.shape[:-1])
    sizes = [_index(b, i) for i in (rows, n)]
    status = np.dtype(np.int32)
    b.builder.call(symbol, status, CONTEXT, *sizes, source.buffer, out.buffer, leaves=True)


fft = Primitive(
    "fft",
    shape=_fft_shape,
    evaluate=_fft_evaluate,
    jvp=_fft_jvp,
    transpose=_fft_transpose,
    batch=_fft_batch,
    lanes=_fft_lanes,
    lower=_fft_lower,
)
"""A Fourier transform over the last axes.

Params:
    fft_type: which one, an `FftType`.
    fft_lengths: the extents of these axes; for IRFFT those of the result.
"""
