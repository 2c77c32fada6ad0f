"""The convolutions of `jax.lax`, and the padding that they and windowed reductions take."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, cast

from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.numpy.promote import operand
from covector.ops import axes as ax
from covector.ops.conv import conv_general_dilated as conv_p
from covector.ops.conv_shapes import ConvDimensionNumbers, dilated

__all__ = [
    "ConvDimensionNumbers",
    "conv",
    "conv_dimension_numbers",
    "conv_general_dilated",
    "conv_transpose",
    "conv_with_general_padding",
    "padtype_to_pads",
]

Sizes = Sequence[int]
Padding = str | Sequence[tuple[int, int]]


def padtype_to_pads(
    in_shape: Sizes, window_shape: Sizes, window_strides: Sizes, padding: str
) -> list[tuple[int, int]]:
    """Padding given by name as pairs of numbers.

    Args:
        in_shape: extents of the array.
        window_shape: extents of the windows.
        window_strides: how far apart windows begin.
        padding: "VALID" for none; "SAME" for as many windows as there are elements divided by the
            stride, rounded up, with an odd zero at the end; "SAME_LOWER" with that at the start.

    Returns:
        A pair (low, high) for each axis.

    Raises:
        RuntimeError: for another name.

    >>> from covector import lax
    >>> lax.padtype_to_pads((6, 6), (3, 2), (1, 1), "SAME")
    [(1, 1), (0, 1)]
    """
    kind = padding.upper()
    if kind == "VALID":
        return [(0, 0)] * len(in_shape)
    if kind not in ("SAME", "SAME_LOWER"):
        raise RuntimeError(
            compose(
                "padding by name must be 'VALID', 'SAME' or 'SAME_LOWER'",
                found=repr(padding),
                fix="use one of these, or give a pair (low, high) for each spatial axis",
                line=here(),
            )
        )
    pads: list[tuple[int, int]] = []
    for n, window, step in zip(in_shape, window_shape, window_strides, strict=True):
        total = max((-(-n // step) - 1) * step + window - n, 0)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if kind == "SAME" else (more, less))
    return pads


# --- which axes are what --------------------------------------------------------------------------

_LETTERS = ("NC", "OI", "NC")


def conv_dimension_numbers(
    lhs_shape: Sizes, rhs_shape: Sizes, dimension_numbers: Any
) -> ConvDimensionNumbers:
    """The axes of a convolution by their numbers.

    Args:
        lhs_shape: of the array.
        rhs_shape: of the kernel.
        dimension_numbers: three strings with a letter for each axis, of lhs ("N" is the batch, "C"
            the features), rhs ("O" the output features, "I" the input features) and the result
            ("N" and "C"); spatial axes have the same letters in all three. `None` stands for
            "NCHW", "OIHW", "NCHW". Numbers stay as they are.

    Returns:
        A `ConvDimensionNumbers`.

    Raises:
        TypeError: they do not say which axis is what.

    >>> from covector import lax
    >>> lax.conv_dimension_numbers((1, 8, 8, 3), (3, 3, 3, 5), ("NHWC", "HWIO", "NHWC")).rhs_spec
    (3, 2, 0, 1)
    """
    if isinstance(dimension_numbers, ConvDimensionNumbers):
        return dimension_numbers
    rank = len(lhs_shape)
    if len(rhs_shape) != rank:
        raise TypeError(
            compose(
                "a convolution needs operands of equal rank",
                found=f"shapes {tuple(lhs_shape)} and {tuple(rhs_shape)}",
                fix="give both a batch or output axis, a feature axis and the same spatial axes",
                line=here(),
            )
        )
    if dimension_numbers is None:
        default = tuple(range(rank))
        return ConvDimensionNumbers(default, default, default)
    names = _checked_names(dimension_numbers, rank)
    # Spatial axes go in the order in which the kernel has them.
    spatial = [c for c in names[1] if c not in _LETTERS[1]]
    lhs, rhs, out = (
        tuple([text.index(c) for c in (*letters, *spatial)])
        for text, letters in zip(names, _LETTERS, strict=True)
    )
    return ConvDimensionNumbers(lhs, rhs, out)


def _checked_names(given: Any, rank: int) -> list[str]:
    def refuse(rule: str) -> TypeError:
        return TypeError(
            compose(
                f"dimension_numbers of a convolution must be {rule}",
                found=repr(given)[:120],
                fix="for images with features last: ('NHWC', 'HWIO', 'NHWC')",
                line=here(),
            )
        )

    if not isinstance(given, (list, tuple)) or len(cast("Sequence[Any]", given)) != 3:
        raise refuse("None, a ConvDimensionNumbers or three strings")
    names = list(cast("Sequence[Any]", given))
    if not all(isinstance(text, str) for text in names):
        raise refuse("None, a ConvDimensionNumbers or three strings")
    if any(len(text) != rank or len(set(text)) != rank for text in names):
        raise refuse(f"strings of {rank} different letters each, one for each axis")
    if any(not set(letters) <= set(text) for text, letters in zip(names, _LETTERS, strict=True)):
        raise refuse("strings with N and C for lhs, O and I for rhs, N and C for the result")
    spatial = {
        frozenset(text) - set(letters) for text, letters in zip(names, _LETTERS, strict=True)
    }
    if len(spatial) > 1:
        raise refuse("strings with the same letters for spatial axes")
    return names


# --- convolutions ---------------------------------------------------------------------------------


def conv_general_dilated(
    lhs: Any,
    rhs: Any,
    window_strides: Sizes,
    padding: Padding,
    lhs_dilation: Sizes | None = None,
    rhs_dilation: Sizes | None = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    precision: Any = None,
    preferred_element_type: Any = None,
    out_sharding: None = None,
) -> Any:
    """A convolution along any number of axes; the kernel is not reversed.

    Args:
        lhs: an array with a batch axis, a feature axis and spatial axes.
        rhs: the kernel, with an axis of output features, one of input features and spatial axes.
        window_strides: how far apart windows begin, along each spatial axis.
        padding: "VALID", "SAME", "SAME_LOWER" (see `padtype_to_pads`), or a pair (low, high) of
            numbers of zeros for each spatial axis; negative ones cut off.
        lhs_dilation: distance of lhs's elements along each spatial axis, zeros between them.
        rhs_dilation: distance of the elements in a window.
        dimension_numbers: see `conv_dimension_numbers`.
        feature_group_count: cuts lhs's features and the output features into so many groups, each
            convolved by itself.
        batch_group_count: the same with lhs's batch in place of its features.
        precision: accepted for JAX's sake; products are exact to the dtype.
        preferred_element_type: dtype of the result and of the sums.
        out_sharding: must be `None`; there is one device.

    Returns:
        An array with a batch axis, an axis of output features and spatial axes.

    Raises:
        ValueError: parameters and shapes do not fit together.
        TypeError: operands of different dtypes.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> x, kernel = cnp.arange(5.0).reshape(1, 1, 5), cnp.array([1.0, 2.0]).reshape(1, 1, 2)
    >>> lax.conv_general_dilated(x, kernel, (2,), "VALID").ravel()
    Array([2., 8.], dtype=float32)
    """
    if out_sharding is not None:
        raise NotImplementedError("conv_general_dilated: out_sharding is not supported")
    x, kernel = operand(lhs, "lax.conv_general_dilated"), operand(rhs, "lax.conv_general_dilated")
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    ones = (1,) * (len(x.shape) - 2)
    strides = _integers("window_strides", window_strides)
    spread = ones if lhs_dilation is None else _integers("lhs_dilation", lhs_dilation)
    stretch = ones if rhs_dilation is None else _integers("rhs_dilation", rhs_dilation)
    if isinstance(padding, str):
        pads = _named_padding(x, kernel, numbers, strides, spread, stretch, padding)
    else:
        pads = _pairs(padding)
    target = None if preferred_element_type is None else dtypes.requested(preferred_element_type)
    return conv_p(
        x,
        kernel,
        window_strides=strides,
        padding=pads,
        lhs_dilation=spread,
        rhs_dilation=stretch,
        dimension_numbers=numbers,
        feature_group_count=operator.index(feature_group_count),
        batch_group_count=operator.index(batch_group_count),
        precision=_hashable(precision),
        preferred_element_type=target,
    )


def _integers(name: str, values: Any) -> tuple[int, ...]:
    try:
        return tuple([operator.index(v) for v in values])
    except TypeError:
        raise TypeError(
            compose(
                f"{name} of a convolution must be a sequence of ints known while tracing",
                found=repr(values)[:120],
                fix="give one for each spatial axis",
                line=here(),
            )
        ) from None


def _pairs(padding: Any) -> tuple[tuple[int, int], ...]:
    try:
        return tuple([(operator.index(low), operator.index(high)) for low, high in padding])
    except (TypeError, ValueError):
        raise ValueError(
            compose(
                "padding of a convolution must be a string or a sequence of pairs (low, high)",
                found=repr(padding)[:120],
                fix="give a pair of ints for each spatial axis, or 'SAME' or 'VALID'",
                line=here(),
            )
        ) from None


def _named_padding(
    x: Any, kernel: Any, numbers: Any, strides: Sizes, spread: Sizes, stretch: Sizes, padding: str
) -> tuple[tuple[int, int], ...]:
    if any(gap != 1 for gap in spread):
        raise ValueError(
            compose(
                "padding by name is for convolutions without lhs_dilation",
                found=f"{padding!r} with lhs_dilation {tuple(spread)}",
                fix="give pairs (low, high), or use lax.conv_transpose",
                line=here(),
            )
        )
    windows = [
        dilated(kernel.shape[axis], gap)
        for axis, gap in zip(numbers.rhs_spec[2:], stretch, strict=False)
    ]
    extents = [x.shape[axis] for axis in numbers.lhs_spec[2:]]
    if not len(extents) == len(strides) == len(stretch) == len(windows):
        # The primitive says which entries are missing.
        return ((0, 0),) * len(extents)
    return tuple(padtype_to_pads(extents, windows, strides, padding))


def _hashable(precision: Any) -> Any:
    return (
        tuple(cast("Sequence[Any]", precision))
        if isinstance(precision, (list, tuple))
        else precision
    )


def conv(
    lhs: Any,
    rhs: Any,
    window_strides: Sizes,
    padding: str,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """A convolution with features before spatial axes and padding by name.

    Args:
        lhs: an array of axes (batch, features, spatial ...).
        rhs: the kernel, of axes (output features, input features, spatial ...).
        window_strides: how far apart windows begin.
        padding: "SAME", "SAME_LOWER" or "VALID".
        precision: accepted for JAX's sake.
        preferred_element_type: dtype of the result.

    Returns:
        An array of axes (batch, output features, spatial ...).
    """
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def conv_with_general_padding(
    lhs: Any,
    rhs: Any,
    window_strides: Sizes,
    padding: Padding,
    lhs_dilation: Sizes | None,
    rhs_dilation: Sizes | None,
    precision: Any = None,
    preferred_element_type: Any = None,
) -> Any:
    """A convolution with features before spatial axes; arguments as in `conv_general_dilated`."""
    return conv_general_dilated(
        lhs,
        rhs,
        window_strides,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=rhs_dilation,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


# --- transposed convolutions ----------------------------------------------------------------------

_FEATURES_LAST = {
    2: ("NC", "IO", "NC"),
    3: ("NHC", "HIO", "NHC"),
    4: ("NHWC", "HWIO", "NHWC"),
    5: ("NHWDC", "HWDIO", "NHWDC"),
}


def conv_transpose(
    lhs: Any,
    rhs: Any,
    strides: Sizes,
    padding: Padding,
    rhs_dilation: Sizes | None = None,
    dimension_numbers: Any = None,
    transpose_kernel: bool = False,
    precision: Any = None,
    preferred_element_type: Any = None,
    use_consistent_padding: bool = False,
) -> Any:
    """A convolution with fractional strides, as the gradient of a strided one has.

    Args:
        lhs: an array with a batch axis, a feature axis and spatial axes.
        rhs: the kernel.
        strides: of the convolution that this is the transpose of: by how much extents grow.
        padding: "SAME" or "VALID", of that convolution; or a pair (low, high) for each spatial
            axis, of this one.
        rhs_dilation: distance of the elements in a window.
        dimension_numbers: see `conv_dimension_numbers`; features come last by default.
        transpose_kernel: reverse the kernel and exchange its feature axes, as the gradient does.
        precision: accepted for JAX's sake.
        preferred_element_type: dtype of the result.
        use_consistent_padding: take pairs too as the padding of the other convolution.

    Returns:
        An array with a batch axis, an axis of output features and spatial axes.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> lax.conv_transpose(cnp.ones((1, 4, 3)), cnp.ones((2, 3, 5)), (2,), "SAME").shape
    (1, 8, 5)
    """
    x, kernel = operand(lhs, "lax.conv_transpose"), operand(rhs, "lax.conv_transpose")
    rank = len(x.shape)
    if dimension_numbers is None:
        if rank not in _FEATURES_LAST:
            raise ValueError(
                f"conv_transpose of an array of rank {rank} needs dimension_numbers; there are "
                "defaults for ranks 2 to 5"
            )
        dimension_numbers = _FEATURES_LAST[rank]
    numbers = conv_dimension_numbers(x.shape, kernel.shape, dimension_numbers)
    steps = _integers("strides", strides)
    stretch = (1,) * (rank - 2) if rhs_dilation is None else _integers("rhs_dilation", rhs_dilation)
    named = isinstance(padding, str)
    pads: Any = padding
    if use_consistent_padding or (named and padding in ("SAME", "VALID")):
        each: Any = [padding] * len(steps) if named else padding
        windows = [kernel.shape[axis] for axis in numbers.rhs_spec[2:]]
        pads = [
            _transposed_padding(dilated(n, gap), step, pad)
            for n, gap, step, pad in zip(windows, stretch, steps, each, strict=True)
        ]
    if transpose_kernel:
        output, feature, *spatial = numbers.rhs_spec
        kernel = ax.rev(kernel, dimensions=tuple(spatial))
        order = list(range(rank))
        order[output], order[feature] = feature, output
        kernel = ax.transpose(kernel, permutation=tuple(order))
    return conv_general_dilated(
        x,
        kernel,
        (1,) * (rank - 2),
        pads,
        steps,
        stretch,
        numbers,
        precision=precision,
        preferred_element_type=preferred_element_type,
    )


def _transposed_padding(window: int, step: int, padding: Any) -> tuple[int, int]:
    """The padding of a transposed convolution along one axis, from that of the other one."""
    if padding == "SAME":
        total = window + step - 2
        low = window - 1 if step > window - 1 else -(-total // 2)
    elif padding == "VALID":
        total = window + step - 2 + max(window - step, 0)
        low = window - 1
    else:
        ((before, after),) = _pairs([padding])
        return window - 1 - before, window - 1 - after
    return low, total - low
