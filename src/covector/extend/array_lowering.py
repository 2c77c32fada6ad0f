"""Running array kernels as loop IR."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import covector.numpy as cnp
from covector.compiler.strides import has_simd_loop, reads_contiguously
from covector.core.array import as_array
from covector.core.avals import Aval
from covector.core.operand import Operand
from covector.core.primitive import Primitive
from covector.core.program import Equation, Program, Variable
from covector.core.trace import Trace, Tracer, aval_of, current_frame, current_trace, get_trace
from covector.extend.array_runs import CLIP, ArrayRun, View
from covector.extend.kernel_names import is_integer, is_number
from covector.extend.kernel_source import KernelSource, leaves
from covector.extend.kernel_values import (
    DryTrace,
    DryTracer,
    ScalarType,
    Undefined,
    converted,
    example,
    flatten,
    type_of,
)
from covector.loopir.ir import SERIAL, SIMD, For
from covector.loopir.values import INDEX


class Lowered(Tracer):
    """A scalar of the code that is being built."""

    __slots__ = ("_scalar",)

    def __init__(self, trace: Trace, aval: Aval, scalar: Any) -> None:
        self._trace = trace
        self.aval = aval
        self._scalar = scalar

    @property
    def scalar(self) -> Any:
        """The value in the loop IR."""
        return self._scalar


class Index(Lowered):
    """A counter, or what is computed of counters: a number in arithmetic with other numbers."""

    __slots__ = ("place",)

    def __init__(self, trace: Trace, place: Any) -> None:
        self._trace = trace
        self.aval = aval_of(0)
        self.place = place

    @property
    def scalar(self) -> Any:
        """The value in the loop IR, of the default integer type."""
        assert isinstance(self._trace, LoweringTrace)
        return self._trace.b.builder.convert(self.place, self.aval.dtype)


_OF_INDICES: dict[type[ast.operator], str] = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}
INDEX_TYPE = ScalarType("index", True)


class LoweringTrace(Trace):
    """Writes each operation as loop IR as soon as it is applied."""

    __slots__ = ("b",)

    def __init__(self, b: Any) -> None:
        super().__init__(None, "an array kernel")
        self.b = b

    def scalar(self, value: Any) -> Any:
        """The loop IR value of an operand."""
        if isinstance(value, Lowered):
            return value.scalar
        aval = aval_of(value)
        array = np.asarray(as_array(value))
        if aval.shape != ():
            raise TypeError(f"kernels compute with scalars, found an array {aval}")
        return self.b.builder.const(array[()], aval.dtype)

    def _tensor(self, value: Any) -> Any:
        scalar = self.scalar(value)

        def element(index: Any) -> Any:
            return scalar

        return self.b.lazy((), aval_of(value).dtype, element, 0.0, moves=True)

    def process(self, primitive: Primitive, args: Sequence[Any], params: dict[str, Any]) -> Any:
        if primitive.prepare is not None:
            args, params = primitive.prepare(args, params)
        inputs = [Variable(aval_of(a)) for a in args]
        avals = primitive.shape(*[v.aval for v in inputs], **params)
        outputs = [Variable(a) for a in (avals if primitive.multiple_results else [avals])]
        equation = Equation(primitive, inputs, outputs, params, frame=current_frame())
        program = Program(inputs, [equation], outputs)
        tensors = self.b.inline(program, [self._tensor(a) for a in args])
        results = [Lowered(self, v.aval, t.at(())) for v, t in zip(outputs, tensors, strict=True)]
        return results if primitive.multiple_results else results[0]


def _is_index(x: Any) -> bool:
    return isinstance(x, Index) or (isinstance(x, int) and not isinstance(x, bool))


class LoweringRun(ArrayRun):
    """Writes a kernel as loop IR.

    Args:
        source: of the kernel.
        bounds: see `ArrayRun`.
        b: the lowering.
        callers: see `ArrayRun`.
    """

    def __init__(
        self, source: KernelSource, bounds: str, b: Any, callers: tuple[KernelSource, ...] = ()
    ) -> None:
        super().__init__(source, bounds, callers)
        self.b = b

    @property
    def _trace(self) -> Any:
        trace = get_trace()
        assert isinstance(trace, (LoweringTrace, DryTrace))
        return trace

    @property
    def _dry(self) -> bool:
        return isinstance(get_trace(), DryTrace)

    def inner(self, source: KernelSource) -> LoweringRun:
        """See `ArrayRun`."""
        return LoweringRun(source, self.bounds, self.b, (self.source, *self.callers))

    def _scalar(self, value: Any) -> Any:
        return self._trace.scalar(value)

    # Indices

    def _address(self, value: Any) -> Any:
        """The loop IR value of an index."""
        builder = self.b.builder
        if isinstance(value, Index):
            return value.place
        if isinstance(value, int):
            return builder.index(value)
        return builder.convert(self._scalar(value), INDEX)

    def _index(self, place: Any) -> Index:
        return Index(self._trace, place)

    def binary(self, node: ast.AST, op: ast.operator, x: Any, y: Any) -> Any:
        """See `Expressions`: what is computed of counters stays an index."""
        if not (_is_index(x) and _is_index(y)) or not (
            isinstance(x, Index) or isinstance(y, Index)
        ):
            return super().binary(node, op, x, y)
        simple = _OF_INDICES.get(type(op))
        divides = isinstance(op, (ast.FloorDiv, ast.Mod)) and isinstance(y, int) and y > 0
        if simple is None and not divides:
            return super().binary(node, op, x, y)
        if self._dry:
            return self._index(None)
        a, c = self._address(x), self._address(y)
        if simple is not None:
            return self._index(self.b.builder.op(simple, a, c))
        quotient = self._quotient(a, c)
        if isinstance(op, ast.FloorDiv):
            return self._index(quotient)
        op_ = self.b.builder.op
        return self._index(op_("sub", a, op_("mul", quotient, c)))

    def _quotient(self, a: Any, c: Any) -> Any:
        """The quotient rounded down, of an index by a positive constant."""
        builder = self.b.builder
        op = builder.op
        if builder.bounds(a)[0] >= 0:
            return op("index_div", a, c)
        negative = op("lt", a, builder.index(0))
        up = op("sub", op("sub", c, builder.index(1)), a)
        quotient = op("index_div", builder.select(negative, up, a), c)
        return builder.select(negative, op("sub", builder.index(0), quotient), quotient)

    def _library(self, node: ast.Call, function: Any, args: list[Any], named: Any) -> Any:
        """The least or greatest of some indices is an index."""
        indices = all([_is_index(x) for x in args]) and any([isinstance(x, Index) for x in args])
        if not indices or function not in (min, max):
            return super()._library(node, function, args, named)
        if self._dry:
            return self._index(None)
        places = [self._address(x) for x in args]
        return self._index(
            functools.reduce(lambda a, c: self.b.builder.op(function.__name__, a, c), places)
        )

    def compared(self, compare: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        """See `Expressions`."""
        indices = _is_index(x) and _is_index(y) and (isinstance(x, Index) or isinstance(y, Index))
        if not indices or self._dry:
            return compare(x, y)
        result = self.b.builder.op(compare.__name__, self._address(x), self._address(y))
        return Lowered(self._trace, Aval((), np.dtype(np.bool_)), result)

    def select(self, predicate: Any, then: Any, otherwise: Any) -> Any:
        """See `Expressions`."""
        if not (_is_index(then) and _is_index(otherwise)) or not (
            isinstance(then, Index) or isinstance(otherwise, Index)
        ):
            return super().select(predicate, then, otherwise)
        if self._dry:
            return self._index(None)
        places = self._address(then), self._address(otherwise)
        return self._index(self.b.builder.select(self._scalar(predicate), *places))

    # Loads and stores

    def _offsets(self, node: ast.AST, view: View, index: Sequence[Any]) -> tuple[Any, ...]:
        """The index in the loop IR, inside of the array."""
        found: list[Any] = []
        for axis, i in enumerate(index):
            if is_integer(i):
                found.append(self.fixed(node, view, axis, int(i)))
            elif isinstance(i, Operand) and i.dtype.kind in "iu":
                found.append(None if self._dry else self._inside(node, view, axis, i))
            else:
                fix = "convert it with int()"
                self.fail(node, "an index is an integer", str(getattr(i, "aval", i)), fix)
        return tuple(found)

    def _inside(self, node: ast.AST, view: View, axis: int, i: Any) -> Any:
        builder, n = self.b.builder, view.shape[axis]
        place = self._address(i)
        low, high = builder.bounds(place)
        if self.bounds == CLIP and n:
            place = builder.op("max", place, builder.index(0)) if low < 0 else place
            return builder.op("min", place, builder.index(n - 1)) if high >= n else place
        if low < 0 or high >= n:
            line = self.source.location(node)
            text = f"{ast.unparse(node)}: an index along axis {axis} is not in range({n})"
            site = self.b.site(
                f"{self.source.name}: an index is out of bounds\n  found: {text}\n  at: {line}"
            )
            if low < 0:
                builder.check(builder.op("ge", place, builder.index(0)), site)
            if high >= n:
                builder.check(builder.op("lt", place, builder.index(n)), site)
        return place

    def load(self, node: ast.Subscript, array: Any, index: Sequence[Any]) -> Any:
        """See `Expressions`."""
        view = self.checked_view(node, array, index, False)
        return self.load_at(view, self._offsets(node, view, index))

    def load_at(self, view: View, offsets: tuple[Any, ...]) -> Any:
        """See `ArrayRun`."""
        aval = Aval((), view.dtype)
        if self._dry:
            return DryTracer(self._trace, aval)
        return Lowered(self._trace, aval, view.data.at(offsets))

    def store(self, node: ast.Subscript, array: Any, index: list[Any], value: Any) -> None:
        """See `Statements`."""
        view = self.checked_view(node, array, index, True)
        offsets = self._offsets(node, view, index)
        self._check_scalar(node, value)
        if not self._dry:
            scalar = self._scalar(converted(value, ScalarType(view.dtype, False)))
            view.data.put(offsets, scalar)

    # Types

    def scalar_type(self, value: Any) -> Any:
        """See `Statements`."""
        return INDEX_TYPE if _is_index(value) else type_of(value)

    def joined_type(self, a: Any, b: Any) -> Any:
        """See `Statements`."""
        if a == b:
            return a
        number = type_of(0)
        return super().joined_type(*[number if t == INDEX_TYPE else t for t in (a, b)])

    def as_type(self, value: Any, type_: Any) -> Any:
        """See `Statements`."""
        if type_ != INDEX_TYPE:
            return converted(self._number(value), type_)
        return self._index(None if self._dry else self._address(value))

    def _number(self, value: Any) -> Any:
        """A counter as a number like others."""
        if not isinstance(value, Index):
            return value
        if self._dry:
            return DryTracer(self._trace, value.aval)
        return Lowered(self._trace, value.aval, value.scalar)

    def of_type(self, type_: Any, trace: DryTrace) -> Any:
        """See `Statements`."""
        return Index(trace, None) if type_ == INDEX_TYPE else example(type_, trace)

    def dry_counter(self, trace: DryTrace) -> Any:
        """See `Statements`."""
        return Index(trace, None)

    def _leaf(self, scalar: Any, type_: Any) -> Any:
        """What a loop IR value is in the kernel."""
        if type_ == INDEX_TYPE:
            return self._index(scalar)
        return Lowered(self._trace, Aval((), type_.dtype, type_.weak), scalar)

    def _raw(self, values: Sequence[Any]) -> list[Any]:
        return [self._address(v) if isinstance(v, Index) else self._scalar(v) for v in values]

    # Branches

    def choose(
        self, predicate: Any, nodes: Sequence[ast.AST], sides: Sequence[Callable[[], Any]]
    ) -> Any:
        """See `Expressions`: what is read on one side is read only there."""
        if not isinstance(predicate, Operand):
            return sides[0]() if predicate else sides[1]()
        reads = any([isinstance(n, (ast.Subscript, ast.Call)) for x in nodes for n in ast.walk(x)])
        if not reads:
            return self.merged(nodes[0], predicate, sides[0](), sides[1]())

        def assigning(side: Callable[[], Any]) -> Callable[[], None]:
            return lambda: self.env.update({"value of a branch": side()})

        self.branch(nodes[0], predicate, [assigning(s) for s in sides], ["value of a branch"])
        return self.env.pop("value of a branch")

    def branch(
        self, node: ast.AST, predicate: Any, sides: Sequence[Callable[[], None]], names: Any
    ) -> None:
        """See `Statements`."""
        before = self.env
        names = list(dict.fromkeys(names))
        trace = DryTrace()
        with current_trace(self._trace if self._dry else trace):
            merged = self._merged_dry(node, predicate, sides, names)
        if self._dry:
            self.env = {**before, **merged}
            return
        known = {n: v for n, v in merged.items() if isinstance(v, Undefined) or is_number(v)}
        types: dict[str, Any] = {}
        for name, value in merged.items():
            if name not in known:
                types[name] = self._types(node, name, value)

        def side(run: Callable[[], None]) -> Callable[[], list[Any]]:
            def results() -> list[Any]:
                self.env = dict(before)
                run()
                return self._raw(self.scalars_of(node, types))

            return results

        scalars = self.b.builder.if_(self._scalar(predicate), side(sides[0]), side(sides[1]))
        self.env = {**before, **known}
        self._bind_scalars(types, scalars)

    def _merged_dry(
        self, node: ast.AST, predicate: Any, sides: Sequence[Callable[[], None]], names: Any
    ) -> dict[str, Any]:
        before, envs = self.env, list[dict[str, Any]]()
        for side in sides:
            self.env = dict(before)
            side()
            envs.append(self.env)
        self.env = before
        return {name: self.joined_variable(node, predicate, name, envs) for name in names}

    def _bind_scalars(self, types: dict[str, Any], scalars: Sequence[Any]) -> list[Any]:
        wanted = [t for type_ in types.values() for t in flatten(type_)]
        values = [self._leaf(s, t) for s, t in zip(scalars, wanted, strict=True)]
        self.bind(types, values)
        return values

    # Loops

    def _leaves_of(self, init: Sequence[Any], scalars: Sequence[Any]) -> list[Any]:
        return [self._leaf(s, self.scalar_type(v)) for s, v in zip(scalars, init, strict=True)]

    def run_while(
        self, test: Callable[[list[Any]], Any], body: Callable[[list[Any]], list[Any]], init: Any
    ) -> list[Any]:
        """See `Statements`."""
        if self._dry:
            return list(init)

        def condition(*scalars: Any) -> Any:
            return self._scalar(cnp.asarray(test(self._leaves_of(init, scalars))))

        def step(*scalars: Any) -> list[Any]:
            return self._raw(body(self._leaves_of(init, scalars)))

        return self._leaves_of(init, self.b.builder.while_(condition, step, self._raw(init)))

    def countable(self, low: Any, high: Any, step: int) -> bool:
        """See `Statements`."""
        dynamic = all([_is_index(x) or isinstance(x, Operand) for x in (low, high)])
        return super().countable(low, high, step) or (dynamic and step > 0)

    def bound(self, node: ast.For, x: Any) -> Any:
        """See `Statements`: counters are indices."""
        if not isinstance(x, Operand) or x.dtype.kind not in "iub":
            return super().bound(node, x)
        return self._index(None if self._dry else self._address(x))

    def run_for(
        self, bounds: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]], init: list[Any]
    ) -> list[Any]:
        """See `Statements`."""
        if self._dry:
            return list(init)
        builder, (low, high, step) = self.b.builder, bounds

        def iteration(place: Any, *scalars: Any) -> list[Any]:
            if step < 0:
                down = builder.op("mul", place, builder.index(step))
                place = builder.op("add", down, builder.index(low))
            return self._raw(body(self._index(place), self._leaves_of(init, scalars)))

        if step < 0:
            low_, high_, by = builder.index(0), builder.index(len(range(low, high, step))), 1
        else:
            low_, high_, by = self._address(low), self._address(high), step
        return self._leaves_of(init, builder.loop(low_, high_, iteration, self._raw(init), step=by))

    def special_loop(self, node: ast.For, function: Any) -> Callable[[ast.For, Any], None] | None:
        """See `Statements`."""
        return self._parallel if getattr(function, "is_prange", False) else None

    def _parallel(self, node: ast.For, bounds: list[Any]) -> None:
        """A loop whose iterations are independent."""
        low, high = (0, *bounds) if len(bounds) == 1 else bounds[:2]
        if len(bounds) not in (1, 2):
            self.fail(node, "prange takes one or two bounds", ast.unparse(node.iter))
        if leaves(node.body, ast.Return, ast.Break):
            fix = "use range"
            self.fail(node, "a loop over prange runs to its end", "break or return", fix)
        name, before = self._counter(node), dict(self.env)
        why = "iterations of prange are independent: they do not see what others compute"
        inside = {n: Undefined(why) for n in self.changed(node.body)}
        body, outer = self._iteration(node), self._begin_loop()

        def run(place: Any) -> None:
            self.env = {**before, **inside, name: self._index(place)}
            body()

        if self._dry:
            run(None)
        else:
            builder = self.b.builder
            builder.loop(self._address(low), self._address(high), run, kind=SIMD, independent=True)
            self._prefer_neighbours()
        why = "it is assigned to in the independent iterations of prange only"
        self.env = {**before, **{n: Undefined(why) for n in (*inside, name)}}
        self._end_flags(outer)

    def _prefer_neighbours(self) -> None:
        """Only loops that read neighbours, or do not contain loops, run in lanes."""
        loop = self.b.builder.block.last
        if not isinstance(loop, For) or loop.kind != SIMD:
            return
        loops = [i for i in loop.body.items if isinstance(i, For)]
        if has_simd_loop(loop.body) or (loops and not reads_contiguously(loop)):
            loop.kind = SERIAL
