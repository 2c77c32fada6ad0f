"""Closures turned into arguments, scopes, evaluation while tracing."""

from __future__ import annotations

import doctest
import importlib
import re
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.passes.inline import Inline
from covector.core import dtypes, parsing
from covector.core.avals import Aval
from covector.core.errors import ConcretizationTypeError, VerificationError
from covector.core.program import Variable, all_equations
from covector.core.verify import verify

OURS = SimpleNamespace(np=cnp, lax=lax, jit=cv.jit, grad=cv.grad, vmap=cv.vmap,
                       custom_vjp=cv.custom_vjp, closure_convert=cv.closure_convert)  # fmt: skip
THEIRS = SimpleNamespace(
    np=jax.numpy, lax=jax.lax, jit=jax.jit, grad=jax.grad, vmap=jax.vmap,
    custom_vjp=jax.custom_vjp, closure_convert=jax.closure_convert,
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["core.device", "transforms.batching", "transforms.custom_vmap", "transforms.staging",
     "transforms.programs", "lax.parallel", "lax.axis_names", "custom_batching"],
)  # fmt: skip
def test_examples(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"covector.{name}"))
    assert result.failed == 0
    assert result.attempted > 0


# --- closure_convert ----------------------------------------------------------------------------


def newton(api: Any) -> Any:
    """A minimiser with a rule that needs what the objective closes over."""

    def minimize(objective: Any, x0: Any) -> Any:
        converted, values = api.closure_convert(objective, x0)
        return solve(converted, x0, *values)

    @partial(api.custom_vjp, nondiff_argnums=(0,))
    def solve(objective: Any, x0: Any, *values: Any) -> Any:
        slope = api.grad(objective)
        curvature = api.grad(slope)

        def step(k: Any, x: Any) -> Any:
            return x - slope(x, *values) / curvature(x, *values)

        return api.lax.fori_loop(0, 8, step, x0)

    def forward(objective: Any, x0: Any, *values: Any) -> Any:
        x = solve(objective, x0, *values)
        return x, (x, values)

    def backward(objective: Any, residuals: Any, ct: Any) -> Any:
        x, values = residuals
        slope = api.grad(objective)
        curvature = api.grad(slope)(x, *values)
        cts = [-ct / curvature * api.grad(slope, k + 1)(x, *values) for k in range(len(values))]
        return (0.0 * x, *cts)

    solve.defvjp(forward, backward)
    return minimize


def test_minimiser_with_a_rule() -> None:
    def solution(api: Any, a: Any, b: Any) -> Any:
        minimize = newton(api)
        scale = api.np.exp(a)
        return minimize(lambda x: scale * (x - b) ** 2 + 0.1 * x**4, 1.0)

    def everything(api: Any) -> Any:
        both = api.grad(partial(solution, api), (0, 1))
        batched = api.vmap(both)(api.np.arange(3.0), api.np.array([0.5, 1.0, 1.5]))
        return both(0.3, 1.2), api.jit(both)(0.3, 1.2), batched

    ours, theirs = everything(OURS), jax.jit(lambda: everything(THEIRS))()
    for x, y in zip(cv.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5)


def test_which_values_are_hoisted() -> None:
    def count(api: Any, transform: Any) -> Any:
        counts: list[int] = []

        def f(x: Any) -> Any:
            z, k = api.np.sin(x), (x > 0).astype(int)
            converted, values = api.closure_convert(lambda y: (x * y + z) * k + 2.0 * x, x)
            counts.append(len(values))
            return converted(x * 3.0, *values).sum()

        transform(api)(f)
        return counts

    for transform in (
        lambda api: lambda f: api.grad(f)(2.0),
        lambda api: lambda f: api.jit(f)(2.0),
        lambda api: lambda f: api.vmap(f)(api.np.ones(2)),
        lambda api: lambda f: f(api.np.asarray(2.0)),
        lambda api: lambda f: api.vmap(api.grad(f))(api.np.ones(2)),
    ):
        assert count(OURS, transform) == count(THEIRS, transform)


def test_closure_convert_errors() -> None:
    def outer(x: Any) -> Any:
        converted, values = cv.closure_convert(lambda t: t["a"] * x, {"a": x})
        assert float(converted({"a": x}, *values)) == 4.0
        with pytest.raises(TypeError, match="structure"):
            converted([x], *values)
        with pytest.raises(TypeError, match="1 values"):
            converted()
        return x

    cv.grad(outer)(2.0)
    with pytest.raises(TypeError, match=r"closure_convert of outer: arguments(.|\n)*text"):
        cv.closure_convert(outer, "text")


# --- scopes -------------------------------------------------------------------------------------


def scopes(program: Any) -> list[tuple[str, str]]:
    return [(e.primitive.name, e.scope) for e in all_equations(program)]


def test_scopes() -> None:
    @cv.named_scope("layer")
    def layer(x: Any) -> Any:
        with cv.named_scope("inner"):
            x = cnp.sin(x)
        return cnp.cos(x)

    def f(x: Any) -> Any:
        return cnp.tanh(cv.named_call(layer, name="twice")(layer(x)))

    program = cv.make_program(f)(1.0)
    assert scopes(program) == [
        ("sin", "layer/inner"), ("cos", "layer"), ("sin", "twice/layer/inner"),
        ("cos", "twice/layer"), ("tanh", ""),
    ]  # fmt: skip
    text = program.as_text()
    assert parsing.parse(text).as_text() == text
    assert "layer/inner" in program.as_text(source=True)


def test_scopes_of_called_programs_are_relative() -> None:
    @cv.jit
    def inner(x: Any) -> Any:
        with cv.named_scope("b"):
            return cnp.sin(x)

    def f(x: Any) -> Any:
        with cv.named_scope("a"):
            return inner(x)

    def g(x: Any) -> Any:
        with cv.named_scope("c"):
            return inner(x)

    for function, outer in ((f, "a"), (g, "c")):
        program = cv.make_program(function)(1.0)
        assert scopes(program) == [("jit", outer), ("sin", "b")]
        assert scopes(Inline().run(program)) == [("sin", f"{outer}/b")]
    batched = cv.make_program(cv.vmap(f))(cnp.ones(2))
    assert scopes(batched) == [("jit", "a"), ("sin", "b")]


def test_scopes_in_derivatives_and_batches() -> None:
    def f(x: Any) -> Any:
        with cv.named_scope("a"):
            return lax.scan(lambda c, _: (cnp.sin(c), None), x, None, length=3)[0]

    assert ("scan", "a") in scopes(cv.make_program(cv.vmap(f))(cnp.ones(2)))
    derivative = [
        scope for name, scope in scopes(cv.make_program(cv.grad(f))(1.0)) if name == "scan"
    ]
    assert derivative[0] == "a"


def test_scopes_in_messages() -> None:
    def f(x: Any) -> Any:
        with cv.named_scope("layer"):
            return cnp.sin(x)

    program = cv.make_program(f)(1.0)
    (equation,) = program.equations
    assert re.fullmatch(r".*test_closure_convert\.py:\d+ \(.*f\) in layer", equation.place)
    assert equation.replace(scope="").place == str(equation.location)
    assert equation.replace(frame=None).place == "in layer"
    assert equation.replace(frame=None, scope="").place == ""
    wrong = Variable(Aval((2,), dtypes.float32))
    broken = program.replace(equations=[equation.replace(outputs=[wrong])], outputs=[wrong])
    with pytest.raises(VerificationError, match=r"test_closure_convert\.py:\d+ .* in layer"):
        verify(broken)


def test_scope_names_are_strings() -> None:
    with pytest.raises(TypeError, match="named_scope: the name must be a string"):
        cv.named_scope(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="named_call: the name must be a string"):
        cv.named_call(cnp.sin, name=3)  # type: ignore[arg-type]
    assert cv.named_call(test_scopes).__name__ == "test_scopes"


# --- evaluation while tracing -------------------------------------------------------------------


def test_ensure_compile_time_eval() -> None:
    def f(x: Any) -> Any:
        with cv.ensure_compile_time_eval():
            table = cnp.cumsum(cnp.arange(4)) * 2
            limit = int(table[-1])
            inner = cv.jit(lambda y: y + 1)(limit)
            assert isinstance(inner, cv.core.array.Array)
            assert bool(cv.vmap(lambda y: y > 2)(table).any())
            assert float(cv.grad(cnp.sin)(0.0)) == 1.0
            y = x * limit
        with pytest.raises(ConcretizationTypeError):
            bool(cnp.sin(1.0) > 0)
        return y

    assert float(cv.jit(f)(2.0)) == 24.0
    program = cv.make_program(f)(2.0)
    assert [e.primitive.name for e in program.equations] == ["mul", "sin", "gt"]
    assert float(cv.grad(lambda x: cv.jit(f)(x))(1.0)) == 12.0

    def plain(x: Any) -> Any:
        with cv.ensure_compile_time_eval():
            return cnp.sin(x) + lax.axis_index("i")

    np.testing.assert_allclose(cv.vmap(plain, axis_name="i")(cnp.zeros(2)), [0.0, 1.0])
    with cv.ensure_compile_time_eval():
        assert float(cnp.cos(0.0)) == 1.0


def test_collectives_inside() -> None:
    @cv.jit
    def f(x: Any) -> Any:
        with cv.ensure_compile_time_eval():
            return x + lax.axis_index("i") * lax.psum(2, "i")

    np.testing.assert_allclose(cv.vmap(f, axis_name="i")(cnp.zeros(3)), [0.0, 6.0, 12.0])
