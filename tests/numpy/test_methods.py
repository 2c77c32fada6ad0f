"""Methods of arrays, operators, bits, files and text."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import (
    ConcretizationTypeError,
    TracerArrayConversionError,
    TracerBoolConversionError,
)

X = np.array([[3.0, 1.0, 2.0], [0.0, -1.0, 5.0]], np.float32)

CALLS = {
    "all": lambda x: x.all(axis=0),
    "any": lambda x: x.any(axis=1),
    "argmax": lambda x: x.argmax(1),
    "argmin": lambda x: x.argmin(),
    "argsort": lambda x: x.argsort(axis=0),
    "astype": lambda x: x.astype("int32"),
    "clip": lambda x: x.clip(0, 2),
    "compress": lambda x: x.compress(np.array([True, False, True]), axis=1),
    "conj": lambda x: x.conj(),
    "copy": lambda x: x.copy(),
    "cumprod": lambda x: x.cumprod(axis=1),
    "cumsum": lambda x: x.cumsum(axis=1),
    "diagonal": lambda x: x.diagonal(1),
    "dot": lambda x: x.dot(x.T),
    "flatten": lambda x: x.flatten(),
    "max": lambda x: x.max(axis=1, keepdims=True),
    "mean": lambda x: x.mean(axis=0),
    "min": lambda x: x.min(),
    "nonzero": lambda x: x.nonzero()[0],
    "prod": lambda x: x.prod(axis=1),
    "ptp": lambda x: x.ptp(axis=1),
    "ravel": lambda x: x.ravel(),
    "repeat": lambda x: x.repeat(2, axis=0),
    "reshape": lambda x: x.reshape(3, 2),
    "reshape to a tuple": lambda x: x.reshape((-1,)),
    "reshape in column order": lambda x: x.reshape(3, 2, order="F"),
    "round": lambda x: (x / 3).round(1),
    "searchsorted": lambda x: x[0].sort().searchsorted(2.5),
    "sort": lambda x: x.sort(axis=1, descending=True),
    "squeeze": lambda x: x[:1].squeeze(0),
    "std": lambda x: x.std(axis=1),
    "sum": lambda x: x.sum(),
    "swapaxes": lambda x: x.swapaxes(0, 1),
    "take": lambda x: x.take(np.array([0, 2]), axis=1),
    "trace": lambda x: x.trace(),
    "transpose": lambda x: x.transpose(),
    "transpose in order": lambda x: x.transpose(1, 0),
    "var": lambda x: x.var(ddof=1),
    "view": lambda x: x.view("uint8"),
    "T": lambda x: x.T,
    "mT": lambda x: x.mT,
    "real": lambda x: x.real,
    "imag": lambda x: x.imag,
    "at": lambda x: x.at[0].set(1.0),
    "iteration": lambda x: sum(row[0] for row in x),
    "operators": lambda x: -(+x + 1 - x * 2) / (x + 4) // 0.5 % 3,
    "powers": lambda x: x**2 + 2**x + (x + 2) ** 0.5,
    "comparisons": lambda x: (x > 1) & (x <= 3) | ~(x != 2) ^ (x == 0),
    "products": lambda x: x @ x.T,
    "abs and round": lambda x: round(abs(x) / 3, 1),
    "divmod": lambda x: divmod(x, 2)[1],
    "shifts": lambda x: (x.astype("int32") << 2) >> 1,
}


@pytest.mark.parametrize("name", CALLS)
def test_methods(name):
    ours, theirs = CALLS[name](cnp.asarray(X)), CALLS[name](jnp.asarray(X))
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in CALLS if n not in ("nonzero", "compress")])
def test_methods_of_traced_values(name):
    np.testing.assert_allclose(
        cv.jit(CALLS[name])(X), CALLS[name](cnp.asarray(X)), rtol=1e-5, atol=1e-6
    )


def test_operators_with_numpy_arrays():
    x = cnp.asarray(X)
    for found in (X + x, x + X, X * 2 - x, np.float32(2) * x, x / np.float32(2)):
        assert isinstance(found, cnp.ndarray)
    np.testing.assert_array_equal(X + x, X + X)
    with pytest.raises(TypeError):
        x + [1, 2, 3]
    with pytest.raises(TypeError):
        x + "text"


def test_values():
    x = cnp.asarray(X)
    assert x.tolist() == X.tolist()
    assert x[0, 0].item() == 3.0
    assert x.item(1, 2) == 5.0
    assert float(x[0, 1]) == 1.0
    assert int(x[0, 2]) == 2
    assert len(x) == 2
    assert 5.0 in x
    assert 7.0 not in x
    assert x.itemsize == 4
    assert x.nbytes == 24
    assert x.tobytes() == X.tobytes()
    assert x.block_until_ready() is x
    assert x.is_ready()
    assert f"{x[0, 0]:.2f}" == "3.00"
    with pytest.raises(TypeError, match="0-d"):
        iter(x[0, 0])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: x.item(), ConcretizationTypeError),
        (lambda x: x.tolist(), ConcretizationTypeError),
        (lambda x: x.tobytes(), ConcretizationTypeError),
        (lambda x: np.asarray(x), TracerArrayConversionError),
        (lambda x: bool(x[0, 0]), TracerBoolConversionError),
        (lambda x: float(x[0, 0]), ConcretizationTypeError),
    ],
)
def test_traced_values_are_not_known(call, error):
    with pytest.raises(error, match=r"known while tracing|NumPy"):
        cv.jit(call)(X)


VIEWS = ["int32", "uint32", "uint8", "int16", "float16", "complex64", "bool"]


@pytest.mark.parametrize("target", VIEWS)
@pytest.mark.parametrize("kind", ["float32", "int32", "uint8", "complex64", "bool", "int16"])
def test_views(kind, target):
    x = np.arange(16).reshape(2, 8).astype(kind)
    expected = x.view(target)
    if target == "bool":
        expected = expected.view(np.uint8) != 0
    found = cnp.asarray(x).view(target)
    assert found.dtype == expected.dtype
    assert np.asarray(found).tobytes() == expected.tobytes()


def test_views_of_a_wrong_size():
    with pytest.raises(ValueError, match="whole number"):
        cnp.ones((2, 3), "int16").view("int32")
    with pytest.raises(ValueError, match="whole number"):
        cnp.ones((2, 3)).view("complex64")


def test_buffers_and_other_libraries():
    data = np.arange(5, dtype=np.int16).tobytes()
    np.testing.assert_array_equal(cnp.frombuffer(data, "int16", 3, 2), [1, 2, 3])
    np.testing.assert_array_equal(cnp.fromstring("1, 2.5", "float32", sep=","), [1, 2.5])
    np.testing.assert_array_equal(np.from_dlpack(cnp.asarray(X)), X)
    np.testing.assert_array_equal(cnp.from_dlpack(X), X)
    np.testing.assert_array_equal(cnp.from_dlpack(jnp.asarray(X)), X)
    np.testing.assert_array_equal(jnp.from_dlpack(cnp.asarray(X)), X)


def test_files(tmp_path):
    cnp.save(tmp_path / "x.npy", cnp.asarray(X))
    np.testing.assert_array_equal(cnp.load(tmp_path / "x.npy"), X)
    cnp.savez(tmp_path / "x.npz", X, named=cnp.arange(3))
    with cnp.load(tmp_path / "x.npz") as found:
        np.testing.assert_array_equal(found["arr_0"], X)
        np.testing.assert_array_equal(found["named"], [0, 1, 2])
    for call in (cnp.save, cnp.savez):
        with pytest.raises(ValueError, match="pickles"):
            call(tmp_path / "y", X, allow_pickle=True)
    with pytest.raises(ValueError, match="pickles"):
        cnp.load(tmp_path / "x.npy", allow_pickle=True)


def test_text():
    x = cnp.asarray(X[0])
    assert cnp.array_str(x) == "[3. 1. 2.]"
    assert "float32" in cnp.array_repr(x)
    with cnp.printoptions(precision=1):
        assert cnp.get_printoptions()["precision"] == 1
