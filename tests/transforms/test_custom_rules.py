"""What rules of users' are given, what they may close over, and what they are told when wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.custom_derivatives import (
    CustomVJPPrimal,
    SymbolicZero,
    custom_gradient,
    custom_vjp_primal_tree_values,
    linear_call,
    zero_from_primal,
)

XS = np.arange(1.0, 4.0, dtype=np.float32)


def close(found: Any, wanted: Any) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-6)


# --- closures -------------------------------------------------------------------------------------


def with_jvp(y: Any) -> Any:
    f = cv.custom_jvp(lambda x: x * y)
    f.defjvp(lambda primals, tangents: (primals[0] * y, 10.0 * tangents[0] * y))
    return f


def with_vjp(y: Any) -> Any:
    f = cv.custom_vjp(lambda x: x * y)
    f.defvjp(lambda x: (x * y, None), lambda _, ct: (10.0 * ct * y,))
    return f


def with_transpose(y: Any) -> Any:
    return lambda x: linear_call(lambda _, x: x * y, lambda _, ct: 10.0 * ct * y, (), x)


@pytest.mark.parametrize("staged", [lambda f: f, cv.jit, cv.checkpoint])
@pytest.mark.parametrize("make", [with_jvp, with_vjp, with_transpose])
def test_rules_close_over_values_of_outer_transformations(make: Any, staged: Any) -> None:
    def derivative(y: Any) -> Any:
        return cv.grad(staged(make(y)))(2.0)

    close(derivative(3.0), 30.0)
    close(cv.vmap(derivative)(XS), 10.0 * XS)
    close(cv.jit(derivative)(3.0), 30.0)
    close(cv.jit(cv.vmap(derivative))(XS), 10.0 * XS)
    close(cv.grad(derivative)(3.0), 10.0)
    total = lax.scan(lambda c, y: (c + derivative(y), None), 0.0, XS)[0]
    close(total, 60.0)

    def batched(y: Any) -> Any:  # closed over without the axis that the argument has
        return cv.vmap(cv.grad(staged(make(y))))(XS).sum()

    close(cv.jit(batched)(3.0), 90.0)
    close(cv.vmap(batched)(XS), 30.0 * XS)


def test_batching_rules_close_over_values_of_outer_transformations() -> None:
    def outer(y: Any) -> Any:
        f = cv.custom_vmap(lambda x: x * y)
        f.def_vmap(lambda size, batched, x: (10.0 * x * y, batched[0]))
        return cv.vmap(cv.jit(f))(XS)

    close(cv.jit(outer)(3.0), 30.0 * XS)
    # The derivative of the batched function is that of the rule.
    close(cv.jit(cv.grad(lambda y: outer(y).sum()))(3.0), 10.0 * XS.sum())


@pytest.mark.parametrize("staged", [lambda f: f, cv.jit])
@pytest.mark.parametrize("make", [with_jvp, with_vjp])
@pytest.mark.parametrize("derivative", [cv.grad, cv.jacfwd])
def test_what_is_closed_over_is_not_differentiated(make: Any, staged: Any, derivative: Any) -> None:
    with pytest.raises(TypeError, match=r"what it closes over(.|\n)*pass the value as an argument"):
        derivative(lambda y: staged(make(y))(2.0))(3.0)


def test_closing_over_what_the_function_does_not_use() -> None:
    def outer(y: Any) -> Any:
        f = cv.custom_jvp(lambda x: 2.0 * x)
        f.defjvp(lambda primals, tangents: (2.0 * primals[0], tangents[0] * y))
        return cv.grad(cv.jit(f))(2.0)

    with pytest.raises(cv.errors.UnexpectedTracerError, match="let the function use it as well"):
        cv.jit(outer)(3.0)


# --- arguments ------------------------------------------------------------------------------------


def test_arguments_that_are_not_differentiated_by_name() -> None:
    @partial(cv.custom_vjp, nondiff_argnums=(0,), nondiff_argnames="how")
    def apply(f: Callable[..., Any], x: Any, how: str) -> Any:
        return f(x)

    seen: list[Any] = []

    def bwd(f: Any, how: str, x: Any, ct: Any) -> Any:
        seen.append(how)
        return (7.0 * ct,)

    apply.defvjp(lambda f, x, how: (f(x), x), bwd)
    close(cv.jit(cv.grad(lambda x: apply(cnp.sin, x, how="fast")))(1.0), 7.0)
    assert seen == ["fast"]

    @partial(cv.custom_jvp, nondiff_argnames=("n",))
    def power(n: int, x: Any) -> Any:
        return x**n

    power.defjvp(lambda n, primals, tangents: (power(n, *primals), tangents[0] * n))
    close(cv.vmap(cv.grad(partial(power, 5)))(XS), [5.0, 5.0, 5.0])
    with pytest.raises(ValueError, match="no parameter 'm'"):
        cv.custom_vjp(lambda n, x: x, nondiff_argnames="m")


def test_pytrees_integers_and_static_parts() -> None:
    @cv.custom_vjp
    def f(params: Any, index: Any, x: Any) -> Any:
        return {"y": params["w"][index] * x + params["b"][0], "index": index}

    def fwd(params: Any, index: Any, x: Any) -> Any:
        return f(params, index, x), (index, x)

    def bwd(kept: Any, ct: Any) -> Any:
        index, x = kept
        assert ct["index"].dtype == cv.float0
        return {"w": cnp.zeros(3).at[index].set(ct["y"] * x), "b": None}, None, ct["y"]

    f.defvjp(fwd, bwd)
    params = {"w": cnp.arange(3.0), "b": (cnp.ones(()),)}

    def loss(params: Any, index: Any, x: Any) -> Any:
        return f(params, index, x)["y"] ** 2

    for transform in (lambda g: g, cv.jit):
        grads = transform(cv.grad(loss))(params, 2, 3.0)
        close(grads["w"], [0.0, 0.0, 42.0])
        close(grads["b"][0], 0.0)
    batched = cv.jit(cv.vmap(cv.grad(loss), (None, 0, None)))(params, cnp.arange(3), 3.0)
    close(batched["w"], np.diag([6.0, 24.0, 42.0]))


# --- symbolic zeros -------------------------------------------------------------------------------


@pytest.mark.parametrize("transform", [lambda f: f, cv.jit, cv.checkpoint])
def test_symbolic_zeros_of_backward_rules(transform: Any) -> None:
    seen: list[Any] = []

    @cv.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return x * y, x + y

    def fwd(x: Any, y: Any) -> Any:
        seen.append((x.perturbed, y.perturbed))
        assert isinstance(x, CustomVJPPrimal)
        values = custom_vjp_primal_tree_values((x, y))
        return f(*values), values

    def bwd(kept: Any, cts: Any) -> Any:
        seen.append(tuple(type(ct) is SymbolicZero for ct in cts))
        _, y = kept
        return cts[0] * y, SymbolicZero(cv.typeof(y))

    f.defvjp(fwd, bwd, symbolic_zeros=True)
    close(transform(cv.grad(lambda x, y: f(x, y)[0]))(2.0, 3.0), 3.0)
    assert seen == [(True, False), (False, True)]
    seen.clear()
    g = transform(cv.vmap(cv.grad(lambda x, y: f(x, y)[0]), (0, None)))
    close(g(XS, 3.0), [3.0, 3.0, 3.0])
    assert set(seen) == {(True, False), (False, True)}


def test_symbolic_zeros_of_jvp_rules() -> None:
    @cv.custom_jvp
    def f(x: Any, y: Any) -> Any:
        return x * y

    @partial(f.defjvp, symbolic_zeros=True)
    def _(primals: Any, tangents: Any) -> Any:
        assert type(tangents[1]) is SymbolicZero
        assert (tangents[1].shape, tangents[1].ndim) == ((3,), 1)
        assert tangents[1].instantiate().shape == (3,)
        return f(*primals), tangents[0] * primals[1]

    close(cv.jvp(lambda x: f(x, XS), (XS,), (XS,))[1], XS * XS)
    close(cv.jit(cv.grad(lambda x: f(x, XS).sum()))(XS), XS)


def test_zeros_like_tangents() -> None:
    zeros = zero_from_primal({"a": cnp.ones(2), "n": cnp.arange(2)})
    close(zeros["a"], [0.0, 0.0])
    assert zeros["n"].dtype == cv.float0
    assert type(zero_from_primal(1.0, symbolic_zeros=True)) is SymbolicZero


# --- custom_gradient ------------------------------------------------------------------------------


def test_custom_gradient() -> None:
    @custom_gradient
    def f(x: Any, *, scale: Any) -> Any:
        s = cnp.sin(x)
        return s * scale, lambda ct: 10.0 * ct * s

    close(f(1.0, scale=2.0), 2 * np.sin(1.0))
    for g in (cv.grad(f), cv.jit(cv.grad(f))):
        close(g(1.0, scale=2.0), 10 * np.sin(1.0))

    @custom_gradient
    def two(x: Any, y: Any) -> Any:
        return {"out": x * y}, lambda ct: (ct["out"] * 5.0, None)

    close(cv.grad(lambda x, y: two(x, y)["out"], (0, 1))(2.0, 3.0), (5.0, 0.0))
    with pytest.raises(TypeError, match=r"must return a pair \(output, rule\)"):
        custom_gradient(lambda x: x)(1.0)


# --- what is wrong with a rule --------------------------------------------------------------------


def bad_jvp(rule: Callable[..., Any], staged: bool = False) -> Any:
    f = cv.custom_jvp(lambda x: 2.0 * x)
    f.defjvp(lambda primals, tangents: rule(*primals, *tangents))
    return cv.jvp(cv.jit(f) if staged else f, (XS,), (XS,))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda x, t: x, r"pair \(output, output_tangent\)"),
        (lambda x, t: (x, None), "one structure"),
        (lambda x, t: (x, 0.0), r"needs a tangent f32\[3\]"),
        (lambda x, t: (x, t[:2]), r"needs a tangent f32\[3\](.|\n)*f32\[2\]"),
        (lambda x, t: (x, t.astype(int)), r"found: i32\[3\]"),
        (lambda x, t: (x, "t"), "tangent of the jvp rule(.|\n)*str 't'"),
        (lambda x, t: ("x", t), "output of the jvp rule(.|\n)*str 'x'"),
    ],
)
def test_wrong_jvp_rules(rule: Any, message: str) -> None:
    for staged in (False, True):
        with pytest.raises(TypeError, match=message):
            bad_jvp(rule, staged)


def test_jvp_rules_give_the_output_of_the_function() -> None:
    with pytest.raises(TypeError, match=r"output of the function, f32\[3\](.|\n)*f32\[2\]"):
        bad_jvp(lambda x, t: (x[:2], t[:2]), staged=True)
    with pytest.raises(TypeError, match="returns an output of structure"):
        bad_jvp(lambda x, t: ((x,), (t,)), staged=True)


def bad_vjp(fwd: Any, bwd: Any, staged: bool = False, arg: Any = XS) -> Any:
    f = cv.custom_vjp(lambda tree: 2.0 * cv.tree.leaves(tree)[0])
    f.defvjp(fwd, bwd)
    y, pullback = cv.vjp(cv.jit(f) if staged else f, arg)
    return pullback(y)


TREE = {"a": XS, "b": (XS, XS)}


@pytest.mark.parametrize(
    ("arg", "result", "message"),
    [
        (XS, XS, "tuple of 1 cotangents"),
        (XS, (XS, XS), "found: 2 of them"),
        (XS, (XS[:2],), r"needs a cotangent f32\[3\](.|\n)*f32\[2\]"),
        (XS, (0.0,), r"found: ~f32\[\]"),
        (XS, (XS.astype(np.int32),), r"found: i32\[3\]"),
        (XS, ("ct",), "str 'ct'"),
        (XS, ((XS,),), "structure of the argument"),
        (TREE, ((XS, XS, XS),), "structure of the argument"),
        (TREE, ({"a": XS, "b": XS},), "structure of the argument"),
        (TREE, ({"a": XS},), "structure of the argument"),
    ],
)
def test_wrong_backward_rules(arg: Any, result: Any, message: str) -> None:
    for staged in (False, True):
        with pytest.raises(TypeError, match=message):
            bad_vjp(lambda x: (2.0 * cv.tree.leaves(x)[0], None), lambda _, ct: result, staged, arg)


def test_none_stands_for_zeros_of_a_part() -> None:
    found = bad_vjp(lambda x: (2.0 * x["a"], None), lambda _, ct: ({"a": ct, "b": None},), arg=TREE)
    close(found[0]["a"], 2 * XS)
    close(found[0]["b"], [np.zeros(3)] * 2)


@pytest.mark.parametrize(
    ("fwd", "message"),
    [
        (lambda x: x, r"pair \(output, residuals\)"),
        (lambda x: (x[:2], None), r"output of the function, f32\[3\]"),
        (lambda x: ((x, x), None), "structure of the function's"),
        (lambda x: (x, "kept"), "residuals of(.|\n)*str 'kept'"),
    ],
)
def test_wrong_forward_rules(fwd: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        bad_vjp(fwd, lambda _, ct: (ct,), staged=True)


def test_wrong_transposes() -> None:
    def run(transpose: Any, x: Any = XS) -> Any:
        return cv.vjp(lambda x: linear_call(lambda r, v: v * r, transpose, 2.0, x), x)[1](x)

    close(run(lambda r, ct: 5.0 * ct)[0], 5.0 * XS)
    with pytest.raises(TypeError, match="pytree like linear_args"):
        run(lambda r, ct: (ct,))
    with pytest.raises(TypeError, match=r"must return f32\[3\](.|\n)*f32\[2\]"):
        run(lambda r, ct: ct[:2])
    with pytest.raises(TypeError, match=r"no derivative(.|\n)*residuals"):
        run(lambda r, ct: ct, np.arange(3))
    with pytest.raises(AttributeError, match="def_transpose"):
        cv.custom_transpose(lambda r, x: x)(1.0, 2.0)
    with pytest.raises(TypeError, match="expects a function"):
        cv.custom_transpose(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("make", [with_jvp, with_vjp])
def test_programs_outlive_what_their_rules_close_over(make: Any) -> None:
    @cv.jit
    def f(x: Any, y: Any) -> Any:
        return lax.scan(lambda c, _: (make(y)(c), None), x, None, length=2)[0]

    close(f(2.0, 3.0), 18.0)
    close(cv.grad(f)(2.0, 3.0), 900.0)
    close(cv.vmap(cv.grad(f))(XS, XS), 100.0 * XS**2)
    close(cv.jvp(lambda x: f(x, 3.0), (2.0,), (1.0,))[1], 900.0)


@pytest.mark.parametrize("make", [with_jvp, with_vjp])
def test_serialised_rules_take_what_they_close_over(make: Any) -> None:
    def f(x: Any, y: Any) -> Any:
        return lax.scan(lambda c, _: (make(y)(c), None), x, None, length=2)[0]

    number = cv.ShapeDtypeStruct((), np.dtype("float32"))
    loaded = cv.export.deserialize(cv.export.export(cv.jit(f))(number, number).serialize()).call
    close(loaded(2.0, 3.0), 18.0)
    close(cv.grad(loaded)(2.0, 3.0), 900.0)
