"""Eager evaluation: what a primitive does outside of any transformation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from covector.core import backend, nans
from covector.core import config as settings
from covector.core import effects as fx
from covector.core import trace as tracing
from covector.core.array import Array, as_array
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.errors import UnexpectedTracerError
from covector.core.primitive import Primitive, set_eager_evaluation
from covector.core.program import Equation, Program, Variable
from covector.core.trace import Tracer, check_live

_shapes: dict[Any, Any] = {}
_MAX_SHAPES = 4096


def evaluate_eagerly(primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
    """Runs a primitive's `evaluate` rule on arrays."""
    arrays = [a if isinstance(a, Array) else _operand(a) for a in args]
    if primitive.direct is not None:
        return primitive.direct(*arrays, **params)
    avals = tuple([a.aval for a in arrays])
    if primitive.compiled and not config.disable_jit:
        return _compile_and_run(primitive, arrays, avals, params)
    shapes = _output_avals(primitive, avals, params)
    with np.errstate(all="ignore"):
        results = primitive.evaluate(*[a._value for a in arrays], **params)
    if primitive.multiple_results:
        wrapped = [_wrap(r, aval) for r, aval in zip(results, shapes, strict=True)]
    else:
        wrapped = _wrap(results, shapes)
    if settings.watching and nans.enabled():
        nans.check_operation(primitive, arrays, wrapped)
    return wrapped


def _operand(value: Any) -> Array:
    if isinstance(value, Tracer):
        check_live(value)
        raise UnexpectedTracerError(
            f"a traced value {value.aval} of {value._trace.name} reached code that runs outside "
            f"of {value._trace.name}, such as another thread; pass it as an argument instead"
        )
    return as_array(value)


def _output_avals(primitive: Primitive, avals: tuple[Aval, ...], params: dict[str, Any]) -> Any:
    try:
        key = (primitive, avals, *params.items())
        known = _shapes.get(key)
    except TypeError:  # an unhashable parameter
        return primitive.shape(*avals, **params)
    if known is None:
        known = primitive.shape(*avals, **params)
        if len(_shapes) >= _MAX_SHAPES:
            _shapes.clear()
        _shapes[key] = known
    return known


def _wrap(value: Any, aval: Aval) -> Array:
    data = value if type(value) is np.ndarray else np.asarray(value)
    return Array.of(data, aval)


def _compile_and_run(
    primitive: Primitive, arrays: list[Array], avals: tuple[Aval, ...], params: dict[str, Any]
) -> Any:
    inputs = [Variable(aval) for aval in avals]
    shapes = primitive.shape(*avals, **params)
    outputs = [Variable(aval) for aval in (shapes if primitive.multiple_results else [shapes])]
    effects = fx.NONE if primitive.effects is None else primitive.effects(**params)
    frame = tracing.current_frame() if settings.watching else None
    equation = Equation(primitive, inputs, outputs, params, effects, frame)
    program = Program(inputs, [equation], outputs)
    results = backend.executable(program)(*arrays)
    if settings.watching and nans.enabled():
        nans.check_outputs("", program, arrays, results)
    return results if primitive.multiple_results else results[0]


set_eager_evaluation(evaluate_eagerly)
