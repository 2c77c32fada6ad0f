"""Functions of neural networks against jax.nn: values, derivatives, batches, native code."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest

import covector as cv
from covector import nn

Array = np.ndarray[Any, Any]

ACTIVATIONS = [
    "celu",
    "elu",
    "gelu",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "identity",
    "leaky_relu",
    "log_sigmoid",
    "mish",
    "relu",
    "relu6",
    "selu",
    "sigmoid",
    "silu",
    "soft_sign",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
    "swish",
    "tanh",
]
# Kinks, where derivatives are a matter of convention, and the ends of the range.
POINTS = np.array(
    [-1e4, -50.0, -6.0, -3.0, -1.5, -1.0, -0.3, -1e-9, -0.0, 0.0]
    + [1e-9, 0.3, 1.0, 1.5, 3.0, 6.0, 9.0, 50.0, 1e4]
)
EDGES = np.array([-np.inf, np.inf, np.nan])


@pytest.fixture(autouse=True)
def _x64() -> Iterator[None]:
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def close(found: Any, expected: Any, rtol: float = 1e-12) -> None:
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=1e-14)


def orders(package: Any, fn: Any) -> Any:
    """Values, and first and second derivatives at each element."""

    def all_of(x: Any, t: Any) -> Any:
        first = package.grad(fn)
        value, tangent = package.jvp(package.vmap(fn), (x,), (t,))
        return value, tangent, package.vmap(first)(x), package.vmap(package.grad(first))(x)

    return all_of


@cache
def oracle() -> dict[str, Any]:
    """JAX's results of all activations, compiled at once."""
    t = np.linspace(1, 2, POINTS.size)

    def all_of(x: Any, t: Any, edges: Any) -> Any:
        return {
            name: (orders(jax, getattr(jax.nn, name))(x, t), getattr(jax.nn, name)(edges))
            for name in ACTIVATIONS
        }

    return jax.jit(all_of)(POINTS, t, EDGES)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str) -> None:
    expected, at_edges = oracle()[name]
    ours = getattr(nn, name)
    t = np.linspace(1, 2, POINTS.size)
    for run in (orders(cv, ours), cv.jit(orders(cv, ours))):
        for found, wanted in zip(run(POINTS, t), expected, strict=True):
            # Terms of the second derivative of gelu cancel far out.
            close(found, wanted, 1e-5 if name == "gelu" else 1e-12)
    for fn in (ours, cv.jit(ours)):
        np.testing.assert_allclose(np.asarray(fn(EDGES)), np.asarray(at_edges))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=str)
@pytest.mark.parametrize("name", ["elu", "gelu", "mish", "relu6", "selu", "silu", "softplus"])
def test_activations_in_other_dtypes(name: str, dtype: Any) -> None:
    x = np.linspace(-4, 8, 13).astype(dtype)
    found, expected = getattr(nn, name)(x), np.asarray(getattr(jax.nn, name)(x))
    assert found.dtype == expected.dtype
    tolerance = 1e-6 if dtype is np.float32 else 3e-2
    np.testing.assert_allclose(
        np.asarray(found).astype(np.float64), expected.astype(np.float64), rtol=tolerance, atol=2e-3
    )


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if n not in ("sigmoid", "silu", "swish")])
def test_activations_of_integers(name: str) -> None:
    x = np.arange(-3, 8)
    close(getattr(nn, name)(x), getattr(jax.nn, name)(x), 1e-6)


def test_kinks() -> None:
    assert float(cv.grad(nn.relu)(0.0)) == 0.0
    assert float(cv.grad(nn.relu)(np.nan)) == 0.0
    assert [float(cv.grad(nn.relu6)(x)) for x in (0.0, 3.0, 6.0)] == [0, 1, 0]


def test_arguments_of_activations() -> None:
    x = np.linspace(-3, 3, 8)
    a = np.linspace(0.5, 2, 8)
    for name, given in [
        ("celu", (a,)),
        ("elu", (a,)),
        ("leaky_relu", (0.3,)),
        ("squareplus", (1.0,)),
        ("gelu", (False,)),
        ("glu", (0,)),
    ]:
        close(getattr(nn, name)(x, *given), getattr(jax.nn, name)(x, *given))
    close(cv.grad(lambda a: nn.celu(x, a).sum())(a), jax.grad(lambda a: jax.nn.celu(x, a).sum())(a))
    with pytest.raises(ValueError, match="even number"):
        nn.glu(x[:5])


def test_small_values_are_not_lost() -> None:
    x = np.array([-700.0, -300.0, -50.0, -20.0])
    np.testing.assert_allclose(np.asarray(nn.softplus(x)), np.log1p(np.exp(x)), rtol=1e-13)
    np.testing.assert_allclose(np.asarray(nn.log_sigmoid(-x)), -np.log1p(np.exp(x)), rtol=1e-13)
    assert float(nn.softplus(np.float32(-20))) == pytest.approx(np.exp(-20), rel=1e-6)


def test_log1mexp() -> None:
    x = np.array([1e-12, 0.1, 0.6931, 0.6932, 3.0, 40.0, 800.0])
    np.testing.assert_allclose(
        np.asarray(nn.log1mexp(x)), np.log(-np.expm1(-x)) * (x < 40), rtol=1e-12, atol=1e-17
    )
    slopes = cv.vmap(cv.grad(nn.log1mexp))(x[:-1])
    np.testing.assert_allclose(np.asarray(slopes), 1 / np.expm1(x[:-1]), rtol=1e-10)
    assert float(cv.grad(nn.log1mexp)(800.0)) == 0


# --- along axes -----------------------------------------------------------------------------------

X = np.random.default_rng(0).normal(size=(3, 4, 5)) * 3
MASK = np.random.default_rng(1).random((3, 4, 5)) < 0.6
MASK[1, 2] = False


@pytest.mark.parametrize("axis", [-1, 0, (0, 2), None], ids=str)
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp", "logmeanexp"])
def test_along_axes(name: str, masked: bool, axis: Any) -> None:
    # Where nothing takes part JAX's derivatives are NaN, for which there is no use.
    where = (MASK if axis != -1 or name == "softmax" else MASK | (X > 0)) if masked else None

    def both(package: Any, functions: Any) -> Any:
        def value(x: Any) -> Any:
            return getattr(functions, name)(x, axis=axis, where=where)

        def loss(x: Any) -> Any:
            return package.numpy.sum(package.numpy.sin(package.numpy.exp(value(x))))

        return lambda x: (value(x), package.grad(loss)(x))

    expected = jax.jit(both(jax, jax.nn))(X)
    for fn in (both(cv, nn), cv.jit(both(cv, nn))):
        for found, wanted in zip(fn(X), expected, strict=True):
            close(found, wanted)


def test_softmax_twice_differentiated() -> None:
    def hessian(package: Any, softmax: Any) -> Any:
        return package.jit(package.hessian(lambda x: (softmax(x) * np.arange(5.0)).sum()))(X[0, 0])

    close(hessian(cv, nn.softmax), hessian(jax, jax.nn.softmax))


def test_softmax_of_nothing() -> None:
    hidden = np.zeros(4, bool)
    y, tangent = cv.jvp(lambda x: nn.softmax(x, where=hidden), (np.ones(4),), (np.ones(4),))
    np.testing.assert_array_equal(np.asarray(y), np.zeros(4))
    np.testing.assert_array_equal(np.asarray(tangent), np.zeros(4))
    assert float(nn.softmax(np.array([1e4, 0.0]))[0]) == 1.0


@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_with_factors(keepdims: bool) -> None:
    b = np.random.default_rng(2).normal(size=(4, 5))
    b[0] = 0

    def all_of(package: Any, functions: Any) -> Any:
        def logsumexp(x: Any, **given: Any) -> Any:
            return functions.logsumexp(x, axis=(1,), keepdims=keepdims, **given)

        def of_factors(x: Any, b: Any) -> Any:
            return functions.logsumexp(x[0], b=b**2)

        return lambda x, b: (
            logsumexp(x, b=b),
            logsumexp(x, b=b, where=MASK),
            *logsumexp(x, b=b, return_sign=True),
            functions.logsumexp(1j * x, axis=0),
            package.grad(of_factors, 1)(x, b),
        )

    expected = jax.jit(all_of(jax, jax.nn))(X, b)
    for found, wanted in zip(all_of(cv, nn)(X, b), expected, strict=True):
        close(found, wanted)
    assert float(nn.logsumexp(np.full(3, -np.inf))) == -np.inf
    assert float(nn.logsumexp(np.zeros(4, int))) == pytest.approx(np.log(4))


@pytest.mark.parametrize("algorithm", ["fast", "stable"])
def test_standardize(algorithm: str) -> None:
    for given in ({}, {"where": MASK | (X > 0)}, {"mean": 1.0}, {"variance": 2.0, "epsilon": 0.1}):
        found = nn.standardize(X, axis=(0, 2), algorithm=algorithm, **given)
        close(found, jax.nn.standardize(X, axis=(0, 2), algorithm=algorithm, **given), 1e-9)
    with pytest.raises(ValueError, match="'fast' or 'stable'"):
        nn.standardize(X, algorithm="exact")


def test_one_hot() -> None:
    x = np.array([[0, 2], [5, -1]])
    for given in ({}, {"axis": 0}, {"axis": 1, "dtype": np.int8}):
        close(nn.one_hot(x, 4, **given), jax.nn.one_hot(x, 4, **given))
    close(cv.jit(lambda x: nn.one_hot(x, 4))(x), jax.nn.one_hot(x, 4))
    assert nn.one_hot(1, 3).tolist() == [0, 1, 0]
    with pytest.raises(TypeError, match="static"):
        cv.jit(lambda n: nn.one_hot(x, n))(4)
    named = cv.vmap(lambda i: nn.one_hot(2, 4, axis="i") * i, axis_name="i")(np.arange(4.0))
    np.testing.assert_array_equal(np.asarray(named), [0, 0, 2, 0])


# --- attention ------------------------------------------------------------------------------------


def attention_operands(heads: int, dtype: Any = np.float32) -> tuple[Array, ...]:
    rng = np.random.default_rng(3)
    shapes = (2, 5, 4, 3), (2, 6, heads, 3), (2, 6, heads, 3)
    return tuple(rng.normal(size=s).astype(dtype) for s in shapes)


RNG = np.random.default_rng(4)
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "causal": {"is_causal": True, "scale": 0.3},
    "bias": {"bias": RNG.normal(size=(1, 4, 5, 6)).astype(np.float32)},
    "mask": {"mask": RNG.random((2, 1, 5, 6)) < 0.7, "local_window_size": (1, 2)},
    "lengths": {
        "query_seq_lengths": np.array([3, 5], np.int32),
        "key_value_seq_lengths": np.array([6, 2], np.int32),
        "implementation": "xla",
    },
    "residual": {"return_residual": True, "local_window_size": 2},
}


@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("option", OPTIONS)
def test_attention(option: str, heads: int) -> None:
    given = OPTIONS[option]
    operands = attention_operands(heads)

    def both(package: Any, functions: Any) -> Any:
        def value(q: Any, k: Any, v: Any) -> Any:
            out = functions.dot_product_attention(q, k, v, **given)
            return out if isinstance(out, tuple) else (out,)

        def loss(*operands: Any) -> Any:
            return package.numpy.sum(value(*operands)[0] ** 2)

        return lambda *operands: (*value(*operands), *package.grad(loss, (0, 1, 2))(*operands))

    expected = jax.jit(both(jax, jax.nn))(*operands)
    for fn in (both(cv, nn), cv.jit(both(cv, nn))):
        for found, wanted in zip(fn(*operands), expected, strict=True):
            assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
            np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=2e-5, atol=2e-5)


def test_attention_without_a_batch_and_in_half_precision() -> None:
    q, k, v = (x[0] for x in attention_operands(2))
    found = nn.dot_product_attention(q, k, v)
    expected = jax.nn.dot_product_attention(q, k, v)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-5)
    q, k, v = attention_operands(2, ml_dtypes.bfloat16)
    found, expected = nn.dot_product_attention(q, k, v), jax.nn.dot_product_attention(q, k, v)
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(
        np.asarray(found, np.float32), np.asarray(expected, np.float32), atol=2e-2
    )


def test_what_attention_refuses() -> None:
    q, k, v = attention_operands(2)
    refused: list[tuple[Any, type[Exception], str]] = [
        (lambda: nn.dot_product_attention(q[:1], k, v), ValueError, "equal batch"),
        (lambda: nn.dot_product_attention(q, k, v[:, :4]), ValueError, "equal shape"),
        (lambda: nn.dot_product_attention(q, k, v.astype(np.float16)), ValueError, "equal dtypes"),
        (lambda: nn.dot_product_attention(q[:, :, :3], k, v), ValueError, "multiple of the heads"),
        (lambda: nn.dot_product_attention(q, k, v, mask=q), ValueError, "boolean"),
        (
            lambda: nn.dot_product_attention(q, k, v, query_seq_lengths=np.array([1.0, 2.0])),
            ValueError,
            "int32",
        ),
        (
            lambda: nn.dot_product_attention(q, k, v, implementation="cudnn"),
            NotImplementedError,
            "GPUs",
        ),
        (lambda: nn.dot_product_attention(q, k, v, implementation="other"), ValueError, "'xla'"),
    ]
    for call, error, words in refused:
        with pytest.raises(error, match=words):
            call()
