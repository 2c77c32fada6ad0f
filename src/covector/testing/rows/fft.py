"""Rows of the Fourier transform."""

from __future__ import annotations

from typing import Any

import numpy as np

from covector.ops.fft import FftType, fft
from covector.testing.optable import COMPLEXES, Operand, OpRow, Shape

fourier: Any = np.fft

REALS = ("f32", "f64")


def _row(name: str, fft_type: FftType, twin: Any, shape: Shape, *lengths: int) -> OpRow:
    axes = tuple(range(-len(lengths), 0))

    def in_numpy(x: Any) -> Any:
        return twin(x, lengths, axes)

    return OpRow(
        name,
        fft,
        (Operand(shape=shape),),
        REALS if fft_type is FftType.RFFT else COMPLEXES,
        {"fft_type": fft_type, "fft_lengths": lengths},
        numpy=in_numpy,
        ulps=50.0,
        roots=True,
    )


ROWS = (
    _row("fft", FftType.FFT, fourier.fftn, (2, 6), 6),
    _row("fft_three_axes", FftType.FFT, fourier.fftn, (2, 2, 3, 4), 2, 3, 4),
    _row("ifft", FftType.IFFT, fourier.ifftn, (2, 7), 7),
    _row("ifft_two_axes", FftType.IFFT, fourier.ifftn, (3, 5), 3, 5),
    _row("rfft", FftType.RFFT, fourier.rfftn, (2, 6), 6),
    _row("rfft_odd", FftType.RFFT, fourier.rfftn, (5,), 5),
    _row("rfft_two_axes", FftType.RFFT, fourier.rfftn, (2, 3, 4), 3, 4),
    _row("irfft", FftType.IRFFT, fourier.irfftn, (2, 4), 6),
    _row("irfft_odd", FftType.IRFFT, fourier.irfftn, (2, 3), 5),
    _row("irfft_two_axes", FftType.IRFFT, fourier.irfftn, (3, 3), 3, 4),
)
"""One row for each kind of transform, even and odd lengths, one axis and several."""
