"""Functions in C as operations: called by compiled programs directly, without the interpreter."""

from __future__ import annotations

import ctypes
import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.dims import Dim
from covector.core.errors import compose
from covector.extend import pointers, prototypes
from covector.extend.operation import Operation, operation
from covector.extend.prototypes import Parameter, Prototype
from covector.loopir import foreign as registry
from covector.ops.factory import common_shape, lower_elementwise
from covector.ops.matrix_primitives import is_empty

_THIS_PROCESS = secrets.token_hex(8)


def foreign(
    prototype: str,
    function: Any,
    *,
    name: str | None = None,
    jvp: Callable[..., Any] | None = None,
    vjp: Callable[..., Any] | None = None,
    transpose: Callable[..., Any] | None = None,
    batch: Callable[..., Any] | None = None,
    linear: bool = False,
    doc: str | None = None,
) -> Operation:
    """Makes an operation of a C function, which compiled programs call without the interpreter.

    A function of numbers that returns one is applied to each element of arrays, inside of fused
    loops. Others are called with whole arrays: `const` arrays are operands, in row-major order,
    arrays without `const` results, which it has to fill; their extents are part of the prototype,
    as C99 has them in parameters, and the sizes in them are passed and not operands. What is
    returned is the result if no array is one; else an `int` that is not zero is an error. The batch
    of a `vmap` is a loop over calls.

    The function must give the same results for the same operands, whatever they are (NaN, empty
    arrays, which may be null pointers), and return; it may be called from several threads at once,
    without the interpreter lock, for elements of which the results are not used, or not at all. Its
    address is valid until the process ends. Compiled code that is kept on disk refers to
    `(path, symbol)` by these names; that which calls other functions is not kept.

    Args:
        prototype: in C; numbers are `int`, `int64_t`, their unsigned twins, `float` or `double`.
        function: a ctypes function, a cffi function pointer, a `numba.cfunc`, a
            `scipy.LowLevelCallable`, a pair of the path of a shared library and a symbol, or an
            address. Where it knows its own types they must be those of the prototype; where it
            does not, a wrong prototype crashes the process.
        name: of the operation, by default the function's.
        jvp: as for `operation`.
        vjp: likewise.
        transpose: likewise.
        batch: likewise.
        linear: likewise.
        doc: docstring of the operation.

    Returns:
        The operation; its operands are the numbers and `const` arrays in order.

    Raises:
        TypeError: if `function` is something else, or not what the prototype says.
        ValueError: for a prototype that cannot be read; for a symbol or name that cannot be used.
        OSError: if there is no such library.

    Example:
        >>> import ctypes.util
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> libm = ctypes.util.find_library("m")
        >>> hypotenuse = extend.foreign("float hypotf(float x, float y)", (libm, "hypotf"))
        >>> cv.jit(hypotenuse)(cnp.array([3.0, 5.0]), cnp.array([4.0, 12.0]))
        Array([ 5., 13.], dtype=float32)
    """
    declared = prototypes.parse(prototype)
    pointer = pointers.resolve(function)
    prototypes.compare(declared, pointer.params, pointer.result)
    symbol = _symbol(declared, pointer)
    registry.register(
        symbol,
        registry.ForeignFunction(
            declared.kinds(),
            pointer.address,
            pure=declared.elementwise,
            stable=pointer.place is not None,
            owner=(function, pointer.owner),
        ),
    )
    chosen = name or declared.name
    rules: Any = _Elements if declared.elementwise else _Arrays
    made = rules(chosen, declared, symbol, pointer)
    return operation(
        chosen,
        shape=made.shape,
        evaluate=made.evaluate,
        lower=made.lower,
        jvp=jvp,
        vjp=vjp,
        transpose=transpose,
        batch=batch,
        linear=linear,
        elementwise=declared.elementwise,
        multiple_results=len(declared.results) > 1,
        doc=doc or f"`{declared.text.strip()}`, a function in C.",
    )


def _symbol(prototype: Prototype, pointer: pointers.Pointer) -> str:
    """What generated code calls the function."""
    place = pointer.place or (_THIS_PROCESS, hex(pointer.address))
    parts = [*place, *prototype.kinds()[0], prototype.kinds()[1]]
    number = hashlib.blake2b("\0".join(parts).encode(), digest_size=8).hexdigest()
    return f"cvx_{re.sub(r'[^A-Za-z0-9_]', '', prototype.name)}_{number}"


def _callable(prototype: Prototype, pointer: pointers.Pointer) -> Any:
    """The function for Python, by ctypes."""

    def of(dtype: Any) -> Any:
        types: Any = np.ctypeslib
        return None if dtype is None else types.as_ctypes_type(dtype)

    params = [
        ctypes.c_void_p if p.extents is not None else of(p.dtype) for p in prototype.parameters
    ]
    return ctypes.CFUNCTYPE(of(prototype.result), *params)(pointer.address)


def _check_operands(name: str, prototype: Prototype, avals: Sequence[Aval]) -> None:
    wanted = prototype.operands
    if len(avals) != len(wanted):
        raise TypeError(
            compose(
                f"{name} takes {len(wanted)} operands: {', '.join([p.name for p in wanted])}",
                found=f"{len(avals)}",
                fix="sizes that are extents of operands are not passed",
            )
        )
    for p, aval in zip(wanted, avals, strict=True):
        if aval.dtype != p.dtype:
            wide = p.dtype.itemsize == 8 and aval.dtype.itemsize == 4
            raise TypeError(
                compose(
                    f"{name}: the operand {p.name} is {dtypes.short_name(p.dtype)}",
                    found=str(aval),
                    fix=f"convert it with .astype({p.dtype.name!r})"
                    + (", with 64-bit types on (covector.enable_x64)" if wide else ""),
                )
            )


class _Elements:
    """The rules of a function of numbers."""

    def __init__(
        self, name: str, prototype: Prototype, symbol: str, pointer: pointers.Pointer
    ) -> None:
        self._name = name
        self._prototype = prototype
        self._symbol = symbol
        self._call = _callable(prototype, pointer)

    def shape(self, *avals: Aval) -> Aval:
        _check_operands(self._name, self._prototype, avals)
        return Aval(common_shape(self._name, avals), self._prototype.result)

    def evaluate(self, *operands: Any) -> Any:
        arrays = np.broadcast_arrays(*operands)
        out = np.empty(arrays[0].shape, self._prototype.result)
        flat = out.reshape(-1)
        for k, numbers in enumerate(zip(*[a.reshape(-1).tolist() for a in arrays], strict=True)):
            flat[k] = self._call(*numbers)
        return out

    def lower(self, b: Any, *tensors: Any) -> Any:
        result: Any = self._prototype.result

        def call(builder: Any, *values: Any) -> Any:
            return builder.pure_call(self._symbol, result, *values)

        return lower_elementwise(b, call, tensors, lambda _: result, 20.0, {})


def _place(tensor: Any) -> Any:
    """What is passed for an array: nothing for one without elements."""
    return None if is_empty(tensor.shape) else tensor.buffer


class _Arrays:
    """The rules of a function of arrays."""

    def __init__(
        self, name: str, prototype: Prototype, symbol: str, pointer: pointers.Pointer
    ) -> None:
        self._name = name
        self._prototype = prototype
        self._symbol = symbol
        self._call = _callable(prototype, pointer)

    def _sizes(self, shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
        """The sizes that operands of some shapes tell."""
        sizes: dict[str, Any] = {}
        for p, shape in zip(self._prototype.operands, shapes, strict=True):
            for extent, size in zip(p.extents or (), shape, strict=True):
                if extent.isidentifier():
                    sizes.setdefault(extent, size)
        return sizes

    def shape(self, *avals: Aval) -> Any:
        _check_operands(self._name, self._prototype, avals)
        for p, aval in zip(self._prototype.operands, avals, strict=True):
            if aval.ndim != len(p.extents or ()):
                self._misfit(p, aval, "")
        sizes = self._sizes([a.shape for a in avals])
        for p, aval in zip(self._prototype.operands, avals, strict=True):
            wanted = self._extents(p, sizes)
            if tuple(aval.shape) != wanted:
                self._misfit(p, aval, f" = {list(wanted)}")
        found = [Aval(self._extents(p, sizes), p.dtype) for p in self._prototype.results]
        if not found:
            return Aval((), self._prototype.result)
        return found if len(found) > 1 else found[0]

    def _extents(self, p: Parameter, sizes: dict[str, Any]) -> tuple[Any, ...]:
        extents = tuple([prototypes.evaluate(e, sizes) for e in p.extents or ()])
        if any([not isinstance(n, Dim) and n < 0 for n in extents]):
            raise TypeError(f"{self._name}: the extents of {p.name} would be {list(extents)}")
        return extents

    def _misfit(self, p: Parameter, aval: Aval, wanted: str) -> None:
        declared = "".join([f"[{e}]" for e in p.extents or ()])
        raise TypeError(
            compose(
                f"{self._name}: the operand {p.name} is declared as {p.name}{declared}{wanted}",
                found=str(aval),
            )
        )

    def evaluate(self, *operands: Any) -> Any:
        sizes = self._sizes([x.shape for x in operands])
        given = iter([np.ascontiguousarray(x) for x in operands])
        held: list[Any] = []
        results: list[Any] = []
        args: list[Any] = []
        for p in self._prototype.parameters:
            if p.role == prototypes.SIZE:
                args.append(sizes[p.name])
            elif p.role == prototypes.RESULT:
                results.append(np.empty(self._extents(p, sizes), p.dtype))
                args.append(results[-1].ctypes.data)
            elif p.extents is None:
                args.append(next(given).item())
            else:
                held.append(next(given))
                args.append(held[-1].ctypes.data)
        returned = self._call(*args)
        if self._prototype.returns_status and returned:
            raise RuntimeError(f"{self._message} ({returned})")
        if not results:
            return np.asarray(returned, self._prototype.result)
        return results if len(results) > 1 else results[0]

    @property
    def _message(self) -> str:
        return f"the foreign function {self._prototype.name} failed"

    def lower(self, b: Any, *tensors: Any) -> Any:
        builder = b.builder
        given = iter(
            [
                t.at(()) if p.extents is None else b.stored(t)
                for p, t in zip(self._prototype.operands, tensors, strict=True)
            ]
        )
        avals = [v.aval for v in b.equation.outputs] if self._prototype.results else []
        results = [b.new(b.extents(a), a.dtype, k) for k, a in enumerate(avals)]
        sizes = self._sizes([t.shape for t in tensors])
        outs = iter(results)
        args: list[Any] = []
        for p in self._prototype.parameters:
            if p.role == prototypes.SIZE:
                size = sizes[p.name]
                value = builder.index(size) if type(size) is int else size
                args.append(value if p.dtype == np.int64 else builder.convert(value, p.dtype))
            elif p.role == prototypes.RESULT:
                args.append(_place(next(outs)))
            else:
                found = next(given)
                args.append(found if p.extents is None else _place(found))
        site = b.site(self._message) if self._prototype.returns_status else None
        value = builder.call(self._symbol, self._prototype.result, *args, site=site)
        if not results:
            one = np.empty((), object)
            one[()] = value
            return b.registers(one, self._prototype.result)
        return results if len(results) > 1 else results[0]
