"""`lax.reduce_window`: pooling, and other reductions of sliding windows."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, pytree
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.errors import compose
from covector.core.primitive import Primitive
from covector.core.source import here
from covector.core.trace import trace_program
from covector.lax import elementwise
from covector.lax.convolution import padtype_to_pads
from covector.numpy import elementwise as numpy_elementwise
from covector.numpy.promote import convert, operand
from covector.ops import reduce_window as rw
from covector.ops.reduce import highest, lowest
from covector.ops.reduce_window import spread

__all__ = ["reduce_window"]

Sizes = Sequence[int]


def reduce_window(
    operand: Any,
    init_value: Any,
    computation: Callable[..., Any],
    window_dimensions: Sizes,
    window_strides: Sizes | None = None,
    padding: str | Sequence[tuple[int, int]] = "VALID",
    base_dilation: Sizes | None = None,
    window_dilation: Sizes | None = None,
) -> Any:
    """Reduces each of the windows that slide over an array.

    Sums, maxima and minima (`lax.add`, `lax.max`, `lax.min` from their neutral elements) can be
    differentiated in both modes, other reductions in forward mode.

    Args:
        operand: an array, or a pytree of arrays of one shape.
        init_value: what each reduction starts from, also what padding holds: a scalar, or a pytree
            of them like `operand`.
        computation: combines two elements, or pytrees of them; associative.
        window_dimensions: extents of the windows, one for each axis.
        window_strides: how far apart windows begin, 1 by default.
        padding: "VALID", "SAME", "SAME_LOWER", or a pair (low, high) for each axis.
        base_dilation: distance of the operand's elements, 1 by default.
        window_dilation: distance of the elements in a window, 1 by default.

    Returns:
        An array with an element for each window, or a pytree of them.

    Raises:
        ValueError: parameters and shapes do not fit together, or `init_value` and `operand` do not.
        TypeError: `computation` does not return what it takes.

    >>> import covector.numpy as cnp
    >>> from covector import lax
    >>> x = cnp.array([1.0, 5.0, 2.0, 4.0])
    >>> lax.reduce_window(x, -cnp.inf, lax.max, (2,), (2,))
    Array([5., 4.], dtype=float32)
    """
    xs, tree = pytree.flatten(operand)
    inits, init_tree = pytree.flatten(init_value)
    if tree != init_tree or not xs:
        raise ValueError(
            compose(
                "lax.reduce_window needs an initial value for each operand, in the same pytree",
                found=f"operands {tree}, initial values {init_tree}",
                line=here(),
            )
        )
    arrays = [_array(x) for x in xs]
    starts = [initial_value("lax.reduce_window", v, x) for v, x in zip(inits, arrays, strict=True)]
    window = _window(
        arrays[0].shape,
        window_dimensions,
        window_strides,
        padding,
        base_dilation,
        window_dilation,
    )
    known = _known_reduction(computation, starts)
    if known is not None:
        return tree.unflatten([known(arrays[0], **window)])
    program = combination("lax.reduce_window", computation, tree, starts)
    return tree.unflatten(rw.reduce_window(*arrays, *starts, program=program, **window))


def _array(x: Any) -> Any:
    return operand(x, "lax.reduce_window")


def initial_value(name: str, value: Any, x: Any) -> Any:
    """What a reduction of `x` starts from, in its dtype; Python numbers take it."""
    if isinstance(value, (bool, int, float, complex)):
        return Array.of(np.array(value).astype(x.dtype), Aval((), x.dtype))
    start = operand(value, name)
    weak = start.aval.weak_type and start.dtype != x.dtype
    return convert(start, x.dtype) if weak else start


def _window(
    shape: Sizes, dimensions: Any, strides: Any, padding: Any, base: Any, stretch: Any
) -> dict[str, Any]:
    sizes = _sizes("window_dimensions", dimensions)
    ones = (1,) * len(sizes)
    steps = ones if strides is None else _sizes("window_strides", strides)
    gaps = ones if stretch is None else _sizes("window_dilation", stretch)
    if isinstance(padding, str):
        reach = [spread(n, gap) for n, gap in zip(sizes, gaps, strict=False)]
        if not len(shape) == len(reach) == len(steps):
            pads = [(0, 0)] * len(shape)  # the primitive says which entries are missing
        else:
            pads = padtype_to_pads(shape, reach, steps, padding)
    else:
        pads = [(operator.index(low), operator.index(high)) for low, high in padding]
    return {
        "window_dimensions": sizes,
        "window_strides": steps,
        "padding": tuple(pads),
        "base_dilation": ones if base is None else _sizes("base_dilation", base),
        "window_dilation": gaps,
    }


def _sizes(name: str, values: Any) -> tuple[int, ...]:
    try:
        return tuple([operator.index(v) for v in values])
    except TypeError:
        raise TypeError(
            f"lax.reduce_window: {name} must be a sequence of ints, found {values!r:.80}"
        ) from None


_SUMS = (elementwise.add, numpy_elementwise.add)
_MAXIMA = (elementwise.max, numpy_elementwise.maximum)
_MINIMA = (elementwise.min, numpy_elementwise.minimum)


def _known_reduction(computation: Any, starts: Sequence[Any]) -> Primitive | None:
    """The primitive for a reduction that has one of its own."""
    start = starts[0]
    if len(starts) != 1 or not isinstance(start, Array) or start.shape != ():
        return None
    if dtypes.is_key(start.dtype) or dtypes.is_bool(start.dtype):
        return None
    value: Any = np.asarray(start)[()]
    if computation in _SUMS and value == 0:
        return rw.reduce_window_sum
    if dtypes.is_complex(start.dtype):
        return None
    if computation in _MAXIMA and value == lowest(start.dtype):
        return rw.reduce_window_max
    if computation in _MINIMA and value == highest(start.dtype):
        return rw.reduce_window_min
    return None


def combination(
    name: str, computation: Callable[..., Any], tree: Any, starts: Sequence[Any]
) -> Any:
    """The program of what combines two elements.

    Args:
        name: of the reduction, for messages.
        computation: the user's function of two pytrees of scalars.
        tree: their structure.
        starts: the initial values.

    Raises:
        TypeError: it returns something else than it takes, or uses traced values from outside.
    """
    count = len(starts)

    def combine(*scalars: Any) -> list[Any]:
        left, right = tree.unflatten(scalars[:count]), tree.unflatten(scalars[count:])
        results, out_tree = pytree.flatten(computation(left, right))
        if out_tree != tree:
            raise TypeError(
                compose(
                    f"the computation of {name} must return what it takes",
                    found=f"{out_tree} for {tree}",
                    line=here(),
                )
            )
        return [_array(r) for r in results]

    avals = [Aval((), v.dtype) for v in starts]
    program, captured = trace_program(combine, [*avals, *avals], name)
    if captured:
        raise TypeError(
            f"the computation of {name} must depend on its arguments alone, it uses "
            f"traced values {[str(c.aval) for c in captured]} of the functions around it"
        )
    return program
