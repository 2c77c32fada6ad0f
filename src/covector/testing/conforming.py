"""What a backend gets right: every operation and a set of programs, against the interpreter."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from covector.core import dtypes, pytree
from covector.core.backend import Options, executable, get_backend
from covector.core.config import config
from covector.core.dims import symbol
from covector.core.errors import MissingCapabilityError
from covector.core.program import Program
from covector.testing.optable import OpRow, edge_operands, ulps_between
from covector.testing.optable import families as op_families
from covector.transforms.programs import make_program
from covector.transforms.stages import ShapeDtypeStruct

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

Array = np.ndarray[Any, Any]

PASSED, MISSING, FAILED = "passed", "missing", "failed"
OUTCOMES = (PASSED, MISSING, FAILED)

_RANDOM = "random programs"
_SIZES = "sizes at run time"
_COMPLEX_ULPS = 256.0
"""Complex functions lose more, relative to the whole number, near their zeros and poles."""

_NEAR = {2: 0.03, 4: 1e-4, 8: 1e-8}
"""How far results of many roundings may be apart, relative to the greatest, by width in bytes."""


class Case(NamedTuple):
    """One thing a backend was asked to do.

    Attributes:
        family: what it is a case of.
        name: which one.
        outcome: "passed", "missing" (it needs what the backend declares that it lacks) or "failed".
        detail: what is missing or went wrong.
    """

    family: str
    name: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Conformance:
    """What passes. Printed, it is a table by family, with what failed below.

    Attributes:
        backend: its name.
        cases: everything that was tried.
    """

    backend: str
    cases: tuple[Case, ...]

    @property
    def failures(self) -> list[Case]:
        """The cases that failed."""
        return [case for case in self.cases if case.outcome == FAILED]

    @property
    def missing(self) -> dict[str, int]:
        """What the backend declares that it lacks, and how many cases need it."""
        found: dict[str, int] = {}
        for case in self.cases:
            if case.outcome == MISSING:
                found[case.detail] = found.get(case.detail, 0) + 1
        return dict(sorted(found.items()))

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def counts(self) -> dict[str, dict[str, int]]:
        """For each family how many cases passed, are missing and failed."""
        found: dict[str, dict[str, int]] = {}
        for case in self.cases:
            family = found.setdefault(case.family, dict.fromkeys(OUTCOMES, 0))
            family[case.outcome] += 1
        return found

    def __rich__(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        return Group(self._table(), *[Text(line) for line in self._remarks()])

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(file=io.StringIO(), width=100, color_system=None)
        with console.capture() as capture:
            console.print(self._table())
        lines = [line.rstrip() for line in capture.get().splitlines()]
        return "\n".join([*lines, *self._remarks()])

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(title=f"conformance of the backend {self.backend!r}", title_justify="left")
        table.add_column("family")
        for outcome in OUTCOMES:
            table.add_column(outcome, justify="right")
        for family, counts in self.counts().items():
            table.add_row(family, *[str(counts[o] or "") for o in OUTCOMES])
        table.add_section()
        table.add_row("all", *[str(sum(c.outcome == o for c in self.cases)) for o in OUTCOMES])
        return table

    def _remarks(self) -> list[str]:
        lacking = [f"{what} ({count})" for what, count in self.missing.items()]
        lines = [f"declared missing: {', '.join(lacking)}"] if lacking else []
        return lines + [f"failed: {c.family}: {c.name}: {c.detail}" for c in self.failures]


def conformance(
    backend: str,
    families: Iterable[str] | None = None,
    *,
    only: Callable[[str], bool] | None = None,
    programs: int = 30,
    effort: int = 1,
) -> Conformance:
    """Runs every operation of the op table and a set of programs on a backend.

    Results are compared with those of the reference interpreter; operations with all dtypes they
    are defined on, elementwise ones also at NaN, infinities and other ends of the range.

    Args:
        backend: the name of a registered or installed backend.
        families: only these, as the table names them; by default all.
        only: a condition on the names of operations and programs.
        programs: how many random programs to run.
        effort: of compilation.

    Returns:
        The outcome of every case; print it.

    Raises:
        ValueError: if there is no such backend or family.

    Example:
        >>> report = conformance("reference", ["loops", "while"])
        >>> report.ok, report.counts()["while"]
        (True, {'passed': 3, 'missing': 0, 'failed': 0})
    """
    get_backend(backend)
    known = _sources(programs)
    wanted = list(known) if families is None else list(families)
    if unknown := [f for f in wanted if f not in known]:
        raise ValueError(f"no family {', '.join(unknown)}; there are: {', '.join(known)}")
    runner = _Runner(backend, effort, only or (lambda name: True))
    cases: list[Case] = []
    for family in wanted:
        with config.override("x64", family in op_families()):
            cases += [case._replace(family=family) for case in known[family](runner)]
    return Conformance(backend, tuple(cases))


_Source = Callable[["_Runner"], Iterator[Case]]


def _sources(count: int) -> dict[str, _Source]:
    """What runs the cases of each family."""
    from covector.testing.conformance_programs import Example, all_examples

    found: dict[str, _Source] = {}
    for family, rows in op_families().items():
        found[family] = _of_rows(rows, family == "elementwise")
    examples: dict[str, list[Example]] = {}
    for example in all_examples():
        examples.setdefault(example.family, []).append(example)
    for family, members in examples.items():
        found[family] = _of_examples(members)
    found[_SIZES] = lambda runner: runner.sizes()
    found[_RANDOM] = lambda runner: runner.random(count)
    return found


def _of_rows(rows: Sequence[OpRow], at_edges: bool) -> _Source:
    def run(runner: _Runner) -> Iterator[Case]:
        for row in rows:
            if runner.wants(row.name):
                yield from runner.row(row, at_edges)

    return run


def _of_examples(examples: Sequence[Any]) -> _Source:
    def run(runner: _Runner) -> Iterator[Case]:
        for _, name, function, arguments in examples:
            if runner.wants(name):
                yield runner.case(name, function, arguments, _differs)

    return run


class _Runner:
    """Runs programs on a backend and on the interpreter.

    Args:
        backend: its name.
        effort: of compilation.
        wants: whether to run what has a name.
    """

    def __init__(self, backend: str, effort: int, wants: Callable[[str], bool]) -> None:
        self.wants = wants
        self._backend = backend
        self._options = Options(effort=effort)

    def _compiled(self, program: Program) -> Callable[..., Sequence[Any]]:
        return get_backend(self._backend).compile(program, self._options)

    def case(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Sequence[Any],
        differs: Callable[[Sequence[Array], Sequence[Array]], str],
        compiled: bool = True,
    ) -> Case:
        """Compiles a function, calls it twice, and compares results with the interpreter's."""
        flat = [np.asarray(a) for a in arguments]
        try:
            program = make_program(lambda *xs: pytree.leaves(function(*xs)))(*arguments)
            wanted = [np.asarray(x) for x in executable(program, backend="reference")(*flat)]
            run = self._compiled(program)
            for _ in range(2):
                problem = _mistyped(run(*flat), program, wanted)
                problem = problem or differs([np.asarray(x) for x in run(*flat)], wanted)
                if problem:
                    return Case("", name, FAILED, problem)
        except MissingCapabilityError as error:
            return Case("", name, MISSING, error.capability)
        except Exception as error:  # whatever a backend does wrong is a result
            first = str(error).partition("\n")[0]
            if not compiled:
                return Case("", name, MISSING, "loop IR of it")
            return Case("", name, FAILED, f"{type(error).__name__}: {first}")
        return Case("", name, PASSED)

    def row(self, row: OpRow, at_edges: bool) -> Iterator[Case]:
        """A row of the op table with each of its dtypes, all in one program if they pass."""
        operands = {dtype: _operands(row, dtype, at_edges) for dtype in row.dtypes}
        together = [x for xs in operands.values() for x in xs]
        differs = _in_ulps(row) if at_edges else _differs

        def every(*xs: Any) -> Any:
            rest = iter(xs)
            return [row(*[next(rest) for _ in own]) for own in operands.values()]

        names = {dtype: f"{row.name} {dtype}" for dtype in row.dtypes}
        if self.case(row.name, every, together, differs).outcome == PASSED:
            yield from [Case("", name, PASSED) for name in names.values()]
            return
        for dtype, own in operands.items():
            yield self.case(names[dtype], row, own, differs, row.compiled)

    def sizes(self) -> Iterator[Case]:
        """Programs whose sizes are symbolic, called with several sizes."""
        for name, function in _OF_SYMBOLIC.items():
            if not self.wants(name):
                continue
            shape = ShapeDtypeStruct((symbol("n"), 3), np.dtype(np.float32))
            yield self._at_sizes(name, make_program(partial(_leaves_of, function))(shape))

    def _at_sizes(self, name: str, program: Program) -> Case:
        try:
            run, reference = self._compiled(program), executable(program, backend="reference")
            for n in (5, 1, 40, 0):
                x = np.random.default_rng(n).uniform(-1, 1, (n, 3)).astype(np.float32)
                wanted = [np.asarray(y) for y in reference(x)]
                if problem := _differs([np.asarray(y) for y in run(x)], wanted):
                    return Case("", name, FAILED, f"n = {n}: {problem}")
        except MissingCapabilityError as error:
            return Case("", name, MISSING, error.capability)
        except Exception as error:  # as above
            first = str(error).partition("\n")[0]
            return Case("", name, FAILED, f"{type(error).__name__}: {first}")
        return Case("", name, PASSED)

    def random(self, count: int) -> Iterator[Case]:
        """Random functions, transformed at random."""
        import covector as cv
        from covector.testing.functions import Function, generate, namespace
        from covector.testing.functions.comparison import expect

        api = namespace(cv)

        def one(function: Function) -> Case:
            def run(*values: Any) -> Any:
                return function(api, *values)

            def differs(found: Sequence[Array], wanted: Sequence[Array]) -> str:
                precision = "float32" if "float32" in function.dtypes else "float64"
                program = make_program(run)(*function.arguments())
                expected = expect(
                    executable(program, backend="reference"),
                    function.arguments(),
                    exact=function.style.exact,
                    precision=precision,
                    seed=function.seed,
                )
                return expected.mismatch(found) or ""

            return self.case(f"seed {function.seed}", run, function.arguments(), differs)

        for seed in range(count):
            if self.wants(f"seed {seed}"):
                with config.override("x64", True):
                    yield one(generate(seed))


def _operands(row: OpRow, dtype: str, at_edges: bool) -> list[Array]:
    if not at_edges:
        return row.sample(1, dtype, (2, 3))
    sampled = row.sample(0, dtype, (67,))
    edges = edge_operands(row, dtype, limit=200)
    if edges is None:
        return sampled
    return [np.concatenate(pair) for pair in zip(sampled, edges, strict=True)]


# --- what is equal --------------------------------------------------------------------------------


def _mistyped(found: Sequence[Any], program: Program, wanted: Sequence[Array]) -> str:
    """What is wrong with the types of results, empty if nothing is."""
    avals = program.output_avals
    if len(found) != len(avals):
        return f"{len(found)} results instead of {len(avals)}"
    for k, (x, y, aval) in enumerate(zip(found, wanted, avals, strict=True)):
        kind = (x.aval.dtype, x.aval.weak_type)
        if kind != (aval.dtype, aval.weak_type) or np.shape(x) != y.shape:
            return f"result {k} is {x.aval}, not {aval}"
    return ""


def _differs(found: Sequence[Array], wanted: Sequence[Array]) -> str:
    """How results of many roundings differ, empty if they are near each other."""
    for k, (x, y) in enumerate(zip(found, wanted, strict=True)):
        if not dtypes.is_inexact(y.dtype):
            bad = x != y
        else:
            near = _NEAR[dtypes.real_of(y.dtype).itemsize]
            x, y = _widened(x), _widened(y)
            scale = max(1.0, float(np.max(np.abs(y), initial=0.0, where=np.isfinite(y))))
            bad = ~np.isclose(x, y, rtol=near, atol=near * scale, equal_nan=True)
        if problem := _first(bad, x, y, k):
            return problem
    return ""


def _in_ulps(row: OpRow) -> Callable[[Sequence[Array], Sequence[Array]], str]:
    """Compares results of single operations."""

    def differs(found: Sequence[Array], wanted: Sequence[Array]) -> str:
        for k, (x, y) in enumerate(zip(found, wanted, strict=True)):
            if dtypes.is_inexact(y.dtype):
                allowed = _COMPLEX_ULPS if dtypes.is_complex(y.dtype) else row.ulps
                bad = ulps_between(x, y, row.roots) > allowed
            else:
                bad = x != y
            if problem := _first(bad, x, y, k):
                return problem
        return ""

    return differs


def _widened(x: Array) -> Array:
    return x.astype(np.complex128 if dtypes.is_complex(x.dtype) else np.float64)


def _first(bad: Any, found: Array, wanted: Array, number: int) -> str:
    bad = np.asarray(bad)
    if not bad.any():
        return ""
    place = tuple([int(i) for i in np.argwhere(bad)[0]])
    where = f"result {number} at {list(place)}" if place else f"result {number}"
    return f"{where}: {found[place]} instead of {wanted[place]} ({int(bad.sum())} differ)"


# --- programs of symbolic sizes -------------------------------------------------------------------


def _leaves_of(function: Callable[[Any], Any], x: Any) -> list[Any]:
    return pytree.leaves(function(x))


def _normalised(x: Any) -> Any:
    import covector.numpy as cnp

    return x / (1 + cnp.abs(x).sum(1, keepdims=True))


def _column_sums(x: Any) -> Any:
    import covector.numpy as cnp

    return (cnp.sin(x) ** 2).sum(0)


def _recurrence(x: Any) -> Any:
    from covector import lax

    return lax.scan(lambda c, v: (c * 0.5 + v, c), np.zeros(3, np.float32), x)


_OF_SYMBOLIC: dict[str, Callable[[Any], Any]] = {
    "normalised": _normalised,
    "column sums": _column_sums,
    "recurrence": _recurrence,
}
