"""`array_kernel`: operations written as loops over the elements of their operands."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from covector.core.array import as_array
from covector.core.avals import Aval
from covector.core.errors import UnsupportedRuleError, compose
from covector.core.operand import Operand
from covector.core.primitive import Primitive, unsupported
from covector.core.source import here
from covector.core.trace import aval_of, current_trace
from covector.extend.array_lowering import LoweringRun, LoweringTrace
from covector.extend.array_runs import CHECK, CLIP, ReferenceRun, View
from covector.extend.definitions import KernelDefinition, define, source_from
from covector.extend.kernel_source import KernelSource, parameters, source_of
from covector.extend.kernel_values import items_of
from covector.ops.common import batch_at_front
from covector.transforms.custom_jvp import custom_jvp
from covector.transforms.custom_vjp import custom_vjp
from covector.transforms.stages import ShapeDtypeStruct

Results = tuple[tuple[tuple[int, ...], Any], ...]


def prange(*bounds: int) -> Iterable[int]:
    """A range whose iterations are independent, so that they may run in any order and together.

    In an `array_kernel` they are shared by threads and the lanes of vectors. Two iterations must
    not write to the same element, nor one read what another writes; variables are each iteration's
    own. Elsewhere it is `range`.

    Args:
        *bounds: the end, or the beginning and the end.

    Example:
        >>> list(prange(1, 4))
        [1, 2, 3]
    """
    return range(*bounds)


prange.is_prange = True  # pyright: ignore[reportFunctionMemberAccess]

# --- the primitive --------------------------------------------------------------------------------

Batches = tuple[tuple[int, tuple[bool, ...]], ...]
"""For each batch axis, the outermost first: its size, and which operands have it."""


def _shape(
    *avals: Aval, kernel: KernelDefinition, results: Results, bounds: str, batch: Batches = ()
) -> list[Aval]:
    sizes = tuple([size for size, _ in batch])
    return [Aval((*sizes, *shape), dtype) for shape, dtype in results]


def _views(
    source: KernelSource, operands: Sequence[Any], outs: Sequence[Any], batch: Batches
) -> list[View]:
    names = parameters(source)
    views: list[View] = []
    for k, x in enumerate(operands):
        axes = sum([flags[k] for _, flags in batch])
        views.append(View(names[k], tuple(x.shape[axes:]), x.dtype, x, False))
    for name, x in zip(names[len(operands) :], outs, strict=True):
        views.append(View(name, tuple(x.shape[len(batch) :]), x.dtype, x, True))
    return views


def _example(
    views: Sequence[View], batch: Batches, index: Sequence[Any], row: Callable[[Any, Any], Any]
) -> list[View]:
    """The arrays of one example of the batches."""
    found: list[View] = []
    for k, view in enumerate(views):
        data = view.data
        for i, (_, flags) in zip(index, batch, strict=True):
            if view.written or flags[k]:
                data = row(data, i)
        found.append(View(view.name, view.shape, view.dtype, data, view.written))
    return found


def _row_of_array(data: Any, i: Any) -> Any:
    return data[i, ...]


def _evaluate(
    *operands: Any, kernel: KernelDefinition, results: Results, bounds: str, batch: Batches = ()
) -> list[Any]:
    source = source_from(kernel)
    sizes = tuple([size for size, _ in batch])
    outs = [np.zeros((*sizes, *shape), dtype) for shape, dtype in results]
    views = _views(source, operands, outs, batch)
    with current_trace(None), np.errstate(all="ignore"):
        for index in np.ndindex(*sizes):
            given = _example(views, batch, index, _row_of_array)
            ReferenceRun(source, bounds).run(given, {})
    return outs


def _row_of_tensor(data: Any, i: Any) -> Any:
    return data.row(i)


def _lower(
    b: Any,
    *tensors: Any,
    kernel: KernelDefinition,
    results: Results,
    bounds: str,
    batch: Batches = (),
) -> list[Any]:
    source = source_from(kernel)
    stored = [b.stored(t) for t in tensors]
    sizes = tuple([size for size, _ in batch])
    outs = [b.new((*sizes, *shape), dtype, k) for k, (shape, dtype) in enumerate(results)]
    for out in outs:
        b.fill(out, _zeros(b, out))
    views = _views(source, stored, outs, batch)
    trace = LoweringTrace(b)

    def run(index: tuple[Any, ...]) -> None:
        if len(index) < len(sizes):

            def each(i: Any) -> None:
                run((*index, i))

            b.builder.loop(0, sizes[len(index)], each, independent=True)
            return
        given = _example(views, batch, index, _row_of_tensor)
        with current_trace(trace):
            LoweringRun(source, bounds, b).run(given, {})

    run(())
    return outs


def _zeros(b: Any, like: Any) -> Any:
    zero = b.builder.const(0, like.dtype)

    def element(index: Any) -> Any:
        return zero

    return b.lazy(like.shape, like.dtype, element, 0.0)


def _jvp(ctx: Any, primals: Any, tangents: Any, *, kernel: KernelDefinition, **params: Any) -> Any:
    raise UnsupportedRuleError(
        compose(
            f"differentiation of the array kernel `{kernel.name}` is not supported",
            found="a kernel that writes to arrays, without a rule for its derivative",
            fix=f"give it one with {kernel.name}.defjvp or {kernel.name}.defvjp",
            line=here(),
        )
    )


def _batch(
    ctx: Any, args: Sequence[Any], dims: Sequence[int | None], *, batch: Batches = (), **params: Any
) -> Any:
    flags = tuple([d is not None for d in dims])
    args = [
        x if d is None else batch_at_front(x, d, ctx.axis_size)
        for x, d in zip(args, dims, strict=True)
    ]
    outs = array_kernel_p(*args, batch=((ctx.axis_size, flags), *batch), **params)
    return outs, [0] * len(outs)


array_kernel_p = Primitive(
    "array_kernel",
    shape=_shape,
    evaluate=_evaluate,
    jvp=_jvp,
    transpose=unsupported("an array kernel is not known to be linear"),
    batch=_batch,
    lower=_lower,
    lanes=unsupported("an array kernel reads its operands in an order of its own"),
    multiple_results=True,
    compiled=True,
)


# --- what users call ------------------------------------------------------------------------------


class ArrayKernel:
    """An operation made of loops; see `array_kernel`.

    Attributes:
        source: its definition.
        python: the function itself.
    """

    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable[..., Any], results: Any, bounds: str) -> None:
        functools.update_wrapper(self, fn)
        self.python = fn
        self.source = source_of(fn)
        self._results = results
        self._bounds = bounds
        self._custom: Any = None
        if bounds not in (CHECK, CLIP):
            raise ValueError(
                compose(
                    "array_kernel: bounds says what happens to an index out of bounds",
                    found=repr(bounds),
                    fix=f"use {CHECK!r} (an error) or {CLIP!r} (the nearest element)",
                    line=here(),
                )
            )
        if self.source.node.args.kwonlyargs:
            fix = "close over constants"
            raise self.source.error(
                self.source.node, "an array kernel has no keyword-only arguments", fix=fix
            )

    def __repr__(self) -> str:
        return f"<array_kernel {self.__name__}>"

    def __reduce__(self) -> str:
        return self.__qualname__

    def __call__(self, *args: Any) -> Any:
        return self._apply(*args) if self._custom is None else self._custom(*args)

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the derivative in forward mode, from which reverse mode follows.

        Args:
            jvp: `(primals, tangents) -> (outputs, output tangents)`, as for `custom_jvp`.

        Returns:
            `jvp`, so that this can be a decorator.
        """
        self._custom = custom_jvp(self._plain())
        self._custom.defjvp(jvp)
        return jvp

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Sets the derivative in reverse mode.

        Args:
            fwd: `(*operands) -> (outputs, residuals)`, as for `custom_vjp`.
            bwd: `(residuals, cotangents) -> cotangents of the operands`, a tuple.
        """
        self._custom = custom_vjp(self._plain())
        self._custom.defvjp(fwd, bwd)

    def _plain(self) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            return self._apply(*args)

        call.__name__ = self.__name__
        return call

    def _apply(self, *args: Any) -> Any:
        operands = [x if isinstance(x, Operand) else as_array(x) for x in args]
        results, single = self._declared([aval_of(x) for x in operands])
        names = parameters(self.source)
        if len(names) != len(args) + len(results):
            raise TypeError(
                compose(
                    f"{self.__name__} takes operands and results as {', '.join(names)}",
                    found=f"{len(args)} operands, and {len(results)} results declared",
                    line=here(),
                )
            )
        outs = array_kernel_p(
            *operands, kernel=define(self.source), results=results, bounds=self._bounds
        )
        return outs[0] if single else tuple(outs)

    def _declared(self, avals: Sequence[Aval]) -> tuple[Results, bool]:
        declared = self._results
        if callable(declared):
            declared = declared(*[ShapeDtypeStruct(a.shape, a.dtype) for a in avals])
        single = not isinstance(declared, (tuple, list))
        found: list[tuple[tuple[int, ...], Any]] = []
        items = (declared,) if single else items_of(declared)
        for item in items:
            if not isinstance(item, ShapeDtypeStruct):
                raise TypeError(
                    compose(
                        f"{self.__name__}: results are declared as ShapeDtypeStructs",
                        found=f"{type(item).__name__} {item!r}"[:80],
                        fix="array_kernel(results=lambda x: covector.ShapeDtypeStruct(x.shape, "
                        "x.dtype))",
                        line=here(),
                    )
                )
            found.append((item.shape, item.dtype))
        return tuple(found), single


def array_kernel(*, results: Any, bounds: str = CHECK) -> Callable[[Callable[..., Any]], Any]:
    """Makes an operation of a Python function that loops over the elements of arrays.

    The function takes the operands and then the results, and returns nothing. It reads elements
    (`x[i, j]`), asks for sizes (`x.shape`), and writes elements of results (`out[i] = ...`,
    `out[i] += ...`), which are zero at first, in loops over `range` and `prange`, and with all that
    scalar kernels can do, calls of them included. What it computes of counters by `+`, `-`, `*`
    and, by a positive constant, `//` and `%`, is an index of 64 bits. Loops over `prange` run on
    several threads, inner ones in vectors where neighbours are read.

    Batches are mapped over. A derivative is what `defjvp` or `defvjp` say.

    Args:
        results: a `ShapeDtypeStruct`, a sequence of them for several results, or a function that
            gives that for the `ShapeDtypeStruct`s of the operands.
        bounds: what happens where an index is out of bounds. An index known while compiling is an
            error then, or counts from the end if it is negative. Others are checked while the
            kernel runs where they are not known to be inside: "check" stops the program with an
            error; "clip" takes the nearest element, which costs less.

    Returns:
        A decorator; the function it gives takes the operands and gives the result, a tuple of them
        if several are declared.

    Raises:
        KernelError: when the kernel is called, if its source is not there, or uses what cannot be
            compiled.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> @extend.array_kernel(results=lambda x: cv.ShapeDtypeStruct(x.shape, x.dtype))
        ... def running_maximum(x, out):
        ...     largest = x[0]
        ...     for i in range(x.shape[0]):
        ...         largest = max(largest, x[i])
        ...         out[i] = largest
        >>> running_maximum(cnp.array([1.0, 3.0, 2.0, 5.0]))
        Array([1., 3., 3., 5.], dtype=float32)
    """

    def decorate(fn: Callable[..., Any]) -> ArrayKernel:
        return ArrayKernel(fn, results, bounds)

    return decorate
