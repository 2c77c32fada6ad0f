"""Products of vectors, matrices and tensors, and einsum, against NumPy and JAX."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp

SHAPES = {
    "matmul": [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (3, 2)),
        ((2, 3), (3, 4)),
        ((5, 2, 3), (3, 4)),
        ((3,), (5, 3, 4)),
        ((2, 3), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((5, 1, 2, 3), (6, 3, 4)),
        ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((2, 0), (0, 4)),
        ((0, 3), (3, 4)),
    ],
    "dot": [((), (3,)), ((3,), (3,)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((2, 3), (5, 3, 4))],
    "inner": [((3,), (3,)), ((2, 3), (4, 3)), ((2, 3), ()), ((2, 3), (5, 4, 3))],
    "outer": [((3,), (4,)), ((2, 3), (4,)), ((), (4,))],
    "vdot": [((3,), (3,)), ((2, 3), (3, 2)), ((), ())],
    "kron": [((3,), (2,)), ((2, 3), (3, 2)), ((2,), (2, 3)), ((), (3,))],
    "vecdot": [((3,), (3,)), ((2, 3), (3,)), ((4, 1, 3), (2, 3))],
    "matvec": [((2, 3), (3,)), ((5, 2, 3), (3,)), ((2, 3), (5, 3))],
    "vecmat": [((2,), (2, 3)), ((2,), (5, 2, 3)), ((5, 2), (2, 3))],
    "cross": [((3,), (3,)), ((2, 3), (3,)), ((4, 1, 3), (2, 3)), ((2,), (3,)), ((3,), (4, 2))],
}


NO_FLAT_CROSS = jax.__version_info__ >= (0, 11)


@pytest.mark.parametrize(
    ("name", "shapes"), [(n, s) for n, each in SHAPES.items() for s in each], ids=str
)
def test_shapes(name, shapes, dtype, twins):
    if dtype.kind == "b" and name in ("cross", "kron"):
        pytest.skip("not in NumPy, or not in JAX")
    if name == "cross" and NO_FLAT_CROSS and 2 in (shapes[0][-1], shapes[1][-1]):
        pytest.skip("newer versions of JAX have no cross products in the plane")
    if not hasattr(np, name):
        pytest.skip(f"this NumPy has no {name}")
    x, y = twins.sample(dtype, shapes[0]), twins.sample(dtype, shapes[1], seed=1)
    rtol = 3e-2 if dtype == np.float16 else 1e-4
    twins.agree(lambda m, x, y: getattr(m, name)(x, y), x, y, rtol=rtol)


@pytest.mark.parametrize("axes", [0, 1, 2, ((1,), (0,)), ((2, 0), (1, 0)), (-1, 1)], ids=str)
def test_tensordot(axes, dtype, twins):
    x, y = twins.sample(dtype, (2, 3, 4)), twins.sample(dtype, (2, 4, 5), seed=1)
    if axes == 1:
        y = twins.sample(dtype, (4, 5), seed=1)
    elif axes == 2:
        y = twins.sample(dtype, (3, 4, 5), seed=1)
    elif axes == ((1,), (0,)):
        y = twins.sample(dtype, (3, 5), seed=1)
    rtol = 3e-2 if dtype == np.float16 else 1e-4
    twins.agree(lambda m, x, y: m.tensordot(x, y, axes), x, y, rtol=rtol)


@pytest.mark.parametrize("other", [np.int32, np.float32, np.complex64], ids=lambda d: d.__name__)
def test_mixed_dtypes(dtype, other, twins):
    x, y = twins.sample(dtype, (2, 3)), twins.sample(other, (3, 4), seed=1)
    for name in ("matmul", "dot", "tensordot", "kron"):
        args = (1,) if name == "tensordot" else ()
        fn = lambda m, x, y, n=name, a=args: getattr(m, n)(x, y, *a)  # noqa: E731
        twins.agree(fn, x, y, rtol=1e-4)


@pytest.mark.parametrize("name", ["matmul", "dot", "inner", "vdot", "tensordot"])
def test_dtype_of_the_result(name, twins):
    x, y = twins.sample(np.float16, (3, 3)), twins.sample(np.float16, (3, 3), seed=1)
    twins.agree(
        lambda m, x, y: getattr(m, name)(x, y, preferred_element_type=np.float32),
        x,
        y,
        values="jax",
        rtol=1e-3,
    )


@pytest.mark.parametrize("axes", [{}, {"axisa": 0}, {"axisc": 0}, {"axis": 0}], ids=str)
def test_axes_of_cross(axes, twins):
    x = twins.sample(np.float32, (3, 3))
    twins.agree(lambda m, x: m.cross(x, x.T, **axes), x)
    if not NO_FLAT_CROSS:
        twins.agree(lambda m, x: m.cross(x[:, :2], x[:, 1:]), x)


EINSUMS = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ij,jk": [(2, 3), (3, 4)],
    "ij->ji": [(2, 3)],
    "ij": [(2, 3)],
    "ba": [(2, 3)],
    "ij->": [(2, 3)],
    "ij->j": [(2, 3)],
    "ii": [(3, 3)],
    "ii->i": [(3, 3)],
    "iij->j": [(3, 3, 2)],
    "iji->ij": [(3, 2, 3)],
    "iii->i": [(3, 3, 3)],
    "i,i": [(3,), (3,)],
    "i,j": [(3,), (4,)],
    "i,j->ji": [(3,), (4,)],
    "bij,bjk->bik": [(5, 2, 3), (5, 3, 4)],
    "bij,bkj->bki": [(5, 2, 3), (5, 4, 3)],
    "...ij,...jk->...ik": [(5, 2, 3), (3, 4)],
    "...ij->...": [(5, 2, 3)],
    "...i,i": [(5, 2, 3), (3,)],
    "i...,i...->...i": [(3, 2), (3, 2)],
    "ij,jk,kl->il": [(2, 3), (3, 4), (4, 5)],
    "ij,jk,kl": [(2, 3), (3, 4), (4, 5)],
    "a,b,c,d->abcd": [(2,), (3,), (2,), (3,)],
    "ijk,ilm,njm,nlk->": [(2, 3, 4), (2, 5, 6), (7, 3, 6), (7, 5, 4)],
    "ij,ij->ij": [(2, 3), (2, 3)],
    "ij,ji->": [(2, 3), (3, 2)],
    "ij,kj->": [(2, 3), (4, 3)],
    "ij,k->ij": [(2, 3), (4,)],
    "ij,ij->i": [(1, 3), (2, 3)],
    "ij,jk->ik ": [(2, 1), (3, 4)],
    "ii,i->i": [(3, 3), (3,)],
    ",ij->ij": [(), (2, 3)],
    ",->": [(), ()],
    "->": [()],
    "ij,jk->": [(0, 3), (3, 4)],
}


@pytest.mark.parametrize("subscripts", EINSUMS)
def test_einsum(subscripts, dtype, twins):
    if dtype == np.bool_ and len(EINSUMS[subscripts]) > 2:
        pytest.skip("not in JAX")
    args = [twins.sample(dtype, s, seed=k) for k, s in enumerate(EINSUMS[subscripts])]
    rtol = 5e-2 if dtype == np.float16 else 1e-4
    text = subscripts.strip()
    if dtype == np.bool_ or dtype == np.uint8:
        ours = np.asarray(cnp.einsum(text, *args))
        wide = np.einsum(text, *[x.astype(np.int64) for x in args])
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours, wide.astype(dtype))
        return
    twins.agree(lambda m, *xs: m.einsum(text, *xs), *args, rtol=rtol)


@pytest.mark.parametrize("optimize", [True, False, "greedy", "optimal", [(1, 2), (0, 1)]], ids=str)
def test_paths(optimize, twins):
    args = [twins.sample(np.float32, s) for s in ((2, 3), (3, 4), (4, 5))]
    fn = lambda m, *xs: m.einsum("ij,jk,kl->il", *xs, optimize=optimize)  # noqa: E731
    reference = lambda m, *xs: m.einsum("ij,jk,kl->il", *xs)  # noqa: E731
    twins.agree(fn, *args, reference=reference, rtol=1e-4)


def test_einsum_by_numbers(twins):
    x, y = twins.sample(np.float32, (2, 3)), twins.sample(np.float32, (3, 4))
    twins.agree(lambda m, x, y: m.einsum(x, [0, 1], y, [1, 2], [0, 2]), x, y, rtol=1e-4)
    twins.agree(lambda m, x, y: m.einsum(x, [0, 1], y, [1, 2]), x, y, rtol=1e-4)


def test_einsum_path():
    path, _ = cnp.einsum_path("ij,jk,kl->il", np.ones((2, 3)), np.ones((3, 4)), np.ones((4, 5)))
    assert len(path) == 2


def test_einsum_in_another_dtype(twins):
    x = twins.sample(np.float16, (3, 3))
    found = cnp.einsum("ij,jk->ik", x, x, preferred_element_type=np.float32)
    assert found.dtype == np.float32


@pytest.mark.parametrize("subscripts", ["ij,jk->ik", "ii->i", "...ij,j", "ij,jk,kl->", "ij,ij->i"])
def test_derivatives_of_einsum(subscripts):
    shapes = {"ij,jk->ik": [(2, 3), (3, 4)], "ii->i": [(3, 3)], "...ij,j": [(5, 2, 3), (3,)]}
    shapes |= {"ij,jk,kl->": [(2, 3), (3, 4), (4, 5)], "ij,ij->i": [(1, 3), (2, 3)]}
    rng = np.random.default_rng(0)
    args = [rng.normal(size=s).astype(np.float32) for s in shapes[subscripts]]
    for k in range(len(args)):
        ours = cv.grad(lambda *xs: (cnp.einsum(subscripts, *xs) ** 2).sum(), k)(*args)
        theirs = jax.grad(lambda *xs: (jnp.einsum(subscripts, *xs) ** 2).sum(), k)(*args)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_einsum_compiled_and_batched():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 2, 3)), rng.normal(size=(5, 3, 4))
    x, y = x.astype(np.float32), y.astype(np.float32)
    one = lambda a, b: cnp.einsum("ij,jk->ki", a, b)  # noqa: E731
    expected = np.einsum("bij,bjk->bki", x, y)
    np.testing.assert_allclose(cv.vmap(one)(x, y), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(cv.jit(cv.vmap(one))(x, y), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda x: cnp.matmul(x, x), TypeError, "transpose"),
        (lambda x: cnp.matmul(x, 2.0), ValueError, "at least one axis"),
        (lambda x: cnp.einsum("ij,jk->ik", x, x), (ValueError, TypeError), "j|size|dimension"),
        (lambda x: cnp.einsum("ij->k", x), ValueError, "k"),
        (lambda x: cnp.einsum("ij"), ValueError, "at least one"),
        (lambda x: cnp.cross(x[:, :1], x[:, :1]), ValueError, "2 or 3"),
        (lambda x: cnp.tensordot(x, x, ((0, 1), (0,))), ValueError, "numbers of axes"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call(np.ones((2, 3), np.float32))
