"""Functions that are written and read: the same program, the same derivatives, the same bytes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from tests.export.corpus import FUNCTIONS, PARAMS, Shape, clipped, exported, log1pexp, serialized

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.core.dtypes import prng_key
from covector.core.effects import NONE
from covector.core.errors import ExportError
from covector.core.program import all_equations
from covector.export import (
    deserialize,
    export,
    is_symbolic_dim,
    register_namedtuple_serialization,
    register_pytree_node_serialization,
    symbolic_args_specs,
    symbolic_shape,
)

X = np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3)
Y = np.linspace(1, -1, 10, dtype=np.float32).reshape(5, 2)

ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "mlp gradient": (PARAMS, X, Y),
    "ode": (np.array([1.0, 0.0], np.float32), np.float32(0.02)),
    "control": (2.0, np.int32(3)),
    "indexing": (np.array([3, 1, 2, 7, -5, 4, 0], np.float32), np.arange(3)),
    "sizes": (np.arange(7, dtype=np.float32), np.ones(2, np.float32)),
    "keys": (cv.random.key(5),),
    "windows": (np.ones((1, 2, 6, 6), np.float32), np.ones((3, 2, 3, 3), np.float32)),
    "matrices": (np.eye(4, dtype=np.float32),),
    "rules": (X[:, 0],),
    "jitted": (X[0],),
    "ensemble": (Y, np.full(5, 0.02, np.float32)),
}


def equal(found: Any, wanted: Any) -> None:
    assert cv.tree.structure(found) == cv.tree.structure(wanted)
    for a, b in zip(cv.tree.leaves(found), cv.tree.leaves(wanted), strict=True):
        assert a.dtype == b.dtype
        if cnp.issubdtype(a.dtype, prng_key):
            a, b = cv.random.key_data(a), cv.random.key_data(b)
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_read_computes_the_same(name: str) -> None:
    again = deserialize(serialized(name))
    assert again.as_text().replace("_Loaded", "") == exported(name).as_text()
    assert again.in_names == exported(name).in_names
    assert again.out_tree == exported(name).out_tree
    function, args = FUNCTIONS[name][0], ARGUMENTS[name]
    equal(again.call(*args), cv.jit(function)(*args))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_writing_again_gives_the_same_bytes(name: str) -> None:
    assert bytes(deserialize(serialized(name)).serialize()) == serialized(name)


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("name", ["mlp gradient", "ode", "rules"])
def test_derivatives_of_what_is_read(name: str, backend: str) -> None:
    function, args = FUNCTIONS[name][0], ARGUMENTS[name]
    again = deserialize(serialized(name))

    def total(fn: Any) -> Any:
        return lambda *a: sum(cnp.sum(leaf) for leaf in cv.tree.leaves(fn(*a)))

    with cv.config.override("backend", backend):
        equal(cv.grad(total(again.call))(*args), cv.grad(total(function))(*args))


def test_derivative_rules_come_along() -> None:
    def f(x: Any) -> Any:
        return 5 * clipped(x) + log1pexp(x)

    again = deserialize(export(f)(Shape((), "float32")).serialize())
    for g in (cv.grad, lambda h: cv.jit(cv.grad(h))):
        equal(g(again.call)(np.float32(90.0)), g(f)(np.float32(90.0)))
    second = cv.grad(cv.grad(lambda x: log1pexp(x)))
    read = deserialize(export(log1pexp)(Shape((), "float32")).serialize())
    equal(cv.grad(cv.grad(read.call))(np.float32(0.3)), second(np.float32(0.3)))
    equal(cv.jvp(read.call, (0.5,), (2.0,)), cv.jvp(log1pexp, (0.5,), (2.0,)))
    batch = np.linspace(-3, 3, 4, dtype=np.float32)
    equal(cv.vmap(cv.grad(again.call))(batch), cv.vmap(cv.grad(f))(batch))


def test_rules_inside_of_loops_that_were_mapped() -> None:
    def f(xs: Any) -> Any:
        body = cv.vmap(lambda x: log1pexp(clipped(x)))
        return lax.scan(lambda c, x: (c + body(x).sum(), None), np.float32(0), xs)[0]

    again = deserialize(export(f)(Shape((4, 3), "float32")).serialize())
    xs = np.linspace(-2, 2, 12, dtype=np.float32).reshape(4, 3)
    equal(cv.grad(again.call)(xs), cv.grad(f)(xs))


def test_the_pullback_is_exported_like_any_function() -> None:
    f = exported("mlp gradient")
    pullback = deserialize(export(lambda p, x: x @ p)(Shape((3, 2), "float32"), Shape(
        symbolic_shape("n, 3"), "float32")).vjp().serialize())  # fmt: skip
    assert pullback.in_names == ("p", "x", "ct_result")
    assert pullback.out_names == ("d_p", "d_x")
    p = np.ones((3, 2), np.float32)
    d_p, d_x = pullback.call(p, X, Y)
    np.testing.assert_allclose(d_p, X.T @ Y, rtol=1e-5)
    np.testing.assert_allclose(d_x, Y @ p.T, rtol=1e-5)
    assert f.has_vjp()


def test_it_is_called_under_all_transformations() -> None:
    again = deserialize(serialized("sizes"))
    x, y = np.arange(7, dtype=np.float32), np.ones(2, np.float32)
    function = FUNCTIONS["sizes"][0]
    equal(cv.jit(again.call)(x, y), function(x, y))
    equal(cv.vmap(again.call, in_axes=(0, None))(np.stack([x, x]), y)[1], np.repeat(
        np.asarray(function(x, y)[1])[None], 2))  # fmt: skip
    equal(deserialize(export(again.call)(x, y).serialize()).call(x, y), function(x, y))
    other = export(again.call)(
        Shape(symbolic_shape("2*n + 1"), "float32"), Shape(symbolic_shape("m"), "float32")
    )
    equal(other.call(x, y), function(x, y))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_files_of_version_1_0_are_read(name: str, request: pytest.FixtureRequest) -> None:
    """They were written once and stay: what cannot read them is a new major version."""
    file = Path(__file__).parent / "golden" / f"{name.replace(' ', '_')}.cvx"
    if request.config.getoption("--update-golden") and not file.exists():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(serialized(name))
    again, args = deserialize(file.read_bytes()), ARGUMENTS[name]
    equal(again.call(*args), cv.jit(FUNCTIONS[name][0])(*args))


# --- arguments ---


class Pair(NamedTuple):
    first: Any
    second: Any


register_namedtuple_serialization(Pair, serialized_name="tests.Pair")


class Tagged:
    def __init__(self, value: Any, tag: str) -> None:
        self.value, self.tag = value, tag


cv.tree_util.register_pytree_node(
    Tagged, lambda t: ((t.value,), t.tag), lambda tag, values: Tagged(values[0], tag)
)
register_pytree_node_serialization(
    Tagged,
    serialized_name="tests.Tagged",
    serialize_auxdata=str.encode,
    deserialize_auxdata=bytes.decode,
)


def test_structures_of_arguments_and_results() -> None:
    def f(x: Any, *, deep: Any) -> Any:
        result = OrderedDict([("z", deep["a"]), ("b", [x, None])])
        return Pair(result, Tagged(x + 1, "here"))

    again = deserialize(export(f)(1.0, deep={"a": (2.0, np.float32(3))}).serialize())
    assert again.in_names == ("x", "deep_a_0", "deep_a_1")
    found = again.call(1.0, deep={"a": (2.0, np.float32(3))})
    assert type(found) is Pair
    assert type(found.first) is OrderedDict
    assert list(found.first) == ["z", "b"]
    assert found.second.tag == "here"
    with pytest.raises(TypeError, match="exported for other arguments"):
        again.call(1.0, deep={"b": 2.0})


def test_classes_that_are_not_registered() -> None:
    class Other(NamedTuple):
        x: Any

    with pytest.raises(ExportError, match=r"(?s)Other.*register_namedtuple_serialization"):
        export(lambda x: Other(x))(1.0).serialize()
    with pytest.raises(ValueError, match=r"'tests\.Pair' is the serialized name of"):
        register_namedtuple_serialization(Other, serialized_name="tests.Pair")


def test_static_arguments_are_gone() -> None:
    f = cv.jit(lambda x, n: x**n, static_argnums=1)
    again = deserialize(export(f)(2.0, 3).serialize())
    assert float(again.call(2.0)) == 8.0


def test_other_shapes_and_dtypes_are_refused() -> None:
    f = exported("mlp gradient")
    with pytest.raises(ValueError, match=r"(?s)another x.*f32\[5,4\] instead of f32\[n,3\]"):
        f.call(PARAMS, np.ones((5, 4), np.float32), Y)
    with pytest.raises(TypeError, match="another x"):
        f.call(PARAMS, X.astype(np.int32), Y)
    with pytest.raises(ValueError, match="should be n, which is 5"):
        f.call(PARAMS, X, Y[:4])


def test_symbolic_shapes() -> None:
    assert symbolic_shape("") == ()
    n, m, three = symbolic_shape("(n, 2*m, 3)")
    assert is_symbolic_dim(n)
    assert not is_symbolic_dim(three)
    assert str(m) == "2*m"
    assert symbolic_shape("max(n, 3), ...", like=(1, 2, 5))[1:] == (2, 5)
    specs = symbolic_args_specs({"a": X, "b": Y}, "n, ...")
    assert [str(s.shape) for s in cv.tree.leaves(specs)] == ["(n, 3)", "(n, 2)"]
    for text, like in (("n, ...", None), ("n, m", (1,)), ("..., ...", (1,)), ("n +", None)):
        with pytest.raises(ValueError, match="cannot read"):
            symbolic_shape(text, like=like)


# --- what is refused ---


def test_what_calls_python_is_refused_with_its_line() -> None:
    def f(x: Any) -> Any:
        return cv.pure_callback(np.sin, Shape((), "float32"), x)

    with pytest.raises(ExportError, match=r"(?s)calls a Python function.*test_serialize.py"):
        export(f)(1.0).serialize()

    def shown(x: Any) -> Any:
        cv.debug.print("{}", x)
        return x

    with pytest.raises(ExportError, match="leave the debugging out"):
        export(shown)(1.0).serialize()


def test_traced_values_from_outside_are_refused() -> None:
    def outer(y: Any) -> Any:
        return export(lambda x: x + y)(1.0).call(1.0)

    with pytest.raises(ExportError, match="uses a traced value from outside"):
        cv.jit(outer)(2.0)


def test_arguments_of_export() -> None:
    with pytest.raises(TypeError, match="expects a function"):
        export(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="are exported for"):
        export(cnp.sin, platforms=["tpu"])
    assert export(cnp.sin, platforms=["cpu"])(1.0).platforms == ("cpu",)
    with pytest.raises(ValueError, match="at least 0"):
        exported("ode").serialize(vjp_order=-1)
    assert exported("ode").serialize(vjp_order=2) == exported("ode").serialize()


def test_programs_that_are_written_have_no_effects() -> None:
    for name in FUNCTIONS:
        program = deserialize(serialized(name)).program
        assert {e.effects for e in all_equations(program)} <= {NONE}
