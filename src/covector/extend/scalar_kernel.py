"""`scalar_kernel`: Python functions of scalars as elementwise operations."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, overload

import numpy as np

import covector.numpy as cnp
from covector import lax
from covector.core import dtypes
from covector.core.array import as_array
from covector.core.avals import Aval
from covector.core.config import config
from covector.core.errors import compose
from covector.core.operand import Operand
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, current_trace, trace_program
from covector.extend.kernel_names import cast_to, is_number
from covector.extend.kernel_source import KernelSource, parameters, source_of
from covector.extend.kernel_statements import Statements
from covector.extend.kernel_values import ScalarType, converted, items_of
from covector.ops.nested import prune
from covector.ops.scalar_kernel import scalar_kernel as primitive
from covector.transforms.custom_jvp import custom_jvp


class ScalarRun(Statements):
    """Runs a kernel without branches: both sides are computed, loops stop where they are not taken.

    Args:
        source: of the kernel.
        mask: a bool that says whether its results matter, `None` where they always do.
        callers: the kernels that it is called from.
    """

    def __init__(
        self, source: KernelSource, mask: Any = None, callers: tuple[KernelSource, ...] = ()
    ) -> None:
        super().__init__(source)
        self.mask = mask
        self.callers = callers

    def run(self, args: Sequence[Any], static: dict[str, Any]) -> Any:
        """What the kernel returns for some scalars."""
        self.env.update(zip(parameters(self.source), args, strict=True))
        self.env.update(self._constants(static))
        self.check_returns()
        return self.function_body(self.source.node.body)

    def _constants(self, static: dict[str, Any]) -> dict[str, Any]:
        arguments = self.source.node.args
        values: dict[str, Any] = {}
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            if argument.arg in static:
                values[argument.arg] = static[argument.arg]
            elif default is not None:
                values[argument.arg] = self.value(default)
        return values

    @contextmanager
    def _under(self, predicate: Any) -> Generator[None]:
        before = self.mask
        self.mask = predicate if before is None else self.both(before, predicate)
        try:
            yield
        finally:
            self.mask = before

    def choose(
        self, predicate: Any, nodes: Sequence[ast.AST], sides: Sequence[Callable[[], Any]]
    ) -> Any:
        """See `Expressions`."""
        if not isinstance(predicate, Operand):
            return sides[0]() if predicate else sides[1]()
        with self._under(predicate):
            then = sides[0]()
        with self._under(self.negated(predicate)):
            otherwise = sides[1]()
        return self.merged(nodes[0], predicate, then, otherwise)

    def branch(
        self, node: ast.AST, predicate: Any, sides: Sequence[Callable[[], None]], names: Any
    ) -> None:
        """See `Statements`."""
        before, envs = self.env, list[dict[str, Any]]()
        for holds, side in zip((predicate, self.negated(predicate)), sides, strict=True):
            self.env = dict(before)
            with self._under(holds):
                side()
            envs.append(self.env)
        self.env = before
        for name in dict.fromkeys(names):
            self.env[name] = self.joined_variable(node, predicate, name, envs)

    def run_while(
        self, test: Callable[[list[Any]], Any], body: Callable[[list[Any]], list[Any]], init: Any
    ) -> list[Any]:
        """See `Statements`."""
        mask = self.mask

        def condition(carry: list[Any]) -> Any:
            going = test(carry)
            return cnp.asarray(going if mask is None else self.both(mask, going))

        return list(lax.while_loop(condition, body, list(init)))

    def run_for(
        self, bounds: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]], init: list[Any]
    ) -> list[Any]:
        """See `Statements`."""
        low, high, step = bounds

        def iteration(k: Any, carry: list[Any]) -> list[Any]:
            return body(k if (low, step) == (0, 1) else k * step + low, carry)

        return list(lax.fori_loop(0, len(range(low, high, step)), iteration, list(init)))

    def call_kernel(self, node: ast.Call, kernel: Any, args: Any, static: Any) -> Any:
        """See `Expressions`."""
        if not isinstance(kernel, ScalarKernel):
            fix = "call it from outside of kernels"
            self.fail(node, "a scalar kernel calls scalar kernels only", kernel.__name__, fix)
        if kernel.source in (self.source, *self.callers):
            fix = "write a loop"
            self.fail(node, "kernels cannot call themselves", ast.unparse(node), fix)
        kernel.check_arguments(args, static)
        if kernel.has_own_derivative:
            return kernel(*args, **static)
        inner = ScalarRun(kernel.source, self.mask, (self.source, *self.callers))
        return inner.run(args, static)


class ScalarKernel:
    """An elementwise operation made of a Python function; see `scalar_kernel`.

    Attributes:
        source: its definition.
        python: the function itself.
    """

    is_kernel = True
    __name__: str
    __qualname__: str

    def __init__(self, fn: Callable[..., Any], dtype: Any = None) -> None:
        functools.update_wrapper(self, fn)
        self.python = fn
        self.source = source_of(fn)
        if not parameters(self.source):
            raise self.source.error(self.source.node, "a scalar kernel has arguments")
        self._dtype = dtype
        self._programs: dict[Any, tuple[Program, int | None]] = {}
        self._custom: Any = None

    def __repr__(self) -> str:
        return f"<scalar_kernel {self.__name__}>"

    def __reduce__(self) -> str:
        return self.__qualname__

    def __call__(self, *args: Any, **static: Any) -> Any:
        self.check_arguments(args, static)
        if self._custom is None:
            return self._apply(args, static)
        return self._custom(*args, **static)

    def defjvp(self, jvp: Callable[..., Any]) -> Callable[..., Any]:
        """Sets the derivative, in place of that of the kernel's own steps.

        Args:
            jvp: `(primals, tangents) -> (outputs, output tangents)` on arrays, as for
                `custom_jvp`; keyword-only arguments of the kernel are not passed on.

        Returns:
            `jvp`, so that this can be a decorator.
        """

        def call(*args: Any, **static: Any) -> Any:
            return self._apply(args, static)

        call.__name__ = self.__name__
        self._custom = custom_jvp(call)
        self._custom.defjvp(jvp)
        return jvp

    @property
    def has_own_derivative(self) -> bool:
        """Whether `defjvp` replaced the derivative of what the kernel says."""
        return self._custom is not None

    def check_arguments(self, args: Sequence[Any], static: dict[str, Any]) -> None:
        """Raises unless the kernel takes these arguments.

        Raises:
            TypeError: naming what is missing or too much.
        """
        names = parameters(self.source)
        known = [a.arg for a in self.source.node.args.kwonlyargs]
        required = [
            a.arg
            for a, default in zip(
                self.source.node.args.kwonlyargs, self.source.node.args.kw_defaults, strict=True
            )
            if default is None
        ]
        wrong = [k for k in static if k not in known] + [k for k in required if k not in static]
        if len(args) == len(names) and not wrong:
            return
        raise TypeError(
            compose(
                f"{self.__name__} takes the arguments {', '.join(names)}"
                + (f" and by name {', '.join(known)}" if known else ""),
                found=f"{len(args)} arguments" + (f", names {sorted(static)}" if static else ""),
                line=here(),
            )
        )

    def _apply(self, args: Sequence[Any], static: dict[str, Any]) -> Any:
        operands = [x if isinstance(x, Operand) else as_array(x) for x in args]
        shape = np.broadcast_shapes(*[x.shape for x in operands])
        full = [x if x.shape in ((), shape) else cnp.broadcast_to(x, shape) for x in operands]
        program, count = self.program([aval_of(x) for x in full], static)
        results = primitive(*full, program=program, name=self.__name__)
        return results[0] if count is None else tuple(results)

    def program(
        self, avals: Sequence[Aval], static: dict[str, Any] | None = None
    ) -> tuple[Program, int | None]:
        """The program of scalars that the kernel is for operands of some types.

        Args:
            avals: of the operands, whose shapes do not matter.
            static: the values of keyword-only arguments.

        Returns:
            The program, and how many results the kernel returns as a tuple, `None` for one alone.
        """
        scalars = [Aval((), a.dtype, a.weak_type) for a in avals]
        static = static or {}
        # Also by the text: 1, 1.0 and True are equal.
        named = tuple([(k, repr(v), v) for k, v in sorted(static.items())])
        key = (tuple(scalars), named, config.trace_key())
        if key not in self._programs:
            self._programs[key] = self._traced(scalars, static)
        return self._programs[key]

    def _traced(self, scalars: Sequence[Aval], static: Any) -> tuple[Program, int | None]:
        count: list[int | None] = []

        def function(*args: Any) -> list[Any]:
            result = ScalarRun(self.source).run(args, static)
            several: bool = isinstance(result, tuple)
            values = items_of(result) if several else (result,)
            count.append(len(values) if several else None)
            results = self._results(values)
            if all([a.weak_type for a in scalars]):
                return results
            return [converted(x, ScalarType(x.dtype, False)) for x in results]

        with current_trace(None):
            program, _ = trace_program(function, scalars, self.__name__)
        return prune(program), count[0]

    def _results(self, values: Sequence[Any]) -> list[Any]:
        declared = self._dtype
        if declared is None:
            wanted = (None,) * len(values)
        elif isinstance(declared, (tuple, list)):
            wanted = items_of(declared)
        else:
            wanted = (declared,) * len(values)
        if len(wanted) != len(values):
            node = self.source.node
            found = f"{len(values)} results"
            raise self.source.error(node, f"dtype declares {len(wanted)} results", found=found)
        results: list[Any] = []
        for value, dtype in zip(values, wanted, strict=True):
            if not (isinstance(value, Operand) or is_number(value)):
                found = type(value).__name__
                problem = "a scalar kernel returns scalars, or a tuple of scalars"
                raise self.source.error(self.source.node, problem, found=found)
            scalar = value if isinstance(value, Operand) else as_array(value)
            if dtype is not None:
                scalar = cast_to(scalar, dtypes.canonicalize(np.dtype(dtype)))
            results.append(scalar)
        return results


@overload
def scalar_kernel(fn: Callable[..., Any], /) -> ScalarKernel: ...
@overload
def scalar_kernel(*, dtype: Any = ...) -> Callable[[Callable[..., Any]], ScalarKernel]: ...
def scalar_kernel(fn: Callable[..., Any] | None = None, /, *, dtype: Any = None) -> Any:
    """Makes an elementwise operation of a Python function of scalars.

    The function's source is compiled: arithmetic and comparisons with the promotion of arrays;
    functions of `math`, `numpy`, `scipy.special` and `covector`; `if`, conditional expressions,
    `and`, `or`, `not`; `while`, `for` over `range` and local arrays, `break`, `continue`, `return`
    anywhere; local arrays of up to 64 elements (`numpy.zeros(n)`, lists); calls of other scalar
    kernels; numbers and small arrays of the surrounding code, which are read when the kernel is
    first compiled for some types of arguments. Both sides of a branch are computed for vectors of
    elements, in which a loop runs until the last element is done.

    Derivatives are those of the function's steps, in every mode and to any order: forward mode
    beside the function, so that loops keep no tape, once for each differentiated operand.

    Args:
        fn: the function; its positional arguments are the operands, keyword-only ones are hashable
            constants of the kernel.
        dtype: of the result, or a sequence of them for several results; found by promotion if left
            out.

    Returns:
        A function of arrays, of one shape or shapes that broadcast; it gives an array, or a tuple
        of them where the kernel returns a tuple.

    Raises:
        KernelError: if the source is not there, or uses what cannot be compiled; it names the
            construct and its line. Kernels are compiled when they are called first.

    Example:
        >>> import covector as cv
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> @extend.scalar_kernel
        ... def collatz(n):
        ...     steps = 0
        ...     while n > 1:
        ...         n = n // 2 if n % 2 == 0 else 3 * n + 1
        ...         steps += 1
        ...     return steps
        >>> collatz(cnp.array([1, 6, 27]))
        Array([  0,   8, 111], dtype=int32)
    """
    if fn is None:
        return functools.partial(ScalarKernel, dtype=dtype)
    return ScalarKernel(fn, dtype)
