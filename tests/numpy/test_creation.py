"""Making arrays, coordinates and sequences, against NumPy and JAX; dtypes by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector.core.errors import ConcretizationTypeError

# Functions of a module: values and types are compared.
MADE = {
    "zeros": lambda m: [m.zeros((2, 3)), m.zeros(3), m.zeros((), "int8")],
    "ones": lambda m: [m.ones((2, 3)), m.ones(3, bool), m.ones((0, 2))],
    "full": lambda m: [m.full((2, 3), 7), m.full(3, 1.5), m.full((2, 3), m.arange(3))],
    "full in a dtype": lambda m: m.full((2,), 7.9, dtype="int32"),
    "eye": lambda m: [m.eye(3), m.eye(2, 4, 1), m.eye(3, k=-1, dtype="int32"), m.identity(2)],
    "tri": lambda m: [m.tri(3), m.tri(2, 4, -1), m.tri(3, dtype="bool")],
    "arange": lambda m: [m.arange(5), m.arange(2, 9, 3), m.arange(5, 0, -2), m.arange(0)],
    "arange of floats": lambda m: [m.arange(1.5), m.arange(0, 1, 0.25), m.arange(3.0, 1.0, -0.5)],
    "arange in a dtype": lambda m: [m.arange(4, dtype="float16"), m.arange(0, 3, dtype="uint8")],
    "linspace": lambda m: [m.linspace(0, 1, 7), m.linspace(2, -2, 5), m.linspace(3, 3, 4)],
    "linspace without end": lambda m: [m.linspace(0, 1, 4, endpoint=False), m.linspace(0, 1, 1)],
    "linspace of none": lambda m: m.linspace(0, 1, 0),
    "linspace with step": lambda m: m.linspace(0, 5, 6, retstep=True)[0],
    "linspace of integers": lambda m: m.linspace(0, 10, 4, dtype="int32"),
    "linspace of arrays": lambda m: m.linspace(m.arange(3.0), m.ones(3), 4),
    "linspace along an axis": lambda m: m.linspace(m.zeros((2, 3)), 1.0, 4, axis=-1),
    "linspace complex": lambda m: m.linspace(0, 1 + 1j, 3),
    "logspace": lambda m: [m.logspace(0, 2, 5), m.logspace(0, 3, 4, base=2.0, endpoint=False)],
    "logspace in a dtype": lambda m: m.logspace(0, 2, 3, dtype="int32"),
    "geomspace": lambda m: [m.geomspace(1, 1000, 4), m.geomspace(-8.0, -1.0, 4)],
    "geomspace without end": lambda m: m.geomspace(1.0, 256.0, 8, endpoint=False),
    "geomspace of arrays": lambda m: m.geomspace(m.ones(2), m.full(2, 8.0), 4, axis=1),
    "meshgrid": lambda m: m.meshgrid(m.arange(3), m.arange(2)),
    "meshgrid of three": lambda m: m.meshgrid(m.arange(3), m.arange(2), m.arange(4), indexing="ij"),
    "meshgrid sparse": lambda m: m.meshgrid(m.arange(3), m.arange(2), sparse=True),
    "meshgrid of one": lambda m: m.meshgrid(m.arange(3)),
    "meshgrid of none": lambda m: m.meshgrid(),
    "indices": lambda m: [m.indices((2, 3)), m.indices((2, 3), dtype="float32")],
    "indices sparse": lambda m: m.indices((2, 3, 4), sparse=True),
    "ix_": lambda m: m.ix_(m.arange(2), m.arange(3)),
    "mgrid": lambda m: [m.mgrid[0:2, 1:4], m.mgrid[0:1:3j], m.mgrid[0:1:3j, 0:2], m.mgrid[:3]],
    "ogrid": lambda m: [*m.ogrid[0:2, 1:4], m.ogrid[0:3]],
    "r_": lambda m: [
        m.r_[1:4, 0, 5],
        m.r_[m.arange(2), 3.5],
        m.r_["0,2", m.arange(2), m.arange(2)],
    ],
    "r_ with axes": lambda m: [m.r_["1,2,0", m.arange(2), m.arange(2)], m.r_[-1:1:5j]],
    "c_": lambda m: [m.c_[m.arange(3), m.arange(3)], m.c_[m.ones((1, 2)), m.zeros((1, 2))]],
    "tril_indices": lambda m: [*m.tril_indices(3), *m.tril_indices(3, 1, 4)],
    "triu_indices": lambda m: [*m.triu_indices(3), *m.triu_indices(3, -1, 2)],
    "indices from": lambda m: [
        *m.tril_indices_from(m.ones((3, 2))),
        *m.triu_indices_from(m.ones((2, 2)), 1),
    ],
    "diag_indices": lambda m: [*m.diag_indices(3), *m.diag_indices_from(m.ones((2, 2, 2)))],
    "mask_indices": lambda m: m.mask_indices(3, m.triu),
    "fromfunction": lambda m: m.fromfunction(lambda i, j: 2 * i + j, (2, 3), dtype="float32"),
    "hanning": lambda m: [m.hanning(7), m.hanning(1), m.hanning(0)],
    "hamming": lambda m: m.hamming(6),
    "blackman": lambda m: m.blackman(9),
    "bartlett": lambda m: [m.bartlett(7), m.bartlett(4)],
    "kaiser": lambda m: m.kaiser(7, 3.5),
}


@pytest.mark.parametrize("x64", [False, True])
@pytest.mark.parametrize("name", MADE)
def test_made(name, x64, twins):
    with cv.enable_x64(x64), jax.enable_x64(x64):
        if name == "tri" and x64 and jax.__version_info__ < (0, 11):
            pytest.skip("float32 in older versions of JAX")
        values = "jax" if name == "mask_indices" else "numpy"
        rtol = 1e-12 if x64 and "space" not in name else 2e-6
        twins.agree(MADE[name], values=values, rtol=rtol)


def test_indices_of_masks():
    (rows, columns) = cnp.ix_(np.array([True, False, True]), np.arange(2))
    np.testing.assert_array_equal(rows, [[0], [2]])
    np.testing.assert_array_equal(columns, [[0, 1]])


VALUES = [3, 2.5, 1j, True, [1, 2], [1, 2.5], [[True, False]], [], (1, 2j), [[1.0], [2.0]]]
VALUES += [np.float16(2), np.arange(3), np.ones(2), np.int8(3), [np.float32(1), 2], 10**6]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("name", ["array", "asarray"])
def test_conversion(name, value):
    for options in ({}, {"dtype": "float32"}, {"dtype": "complex64"}):
        if options.get("dtype") == "float32" and "j" in repr(value):
            continue
        ours, theirs = getattr(cnp, name)(value, **options), getattr(jnp, name)(value, **options)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        assert ours.weak_type == theirs.weak_type
        np.testing.assert_array_equal(ours, theirs)


def test_conversion_of_traced_values():
    stacked = cv.jit(lambda x: cnp.array([x, 2 * x, 1.0]))(np.float32(3))
    np.testing.assert_array_equal(stacked, [3, 6, 1])
    nested = cv.jit(lambda x: cnp.asarray([[x, 1], [2, x]]))(np.float32(3))
    np.testing.assert_array_equal(nested, [[3, 1], [2, 3]])
    assert cnp.array(cnp.arange(3), ndmin=3).shape == (1, 1, 3)


def test_conversion_of_other_things():
    class Wrapper:
        def __jax_array__(self):
            return cnp.arange(3)

    np.testing.assert_array_equal(cnp.asarray(Wrapper()), [0, 1, 2])
    np.testing.assert_array_equal(cnp.asarray(memoryview(b"\x01\x02")), [1, 2])
    with pytest.raises(TypeError, match="asarray"):
        cnp.asarray(object())
    with pytest.raises((TypeError, ValueError), match=r"rectangular|shape"):
        cnp.asarray([[1], [1, 2]])
    with pytest.raises(TypeError):
        cnp.asarray("text")


@pytest.mark.parametrize("name", ["zeros_like", "ones_like"])
def test_like(name, dtype, twins):
    x = twins.sample(dtype)
    twins.agree(lambda m, x: getattr(m, name)(x), x)
    twins.agree(lambda m, x: getattr(m, name)(x, dtype="int32"), x)
    twins.agree(lambda m, x: getattr(m, name)(x, shape=(2,)), x)
    twins.agree(lambda m, x: m.full_like(x, 3), x)
    twins.agree(lambda m, x: m.full_like(x, 2.5, dtype="float32"), x)


def test_bounds_must_be_known():
    with pytest.raises(ConcretizationTypeError, match="arange"):
        cv.jit(cnp.arange)(3)
    linspace = cv.jit(lambda a, b: cnp.linspace(a, b, 5))
    np.testing.assert_allclose(linspace(1.0, 3.0), np.linspace(1, 3, 5), rtol=1e-6)


def test_index_expressions_are_kept():
    assert cnp.s_[1:2, ...] == np.s_[1:2, ...]
    assert cnp.index_exp[3] == (3,)


# --- dtypes -------------------------------------------------------------------------------------

NAMES = ["bool_", "int8", "int16", "int32", "uint8", "uint16", "uint32", "float16", "bfloat16"]
NAMES += ["float32", "complex64"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_dtypes(name):
    ours, theirs = getattr(cnp, name), getattr(jnp, name)
    assert np.dtype(ours) == np.dtype(theirs)
    assert ours == np.dtype(theirs)
    assert cnp.zeros(2, ours).dtype == np.dtype(theirs)
    made, wanted = ours(1), theirs(1)
    assert (made.dtype, made.shape, made.weak_type) == (wanted.dtype, (), wanted.weak_type)
    assert cnp.arange(3).astype(ours).dtype == np.dtype(theirs)
    for kind in ("floating", "integer", "inexact", "number", "generic", "signedinteger"):
        expected = jnp.issubdtype(theirs, getattr(jnp, kind))
        assert cnp.issubdtype(ours, getattr(cnp, kind)) == expected


@pytest.mark.parametrize("first", NAMES)
def test_promotion(first):
    for second in NAMES:
        ours = cnp.promote_types(getattr(cnp, first), getattr(cnp, second))
        assert ours == jnp.promote_types(getattr(jnp, first), getattr(jnp, second))
        ours = cnp.result_type(getattr(cnp, first), np.ones(2, getattr(jnp, second)))
        assert ours == jnp.result_type(getattr(jnp, first), np.ones(2, getattr(jnp, second)))
    for number in (1, 1.0, 1j, True):
        ours = cnp.result_type(cnp.ones(2, getattr(cnp, first)), number)
        assert ours == jnp.result_type(jnp.ones(2, getattr(jnp, first)), number)


@pytest.mark.parametrize("kind", ["bool", "integral", "real floating", "numeric", "int32"])
def test_isdtype(kind):
    for name in NAMES:
        assert cnp.isdtype(getattr(cnp, name), kind) == jnp.isdtype(getattr(jnp, name), kind)
    assert cnp.isdtype(cnp.float32, ("integral", cnp.float32))
    with pytest.raises(ValueError, match="kind"):
        cnp.isdtype(cnp.float32, "float")


def test_limits():
    assert cnp.finfo(cnp.float16).max == np.finfo(np.float16).max
    assert cnp.finfo("bfloat16").bits == 16
    assert cnp.iinfo(cnp.uint8).max == 255
    assert cnp.can_cast(cnp.int32, cnp.float64)
    assert not cnp.can_cast(cnp.float32, cnp.int32)


def test_astype(dtype, twins):
    x = twins.sample(dtype)
    if dtype.kind == "c":
        assert cnp.astype(x, "float32").dtype == np.float32
        return
    for target in ("int32", "float32", "complex64", "bool", "uint8"):
        if target == "uint8" and dtype.kind in "fci":
            continue
        fn = lambda m, x, t=target: m.astype(m.asarray(x), np.dtype(t))  # noqa: E731
        twins.agree(fn, x, values="jax")
        twins.agree(lambda m, x, t=target: m.asarray(x).astype(t), x, values="jax")


def test_questions():
    x = cnp.ones((2, 3))
    assert (cnp.ndim(x), cnp.shape(x), cnp.size(x)) == (2, (2, 3), 6)
    assert (cnp.ndim([[1]]), cnp.shape([1, 2]), cnp.size(x, 1)) == (2, (2,), 3)
    assert cnp.isscalar(3.0)
    assert cnp.isscalar(cnp.float32(3))
    assert not cnp.isscalar(x)
    assert cnp.iscomplexobj(cnp.ones(2, cnp.complex64))
    assert cnp.isrealobj(x)
    assert cnp.iterable(x)
    assert not cnp.iterable(cnp.float32(3))
    assert isinstance(x, cnp.ndarray)
