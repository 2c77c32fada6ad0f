"""Rows of convolutions."""

from __future__ import annotations

from typing import Any

from covector.lax.convolution import conv_dimension_numbers
from covector.ops.conv import conv_general_dilated
from covector.testing.optable import NUMBERS, Operand, OpRow, Shape

_IMAGES = ("NCHW", "OIHW", "NCHW")
_FEATURES_LAST = ("NHWC", "HWIO", "NHWC")
_SERIES = ("NCH", "OIH", "NCH")
_MATRICES = ("NC", "OI", "NC")


def _row(name: str, lhs: Shape, rhs: Shape, names: tuple[str, ...], **given: Any) -> OpRow:
    rank = len(lhs) - 2
    params: dict[str, Any] = {
        "window_strides": (1,) * rank,
        "padding": ((0, 0),) * rank,
        "lhs_dilation": (1,) * rank,
        "rhs_dilation": (1,) * rank,
        "dimension_numbers": conv_dimension_numbers(lhs, rhs, names),
        "feature_group_count": 1,
        "batch_group_count": 1,
        "precision": None,
        "preferred_element_type": None,
        **given,
    }
    return OpRow(
        f"conv_{name}",
        conv_general_dilated,
        (Operand(shape=lhs), Operand(shape=rhs)),
        NUMBERS,
        params,
        jax="lax.conv_general_dilated",
        jax_params={**params, "dimension_numbers": names},
        # XLA adds up half precision in half precision where this does so in float32.
        ulps=64.0,
        roots=True,
    )


ROWS = (
    _row("matrices", (2, 3), (4, 3), _MATRICES),
    _row("strided", (1, 2, 5), (2, 2, 2), _SERIES, window_strides=(2,), padding=((1, 1),)),
    _row("images", (1, 4, 3, 2), (2, 2, 2, 3), _FEATURES_LAST, padding=((1, 0), (0, 1))),
    _row("dilated", (1, 1, 3, 3), (2, 1, 2, 2), _IMAGES, lhs_dilation=(2, 1), rhs_dilation=(1, 2)),
    _row("feature_groups", (1, 4, 4), (2, 2, 2), _SERIES, feature_group_count=2),
    _row("batch_groups", (4, 1, 4), (2, 1, 2), _SERIES, batch_group_count=2),
)
"""One row for each kind of parameter."""
