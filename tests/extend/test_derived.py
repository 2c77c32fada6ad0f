"""Backends derived from others: lowering rules and decompositions of a few primitives."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import export, extend, lax
from covector.core import backend as registry
from covector.extend import backends
from covector.extend.backends import derived, scalar_rule
from covector.testing import conformance

F32 = np.float32
X = np.linspace(-1, 1, 12, dtype=F32)


@pytest.fixture(autouse=True)
def _backends() -> Iterator[None]:
    tables: Any = (registry._factories, registry._backends)
    before = [dict(table) for table in tables]
    yield
    registry.clear_cache()
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def twice(builder: Any, x: Any, **params: Any) -> Any:
    """Not e^x, so that nobody can take it for the base's."""
    return builder.op("mul", x, 2.0)


def register(name: str, **options: Any) -> None:
    made = derived(name, **options)
    backends.register_backend(name, lambda: made)


def on(name: str, function: Any, *args: Any) -> Any:
    return cv.jit(function, backend=name)(*args)


def test_a_rule_replaces_a_lowering() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})
    np.testing.assert_allclose(on("mine", lambda x: cnp.exp(x) + 1, X), 2 * X + 1)
    np.testing.assert_allclose(on("native", lambda x: cnp.exp(x) + 1, X), np.exp(X) + 1, rtol=1e-6)


def test_rules_hold_in_loops_and_branches_and_calls() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})

    @extend.decomposition(name="derived_composed")
    def composed(x: Any) -> Any:
        return cnp.exp(x) + 1

    def f(x: Any) -> Any:
        x = lax.fori_loop(0, 3, lambda i, c: cnp.exp(c), x)
        x = lax.cond(x[0] < 0, cnp.exp, cnp.sin, x)
        return cv.jit(cnp.exp)(composed(x))

    np.testing.assert_allclose(on("mine", f, X), 2 * (2 * 16 * X + 1), rtol=1e-6)


def test_rules_hold_in_lanes() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})

    def f(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, c: cnp.exp(c) * 0.75, x)

    x = np.linspace(-1, 1, 1000, dtype=F32)
    made = cv.jit(cv.vmap(f), backend="mine").lower(x).compile()
    np.testing.assert_allclose(made(x), 1.5**4 * x, rtol=1e-6)
    assert any(d.lanes for d in made.explain().decisions)


def test_gradients_use_the_rule() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})
    np.testing.assert_allclose(on("mine", cv.grad(lambda x: cnp.exp(x).sum()), X), 2 * X)


def test_a_rule_may_leave_cases_to_the_base() -> None:
    plain = scalar_rule(twice)

    def only_f32(b: Any, x: Any, **params: Any) -> Any:
        return plain(b, x, **params) if x.dtype == F32 else NotImplemented

    register("mine", rules={"exp": only_f32, "dot_general": lambda b, *xs, **p: NotImplemented})
    np.testing.assert_allclose(on("mine", cnp.exp, X), 2 * X)
    half = X.astype(np.float16)
    np.testing.assert_allclose(on("mine", cnp.exp, half), np.exp(half), rtol=2e-3)
    np.testing.assert_allclose(on("mine", lambda x: x @ x, X), X @ X, rtol=1e-5)


def test_a_rule_adds_a_lowering() -> None:
    """An operation that says only what it means is compiled, and no longer calls Python."""
    cubed = extend.operation(
        "derived_cubed", shape=lambda x: x, evaluate=lambda x: x**3, elementwise=True
    )

    def rule(builder: Any, x: Any) -> Any:
        return builder.op("mul", x, builder.op("mul", x, x))

    register("mine", rules={"derived_cubed": scalar_rule(rule)})
    np.testing.assert_allclose(on("mine", cubed, X), X**3, rtol=1e-6)
    text = cv.jit(cubed, backend="mine").lower(X).as_text("loopir")
    assert "callback" not in text
    assert "callback" in cv.jit(cubed).lower(X).as_text("loopir")


def test_a_rule_of_an_operation_that_is_a_decomposition() -> None:
    @extend.decomposition(name="derived_twice", elementwise=True)
    def doubled(x: Any) -> Any:
        return cnp.sin(x) + x

    plain = scalar_rule(twice)

    def rule(b: Any, x: Any) -> Any:
        return plain(b, x) if x.dtype == F32 else NotImplemented

    register("mine", rules={"derived_twice": rule})
    np.testing.assert_allclose(on("mine", doubled, X), 2 * X)
    np.testing.assert_allclose(on("native", doubled, X), np.sin(X) + X, rtol=1e-6)
    with cv.enable_x64():
        wide = X.astype(np.float64)
        np.testing.assert_allclose(on("mine", doubled, wide), np.sin(wide) + wide, rtol=1e-12)
    register("more", decompositions={"derived_twice": lambda x: x * 3})
    np.testing.assert_allclose(on("more", doubled, X), 3 * X)


def test_a_rule_for_whole_arrays() -> None:
    def pairwise(b: Any, x: Any, *, axes: Any, **params: Any) -> Any:
        """Sums backwards, so that rounding tells."""
        if x.shape != (3,) or axes != (0,):
            return NotImplemented
        total = x.at((b.builder.const(2, np.dtype(np.int64)),))
        for k in (1, 0):
            total = b.builder.op("add", total, x.at((b.builder.const(k, np.dtype(np.int64)),)))
        return b.lazy((), x.dtype, lambda index: total)

    register("mine", rules={"reduce_sum": pairwise})
    x = np.array([1e8, 3.0, -1e8], F32)
    assert on("mine", cnp.sum, x) == F32(F32(-1e8) + F32(3)) + F32(1e8)


def test_decompositions_may_use_what_they_replace() -> None:
    register("mine", decompositions={"exp": lambda x, **_: lax.exp(x / 2) ** 2})
    register("tested", base="reference", decompositions={"exp": lambda x, **_: lax.exp(x) + 1})
    np.testing.assert_allclose(on("mine", cnp.exp, X), np.exp(X), rtol=1e-6)
    np.testing.assert_allclose(on("tested", cnp.exp, X), np.exp(X) + 1, rtol=1e-6)
    assert "square" in cv.jit(cnp.exp, backend="mine").lower(X).as_text("optimized")


def test_derived_of_derived() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})
    register("more", base="mine", rules={"sin": scalar_rule(twice)})
    np.testing.assert_allclose(on("more", lambda x: cnp.exp(cnp.sin(x)), X), 4 * X)
    assert backends.get_backend("more").name == "more"


def test_a_backend_is_registered_again() -> None:
    register("mine", rules={"exp": scalar_rule(twice)})
    np.testing.assert_allclose(on("mine", cnp.exp, X), 2 * X)
    register("mine", rules={"exp": scalar_rule(lambda b, x, **params: b.op("mul", x, 3.0))})
    np.testing.assert_allclose(on("mine", cnp.exp, X), 3 * X)


def test_what_depends_on_rules_is_not_kept_on_disk(tmp_path: Path) -> None:
    with cv.config.override("cache_size", "16M"), cv.config.override("cache_dir", str(tmp_path)):
        for factor in (2.0, 3.0):

            def rule(b: Any, x: Any, factor: float = factor, **params: Any) -> Any:
                return b.op("mul", x, factor)

            register("mine", rules={"exp": scalar_rule(rule)})
            np.testing.assert_allclose(on("mine", cnp.exp, X), factor * X)


def test_libraries_have_the_rules(tmp_path: Path) -> None:
    register("mine", rules={"exp": scalar_rule(twice)})
    made = export.export(cv.jit(cnp.exp))(cv.ShapeDtypeStruct((3,), F32))
    files = export.library({"twice": made}, "numbers", backend="mine")
    files.write(tmp_path)
    found = ctypes.CDLL(str(next(tmp_path.glob("*.so"))))
    x, y = X[:3].copy(), np.zeros(3, F32)
    assert found.twice(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data)) == 0
    np.testing.assert_allclose(y, 2 * x)


def test_it_conforms_where_its_rules_are_right() -> None:
    def rule(builder: Any, x: Any, **params: Any) -> Any:
        return builder.op("exp", x)

    def add(builder: Any, x: Any, y: Any) -> Any:
        return builder.op("add", y, x)

    register("mine", rules={"exp": scalar_rule(rule), "add": scalar_rule(add, 1.0)})
    families = ["loops", "while", "branches", "vmap", "scan gradients", "sizes at run time"]
    report = conformance("mine", families)
    assert report.ok, str(report)


# --- what goes wrong ------------------------------------------------------------------------------


def test_rules_need_a_base_that_compiles_loop_ir() -> None:
    register("mine", base="reference", rules={"exp": scalar_rule(twice)})
    with pytest.raises(backends.CompilationError, match=r"'reference'.*compiles no loop IR"):
        on("mine", cnp.exp, X)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"rules": {"expo": twice}}, "no primitive 'expo'"),
        ({"rules": {"scan": twice}}, "'scan' cannot have another lowering"),
        ({"decompositions": {"pure_callback": twice}}, "cannot have another lowering"),
        ({"rules": {"exp": twice}, "decompositions": {"exp": twice}}, "a rule and a decomposition"),
    ],
)
def test_rules_are_of_primitives_without_programs(options: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        derived("mine", **options)


def test_a_decomposition_has_the_same_results() -> None:
    register("mine", decompositions={"exp": lambda x, **_: lax.exp(x)[:1]})
    with pytest.raises(TypeError, match=r"(?s)decomposition of exp.*test_derived.py"):
        on("mine", lambda x: cnp.exp(x), X)


def test_a_rule_that_fails_names_the_line() -> None:
    def wrong(builder: Any, x: Any, **params: Any) -> Any:
        return builder.op("no_such_operation", x)

    register("mine", rules={"exp": scalar_rule(wrong)})
    with pytest.raises(Exception, match=r"no_such_operation") as e:
        on("mine", lambda x: cnp.exp(x), X)
    notes = "\n".join(getattr(e.value, "__notes__", []))
    assert "test_derived.py" in str(e.value) + notes
    assert "exp" in str(e.value) + notes
