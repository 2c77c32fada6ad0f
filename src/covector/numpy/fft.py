"""Discrete Fourier transforms, as in `jax.numpy.fft`."""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Sequence
from typing import Any

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.creation import arange, array
from covector.numpy.elementwise import conjugate
from covector.numpy.joining import roll
from covector.numpy.manipulation import moveaxis
from covector.numpy.padding import pad
from covector.numpy.promote import convert, operand
from covector.numpy.reductions import one_axis
from covector.ops.fft import MOST_AXES, FftType
from covector.ops.fft import fft as fft_p

__all__ = [
    "fft",
    "fft2",
    "fftfreq",
    "fftn",
    "fftshift",
    "hfft",
    "ifft",
    "ifft2",
    "ifftn",
    "ifftshift",
    "ihfft",
    "irfft",
    "irfft2",
    "irfftn",
    "rfft",
    "rfft2",
    "rfftfreq",
    "rfftn",
]

Sizes = Sequence[int] | None
Axes = Sequence[int] | None

_BACKWARD = (FftType.IFFT, FftType.IRFFT)


def transform(x: Any, fft_type: FftType, lengths: Sequence[Any]) -> Any:
    """The transform of an array's last axes, after promotion to a dtype that has one.

    Args:
        x: an array.
        fft_type: which transform.
        lengths: of the axes transformed, of the result for IRFFT; none gives the array itself.
    """
    if fft_type is FftType.RFFT:
        if dtypes.is_complex(x.aval.dtype):
            raise ValueError(
                compose(
                    "a transform of real numbers got complex ones",
                    found=str(x.aval),
                    fix="use fft, or the real part",
                    line=here(),
                )
            )
        x = convert(x, dtypes.to_inexact(x.aval.dtype))
    else:
        x = convert(x, dtypes.complex_of(dtypes.to_inexact(x.aval.dtype)))
    if len(lengths) == 0:
        return x
    return fft_p(x, fft_type=fft_type, fft_lengths=tuple(lengths))


def _scale(name: str, norm: str | None, lengths: Sequence[int], backward: bool) -> float:
    """What the transform has to be multiplied by; the backward ones divide by the size already."""
    if norm is None or norm == "backward":
        return 1.0
    size = float(math.prod(lengths))
    if norm == "ortho":
        factor = math.sqrt(size)
    elif norm == "forward":
        factor = size
    else:
        raise ValueError(
            f'{name}: invalid norm value {norm!r}; it should be "backward", "ortho" or "forward"'
        )
    if backward or size == 0:
        return factor
    return 1 / factor


def _sizes(name: str, s: Sizes) -> tuple[int, ...] | None:
    if s is None:
        return None
    sizes = tuple([operator.index(n) for n in s])
    if builtins.any([n <= 0 for n in sizes]):
        raise ValueError(f"{name}: sizes should be positive, got {sizes}")
    return sizes


def _chosen_axes(name: str, ndim: int, s: Sizes, axes: Axes) -> list[int]:
    if axes is None:
        count = ndim if s is None else len(s)
        if count > ndim:
            raise ValueError(f"{name}: {count} sizes {s} for an array of {ndim} axes")
        return list(range(ndim - count, ndim))
    if s is not None and len(s) != len(axes):
        raise ValueError(f"{name}: sizes {s} and axes {tuple(axes)} have different lengths")
    chosen = [one_axis(name, axis, ndim) for axis in axes]
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"{name} does not support repeated axes, got axes {tuple(axes)}")
    return chosen


def _resized(x: Any, sizes: Sequence[int]) -> Any:
    """The last axes cut, or filled up with zeros."""
    first = x.ndim - len(sizes)
    cut = [slice(None)] * first + [slice(n) for n in sizes]
    x = x[tuple(cut)]
    missing = [n - m for n, m in zip(sizes, x.shape[first:], strict=True)]
    if not builtins.any(missing):
        return x
    return pad(x, [(0, 0)] * first + [(0, n) for n in missing])


def _transformed(
    name: str, fft_type: FftType, a: Any, s: Sizes, axes: Axes, norm: str | None, backward: bool
) -> Any:
    x = operand(a, f"fft.{name}")
    s = _sizes(name, s)
    chosen = _chosen_axes(name, x.ndim, s, axes)
    last = list(range(x.ndim - len(chosen), x.ndim))
    x = moveaxis(x, chosen, last) if chosen != last else x
    if s is not None:
        half = fft_type is FftType.IRFFT and s
        x = _resized(x, (*s[:-1], s[-1] // 2 + 1) if half else s)
        lengths: list[Any] = list(s)
    else:
        lengths = [x.shape[axis] for axis in last]
        if fft_type is FftType.IRFFT and lengths:
            lengths[-1] = builtins.max(0, 2 * (lengths[-1] - 1))
    scale = _scale(name, norm, lengths, backward)
    x = _over_axes(x, fft_type, lengths)
    if scale != 1.0:
        x = x * scale
    return moveaxis(x, last, chosen) if chosen != last else x


def _over_axes(x: Any, fft_type: FftType, lengths: Sequence[Any]) -> Any:
    """One transform for up to three axes; more take turns, complex ones on the axes before."""
    if len(lengths) <= MOST_AXES:
        return transform(x, fft_type, lengths)
    others, lengths = lengths[:-MOST_AXES], lengths[-MOST_AXES:]
    first = list(range(x.ndim - len(others) - MOST_AXES, x.ndim - MOST_AXES))
    last = list(range(x.ndim - len(others), x.ndim))
    backward = fft_type in _BACKWARD
    if not backward:
        x = transform(x, fft_type, lengths)
    x = _over_axes(moveaxis(x, first, last), FftType.IFFT if backward else FftType.FFT, others)
    x = moveaxis(x, last, first)
    return transform(x, fft_type, lengths) if backward else x


def _one(name: str, axis: Any) -> None:
    if isinstance(axis, (tuple, list)):
        raise ValueError(f"{name} transforms along one axis, got axis={axis}")


def _along(
    name: str, fft_type: FftType, a: Any, n: int | None, axis: Any, norm: str | None, backward: bool
) -> Any:
    _one(name, axis)
    s = None if n is None else [n]
    axes = None if axis is None else [axis]
    return _transformed(name, fft_type, a, s, axes, norm, backward)


# --- one axis -----------------------------------------------------------------------------------


def fft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The discrete Fourier transform along an axis.

    Args:
        a: an array.
        n: how many elements to transform: others are cut off, missing ones are zeros.
        axis: along which.
        norm: "backward" (as is), "ortho" (divided by the square root of the length) or "forward"
            (divided by the length).

    Returns:
        A complex array.

    Raises:
        ValueError: `n` is not positive, the axis does not exist, or `norm` is something else.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.fft.fft(cnp.array([1.0, 0.0, 0.0, 0.0]))
        Array([1.+0.j, 1.+0.j, 1.+0.j, 1.+0.j], dtype=complex64)
    """
    return _along("fft", FftType.FFT, a, n, axis, norm, False)


def ifft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `fft`, with the same arguments."""
    return _along("ifft", FftType.IFFT, a, n, axis, norm, True)


def rfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The first n // 2 + 1 elements of the transform of real numbers; the others are conjugates.

    Args:
        a: an array of real numbers.
        n: as in `fft`.
        axis: as in `fft`.
        norm: as in `fft`.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.fft.rfft(cnp.ones(4))
        Array([4.+0.j, 0.+0.j, 0.+0.j], dtype=complex64)
    """
    return _along("rfft", FftType.RFFT, a, n, axis, norm, False)


def irfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `rfft`: real numbers.

    Args:
        a: the first n // 2 + 1 elements of a transform.
        n: how many elements the result has, by default an even number.
        axis: as in `fft`.
        norm: as in `fft`.
    """
    return _along("irfft", FftType.IRFFT, a, n, axis, norm, True)


def hfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The transform, real, of a signal that has Hermitian symmetry.

    Args:
        a: the first n // 2 + 1 elements of the signal.
        n: how many elements the result has.
        axis: as in `fft`.
        norm: as in `fft`.
    """
    x = operand(a, "fft.hfft")
    _one("hfft", axis)
    length = 2 * (x.shape[one_axis("hfft", axis, x.ndim)] - 1) if n is None else n
    found = _along("hfft", FftType.IRFFT, conjugate(x), n, axis, norm, False)
    return found * length


def ihfft(a: Any, n: int | None = None, axis: int = -1, norm: str | None = None) -> Any:
    """The inverse of `hfft`, with the arguments of `rfft`."""
    x = operand(a, "fft.ihfft")
    _one("ihfft", axis)
    length = x.shape[one_axis("ihfft", axis, x.ndim)] if n is None else n
    found = _along("ihfft", FftType.RFFT, x, n, axis, norm, True)
    return conjugate(found) * (1 / length)


# --- several axes -------------------------------------------------------------------------------


def _two(name: str, axes: Any) -> Any:
    if len(axes) != 2:
        raise ValueError(f"{name} transforms 2 axes, got axes={tuple(axes)}; use {name[:-1]}n")
    return axes


def fft2(a: Any, s: Sizes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`fftn` along two axes."""
    return _transformed("fft2", FftType.FFT, a, s, _two("fft2", axes), norm, False)


def ifft2(a: Any, s: Sizes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`ifftn` along two axes."""
    return _transformed("ifft2", FftType.IFFT, a, s, _two("ifft2", axes), norm, True)


def rfft2(a: Any, s: Sizes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`rfftn` along two axes."""
    return _transformed("rfft2", FftType.RFFT, a, s, _two("rfft2", axes), norm, False)


def irfft2(a: Any, s: Sizes = None, axes: Sequence[int] = (-2, -1), norm: str | None = None) -> Any:
    """`irfftn` along two axes."""
    return _transformed("irfft2", FftType.IRFFT, a, s, _two("irfft2", axes), norm, True)


def fftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The discrete Fourier transform along several axes.

    Args:
        a: an array.
        s: how many elements to transform along each: others are cut off, missing ones are zeros.
        axes: along which; by default the last ones, as many as there are sizes, or all.
        norm: as in `fft`.

    Returns:
        A complex array.

    Raises:
        ValueError: sizes and axes do not fit each other or the array.
    """
    return _transformed("fftn", FftType.FFT, a, s, axes, norm, False)


def ifftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of `fftn`, with the same arguments."""
    return _transformed("ifftn", FftType.IFFT, a, s, axes, norm, True)


def rfftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """`fftn` of real numbers: along the last of the axes the first n // 2 + 1 elements."""
    return _transformed("rfftn", FftType.RFFT, a, s, axes, norm, False)


def irfftn(a: Any, s: Sizes = None, axes: Axes = None, norm: str | None = None) -> Any:
    """The inverse of `rfftn`: real numbers; `s` holds the sizes of the result."""
    return _transformed("irfftn", FftType.IRFFT, a, s, axes, norm, True)


# --- frequencies --------------------------------------------------------------------------------


def _spacing(name: str, n: Any, d: Any, dtype: Any) -> tuple[int, Any]:
    if isinstance(n, (list, tuple)):
        raise ValueError(f"{name}: n must be an integer, got {n}")
    if isinstance(d, (list, tuple)):
        raise ValueError(f"{name}: d must be a number, got {d}")
    n = operator.index(n)
    wanted = dtypes.default_float() if dtype is None else dtypes.requested(dtype, name)
    return n, wanted


def fftfreq(n: int, d: Any = 1.0, *, dtype: Any = None) -> Any:
    """The frequencies that the elements of `fft` belong to, in cycles per unit of the spacing.

    Args:
        n: the length of the transform.
        d: the spacing of the samples.
        dtype: of the result; the default float.

    Example:
        >>> import covector.numpy as cnp
        >>> cnp.fft.fftfreq(4, d=0.5)
        Array([ 0. ,  0.5, -1. , -0.5], dtype=float32)
    """
    n, wanted = _spacing("fftfreq", n, d, dtype)
    inexact = dtypes.real_of(dtypes.to_inexact(wanted))
    places = arange(n, dtype=inexact)
    k = (places + n // 2) % n - n // 2
    return convert(k / array(d * n, inexact), wanted)


def rfftfreq(n: int, d: Any = 1.0, *, dtype: Any = None) -> Any:
    """The frequencies that the elements of `rfft` belong to; see `fftfreq`."""
    n, wanted = _spacing("rfftfreq", n, d, dtype)
    k = arange(n // 2 + 1, dtype=wanted)
    return k / array(d * n, wanted)


def _shifted(name: str, x: Any, axes: Any, sign: int) -> Any:
    x = operand(x, f"fft.{name}")
    if axes is None:
        axes = tuple(range(x.ndim))
    elif isinstance(axes, int):
        axes = (axes,)
    places = [one_axis(name, axis, x.ndim) for axis in axes]
    shifts = [sign * (x.shape[p] // 2) for p in places]
    return roll(x, shifts, places) if places else x


def fftshift(x: Any, axes: int | Sequence[int] | None = None) -> Any:
    """The elements in the order of their frequencies, 0 in the middle.

    Args:
        x: an array in the order of `fft`.
        axes: which to reorder; all by default.
    """
    return _shifted("fftshift", x, axes, 1)


def ifftshift(x: Any, axes: int | Sequence[int] | None = None) -> Any:
    """The inverse of `fftshift`."""
    return _shifted("ifftshift", x, axes, -1)
