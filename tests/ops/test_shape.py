"""Movement operations against jax.lax: values, dtypes, empty arrays, errors, PRNG keys."""

from __future__ import annotations

from typing import Any

import jax
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax

import covector as cv
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.core.dtypes import ARRAY_DTYPES, key_fry
from covector.ops import shape as ops
from covector.ops.elementwise import add, mul

DTYPES = sorted(ARRAY_DTYPES, key=str)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def x64():
    with cv.enable_x64(True), jax.enable_x64(True):
        yield


def filled(shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    return (numbers % 7 - 2).astype(dtype) if np.dtype(dtype) != bool else numbers % 2 == 0


def agree(ours: Any, theirs: Any) -> None:
    if isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            agree(a, b)
        return
    expected = np.asarray(theirs)
    assert ours.dtype == expected.dtype
    assert ours.shape == expected.shape
    assert ours._value.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(ours), expected)


# Each row: primitive, its parameters, operand shapes, the same in jax.lax.
def _row(name: str, shapes: Any, oracle: Any, **params: Any) -> Any:
    return pytest.param(name, shapes, oracle, params, id=f"{name}-{shapes}-{params}")


def _broadcast(shape: Any, new: Any, dims: Any) -> Any:
    return _row(
        "broadcast_in_dim",
        [shape],
        lambda x: lax.broadcast_in_dim(x, new, dims),
        shape=new,
        broadcast_dimensions=dims,
    )


def _reshape(shape: Any, new: Any) -> Any:
    return _row("reshape", [shape], lambda x: lax.reshape(x, new), new_sizes=new, dimensions=None)


def _slice(shape: Any, starts: Any, limits: Any, strides: Any) -> Any:
    return _row(
        "slice_",
        [shape],
        lambda x: lax.slice(x, starts, limits, strides),
        start_indices=starts,
        limit_indices=limits,
        strides=strides,
    )


def _pad(shape: Any, config: Any) -> Any:
    return _row("pad", [shape, ()], lambda x, v: lax.pad(x, v, config), padding_config=config)


def _transpose(shape: Any, permutation: Any) -> Any:
    return _row(
        "transpose", [shape], lambda x: lax.transpose(x, permutation), permutation=permutation
    )


def _concatenate(shapes: Any, dimension: int) -> Any:
    return _row(
        "concatenate",
        shapes,
        lambda *xs: lax.concatenate(xs, dimension),
        dimension=dimension,
    )


ROWS = [
    _broadcast((), (2, 3), ()),
    _broadcast((3,), (2, 3), (1,)),
    _broadcast((2,), (2, 3), (0,)),
    _broadcast((2, 1), (2, 3, 4), (0, 2)),
    _broadcast((1, 1), (2, 0), (0, 1)),
    _broadcast((), (), ()),
    _reshape((2, 3), (3, 2)),
    _reshape((2, 3), (6,)),
    _reshape((6,), (1, 2, 3, 1)),
    _reshape((2, 3, 4), (6, 4)),
    _reshape((2, 12), (2, 3, 4)),
    _reshape((4, 6), (3, 2, 4)),
    _reshape((1, 1), ()),
    _reshape((0, 3), (2, 0, 5)),
    _row("squeeze", [(1, 3, 1)], lambda x: lax.squeeze(x, (0,)), dimensions=(0,)),
    _row("squeeze", [(1, 3, 1)], lambda x: lax.squeeze(x, (0, 2)), dimensions=(0, 2)),
    _row("squeeze", [(1,)], lambda x: lax.squeeze(x, (0,)), dimensions=(0,)),
    _transpose((), ()),
    _transpose((2, 3), (1, 0)),
    _transpose((2, 3, 4), (2, 0, 1)),
    _transpose((2, 0, 4), (2, 0, 1)),
    _row("rev", [(2, 3)], lambda x: lax.rev(x, (1,)), dimensions=(1,)),
    _row("rev", [(2, 3)], lambda x: lax.rev(x, (0, 1)), dimensions=(0, 1)),
    _row("rev", [()], lambda x: lax.rev(x, ()), dimensions=()),
    _slice((5,), (1,), (4,), None),
    _slice((5, 4), (0, 1), (5, 4), (2, 3)),
    _slice((5, 4), (2, 4), (2, 4), None),
    _slice((7,), (1,), (7,), (5,)),
    _slice((), (), (), None),
    _pad((3,), ((1, 2, 0),)),
    _pad((3,), ((0, 0, 2),)),
    _pad((3,), ((-1, 2, 0),)),
    _pad((4,), ((-1, -2, 1),)),
    _pad((4,), ((-4, 3, 1),)),
    _pad((3,), ((-3, 0, 0),)),
    _pad((3,), ((2, -4, 0),)),
    _pad((3,), ((-4, 5, 0),)),
    _pad((3, 2), ((1, -1, 0), (0, 1, 1))),
    _pad((0, 2), ((1, 2, 3), (0, 0, 0))),
    _pad((1,), ((0, 0, 3),)),
    _pad((), ()),
    _concatenate([(2, 3)], 0),
    _concatenate([(2, 3), (1, 3), (0, 3), (2, 3)], 0),
    _concatenate([(2, 3), (2, 1)], 1),
    _concatenate([(1,)] * 12, 0),
    _row("stack", [(2, 3)] * 3, lambda *xs: jax.numpy.stack(xs, 0), axis=0),
    _row("stack", [(2, 3)] * 3, lambda *xs: jax.numpy.stack(xs, 2), axis=2),
    _row("stack", [()] * 3, lambda *xs: jax.numpy.stack(xs, 0), axis=0),
    _row("unstack", [(2, 3)], lambda x: jax.numpy.unstack(x, axis=1), axis=1),
    _row("unstack", [(0, 3)], lambda x: jax.numpy.unstack(x, axis=0), axis=0),
    _row("split", [(5, 2)], lambda x: lax.split(x, (2, 0, 3), 0), sizes=(2, 0, 3), axis=0),
    _row("split", [(2, 4)], lambda x: lax.split(x, (1, 3), 1), sizes=(1, 3), axis=1),
    _row("tile", [(2, 3)], lambda x: lax.tile(x, (2, 1)), reps=(2, 1)),
    _row("tile", [(2, 3)], lambda x: lax.tile(x, (3, 2)), reps=(3, 2)),
    _row("tile", [(2,)], lambda x: lax.tile(x, (0,)), reps=(0,)),
]


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ROWS)
def test_values(name, shapes, oracle, params):
    xs = [filled(shape) + 10 * k for k, shape in enumerate(shapes)]
    agree(getattr(ops, name)(*xs, **params), oracle(*xs))


ONE_EACH = [row for k, row in enumerate(ROWS) if row.values[0] != ROWS[k - 1].values[0]]


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ONE_EACH)
@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.float16, BFLOAT16, np.complex64], ids=str)
def test_dtypes(name, shapes, oracle, params, dtype):
    xs = [filled(shape, dtype) for shape in shapes]
    agree(getattr(ops, name)(*xs, **params), oracle(*xs))


def _keys(shape: tuple[int, ...]) -> Array:
    words = np.arange(2 * int(np.prod(shape)), dtype=np.uint32).reshape(*shape, 2)
    return Array.of(words, Aval(shape, key_fry))


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ROWS)
def test_keys(name, shapes, oracle, params):
    """Both words of each key move as a number in its place does."""
    if name == "reshape" and 0 in shapes[0]:
        pytest.skip("without elements, the data does not tell keys from numbers")
    keys = [_keys(shape) for shape in shapes]
    ours = getattr(ops, name)(*keys, **params)
    theirs = [oracle(*[k._value[..., w] for k in keys]) for w in (0, 1)]
    if not isinstance(ours, (list, tuple)):
        ours, theirs = [ours], [[t] for t in theirs]
    for k, result in enumerate(ours):
        assert result.dtype is key_fry
        expected = np.stack([theirs[0][k], theirs[1][k]], -1)
        assert result.shape == expected.shape[:-1]
        np.testing.assert_array_equal(result._value.reshape(expected.shape), expected)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d.kind != "b"], ids=str)
def test_iota(dtype):
    agree(ops.iota(dtype=dtype, shape=(5,), dimension=0), lax.iota(dtype, 5))
    ours = ops.iota(dtype=dtype, shape=(2, 3), dimension=1)
    agree(ours, lax.broadcasted_iota(dtype, (2, 3), 1))


def test_iota_wraps_in_narrow_types():
    agree(ops.iota(dtype=np.dtype(np.int8), shape=(300,), dimension=0), lax.iota(np.int8, 300))


@pytest.mark.parametrize("dims", [(0,), (-1,), (0, 2), (0, -1), (1, 2)])
def test_expand_dims(dims):
    x = filled((2, 3))
    agree(ops.expand_dims(x, dims), lax.expand_dims(x, dims))


@given(n=st.integers(0, 5), low=st.integers(-7, 4), high=st.integers(-7, 4), gap=st.integers(0, 3))
def test_pad_of_any_configuration(n, low, high, gap):
    x = filled((n,)) + 10
    try:
        theirs = lax.pad(x, np.float32(-1), ((low, high, gap),))
    except ValueError:
        with pytest.raises(ValueError, match="would have shape"):
            ops.pad(x, np.float32(-1), padding_config=((low, high, gap),))
    else:
        agree(ops.pad(x, np.float32(-1), padding_config=((low, high, gap),)), theirs)


def test_results_do_not_keep_larger_operands_alive():
    x = filled((100, 100))
    part = ops.slice_(x, start_indices=(0, 0), limit_indices=(1, 1), strides=None)
    assert part._value.base is None or part._value.base.nbytes < x.nbytes


def test_weak_types():
    weak = Array.of(np.array([1.0, 2.0], np.float32), Aval((2,), np.dtype(np.float32), True))
    strong = filled((2,))
    assert ops.reshape(weak, new_sizes=(2, 1), dimensions=None).weak_type
    assert ops.concatenate(weak, weak, dimension=0).weak_type
    assert not ops.concatenate(weak, strong, dimension=0).weak_type


BAD = [
    ("broadcast_in_dim", [(3,)], {"shape": (2, 4), "broadcast_dimensions": (1,)}, "size 3"),
    ("broadcast_in_dim", [(3, 2)], {"shape": (2, 3), "broadcast_dimensions": (1, 0)}, "increase"),
    ("broadcast_in_dim", [(3,)], {"shape": (2, 3), "broadcast_dimensions": ()}, "must name"),
    ("reshape", [(2, 3)], {"new_sizes": (5,), "dimensions": None}, "6 elements, not 5"),
    ("reshape", [(2, 3)], {"new_sizes": (-1,), "dimensions": None}, "negative"),
    ("squeeze", [(2, 3)], {"dimensions": (0,)}, "size 2, not 1"),
    ("transpose", [(2, 3)], {"permutation": (0, 0)}, "permutation"),
    ("rev", [(2, 3)], {"dimensions": (2,)}, "distinct"),
    ("slice_", [(2,)], {"start_indices": (1,), "limit_indices": (3,), "strides": None}, "limits"),
    ("slice_", [(2,)], {"start_indices": (0,), "limit_indices": (2,), "strides": (0,)}, "positive"),
    ("pad", [(2,), (1,)], {"padding_config": ((0, 0, 0),)}, "scalar"),
    ("pad", [(2,), ()], {"padding_config": ((0, 0, -1),)}, "negative"),
    ("concatenate", [(2,), (2, 1)], {"dimension": 0}, "agree"),
    ("concatenate", [(2, 3), (2, 4)], {"dimension": 0}, "agree"),
    ("stack", [(2,), (3,)], {"axis": 0}, "equal shape"),
    ("split", [(4,)], {"sizes": (1, 2), "axis": 0}, "add up to 4"),
    ("tile", [(4,)], {"reps": (1, 2)}, "reps"),
]


@pytest.mark.parametrize(("name", "shapes", "params", "match"), BAD)
def test_errors_name_what_was_found(name, shapes, params, match):
    with pytest.raises((TypeError, ValueError), match=match):
        getattr(ops, name)(*[filled(shape) for shape in shapes], **params)


def test_operands_of_different_dtypes():
    with pytest.raises(TypeError, match="equal dtype"):
        ops.concatenate(filled((2,)), filled((2,), np.int32), dimension=0)


def test_symbolic_shapes():
    n = symbol("n")
    x = Aval((n, 3), np.dtype(np.float32))
    shape = ops.reshape.shape(x, new_sizes=(3 * n,), dimensions=None).shape
    assert shape == (3 * n,)
    assert ops.concatenate.shape(x, x, dimension=0).shape == (2 * n, 3)
    y = ops.slice_.shape(x, start_indices=(0, 1), limit_indices=(n, 3), strides=None)
    assert y.shape == (n, 2)
    value = Aval((), np.dtype(np.float32))
    assert ops.pad.shape(x, value, padding_config=((1, 1, 0), (0, 0, 0))).shape == (n + 2, 3)
    with pytest.raises(TypeError, match="elements"):
        ops.reshape.shape(x, new_sizes=(2 * n,), dimensions=None)


DERIVED = [
    *ONE_EACH,
    *[row for row in ROWS if row.values[0] == "pad" and "-1" in row.id],
    *[row for row in ROWS if row.values[0] in ("broadcast_in_dim", "reshape")][2:10:2],
]


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), DERIVED)
def test_derivatives_and_batching(name, shapes, oracle, params, against_jax):
    xs = [filled(shape, np.float64) + 10 * k for k, shape in enumerate(shapes)]

    def ours(*operands: Any) -> Any:
        out = getattr(ops, name)(*operands, **params)
        return tuple(out) if isinstance(out, list) else out

    def theirs(*operands: Any) -> Any:
        out = oracle(*operands)
        return tuple(out) if isinstance(out, list) else out

    against_jax.everything(ours, theirs, xs)


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ROWS)
def test_native_code(name, shapes, oracle, params):
    """As arguments of the compiled function, and fused with what computes the operands."""
    xs = [filled(shape) + 10 * k for k, shape in enumerate(shapes)]

    def moved(*operands: Any) -> Any:
        return getattr(ops, name)(*operands, **params)

    def fused(*operands: Any) -> Any:
        return moved(*[add(mul(x, x), x) for x in operands])

    agree(cv.jit(moved)(*xs), oracle(*xs))
    agree(cv.jit(fused)(*xs), oracle(*[x * x + x for x in xs]))


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ONE_EACH)
def test_native_code_on_keys(name, shapes, oracle, params):
    def moved(*operands: Any) -> Any:
        out = getattr(ops, name)(*operands, **params)
        return out if isinstance(out, list) else [out]

    keys = [_keys(shape) for shape in shapes]
    for a, b in zip(cv.jit(moved)(*keys), moved(*keys), strict=True):
        assert a.aval == b.aval
        np.testing.assert_array_equal(a._value, b._value)


@pytest.mark.parametrize(("name", "shapes", "oracle", "params"), ONE_EACH)
@pytest.mark.parametrize("dtype", [np.bool_, np.complex64, np.float16, np.int8], ids=str)
def test_native_code_on_dtypes(name, shapes, oracle, params, dtype):
    xs = [filled(shape, dtype) for shape in shapes]
    agree(cv.jit(lambda *a: getattr(ops, name)(*a, **params))(*xs), oracle(*xs))


@pytest.mark.parametrize("sizes", [(1, 2, 300), (300,) * 10, (40,) * 10], ids=str)
def test_native_concatenation_of_many_or_large_operands(sizes):
    xs = [filled((2, n)) + k for k, n in enumerate(sizes)]
    found = cv.jit(lambda *xs: ops.concatenate(*xs, dimension=1))(*xs)
    agree(found, np.concatenate(xs, 1))


def test_native_iota():
    for dtype in (d for d in DTYPES if d.kind != "b"):
        params = {"dtype": dtype, "shape": (2, 300), "dimension": 1}
        found = cv.jit(lambda params=params: ops.iota(**params))()
        agree(found, np.asarray(ops.iota(**params)))
