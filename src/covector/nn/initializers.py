"""Initialisers: functions of a key, a shape and a dtype that make the weights of a layer.

They give the numbers that those of `jax.nn.initializers` give for the same key.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import covector.numpy as cnp
from covector import random
from covector.core import dtypes
from covector.core.errors import compose
from covector.core.source import here
from covector.random.arguments import shape_argument, subkeys

__all__ = [
    "Initializer",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Axes = int | Sequence[int]


class Initializer(Protocol):
    """What initialisers are: `init(key, shape, dtype) -> array`."""

    def __call__(
        self, key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: None = None
    ) -> Any:
        """The weights.

        Args:
            key: a PRNG key.
            shape: of the weights.
            dtype: of the weights, by default the one the initialiser was made with.
            out_sharding: must be `None`; there is one device.
        """
        ...


def _initializer(name: str, make: Callable[..., Any], dtype: Any) -> Initializer:
    """An initialiser from `make(key, shape, dtype)`.

    Args:
        name: for messages.
        make: receives a tuple of ints and a NumPy dtype.
        dtype: where none is given; `None` is the default floating one.
    """

    def init(key: Any, shape: Sequence[int], dtype: Any = dtype, out_sharding: None = None) -> Any:
        if out_sharding is not None:
            raise NotImplementedError(f"nn.initializers.{name}: out_sharding is not supported")
        target = dtypes.default_float() if dtype is None else dtypes.requested(dtype, name)
        return make(key, shape_argument(name, shape), target)

    init.__name__ = init.__qualname__ = name
    return init


def zeros(key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: None = None) -> Any:
    """Zeros; the key is not used.

    Args:
        key: anything.
        shape: of the result.
        dtype: of the result.
        out_sharding: must be `None`.
    """
    return constant(0)(key, shape, dtype, out_sharding)


def ones(key: Any, shape: Sequence[int], dtype: Any = None, out_sharding: None = None) -> Any:
    """Ones; the key is not used.

    Args:
        key: anything.
        shape: of the result.
        dtype: of the result.
        out_sharding: must be `None`.
    """
    return constant(1)(key, shape, dtype, out_sharding)


def constant(value: Any, dtype: Any = None) -> Initializer:
    """An initialiser that gives a constant.

    Args:
        value: a number, or an array that broadcasts to the shapes asked for.
        dtype: of the weights.

    >>> from covector import nn, random
    >>> nn.initializers.constant(-7)(random.key(0), (2,))
    Array([-7., -7.], dtype=float32)
    """

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        return cnp.full(shape, value, target)

    return _initializer("constant", make, dtype)


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser of numbers drawn uniformly from `[0, scale)`.

    Args:
        scale: the upper bound.
        dtype: of the weights.
    """

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        return random.uniform(key, shape, target) * cnp.asarray(scale, dtype=target)

    return _initializer("uniform", make, dtype)


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initialiser of normal numbers of mean 0.

    Args:
        stddev: their standard deviation.
        dtype: of the weights.
    """

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        return random.normal(key, shape, target) * cnp.asarray(stddev, dtype=target)

    return _initializer("normal", make, dtype)


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """An initialiser of normal numbers of mean 0, none far out.

    Args:
        stddev: standard deviation that they would have without the bounds.
        dtype: of the weights.
        lower: bound, in standard deviations.
        upper: bound, in standard deviations.
    """

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        drawn = random.truncated_normal(key, lower, upper, shape, target)
        return drawn * cnp.asarray(stddev, dtype=target)

    return _initializer("truncated_normal", make, dtype)


# --- by the number of inputs and outputs ----------------------------------------------------------

_MODES: dict[str, Callable[[float, float], float]] = {
    "fan_in": lambda fan_in, fan_out: fan_in,
    "fan_out": lambda fan_in, fan_out: fan_out,
    "fan_avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
    "fan_geo_avg": lambda fan_in, fan_out: (fan_in * fan_out) ** 0.5,
}


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """An initialiser whose variance is `scale / n`, where `n` counts inputs or outputs.

    Args:
        scale: positive.
        mode: what `n` is: "fan_in", the inputs of an output; "fan_out", the outputs of an input;
            "fan_avg" and "fan_geo_avg", their arithmetic and geometric means.
        distribution: "normal", "truncated_normal" (at two standard deviations) or "uniform".
        in_axis: axes of the inputs.
        out_axis: axes of the outputs.
        batch_axis: axes that are neither, nor places in a window.
        dtype: of the weights.

    Raises:
        ValueError: for another mode or distribution.

    >>> from covector import nn, random
    >>> init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
    >>> init(random.key(0), (100, 50)).shape
    (100, 50)
    """
    if mode not in _MODES:
        raise ValueError(f"variance_scaling: mode is one of {', '.join(_MODES)}, not {mode!r}")
    if distribution not in _DISTRIBUTIONS:
        known = ", ".join(_DISTRIBUTIONS)
        raise ValueError(f"variance_scaling: distribution is one of {known}, not {distribution!r}")

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        count = _MODES[mode](*_fans(shape, in_axis, out_axis, batch_axis))
        variance = cnp.asarray(scale / count, dtype=target)
        return _DISTRIBUTIONS[distribution](key, shape, target, variance)

    return _initializer("variance_scaling", make, dtype)


def _fans(
    shape: Sequence[int], in_axis: Axes, out_axis: Axes, batch_axis: Axes
) -> tuple[float, float]:
    """How many inputs an output has, and how many outputs an input has."""
    if in_axis == -2 and len(shape) <= 1:
        raise ValueError(
            compose(
                "weights need an axis of inputs and one of outputs",
                found=f"shape {tuple(shape)}, in_axis -2",
                fix="ask for two axes at least, or give in_axis",
                line=here(),
            )
        )
    inputs, outputs, batch = (_extent(shape, a) for a in (in_axis, out_axis, batch_axis))
    window = math.prod(shape) / inputs / outputs / batch
    return inputs * window, outputs * window


def _extent(shape: Sequence[int], axes: Axes) -> int:
    several = cast("Sequence[int]", (axes,) if isinstance(axes, int) else axes)
    return math.prod([shape[axis] for axis in several])


# Standard deviations of standard normal numbers, real and complex, cut off at 2.
_TRUNCATED = 0.87962566103423978
_TRUNCATED_COMPLEX = 0.95311164380491208


def _draw_normal(key: Any, shape: Any, dtype: Any, variance: Any) -> Any:
    return random.normal(key, shape, dtype) * cnp.sqrt(variance)


def _draw_truncated(key: Any, shape: Any, dtype: Any, variance: Any) -> Any:
    if dtypes.is_complex(dtype):
        deviation = cnp.sqrt(variance) / cnp.asarray(_TRUNCATED_COMPLEX, dtype=dtype)
        return _truncated_disc(key, shape, dtype) * deviation
    deviation = cnp.sqrt(variance) / cnp.asarray(_TRUNCATED, dtype=dtype)
    return random.truncated_normal(key, -2, 2, shape, dtype) * deviation


def _draw_uniform(key: Any, shape: Any, dtype: Any, variance: Any) -> Any:
    if dtypes.is_complex(dtype):
        return _uniform_disc(key, shape, dtype) * cnp.sqrt(variance)
    return random.uniform(key, shape, dtype, -1) * cnp.sqrt(3 * variance)


_DISTRIBUTIONS: dict[str, Callable[..., Any]] = {
    "normal": _draw_normal,
    "truncated_normal": _draw_truncated,
    "uniform": _draw_uniform,
}


def _uniform_disc(key: Any, shape: Any, dtype: Any) -> Any:
    """Complex numbers of variance 1 drawn uniformly from a disc."""
    of_radius, of_angle = subkeys(key)
    part = dtypes.real_of(dtype)
    radius = cnp.sqrt(2 * random.uniform(of_radius, shape, part)).astype(dtype)
    return radius * _direction(of_angle, shape, dtype)


def _truncated_disc(key: Any, shape: Any, dtype: Any) -> Any:
    """Standard complex normal numbers of absolute value below 2."""
    of_radius, of_angle = subkeys(key)
    part = dtypes.real_of(dtype)
    share = cnp.asarray(1 - math.exp(-4.0), dtype=dtype)
    drawn = share * random.uniform(of_radius, shape, part).astype(dtype)
    radius = cnp.sqrt(-cnp.log(1 - drawn))
    return radius * _direction(of_angle, shape, dtype)


def _direction(key: Any, shape: Any, dtype: Any) -> Any:
    """Complex numbers of absolute value 1."""
    angle = 2 * math.pi * random.uniform(key, shape, dtypes.real_of(dtype)).astype(dtype)
    return cnp.exp(1j * angle)


def _scaled(name: str, scale: float, mode: str, distribution: str, text: str) -> Any:
    """A family of initialisers: `variance_scaling` with some arguments fixed."""

    def family(
        in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
    ) -> Initializer:
        return variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)

    family.__name__ = family.__qualname__ = name
    family.__doc__ = (
        f"{text}: `variance_scaling({scale}, {mode!r}, {distribution!r})`.\n\n"
        "    Args:\n"
        "        in_axis: axes of the inputs.\n"
        "        out_axis: axes of the outputs.\n"
        "        batch_axis: axes that are neither, nor places in a window.\n"
        "        dtype: of the weights.\n    "
    )
    return family


glorot_uniform = _scaled(
    "glorot_uniform", 1.0, "fan_avg", "uniform", "Glorot and Bengio's, 2010, uniform"
)
glorot_normal = _scaled(
    "glorot_normal", 1.0, "fan_avg", "truncated_normal", "Glorot and Bengio's, 2010, normal"
)
lecun_uniform = _scaled("lecun_uniform", 1.0, "fan_in", "uniform", "LeCun's, 1998, uniform")
lecun_normal = _scaled("lecun_normal", 1.0, "fan_in", "truncated_normal", "LeCun's, 1998, normal")
he_uniform = _scaled("he_uniform", 2.0, "fan_in", "uniform", "He's, 2015, uniform")
he_normal = _scaled("he_normal", 2.0, "fan_in", "truncated_normal", "He's, 2015, normal")
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
kaiming_uniform, kaiming_normal = he_uniform, he_normal

# --- orthogonal -----------------------------------------------------------------------------------


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initialiser of orthogonal matrices, drawn uniformly.

    Args:
        scale: their factor.
        column_axis: the axis of the columns; all others together are that of the rows. Columns are
            orthonormal if there are no more of them than rows, else rows are.
        dtype: of the weights.
    """

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        if len(shape) < 2:
            raise ValueError(f"orthogonal weights need two axes at least, not shape {shape}")
        if 0 in shape:
            return cnp.zeros(shape, target)
        columns = shape[column_axis]
        rest = list(shape)
        del rest[operator.index(column_axis)]
        matrix = random.orthogonal(key, math.prod(rest), (), target, columns)
        weights = cnp.moveaxis(matrix.reshape((*rest, columns)), -1, column_axis)
        return cnp.asarray(scale, dtype=target) * weights

    return _initializer("orthogonal", make, dtype)


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initialiser of convolutions that keep lengths: orthogonal in the middle, else zero.

    (Xiao et al.: "Dynamical isometry and a mean field theory of CNNs", 2018.)

    Args:
        scale: factor of the orthogonal matrix.
        column_axis: the axis of its columns.
        dtype: of the weights.
    """
    matrices = orthogonal(scale, column_axis, dtype)

    def make(key: Any, shape: tuple[int, ...], target: Any) -> Any:
        if len(shape) not in (3, 4, 5):
            raise ValueError(
                f"delta_orthogonal weights have one to three axes of places, then inputs and "
                f"outputs; found shape {shape}"
            )
        if shape[-1] < shape[-2]:
            raise ValueError(
                f"delta_orthogonal weights need no fewer outputs than inputs, found shape {shape}"
            )
        middle = tuple([(n - 1) // 2 for n in shape[:-2]])
        return cnp.zeros(shape, target).at[middle].set(matrices(key, shape[-2:], target))

    return _initializer("delta_orthogonal", make, dtype)
