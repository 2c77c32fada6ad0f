"""Every oracle there is for an operation, applied to one of a user's."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core import dtypes
from covector.core.backend import get_backend
from covector.core.config import config
from covector.core.errors import UnsupportedRuleError
from covector.core.parsing import parse
from covector.core.printing import print_program
from covector.core.trace import eval_program
from covector.testing.gradients import check_grads

Array = np.ndarray[Any, Any]

OK, FAILED, SKIPPED = "ok", "FAILED", "skipped"

_BATCH = 3
_LANES = 9
_STEPS = 3


@dataclass(frozen=True)
class Check:
    """The outcome of one oracle.

    Attributes:
        name: what was checked.
        status: "ok", "FAILED" or "skipped".
        detail: what is wrong, or why it was skipped.
    """

    name: str
    status: str
    detail: str = ""


@dataclass
class Report:
    """What `check_op` found.

    Attributes:
        operation: its name.
        checks: in the order they ran.
    """

    operation: str
    checks: list[Check] = field(default_factory=list[Check])

    @property
    def failures(self) -> list[Check]:
        return [c for c in self.checks if c.status == FAILED]

    def __str__(self) -> str:
        width = max([len(c.name) for c in self.checks], default=0)
        count = len(self.failures)
        head = f"{self.operation}: " + (
            f"{count} of {len(self.checks)} checks failed" if count else "all checks passed"
        )
        return "\n".join([head, *[_line(c, width) for c in self.checks]])


def _line(check: Check, width: int) -> str:
    first, *rest = check.detail.split("\n") if check.detail else [""]
    if check.status != FAILED:
        rest = []
    more = "".join([f"\n{' ' * (width + 12)}{line}" for line in rest])
    return f"  {check.name:<{width}}  {check.status:<7} {first}".rstrip() + more


class CheckFailed(AssertionError):  # what it says reads so
    """Some oracle disagrees with an operation.

    Attributes:
        report: all that was found; the error's text is its table.
    """

    def __init__(self, report: Report) -> None:
        super().__init__(str(report))
        self.report = report


def check_op(
    op: Callable[..., Any],
    *example_args: Any,
    params: dict[str, Any] | None = None,
    order: int = 2,
    backends: Sequence[str] = ("reference", "native"),
    nan: bool = True,
    atol: float | None = None,
    rtol: float | None = None,
) -> Report:
    """Runs every oracle on an operation at example operands.

    Shapes and dtypes are compared with evaluation by the reference interpreter, and so is each
    backend; derivatives with finite differences, in both modes; batching (over each operand alone,
    pairs of them, all, nested, and no examples at all) with a loop; lanes with the plain program;
    programs with what their text reads back as; and `jit`, `vmap`, `grad`, `scan` and `cond`
    inside of each other with what they should be equal to. What an operation refuses with a reason
    is skipped, and the reason is in the report.

    Args:
        op: an operation of `covector.extend`, or any function of arrays that gives an array or a
            tuple of them.
        *example_args: arrays where it is defined and differentiable; in float64 for sharp results
            (with `enable_x64`), and with sizes greater than 1. Batches have values up to 4% closer
            to zero.
        params: its static parameters.
        order: how many derivatives.
        backends: which ones.
        nan: also with NaN for the operands; not for functions that NaN keeps from returning.
        atol: absolute tolerance of values; by default what the dtype allows.
        rtol: relative tolerance; likewise.

    Returns:
        The report, whose text is a table.

    Raises:
        CheckFailed: if an oracle disagrees.

    Example:
        >>> import covector.numpy as cnp
        >>> from covector import extend
        >>> from covector.testing import check_op
        >>> cube = extend.decomposition(name="doc_cube")(lambda x: x * x * x)
        >>> check_op(cube, cnp.array([0.5, -1.5])).failures
        []
    """
    report = Report(getattr(op, "name", None) or getattr(op, "__name__", "operation"))
    subject = _Subject(op, [np.asarray(a) for a in example_args], params or {}, (atol, rtol))
    for name, check in _checks(subject, order, tuple(backends), nan):
        report.checks.append(_run(name, check))
    if report.failures:
        raise CheckFailed(report)
    return report


Thunk = Callable[[], str | None]
"""Runs a check; gives a reason for not doing so."""


def _run(name: str, check: Thunk) -> Check:
    try:
        reason = check()
    except UnsupportedRuleError as refused:
        return Check(name, SKIPPED, str(refused))
    except AssertionError as wrong:
        return Check(name, FAILED, str(wrong).strip())
    except Exception as error:  # whatever a rule of the user's raises belongs into the report
        return Check(name, FAILED, f"{type(error).__name__}: {error}")
    return Check(name, SKIPPED, reason) if reason else Check(name, OK)


class _Subject:
    """An operation at some operands.

    Args:
        op: the operation.
        args: operands.
        params: static parameters.
        tolerances: absolute and relative, `None` for what the dtype allows.
    """

    def __init__(
        self,
        op: Callable[..., Any],
        args: list[Array],
        params: dict[str, Any],
        tolerances: tuple[float | None, float | None],
    ) -> None:
        self.op = op
        self.args = [np.asarray(cnp.asarray(a)) for a in args]
        self.params = params
        self.tolerances = tolerances

    def __call__(self, *operands: Any) -> tuple[Any, ...]:
        found = self.op(*operands, **self.params)
        return tuple(cast("Sequence[Any]", found)) if isinstance(found, (tuple, list)) else (found,)

    def reference(self, *operands: Any) -> list[Array]:
        """What the interpreter says."""
        with config.override("backend", "reference"):
            return [np.asarray(y) for y in cv.jit(self, backend="reference")(*operands)]

    @property
    def inexact(self) -> list[int]:
        """The operands with derivatives."""
        return [k for k, a in enumerate(self.args) if dtypes.is_inexact(a.dtype)]

    def varied(self, number: int, count: int) -> Array:
        """A batch of an operand: itself, and others a little closer to zero."""
        x = self.args[number]
        if number not in self.inexact:
            return np.stack([x] * count)
        factors = 1 - 0.04 * np.arange(count) / max(count - 1, 1)
        return np.stack([np.asarray(x * f, x.dtype) for f in factors])

    def same(self, what: str, found: Any, expected: Any, strict: bool = True) -> None:
        """Compares flat results: shapes, dtypes and values."""
        ours = [np.asarray(x) for x in cv.tree.leaves(found)]
        theirs = [np.asarray(x) for x in cv.tree.leaves(expected)]
        assert len(ours) == len(theirs), f"{what}: {len(ours)} results instead of {len(theirs)}"
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            where = f"{what}: result {k}" if len(ours) > 1 else what
            assert a.shape == b.shape, f"{where} has shape {a.shape} instead of {b.shape}"
            if strict:
                assert a.dtype == b.dtype, f"{where} is {a.dtype} instead of {b.dtype}"
            self._close(where, a, b)

    def _close(self, where: str, a: Array, b: Array) -> None:
        if not dtypes.is_inexact(a.dtype):
            assert np.array_equal(a, b), f"{where} is\n{a}\ninstead of\n{b}"
            return
        width = dtypes.real_of(a.dtype).itemsize
        default = {2: 2e-2, 4: 2e-5, 8: 1e-11}[width]
        atol, rtol = (default if t is None else t for t in self.tolerances)
        wide = np.complex128 if dtypes.is_complex(a.dtype) else np.float64
        a, b = a.astype(wide), b.astype(wide)
        with np.errstate(all="ignore"):
            fine = np.isclose(a, b, rtol=rtol, atol=atol, equal_nan=True)
        if not np.all(fine):
            index = tuple(map(int, np.argwhere(~fine)[0]))
            raise AssertionError(
                f"{where} is wrong in {np.sum(~fine)} of {fine.size} elements, "
                f"first at {index}: {a[index]} instead of {b[index]}"
            )


def _checks(
    subject: _Subject, order: int, backends: Sequence[str], nan: bool
) -> Iterator[tuple[str, Thunk]]:
    yield "shapes and dtypes", lambda: _check_shapes(subject)
    yield (
        "eager calls",
        lambda: subject.same(
            "an eager call", subject(*subject.args), subject.reference(*subject.args)
        ),
    )
    for backend in backends:
        yield f"jit on {backend}", lambda b=backend: _check_backend(subject, b)
    yield "text of programs", lambda: _check_text(subject)
    for mode in ("fwd", "rev"):
        for k in range(1, order + 1):
            yield f"derivative {k}, {mode}", lambda m=mode, k=k: _check_grads(subject, k, m)
    for batched in _subsets(len(subject.args)):
        label = ", ".join(map(str, batched))
        yield f"vmap over {label}", lambda b=batched: _check_vmap(subject, b)
    yield "vmap of vmap", lambda: _check_nested(subject)
    yield "vmap over no examples", lambda: _check_no_examples(subject)
    yield "vmap of the gradient", lambda: _check_vmap_of_grad(subject)
    yield "gradient of vmap", lambda: _check_grad_of_vmap(subject)
    yield "lanes", lambda: _check_lanes(subject)
    yield "scan", lambda: _check_scan(subject)
    yield "gradient of scan", lambda: _check_grad_of_scan(subject)
    yield "cond", lambda: _check_cond(subject)
    if nan:
        yield "NaN", lambda: _check_nan(subject, backends)
    yield "empty arrays", lambda: _check_empty(subject, backends)


def _subsets(count: int) -> list[tuple[int, ...]]:
    """Each operand, pairs of them, and all."""
    sizes = sorted({1, 2, count} & set(range(1, count + 1)))
    return [s for n in sizes for s in itertools.combinations(range(count), n)]


# --- values ---------------------------------------------------------------------------------------


def _check_shapes(subject: _Subject) -> None:
    declared = cv.eval_shape(subject, *subject.args)
    found = subject.reference(*subject.args)
    assert len(declared) == len(found), (
        f"the shape rule gives {len(declared)} results, evaluation {len(found)}"
    )
    for k, (d, f) in enumerate(zip(declared, found, strict=True)):
        assert (tuple(d.shape), d.dtype) == (f.shape, f.dtype), (
            f"the shape rule says that result {k} is {d.dtype}{list(d.shape)}, "
            f"evaluation gives {f.dtype}{list(f.shape)}"
        )


def _check_backend(subject: _Subject, backend: str) -> None:
    get_backend(backend)
    expected = subject.reference(*subject.args)
    subject.same(f"jit on {backend}", cv.jit(subject, backend=backend)(*subject.args), expected)
    # Fused with what gives its operands and takes its results.
    around = cv.jit(lambda *xs: [_again(y) for y in subject(*map(_again, xs))], backend=backend)
    subject.same(f"jit on {backend}, among others", around(*subject.args), expected)


def _again(x: Any) -> Any:
    """The same values, computed."""
    return cnp.where(cnp.ones(x.shape, bool), x, x)


def _check_text(subject: _Subject) -> None:
    batch = [subject.varied(k, _BATCH) for k in range(len(subject.args))]
    for f, args in ((subject, subject.args), (cv.vmap(subject), batch)):
        program = cv.make_program(f)(*args)
        objects: list[Any] = []
        text = print_program(program, objects=objects)
        again = parse(text, objects)
        assert print_program(again, objects=[]) == text, f"the text reads back as another:\n{text}"
        values = [cnp.asarray(a) for a in args]
        subject.same("what was read", eval_program(again, *values), eval_program(program, *values))


# --- derivatives ----------------------------------------------------------------------------------


def _differentiable(subject: _Subject) -> tuple[Callable[..., Any], list[Array]] | None:
    """The operation's inexact results as a function of its inexact operands."""
    numbers = subject.inexact

    def f(*xs: Any) -> list[Any]:
        full = list(subject.args)
        for k, x in zip(numbers, xs, strict=True):
            full[k] = x
        return [y for y in subject(*full) if dtypes.is_inexact(y.dtype)]

    if not numbers or not f(*[subject.args[k] for k in numbers]):
        return None
    return f, [subject.args[k] for k in numbers]


_NO_DERIVATIVE = "neither operands nor results have derivatives"


def _check_grads(subject: _Subject, order: int, mode: str) -> str | None:
    found = _differentiable(subject)
    if found is None:
        return _NO_DERIVATIVE
    f, xs = found
    check_grads(f, xs, order, mode)
    return None


def _scalar(f: Callable[..., Any]) -> Callable[..., Any]:
    """The sum of all results, which has a gradient."""

    def total(*xs: Any) -> Any:
        parts = [cnp.sum(cnp.real(y) * (k + 1)) for k, y in enumerate(f(*xs))]
        return cnp.sum(cnp.stack(parts))

    return total


def _gradient(f: Callable[..., Any], count: int) -> Callable[..., Any]:
    return cv.grad(_scalar(f), tuple(range(count)))


def _real(xs: Sequence[Array]) -> bool:
    return not any([dtypes.is_complex(x.dtype) for x in xs])


def _gradients_here(subject: _Subject) -> tuple[Callable[..., Any], list[Array], str | None]:
    """A real function with a gradient, its operands, and why there is none."""
    found = _differentiable(subject)
    if found is None:
        return subject, [], _NO_DERIVATIVE
    if not _real(found[1]):
        return *found, "operands are complex"
    return *found, None


# --- batching -------------------------------------------------------------------------------------


def _loop(f: Callable[..., Any], args: Sequence[Any], axes: Sequence[int | None]) -> Any:
    """What `vmap` should give: one example after the other."""
    count = next(a.shape[d] for a, d in zip(args, axes, strict=True) if d is not None)
    rows = [
        cv.tree.leaves(
            f(*[a if d is None else np.take(a, k, d) for a, d in zip(args, axes, strict=True)])
        )
        for k in range(count)
    ]
    return [np.stack([np.asarray(r[k]) for r in rows]) for k in range(len(rows[0]))]


def _check_vmap(subject: _Subject, batched: Sequence[int]) -> None:
    count = len(subject.args)
    for last in (False, True):
        args: list[Any] = list(subject.args)
        axes: list[int | None] = [None] * count
        for k in batched:
            args[k] = subject.varied(k, _BATCH)
            axes[k] = subject.args[k].ndim if last else 0
            if last:
                args[k] = np.moveaxis(args[k], 0, -1)
        expected = _loop(subject, args, axes)
        mapped = cv.vmap(subject, tuple(axes))
        where = "with the last axes" if last else "with leading axes"
        subject.same(f"vmap {where}", mapped(*args), expected)
        subject.same(f"jit of vmap {where}", cv.jit(mapped)(*args), expected)
        on_reference = cv.jit(mapped, backend="reference")
        subject.same(f"vmap {where} on reference", on_reference(*args), expected)


def _check_nested(subject: _Subject) -> None:
    count = len(subject.args)
    inner = [subject.varied(k, _BATCH) for k in range(count)]
    outer = [np.stack([x, x[::-1]]) for x in inner]
    zeros = [0] * count
    expected = _loop(lambda *xs: _loop(subject, xs, zeros), outer, zeros)
    subject.same("vmap of vmap", cv.jit(cv.vmap(cv.vmap(subject)))(*outer), expected)
    # The first operand belongs to one batch, the others to another.
    first: list[int | None] = [0] + [None] * (count - 1)
    others: list[int | None] = [None] + [0] * (count - 1)
    if count < 2:
        return
    expected = _loop(lambda *xs: _loop(subject, xs, others), inner, first)
    crossed = cv.vmap(cv.vmap(subject, tuple(others)), tuple(first))
    subject.same("vmap over an operand of vmap over others", cv.jit(crossed)(*inner), expected)


def _check_no_examples(subject: _Subject) -> None:
    args = [subject.varied(k, _BATCH)[:0] for k in range(len(subject.args))]
    shapes = [np.zeros((0, *y.shape), y.dtype) for y in cv.eval_shape(subject, *subject.args)]
    subject.same("vmap over no examples", cv.jit(cv.vmap(subject))(*args), shapes)


def _check_vmap_of_grad(subject: _Subject) -> str | None:
    f, xs, reason = _gradients_here(subject)
    if reason:
        return reason
    gradient = _gradient(f, len(xs))
    batches = [subject.varied(k, _BATCH) for k in subject.inexact]
    expected = _loop(gradient, batches, [0] * len(xs))
    subject.same("jit of vmap of grad", cv.jit(cv.vmap(gradient))(*batches), expected)
    return None


def _check_grad_of_vmap(subject: _Subject) -> str | None:
    f, xs, reason = _gradients_here(subject)
    if reason:
        return reason
    batches = [subject.varied(k, _BATCH) for k in subject.inexact]
    for k in range(len(xs)):
        axes = tuple([0 if j == k else None for j in range(len(xs))])
        args = [batches[j] if j == k else xs[j] for j in range(len(xs))]
        mapped = _gradient(cv.vmap(f, axes), len(xs))
        each = _loop(_gradient(f, len(xs)), args, axes)
        expected = [g if j == k else np.sum(g, 0) for j, g in enumerate(each)]
        subject.same(f"grad of vmap over {k}", cv.jit(mapped)(*args), expected)
    return None


# --- control flow ---------------------------------------------------------------------------------


def _steps(f: Callable[..., Any]) -> Callable[..., Any]:
    """Running totals of the results over a few steps, in a loop."""

    def scanned(*args: Any) -> list[Any]:
        first = [y * 0 for y in f(*args)]

        def step(totals: Any, _: Any) -> Any:
            return [t + y for t, y in zip(totals, f(*args), strict=True)], None

        return lax.scan(step, first, None, length=_STEPS)[0]

    return scanned


def _numeric(subject: _Subject) -> Callable[..., Any]:
    """The operation with results that can be added."""

    def f(*args: Any) -> list[Any]:
        return [y.astype("int32") if y.dtype == np.bool_ else y for y in subject(*args)]

    return f


def _check_lanes(subject: _Subject) -> None:
    args = [subject.varied(k, _LANES) for k in range(len(subject.args))]
    many = cv.vmap(_steps(_numeric(subject)))
    found = cv.jit(many, backend="native")(*args)
    with config.override("disable", ",".join(sorted({*config.disable, "lanes"}))):
        plain = cv.jit(lambda *xs: many(*xs), backend="native")(*args)
    subject.same("the program in lanes, beside that without lanes,", found, plain)
    expected = cv.jit(many, backend="reference")(*args)
    subject.same("the program in lanes, beside the interpreter,", found, expected)


def _check_scan(subject: _Subject) -> None:
    args = [subject.varied(k, _BATCH) for k in range(len(subject.args))]
    expected = _loop(subject, args, [0] * len(args))

    def step(carry: Any, xs: Any) -> Any:
        return carry, subject(*xs)

    scanned = cv.jit(lambda *xs: lax.scan(step, 0, tuple(xs))[1])
    subject.same("jit of scan", scanned(*args), expected)


def _check_grad_of_scan(subject: _Subject) -> str | None:
    f, xs, reason = _gradients_here(subject)
    if reason:
        return reason
    found = cv.jit(_gradient(_steps(f), len(xs)))(*xs)
    once = _gradient(f, len(xs))(*xs)
    subject.same("jit of grad of scan", found, [_STEPS * np.asarray(g) for g in once])
    return None


def _check_cond(subject: _Subject) -> None:
    expected = subject(*subject.args)

    def nothing(*xs: Any) -> Any:
        return tuple([y * 0 for y in subject(*xs)])

    def chosen(flag: Any, *xs: Any) -> Any:
        return lax.cond(flag, subject, nothing, *xs)

    if any([np.asarray(y).dtype == np.bool_ for y in expected]):
        return
    zeros = [np.zeros_like(np.asarray(y)) for y in expected]
    subject.same("cond that holds", cv.jit(chosen)(True, *subject.args), expected)
    subject.same("cond that does not hold", cv.jit(chosen)(False, *subject.args), zeros)


# --- special values -------------------------------------------------------------------------------


def _check_nan(subject: _Subject, backends: Sequence[str]) -> str | None:
    for k in subject.inexact:
        args = [a.copy() for a in subject.args]
        args[k][...] = np.nan
        expected = subject.reference(*args)
        for backend in backends:
            what = f"operand {k} NaN, on {backend}"
            subject.same(what, cv.jit(subject, backend=backend)(*args), expected)
    return None if subject.inexact else "no operand can be NaN"


def _check_empty(subject: _Subject, backends: Sequence[str]) -> str | None:
    if all([a.ndim == 0 for a in subject.args]):
        return "operands are scalars"
    empty = [a[:0] if a.ndim else a for a in subject.args]
    try:
        shapes = cv.eval_shape(subject, *empty)
    except (TypeError, ValueError) as error:
        return f"the shape rule does not allow it: {error}"
    expected = subject.reference(*empty)
    for d, f in zip(shapes, expected, strict=True):
        assert tuple(d.shape) == f.shape, f"declared as {list(d.shape)}, found {list(f.shape)}"
    for backend in backends:
        what = f"empty arrays on {backend}"
        subject.same(what, cv.jit(subject, backend=backend)(*empty), expected)
    return None
