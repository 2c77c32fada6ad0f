"""Running array kernels: what all ways have in common, and the one on NumPy arrays."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.core.operand import Operand
from covector.extend.kernel_names import translate
from covector.extend.kernel_source import KernelSource, parameters
from covector.extend.kernel_statements import Statements

CHECK, CLIP = "check", "clip"


@dataclass(frozen=True, slots=True)
class View:
    """An operand or result inside of a kernel."""

    name: str
    shape: tuple[int, ...]
    dtype: Any
    data: Any
    """A tensor of the lowering, or a NumPy array."""
    written: bool


class ArrayRun(Statements):
    """What kernels on arrays have in common.

    Args:
        source: of the kernel.
        bounds: what happens to an index out of bounds, "check" or "clip".
        callers: the kernels that it is called from.
    """

    def __init__(
        self, source: KernelSource, bounds: str, callers: tuple[KernelSource, ...] = ()
    ) -> None:
        super().__init__(source)
        self.bounds = bounds
        self.callers = callers

    def run(self, args: Sequence[Any], static: dict[str, Any]) -> Any:
        """Runs the kernel."""
        for name, value in zip(parameters(self.source), args, strict=True):
            number = isinstance(value, View) and not value.shape and not value.written
            self.env[name] = self.load_at(value, ()) if number else value
        self.env.update(static)
        return self.function_body(self.source.node.body)

    def inner(self, source: KernelSource) -> ArrayRun:
        """What runs a kernel that this one calls."""
        raise NotImplementedError

    def load_at(self, view: View, offsets: tuple[Any, ...]) -> Any:
        """The element at an index that is inside."""
        raise NotImplementedError

    def call_kernel(self, node: ast.Call, kernel: Any, args: Any, static: Any) -> Any:
        """See `Expressions`."""
        if kernel.source in (self.source, *self.callers):
            fix = "write a loop"
            self.fail(node, "kernels cannot call themselves", ast.unparse(node), fix)
        if len(args) != len(parameters(kernel.source)):
            self.fail(node, f"wrong number of arguments of {kernel.__name__}", ast.unparse(node))
        inner = self.inner(kernel.source)
        inner.check_returns()
        takes = kernel.source.node.args
        for argument, default in zip(takes.kwonlyargs, takes.kw_defaults, strict=True):
            if argument.arg not in static and default is not None:
                static[argument.arg] = inner.value(default)
        wrong = {a.arg for a in takes.kwonlyargs} ^ static.keys()
        if wrong:
            found = f"{ast.unparse(node)}: {', '.join(sorted(wrong))}"
            self.fail(node, f"missing or unknown arguments of {kernel.__name__}", found)
        return inner.run(args, static)

    def changed(self, nodes: Sequence[ast.stmt]) -> list[str]:
        """See `Statements`; arrays are written to, but stay the same."""
        return [n for n in super().changed(nodes) if not isinstance(self.env.get(n), View)]

    def attribute(self, node: ast.Attribute, value: Any) -> Any:
        """See `Expressions`."""
        if isinstance(value, View) and node.attr in ("shape", "dtype", "ndim", "size"):
            known = {"shape": value.shape, "dtype": value.dtype, "ndim": len(value.shape)}
            return known.get(node.attr, int(np.prod(value.shape)))
        return super().attribute(node, value)

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "len" and len(node.args) == 1:
            value = self.value(node.args[0])
            if isinstance(value, View):
                return value.shape[0]
        return super()._call(node)

    def checked_view(self, node: ast.AST, view: Any, index: Sequence[Any], write: bool) -> View:
        """An operand or result that is indexed correctly, as far as is known."""
        if not isinstance(view, View):
            self.fail(node, "only arrays are indexed", type(view).__name__)
        if write and not view.written:
            fix = "declare a result, and write to that"
            self.fail(node, f"the operand {view.name!r} cannot be written to", fix=fix)
        self._check_rank(node, view.shape, index)
        return view

    def fixed(self, node: ast.AST, view: View, axis: int, i: int) -> int:
        """An index known while compiling; negative ones count from the end."""
        n = view.shape[axis]
        if not -n <= i < n:
            found = f"index {i} for {n} elements along axis {axis} of {view.name!r}"
            self.fail(node, "an index is out of bounds", found)
        return i % n


class ReferenceRun(ArrayRun):
    """Runs a kernel on NumPy arrays, statement by statement."""

    def inner(self, source: KernelSource) -> ReferenceRun:
        """See `ArrayRun`."""
        return ReferenceRun(source, self.bounds, (self.source, *self.callers))

    def choose(
        self, predicate: Any, nodes: Sequence[ast.AST], sides: Sequence[Callable[[], Any]]
    ) -> Any:
        """See `Expressions`."""
        return sides[0]() if predicate else sides[1]()

    def loop_while(
        self, node: ast.AST, test: Callable[[], Any], body: Callable[[], None], names: list[str]
    ) -> None:
        """See `Statements`."""
        outer = self._begin_loop()
        while not self.stopped() and test():
            body()
            self.env["continue"] = False
        self._end_flags(outer)

    def special_loop(self, node: ast.For, function: Any) -> Callable[[ast.For, Any], None] | None:
        """See `Statements`."""
        return self._for_range if getattr(function, "is_prange", False) else None

    def _for_range(self, node: ast.For, bounds: list[Any]) -> None:
        self._unrolled(node, range(*[int(b) for b in bounds]))

    def _library(self, node: ast.Call, function: Any, args: list[Any], named: Any) -> Any:
        translated = translate(function)
        if translated is None:
            return super()._library(node, function, args, named)
        result = translated(*args, **named)
        return np.asarray(result)[()] if isinstance(result, Operand) else result

    def _offsets(self, node: ast.AST, view: View, index: Sequence[Any]) -> tuple[int, ...]:
        found: list[int] = []
        for axis, i in enumerate(index):
            n = view.shape[axis]
            if self.bounds == CLIP and not isinstance(i, int):
                i = min(max(int(i), 0), n - 1)
            elif not -n <= i < n:
                raise IndexError(f"index {i} for {n} elements along axis {axis} of {view.name!r}")
            found.append(int(i))
        return tuple(found)

    def load(self, node: ast.Subscript, array: Any, index: Sequence[Any]) -> Any:
        """See `Expressions`."""
        view = self.checked_view(node, array, index, False)
        return self.load_at(view, self._offsets(node, view, index))

    def load_at(self, view: View, offsets: tuple[Any, ...]) -> Any:
        """See `ArrayRun`."""
        return view.data[offsets]

    def store(self, node: ast.Subscript, array: Any, index: list[Any], value: Any) -> None:
        """See `Statements`."""
        view = self.checked_view(node, array, index, True)
        view.data[self._offsets(node, view, index)] = value
