"""Fourier transforms, as in `jax.lax`."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from covector.core.dims import Dim
from covector.numpy.promote import operand
from covector.ops.fft import FftType

__all__ = ["FftType", "fft"]


def fft(x: Any, fft_type: FftType | str, fft_lengths: Sequence[int]) -> Any:
    """The Fourier transform of an array's last axes.

    Args:
        x: an array; converted to a complex dtype, for RFFT to a floating one.
        fft_type: an `FftType`, or its name.
        fft_lengths: the extents of the axes transformed, one to three; for IRFFT those of the
            result, of which the last may be odd. None at all only converts the array.

    Returns:
        An array, complex but for IRFFT.

    Raises:
        TypeError: `fft_type` is neither.
        ValueError: there is no such transform, or the lengths do not fit the array.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector import lax
        >>> lax.fft(cnp.ones(4), lax.FftType.RFFT, (4,))
        Array([4.+0.j, 0.+0.j, 0.+0.j], dtype=complex64)
    """
    from covector.numpy.fft import transform

    if isinstance(fft_type, str):
        members = FftType.__members__
        if fft_type not in (*members, *[name.lower() for name in members]):
            raise ValueError(f"unknown FFT type {fft_type!r}; it is one of {', '.join(members)}")
        fft_type = members[fft_type.upper()]
    elif type(fft_type) is not FftType:
        raise TypeError(f"unknown FFT type {fft_type!r}; pass a lax.FftType or its name")
    lengths = [n if isinstance(n, Dim) else operator.index(n) for n in fft_lengths]
    return transform(operand(x, "lax.fft"), fft_type, lengths)
