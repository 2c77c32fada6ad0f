"""How long a program takes in each way to run it, by rule of thumb: for the choice between them.

Arrays of a program may be computed one after the other, each by vectors along its last axis, or in
lanes: each vector holds one element of the arrays of as many lanes. The first pays for passes
through memory and for short loops; the second keeps small arrays in registers, but has a copy of
every array for each of the lanes that share a cache. The figures are those of no machine, and
depend on nothing but shapes: what is decided by them is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import ceil, prod
from typing import NamedTuple

from covector.core.avals import Aval
from covector.core.dims import Dim, DimSize
from covector.core.program import Equation, Program, Variable, all_equations, subprograms
from covector.ops.common import CHEAP, Partial
from covector.ops.contract import DimensionNumbers
from covector.ops.contract_lowering import LIBRARY_SIZE
from covector.ops.lanes import TOGETHER
from covector.ops.nested import split

UNKNOWN = 100
"""Iterations a loop is thought to make whose number is known at run time only."""

LAST = 3.0
"""How many more iterations the last of many elements makes, for which arrays wait in a `while`."""

VECTOR = 16
"""Elements of a vector: so many lanes compute together, whatever the width of a chunk."""

IN_REGISTERS = 32
"""Elements of arrays which each lane has in registers."""

SIMPLE, ELEMENTARY, COMPLICATED = 0.5, 8.0, 40.0
"""Nanoseconds for a vector: of a sum or product, of a function such as `exp`, of others."""

GATHERED = 15.0
"""Nanoseconds to collect the elements of a vector, one from the arrays of each lane."""

NEST = 15.0
"""Nanoseconds to begin a loop over the elements of an array, and to end it."""

CALL = 300.0
"""Nanoseconds for a call of a library."""

LIBRARY_RATE, PACKED = 80.0, 8.0
"""Products and sums that BLAS makes in a nanosecond; bytes of matrices it prepares for that."""

GENERATED_RATE, SUMMED_RATE = 30.0, 20.0
"""The same of generated code, along rows of the result, and where an element of it is a sum of its
own."""

CACHES: tuple[tuple[float, float], ...] = (
    (1 << 15, 0.0),
    (1 << 20, 1 / 40),
    (1 << 24, 1 / 16),
    (float("inf"), 1 / 6),
)
"""Bytes up to which arrays stay in a cache, and the nanoseconds for a byte from there."""

THREADS = 2
"""Threads that are thought to share what can be shared, however many there are."""

WORTHWHILE, WAKING = 40_000.0, 5_000.0
"""Nanoseconds from which on threads share the work on an array, and what that costs them."""

LANE_RATES = (40.0, 20.0, 8.0, 4.0)
"""Products and sums in lanes in a nanosecond, by the cache that holds the arrays of the lanes."""


class Shape(NamedTuple):
    """The sizes of a contraction: of the batch, of the result's matrices, and of each sum."""

    batch: float
    rows: float
    columns: float
    inner: float

    @property
    def work(self) -> float:
        """Products and sums of one matrix of the result."""
        return 2.0 * self.rows * self.columns * self.inner


def by_threads(time: float, parts: float) -> float:
    """What threads make of some time.

    Args:
        time: nanoseconds of one thread.
        parts: into how many pieces the work can be divided.
    """
    threads = min(ceil(parts), THREADS)
    if threads < 2 or time < WORTHWHILE:
        return time
    return time * ceil(parts / threads) / ceil(parts) + WAKING


def array_time(
    program: Program, sizes: Mapping[str, int] | None = None, shared: bool = False
) -> float:
    """Nanoseconds of a program whose arrays are computed one after the other.

    Args:
        program: any program.
        sizes: numbers for symbolic sizes.
        shared: whether threads share the work on each array.
    """
    return _Arrays(sizes or {}, shared).time(program, 0.0)


def lane_time(
    program: Program, own: Collection[Variable], scattered: Collection[Variable]
) -> float:
    """Nanoseconds of a program for `TOGETHER` lanes at a time, each in its part of vectors.

    Args:
        program: for one lane.
        own: inputs that each lane has for itself.
        scattered: those of them whose elements of neighbouring lanes are not neighbours in memory.
    """
    return _Vectors(scattered).time(program, set(own), 0.0)


class _Ways:
    """What both ways share: sizes, and the work of an element.

    Args:
        sizes: numbers for symbolic sizes.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes

    def elements(self, aval: Aval) -> float:
        """How many elements an array has."""
        return float(prod([self._number(n) for n in aval.shape]))

    def bytes(self, aval: Aval) -> float:
        """How many bytes an array has."""
        itemsize = getattr(aval.dtype, "itemsize", 8)
        return self.elements(aval) * itemsize

    def _number(self, size: DimSize) -> int:
        if type(size) is not Dim:
            return int(size)
        known = size.symbols <= self._sizes.keys()
        return size.evaluate(dict(self._sizes)) if known else UNKNOWN

    def shape(self, equation: Equation) -> Shape:
        """The sizes of a product of arrays."""
        numbers: DimensionNumbers = equation.params["dimension_numbers"]
        (contracted, _), (batch, _) = numbers
        lhs, rhs = (a.aval for a in equation.inputs)
        extents: list[int] = [self._number(n) for n in lhs.shape]
        inner = prod(extents[d] for d in contracted)
        count = prod(extents[d] for d in batch)
        each = max(count * inner, 1)
        rows, columns = self.elements(lhs) / each, self.elements(rhs) / each
        return Shape(float(count), rows, columns, float(inner))

    def touched(self, equation: Equation) -> float:
        """How many elements an equation computes, reduces, reads by index or writes by index."""
        update = _UPDATES.get(equation.primitive.name)
        if update is not None:
            return self.elements(equation.inputs[update].aval)
        reduced = equation.inputs if "reduction" in equation.primitive.tags else ()
        return max([self.elements(x.aval) for x in (*reduced, *equation.outputs)], default=1.0)

    def times(self, equation: Equation) -> float:
        """How often an equation runs its programs."""
        name, length = equation.primitive.name, equation.params.get("length", 1)
        if name == "while":
            return UNKNOWN
        return float(self._number(length)) if name == "scan" else 1.0


def _is_product(equation: Equation) -> bool:
    return equation.primitive.name == "dot_general"


def _moves(equation: Equation) -> bool:
    """Whether an equation becomes part of what reads its result."""
    return bool(equation.primitive.tags & {"elementwise", "movement"})


def _vector_cost(equation: Equation) -> float:
    """Nanoseconds for a vector of results, or of what is reduced."""
    tags = equation.primitive.tags
    if "elementwise" in tags:
        return SIMPLE if CHEAP in tags else ELEMENTARY
    if tags & {"movement", "reduction"}:
        return SIMPLE
    return GATHERED if equation.primitive.name in _INDEXED else COMPLICATED


_SCATTERS = ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
_UPDATES = {"dynamic_update_slice": 1, **dict.fromkeys(_SCATTERS, 2)}
"""Primitives that write a part of an array, and the position of that part among the operands."""

_INDEXED = frozenset({*_UPDATES, "gather", "dynamic_slice"})
"""Primitives that read or write an array by indices."""


def _level(nbytes: float) -> int:
    return next(k for k, (limit, _) in enumerate(CACHES) if nbytes <= limit)


class _Arrays(_Ways):
    """Arrays one after the other.

    Args:
        sizes: numbers for symbolic sizes.
        shared: whether threads share the work on each array.
    """

    def __init__(self, sizes: Mapping[str, int], shared: bool) -> None:
        super().__init__(sizes)
        self._shared = shared

    def _by_threads(self, time: float) -> float:
        """What threads make of the time for an array."""
        return by_threads(time, THREADS) if self._shared else time

    def time(self, program: Program, around: float) -> float:
        """Nanoseconds of a program.

        Args:
            program: any.
            around: bytes of arrays that loops around it leave no cache for.
        """
        stored = self._stored(program)
        held = around + sum([self.bytes(v.aval) for v in stored])
        total = self._by_threads(self._moved(program, stored) * CACHES[_level(held)][1])
        for equation in program.equations:
            inner = list(subprograms(equation.params))
            if inner:
                tape = sum([self.bytes(v.aval) for v in equation.outputs])
                each = [self.time(p, tape) for p in inner]
                share = len(inner) if equation.primitive.name == "cond" else 1
                last = LAST if equation.primitive.name == "while" else 1.0
                total += last * self.times(equation) * sum(each) / share
            elif _is_product(equation):
                total += self._by_threads(self._product(self.shape(equation)))
            else:
                vectors = ceil(self.touched(equation) / VECTOR)
                total += self._by_threads(vectors * _vector_cost(equation))
                total += 0 if _moves(equation) else NEST
        return total + NEST * len(stored)

    def _stored(self, program: Program) -> set[Variable]:
        """The arrays that are not part of a loop over another."""
        read = {
            a for e in program.equations if not _moves(e) for a in e.inputs if type(a) is Variable
        }
        made = {v for e in program.equations if not _moves(e) for v in e.outputs}
        results = {a for a in program.outputs if type(a) is Variable}
        return read | made | results

    def _moved(self, program: Program, stored: set[Variable]) -> float:
        """Bytes read and written."""
        total = sum([self.bytes(v.aval) for v in stored])
        for equation in program.equations:
            for atom in {*equation.inputs}:
                if type(atom) is Variable and atom in stored:
                    total += self.bytes(atom.aval)
        return total

    def _product(self, shape: Shape) -> float:
        if shape.work >= 2 * LIBRARY_SIZE:
            matrices = shape.rows * shape.inner + shape.inner * shape.columns
            return shape.batch * (CALL + 4 * matrices / PACKED + shape.work / LIBRARY_RATE)
        if min(shape.rows, shape.columns) <= 1 or max(shape.rows, shape.columns) < VECTOR / 2:
            return shape.batch * (NEST + shape.work / SUMMED_RATE)
        wide = max(shape.rows, shape.columns)
        filled = wide / (-(-wide // VECTOR) * VECTOR)
        return shape.batch * (NEST + shape.work / (GENERATED_RATE * filled))


class _Vectors(_Ways):
    """`TOGETHER` lanes at a time, each in its part of vectors.

    Args:
        scattered: inputs whose elements of neighbouring lanes are not neighbours in memory.
    """

    def __init__(self, scattered: Collection[Variable]) -> None:
        super().__init__({})
        self._scattered = set(scattered)

    def time(self, program: Program, own: set[Variable], around: float) -> float:
        """Nanoseconds of a program.

        Args:
            program: for one lane.
            own: inputs that each lane has for itself.
            around: bytes of arrays that loops around it leave no cache for.
        """
        own = self._spread(program, own)
        kept = [v for v in self._variables(program) if self._in_memory(v.aval)]
        sizes = {v: self.bytes(v.aval) * (TOGETHER if v in own else 1) for v in kept}
        level = _level(around + sum(sizes.values()))
        written = sum([sizes[v] for e in program.equations for v in e.outputs if v in sizes])
        total = written * CACHES[level][1]
        for equation in program.equations:
            total += self._equation(equation, own, sizes, level)
        return total

    def _equation(
        self, equation: Equation, own: set[Variable], sizes: Mapping[Variable, float], level: int
    ) -> float:
        inner = list(subprograms(equation.params))
        if inner:
            tape = sum([sizes.get(v, 0.0) for v in equation.outputs])
            each = [self.time(p, self._own_inputs(equation, p, own), tape) for p in inner]
            return self.times(equation) * sum(each)
        total = self._gathered(equation)
        read = sum([sizes.get(a, 0.0) for a in equation.inputs if type(a) is Variable])
        total += read * CACHES[level][1]
        total += NEST if any([v in sizes for v in equation.outputs]) else 0
        vectors = TOGETHER / VECTOR if any([v in own for v in equation.outputs]) else 1 / VECTOR
        if _is_product(equation):
            shape = self.shape(equation)
            return total + shape.batch * shape.work * vectors * VECTOR / LANE_RATES[level]
        cost = 0.0 if "movement" in equation.primitive.tags else _vector_cost(equation)
        return total + self.touched(equation) * vectors * cost

    def _gathered(self, equation: Equation) -> float:
        """Nanoseconds to collect elements of operands, which are not neighbours there."""
        given = [a.aval for a in equation.inputs if type(a) is Variable and a in self._scattered]
        return GATHERED * TOGETHER / VECTOR * sum(map(self.elements, given))

    def _in_memory(self, aval: Aval) -> bool:
        return self.elements(aval) > IN_REGISTERS

    def _variables(self, program: Program) -> list[Variable]:
        made = [v for e in program.equations if not _moves(e) for v in e.outputs]
        return [*program.inputs, *made]

    def _spread(self, program: Program, own: set[Variable]) -> set[Variable]:
        """The variables of which each lane has its own."""
        found = set(own)
        for equation in program.equations:
            if any([a in found for a in equation.inputs if type(a) is Variable]):
                found.update(equation.outputs)
        return found

    def _own_inputs(self, equation: Equation, inner: Program, own: set[Variable]) -> set[Variable]:
        """The inputs of a nested program of which each lane has its own."""
        params, given = equation.params, list(equation.inputs)
        name = equation.primitive.name
        carried: Sequence[Variable] = ()
        if name == "while":
            first, second, rest = split(given, params["cond_nconsts"], params["body_nconsts"])
            given = [*(first if inner is params["cond_program"] else second), *rest]
            carried = inner.inputs[len(given) - len(rest) :]
        elif name == "scan":
            _, carried, _ = split(inner.inputs, params["num_consts"], params["num_carry"])
        elif name == "cond":
            given = given[1:]
        passed = list(zip(inner.inputs, given, strict=False))
        self._scattered |= {v for v, a in passed if a in self._scattered and v not in carried}
        found = {v for v, a in passed if a in own}
        while True:  # what is carried is each lane's own as soon as what it is made of is
            spread = self._spread(inner, found)
            more = {v for v, a in zip(carried, inner.outputs, strict=False) if a in spread}
            if more <= found:
                return found
            found |= more


def partial_time(program: Program, dims: Sequence[object], copies: int) -> float:
    """Nanoseconds to add a chunk's partial results to those of others.

    Args:
        program: of a chunk.
        dims: the states of its results.
        copies: of each partial result, one for each lane that shares vectors.
    """
    parts = [a.aval for a, d in zip(program.outputs, dims, strict=True) if type(d) is Partial]
    count = copies * sum([_Ways({}).elements(aval) for aval in parts])
    return count / VECTOR * SIMPLE + 8 * count * CACHES[_level(4 * count)][1]


def has_products(program: Program) -> bool:
    """Whether a program has products of arrays."""
    return any([_is_product(e) for e in all_equations(program)])


def needs_library(program: Program) -> bool:
    """Whether a program has products of matrices for which BLAS is called."""
    sizes = _Ways({})
    return any(
        [sizes.shape(e).work >= 2 * LIBRARY_SIZE for e in all_equations(program) if _is_product(e)]
    )
