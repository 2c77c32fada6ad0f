"""Calls of Python functions from within programs: pure, with side effects, and for debugging."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core import effects as fx
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.interpret import stored_form
from covector.core.primitive import BatchContext, Context, Primitive, unsupported
from covector.core.source import here
from covector.core.trace import aval_of, trace_program
from covector.loopir.tensor import Lowering, Stored, Tensor
from covector.ops.common import batch_at_front, front
from covector.ops.nested import chosen, others, stacked

VMAP_METHODS = (
    "sequential",
    "sequential_unrolled",
    "expand_dims",
    "broadcast_all",
    "legacy_vectorized",
)


class FlatCallback:
    """A Python function of arrays, as a parameter of the callback primitives.

    Args:
        function: takes `Array`s, returns a sequence of arrays.
        dtypes: of its operands, which tell PRNG keys from their words.
        name: for messages.

    Attributes:
        line: of the user's, where it was called for.
    """

    __slots__ = ("dtypes", "function", "line", "name")

    def __init__(
        self, function: Callable[..., Sequence[Any]], dtypes: Sequence[Any], name: str
    ) -> None:
        self.function = function
        self.dtypes = tuple(dtypes)
        self.name = name
        self.line = here()

    def __repr__(self) -> str:
        return f"<callback {self.name}>"

    def run(
        self, operands: Sequence[np.ndarray[Any, Any]], results: Sequence[Aval]
    ) -> list[np.ndarray[Any, Any]]:
        """Calls the function with data as programs hold it, and checks what it returns."""
        arrays = [_wrapped(x, dtype) for x, dtype in zip(operands, self.dtypes, strict=True)]
        try:
            found = self.function(*arrays)
        except Exception as error:
            # The traceback has the call of the program and the callback, not what is in between.
            error.add_note(f"in the callback {self.name}, called at {self.line}")
            raise
        if len(found) != len(results):
            raise RuntimeError(
                f"callback {self.name} returned {len(found)} arrays where {len(results)} were "
                "declared by result_shape_dtypes"
            )
        return [self._checked(k, x, a) for k, (x, a) in enumerate(zip(found, results, strict=True))]

    def _checked(self, k: int, value: Any, aval: Aval) -> np.ndarray[Any, Any]:
        data = value._value if isinstance(value, Array) else np.asarray(value)
        shape, dtype = stored_form(aval)
        if not isinstance(value, Array) and dtypes.canonicalize(data.dtype) == dtype:
            data = data.astype(dtype, copy=False)
        if data.shape != shape or data.dtype != dtype:
            raise RuntimeError(
                f"result {k} of callback {self.name} is {data.dtype}{list(data.shape)} where "
                f"{aval} was declared by result_shape_dtypes; convert it with numpy.asarray"
            )
        return data


def _wrapped(data: Any, dtype: Any) -> Array:
    data = np.asarray(data)
    shape = data.shape[:-1] if dtypes.is_key(dtype) else data.shape
    return Array.of(data, Aval(shape, dtype))


def _lower(
    b: Lowering, tensors: Sequence[Tensor], callback: FlatCallback, avals: Sequence[Aval]
) -> list[Tensor]:
    operands = [b.stored(t) for t in tensors]
    results: list[Stored] = []
    for k, aval in enumerate(avals):
        shape, dtype = b.extents(aval), b.element_dtype(aval)
        results.append(b.new(shape, dtype, k))

    def function(arrays: Sequence[Any]) -> list[Any]:
        return callback.run(arrays, avals)

    inputs = [(t.shape, t.dtype) for t in operands]
    outputs = [(t.shape, t.dtype, False) for t in results]
    number = b.callback((function, inputs, outputs))
    b.builder.callback(number, [t.buffer for t in operands], [t.buffer for t in results])
    return list(results)


def one_by_one(
    bind: Callable[..., list[Any]],
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    unroll: int = 1,
) -> tuple[list[Any], list[int | None]]:
    """The batch rule of an operation that is applied to one lane after the other.

    Args:
        bind: applies it to operands without a batch axis; gives a list.
        ctx: of the rule.
        args: operands.
        dims: their batch axes.
        unroll: how many lanes an iteration of the loop treats.
    """
    from covector.ops.scan import scan

    batched = [d is not None for d in dims]
    operands = front(args, dims)
    consts, xs = others(operands, batched), chosen(operands, batched)

    def body(*values: Any) -> list[Any]:
        same, own = iter(values[: len(consts)]), iter(values[len(consts) :])
        return bind(*[next(own) if b else next(same) for b in batched])

    slices = [aval_of(x) for x in xs]
    avals = [Aval(a.shape[1:], a.dtype, a.weak_type) for a in slices]
    program, captured = trace_program(body, [*[aval_of(c) for c in consts], *avals], "callback")
    assert not captured
    outs = scan(
        *(*consts, *xs),
        program=program,
        num_consts=len(consts),
        num_carry=0,
        length=ctx.axis_size,
        reverse=False,
        unroll=unroll,
    )
    return outs, [0] * len(outs)


# --- pure_callback --------------------------------------------------------------------------------


def _pure_shape(*avals: Aval, result_avals: tuple[Aval, ...], **params: Any) -> list[Aval]:
    return list(result_avals)


def _pure_evaluate(
    *operands: Any, callback: FlatCallback, result_avals: tuple[Aval, ...], **params: Any
) -> list[Any]:
    return callback.run(operands, result_avals)


def _pure_batch(
    ctx: BatchContext,
    args: Sequence[Any],
    dims: Sequence[int | None],
    *,
    callback: FlatCallback,
    result_avals: tuple[Aval, ...],
    vmap_method: str | None,
) -> tuple[list[Any], list[int | None]]:
    params: dict[str, Any] = {"callback": callback, "vmap_method": vmap_method}
    if vmap_method is None:
        raise NotImplementedError(
            f"vmap of pure_callback of {callback.name} needs to know how the function is to be "
            f"applied to a batch: pass vmap_method, one of {', '.join(VMAP_METHODS)}"
        )
    if vmap_method in ("sequential", "sequential_unrolled"):
        unroll = ctx.axis_size if vmap_method == "sequential_unrolled" else 1

        def bind(*own: Any) -> list[Any]:
            return pure_callback(*own, result_avals=result_avals, **params)

        return one_by_one(bind, ctx, args, dims, unroll)
    operands = front(args, dims)
    if vmap_method != "legacy_vectorized":
        size = 1 if vmap_method == "expand_dims" else ctx.axis_size
        operands = [
            batch_at_front(x, None, size) if d is None else x
            for x, d in zip(operands, dims, strict=True)
        ]
    avals = tuple([stacked(a, ctx.axis_size) for a in result_avals])
    outs = pure_callback(*operands, result_avals=avals, **params)
    return outs, [0] * len(outs)


def _pure_lower(
    b: Lowering,
    *tensors: Tensor,
    callback: FlatCallback,
    result_avals: tuple[Aval, ...],
    **params: Any,
) -> list[Tensor]:
    return _lower(b, tensors, callback, result_avals)


pure_callback = Primitive(
    "pure_callback",
    shape=_pure_shape,
    evaluate=_pure_evaluate,
    jvp=unsupported(
        "the derivative of a Python function is not known; "
        "wrap the call in custom_jvp or custom_vjp, or stop_gradient its arguments"
    ),
    transpose=unsupported("a Python function is not a linear function of its operands"),
    batch=_pure_batch,
    lanes=unsupported("a Python function sees all lanes at once"),
    lower=_pure_lower,
    multiple_results=True,
    tags=frozenset({"callback", "control"}),
)

# --- io_callback ----------------------------------------------------------------------------------


def _io_effects(*, ordered: bool, **params: Any) -> fx.Effects:
    return frozenset((fx.ORDERED_IO if ordered else fx.IO,))


def _io_batch(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    if params["ordered"]:
        raise ValueError(
            f"vmap of io_callback of {params['callback'].name} is not possible with ordered=True: "
            "the lanes of a batch have no order"
        )
    return one_by_one(lambda *own: io_callback(*own, **params), ctx, args, dims)


io_callback = Primitive(
    "io_callback",
    shape=_pure_shape,
    evaluate=_pure_evaluate,
    jvp=unsupported(
        "the derivative of a Python function is not known; "
        "wrap the call in custom_jvp or custom_vjp, or stop_gradient its arguments"
    ),
    transpose=unsupported("a Python function is not a linear function of its operands"),
    batch=_io_batch,
    lanes=unsupported("a Python function sees all lanes at once"),
    lower=_pure_lower,
    effects=_io_effects,
    multiple_results=True,
    tags=frozenset({"callback", "control"}),
)

# --- debug_callback -------------------------------------------------------------------------------


def _debug_shape(*avals: Aval, **params: Any) -> list[Aval]:
    return []


def _debug_evaluate(*operands: Any, callback: FlatCallback, ordered: bool) -> list[Any]:
    return callback.run(operands, ())


def _debug_jvp(
    ctx: Context, primals: Sequence[Any], tangents: Sequence[Any], **params: Any
) -> tuple[list[Any], list[Any]]:
    return debug_callback(*primals, **params), []


def _debug_transpose(ctx: Context, cts: Sequence[Any], *args: Any, **params: Any) -> list[Any]:
    # Nothing flows through it, and a linear operand has no value to show.
    return [None] * len(args)


def _debug_batch(
    ctx: BatchContext, args: Sequence[Any], dims: Sequence[int | None], **params: Any
) -> tuple[list[Any], list[int | None]]:
    return one_by_one(lambda *own: debug_callback(*own, **params), ctx, args, dims)


def _debug_lower(
    b: Lowering, *tensors: Tensor, callback: FlatCallback, ordered: bool
) -> list[Tensor]:
    return _lower(b, tensors, callback, ())


def _debug_effects(*, ordered: bool, **params: Any) -> fx.Effects:
    return frozenset((fx.ORDERED_DEBUG if ordered else fx.DEBUG,))


debug_callback = Primitive(
    "debug_callback",
    shape=_debug_shape,
    evaluate=_debug_evaluate,
    jvp=_debug_jvp,
    transpose=_debug_transpose,
    batch=_debug_batch,
    lanes=unsupported("a Python function sees all lanes at once"),
    lower=_debug_lower,
    effects=_debug_effects,
    multiple_results=True,
    tags=frozenset({"callback", "control"}),
)
