"""Bad input: each case raises an error of the right type that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax

x3 = cnp.ones(3)
x4 = cnp.ones(4)
m23 = cnp.ones((2, 3))
i3 = cnp.arange(3)

_leaked: list[Any] = []


def leak_then_use() -> Any:
    cv.jit(lambda x: _leaked.append(x * 2) or x)(x3)
    return cv.jit(lambda y: y + _leaked[-1])(x3)


def leak_then_use_eagerly() -> Any:
    cv.grad(lambda x: _leaked.append(x * 2.0) or x.sum())(x3)
    return _leaked[-1] + 1.0


@cv.custom_jvp
def no_rule(x: Any) -> Any:
    return x


@cv.custom_vjp
def no_vjp_rule(x: Any) -> Any:
    return x


def custom_vjp_with(fwd: Callable[..., Any], bwd: Callable[..., Any]) -> Callable[..., Any]:
    f = cv.custom_vjp(lambda x: x * 2.0)
    f.defvjp(fwd, bwd)
    return cv.grad(lambda x: f(x).sum())


def custom_jvp_with(rule: Callable[..., Any]) -> Callable[..., Any]:
    f = cv.custom_jvp(lambda x: x * 2.0)
    f.defjvp(rule)
    return cv.grad(lambda x: f(x).sum())


class Opaque:
    """Not an array and not a pytree."""


CASES: list[tuple[str, Callable[[], Any], type[Exception], tuple[str, ...]]] = [
    # shapes and dtypes
    ("add shapes", lambda: x3 + x4, ValueError, ("add", "broadcast", "(3,)", "(4,)")),
    ("jitted add shapes", lambda: cv.jit(lambda a, b: a + b)(x3, x4), ValueError, ("broadcast",)),
    ("matmul sizes", lambda: m23 @ x4, TypeError, ("matmul", "f32[2,3]", "f32[4]")),
    ("matmul of a scalar", lambda: cnp.matmul(x3, 2.0), ValueError, ("matmul", "axis")),
    ("lax.add dtypes", lambda: lax.add(x3, i3), TypeError, ("add", "f32[3]", "i32[3]", "dtype")),
    ("lax.add shapes", lambda: lax.add(x3, x4), TypeError, ("add", "equal shapes")),
    ("sin of a bool in lax", lambda: lax.sin(x3 > 0), TypeError, ("sin", "bool")),
    ("reshape size", lambda: x3.reshape(2, 2), TypeError, ("reshape", "(2, 2)", "f32[3]")),
    ("two unknown sizes", lambda: x3.reshape(-1, -1), ValueError, ("reshape", "-1")),
    ("concatenate shapes", lambda: cnp.concatenate([m23, x3]), (TypeError, ValueError),
     ("concatenate",)),
    ("concatenate nothing", lambda: cnp.concatenate([]), ValueError, ("at least one",)),
    ("stack shapes", lambda: cnp.stack([x3, x4]), ValueError, ("stack", "one shape")),
    ("broadcast_to", lambda: cnp.broadcast_to(x3, (2, 4)), ValueError, ("broadcast_to",)),
    ("where of a list", lambda: cnp.where([True], x3, 0.0), TypeError, ("where", "list")),
    ("operand is a list", lambda: cnp.sin([1.0]), TypeError, ("sin", "list", "asarray")),
    ("operand is a string", lambda: cnp.sin("1"), TypeError, ("sin", "str")),
    ("ragged list", lambda: cnp.array([[1.0], [1.0, 2.0]]), (TypeError, ValueError), ()),
    ("object to asarray", lambda: cnp.asarray(Opaque()), TypeError, ("asarray", "Opaque")),
    ("dot_general sizes", lambda: lax.dot_general(m23, x4, (((1,), (0,)), ((), ()))), TypeError,
     ("dot_general", "f32[2,3]")),
    # axes and indices
    ("sum axis", lambda: x3.sum(1), ValueError, ("sum", "axis 1", "out of range")),
    ("sum axis twice", lambda: m23.sum((0, 0)), ValueError, ("sum", "twice")),
    ("max of nothing", lambda: cnp.zeros((0,)).max(), ValueError, ("max", "empty")),
    ("argmax of nothing", lambda: cnp.zeros((0,)).argmax(), ValueError, ("argmax", "empty")),
    ("transpose order", lambda: m23.transpose(0, 0), ValueError, ("transpose", "permutation")),
    ("squeeze", lambda: m23.squeeze(0), ValueError, ("squeeze", "size 2")),
    ("too many indices", lambda: x3[0, 0], IndexError, ("too many indices",)),
    ("float index", lambda: x3[1.5], TypeError, ("index", "float")),
    ("list index", lambda: x3[[0, 1]], TypeError, ("list", "array")),
    ("float index array", lambda: x3[x3], TypeError, ("integers", "f32[3]")),
    ("assignment", lambda: x3.__setitem__(0, 1.0), TypeError, ("immutable", ".at[idx].set")),
    ("traced slice bound", lambda: cv.jit(lambda x, n: x[:n])(x3, 2), IndexError,
     ("slice", "dynamic_slice")),
    ("traced mask", lambda: cv.jit(lambda x: x[x > 0])(x3), cv.errors.NonConcreteBooleanIndexError,
     ("mask", "where")),
    ("traced nonzero", lambda: cv.jit(cnp.nonzero)(x3), cv.errors.NonConcreteBooleanIndexError,
     ("size=",)),
    # values that tracing does not know
    ("if on a traced value", lambda: cv.jit(lambda x: x if x > 0 else -x)(1.0),
     cv.errors.TracerBoolConversionError, ("if", "lax.cond", "static")),
    ("while under vmap", lambda: cv.vmap(lambda x: x if x > 0 else -x)(x3),
     cv.errors.TracerBoolConversionError, ("vmap",)),
    ("float of a traced value", lambda: cv.jit(lambda x: float(x))(1.0),
     cv.errors.ConcretizationTypeError, ("float()", "astype")),
    ("int of a traced value", lambda: cv.jit(lambda x: int(x))(1),
     cv.errors.ConcretizationTypeError, ("int()",)),
    ("traced size", lambda: cv.jit(lambda n: cnp.zeros(n))(3), TypeError, ("static",)),
    ("traced range", lambda: cv.jit(lambda n: cnp.arange(n))(3),
     cv.errors.ConcretizationTypeError, ("arange", "size")),
    ("NumPy on a traced value", lambda: cv.jit(lambda x: np.asarray(x))(x3),
     cv.errors.TracerArrayConversionError, ("NumPy", "covector.numpy")),
    ("item of a traced value", lambda: cv.jit(lambda x: x.item())(1.0),
     cv.errors.ConcretizationTypeError, ("item()",)),
    ("leaked tracer", leak_then_use, cv.errors.UnexpectedTracerError, ("side effect",)),
    ("leaked tracer, eager", leak_then_use_eagerly, cv.errors.UnexpectedTracerError, ("grad",)),
    # jit
    ("jit of a number", lambda: cv.jit(cast("Any", 3)), TypeError, ("jit", "function", "int")),
    ("unhashable static", lambda: cv.jit(lambda x, n: x, static_argnums=1)(x3, [1]), ValueError,
     ("static", "hashable", "list")),
    ("static_argnums range", lambda: cv.jit(lambda x: x, static_argnums=4), ValueError,
     ("static_argnums",)),
    ("static_argnames unknown", lambda: cv.jit(lambda x: x, static_argnames="y"), ValueError,
     ("static_argnames", "'y'")),
    ("argument of jit", lambda: cv.jit(lambda x: x)("text"), TypeError, ("str", "static")),
    ("object inside an argument", lambda: cv.jit(lambda x: x)({"a": [Opaque()]}), TypeError,
     ("Opaque", "['a'][0]")),
    ("output of jit", lambda: cv.jit(lambda x: "text")(x3), TypeError, ("output", "str")),
    ("unknown backend", lambda: cv.jit(lambda x: x, backend="gpu7")(x3), ValueError,
     ("gpu7", "native", "reference")),
    # differentiation
    ("grad of an integer", lambda: cv.grad(lambda x: x * 2.0)(3), TypeError, ("grad", "float")),
    ("grad of a vector function", lambda: cv.grad(lambda x: x * 2.0)(x3), TypeError,
     ("scalar", "f32[3]", "jacrev")),
    ("grad of an integer function", lambda: cv.grad(lambda x: cnp.argmax(x))(x3), TypeError,
     ("real floating", "i32")),
    ("grad of a tuple function", lambda: cv.grad(lambda x: (x, x))(1.0), TypeError,
     ("one scalar", "has_aux")),
    ("grad argnums", lambda: cv.grad(lambda x: x, argnums=2)(1.0), ValueError, ("argnums",)),
    ("grad of a complex function", lambda: cv.grad(lambda x: x * 1j)(1.0), TypeError,
     ("holomorphic",)),
    ("has_aux without a pair", lambda: cv.grad(lambda x: x, has_aux=True)(1.0), TypeError,
     ("has_aux", "pair")),
    ("jvp structures", lambda: cv.jvp(cnp.sin, (x3,), (x3, x3)), TypeError, ("structure",)),
    ("jvp shapes", lambda: cv.jvp(cnp.sin, (x3,), (x4,)), TypeError, ("tangent", "f32[3]")),
    ("jvp of tuples", lambda: cv.jvp(cnp.sin, x3, x3), TypeError, ("tuples",)),
    ("vjp cotangent", lambda: cv.vjp(cnp.sin, x3)[1](x4), TypeError, ("cotangent", "f32[3]")),
    ("no jvp rule", lambda: no_rule(x3), AttributeError, ("no_rule", "defjvp")),
    ("no vjp rule", lambda: no_vjp_rule(x3), AttributeError, ("no_vjp_rule", "defvjp")),
    ("fwd without a pair", lambda: custom_vjp_with(lambda x: x, lambda r, g: (g,))(x3), TypeError,
     ("forward rule", "pair")),
    ("bwd without a tuple", lambda: custom_vjp_with(lambda x: (x, None), lambda r, g: g)(x3),
     TypeError, ("backward rule", "tuple")),
    ("bwd shape", lambda: custom_vjp_with(lambda x: (x, None), lambda r, g: (g[:2],))(x3),
     TypeError, ("backward rule", "f32[3]", "f32[2]")),
    ("jvp rule without a pair", lambda: custom_jvp_with(lambda p, t: p[0])(x3), TypeError,
     ("jvp rule", "pair")),
    ("jvp rule's tangent", lambda: custom_jvp_with(lambda p, t: (p[0], t[0][:2]))(x3), TypeError,
     ("jvp rule", "tangent", "f32[3]")),
    # vmap
    ("vmap sizes", lambda: cv.vmap(lambda a, b: a)(x3, x4), ValueError, ("batch sizes", "f32[4]")),
    ("vmap axis", lambda: cv.vmap(lambda a: a, in_axes=1)(x3), ValueError, ("axis 1", "f32[3]")),
    ("vmap of nothing", lambda: cv.vmap(lambda a: a, in_axes=None)(x3), ValueError, ("axis_size",)),
    ("vmap in_axes length", lambda: cv.vmap(lambda a: a, in_axes=(0, 0))(x3), ValueError,
     ("in_axes", "2")),
    ("vmap out_axes None", lambda: cv.vmap(lambda a: a, out_axes=None)(x3), ValueError,
     ("out_axes", "None")),
    # control flow
    ("scan carry dtype", lambda: lax.scan(lambda c, x: (c + 0.5, x), i3[0], x3), TypeError,
     ("carry", "f32", "i32")),
    ("scan carry shape", lambda: lax.scan(lambda c, x: (m23, x), x3, x3), TypeError,
     ("carry", "f32[2,3]")),
    ("scan carry structure", lambda: lax.scan(lambda c, x: ((c, c), x), x3, x3), TypeError,
     ("carry",)),
    ("scan without a pair", lambda: lax.scan(lambda c, x: c, x3, x3), TypeError, ("pair",)),
    ("scan lengths", lambda: lax.scan(lambda c, x: (c, None), 0.0, (x3, x4)), ValueError,
     ("scan", "leading axis", "3", "4")),
    ("scan without a length", lambda: lax.scan(lambda c, x: (c, None), 0.0), ValueError,
     ("length",)),
    ("scan length", lambda: lax.scan(lambda c, x: (c, None), 0.0, x3, length=5), ValueError,
     ("length",)),
    ("while carry", lambda: lax.while_loop(lambda c: c < 3, lambda c: c + 0.5, i3[0]), TypeError,
     ("while_loop", "f32")),
    ("while predicate", lambda: lax.while_loop(lambda c: c, lambda c: c, x3), TypeError,
     ("cond_fun", "boolean", "f32[3]")),
    ("cond outputs", lambda: lax.cond(True, lambda x: x, lambda x: (x, x), x3), TypeError,
     ("cond",)),
    ("cond output types", lambda: lax.cond(x3[0] > 0, lambda x: x, lambda x: x > 0, x3), TypeError,
     ("cond", "bool")),
    ("cond predicate", lambda: lax.cond(x3, lambda x: x, lambda x: x, x3), TypeError,
     ("Pred", "scalar", "f32[3]")),
    ("fori bounds", lambda: lax.fori_loop(0.5, 3, lambda i, c: c, 0.0), TypeError,
     ("fori_loop",)),
    ("unbound axis name", lambda: lax.axis_size("i"), NameError, ("'i'", "axis_name")),
]  # fmt: skip


def test_there_are_at_least_sixty_cases() -> None:
    assert len(CASES) >= 60
    assert len({name for name, *_ in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_bad_input(case: Any) -> None:
    _, call, kind, words = case
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    for word in words:
        assert word in text, f"{word!r} is not in: {text}"
    # The library still works afterwards.
    assert float(cv.jit(lambda x: x + 1)(1.0)) == 2.0
