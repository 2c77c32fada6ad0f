import ctypes

import ml_dtypes
import numpy as np
import pytest

from covector import _native

TYPES = [
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    np.float16, ml_dtypes.bfloat16, np.float32, np.float64, np.complex64, np.complex128,
]  # fmt: skip
SIZES = [0, 1, 2, 3, 16, 17, 63, 64, 65, 300, 1000, 70000]
POINTER, INT = ctypes.c_void_p, ctypes.c_int64
SORT = ctypes.CFUNCTYPE(ctypes.c_int32, POINTER, *[INT] * 5, *[POINTER] * 8)(
    _native.symbols()["cv_sort"]
)
ARGSORT = ctypes.CFUNCTYPE(ctypes.c_int32, POINTER, *[INT] * 6, *[POINTER] * 5)(
    _native.symbols()["cv_argsort"]
)


def pack(operands):
    return sum(TYPES.index(x.dtype.type) << 8 * i for i, x in enumerate(operands))


def sort(operands, keys=1):
    out = [np.array(x, order="C") for x in operands]
    rows = int(np.prod(out[0].shape[:-1]))
    pointers = [x.ctypes.data for x in out] + [None] * (8 - len(out))
    code = SORT(None, rows, out[0].shape[-1], keys, len(out), pack(out), *pointers)
    assert code == 0
    return out


def argsort(keys, descending=False, index=np.int64):
    keys = [np.ascontiguousarray(x) for x in keys]
    rows = int(np.prod(keys[0].shape[:-1]))
    order = np.empty(keys[0].shape, index)
    pointers = [x.ctypes.data for x in keys] + [None] * (4 - len(keys))
    code = ARGSORT(
        None, rows, keys[0].shape[-1], len(keys), pack(keys), order.itemsize, descending,
        order.ctypes.data, *pointers,
    )  # fmt: skip
    assert code == 0
    return order


def ranks(x):
    """Columns of integers in the order of the elements: -0.0 as 0.0, NaNs equal and last."""
    if np.issubdtype(x.dtype, np.complexfloating):
        return [*ranks(x.real), *ranks(x.imag)]
    if x.dtype.itemsize == 2 and x.dtype.kind not in "iu":
        x = x.astype(np.float32)
    values = np.unique(x[~np.isnan(x)] + x.dtype.type(0)) if x.dtype.kind == "f" else np.unique(x)
    place = np.searchsorted(values, x)
    return [np.where(np.isnan(x), len(values), place)] if x.dtype.kind == "f" else [place]


def expected_order(keys, descending=False):
    columns = [column for key in keys for column in ranks(key)]
    sign = -1 if descending else 1
    return np.lexsort([sign * column for column in columns][::-1])


def sample(dtype, n, seed, few=False):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    raw = generator.integers(0, 256, n * dtype.itemsize, np.uint8)
    if dtype == np.bool_:
        return raw > 100
    x = raw.view(dtype)
    if few:
        x = generator.choice(x[:5], n) if n else x
    if dtype.kind in "fc" or dtype == ml_dtypes.bfloat16:
        x = x.copy()
        for special in (0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf):
            x[generator.random(n) < 0.03] = special
    return x


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("few", [False, True])
def test_order(dtype, n, few):
    x = sample(dtype, n, n, few)
    order = expected_order([x])
    assert sort([x])[0].tobytes() == x[order].tobytes()
    np.testing.assert_array_equal(argsort([x]), order)
    np.testing.assert_array_equal(argsort([x], index=np.int32), order)
    np.testing.assert_array_equal(argsort([x], descending=True), expected_order([x], True))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("n", [10, 300, 5000])
def test_ordinary_numbers_are_sorted_alone(dtype, n):
    x = np.random.default_rng(n).normal(size=n).astype(dtype)
    wide = np.sort(x.astype(np.float64))
    np.testing.assert_array_equal(sort([x])[0].astype(np.float64), wide)


@pytest.mark.parametrize("n", [1, 20, 500, 3000])
@pytest.mark.parametrize("carried", TYPES)
def test_operands_move_together(n, carried):
    key = sample(np.float32, n, 1, few=True)
    others = [sample(carried, n, seed) for seed in (2, 3)]
    order = expected_order([key])
    for got, x in zip(sort([key, *others]), [key, *others], strict=True):
        assert got.tobytes() == x[order].tobytes()


@pytest.mark.parametrize("n", [1, 20, 500, 3000])
def test_several_keys(n):
    keys = [
        sample(np.int8, n, 1, few=True),
        sample(np.complex64, n, 2, few=True),
        sample(np.float64, n, 3, few=True),
    ]
    payload = np.arange(n, dtype=np.uint16)
    order = expected_order(keys)
    for got, x in zip(sort([*keys, payload], keys=3), [*keys, payload], strict=True):
        assert got.tobytes() == x[order].tobytes()
    np.testing.assert_array_equal(argsort(keys), order)
    np.testing.assert_array_equal(argsort(keys, True), expected_order(keys, True))


def test_rows_are_independent():
    x = np.stack([sample(np.float32, 50, seed) for seed in range(40)])
    y = np.stack([sample(np.int16, 50, seed) for seed in range(40)])
    sx, sy = sort([x, y])
    order = argsort([x])
    for row in range(40):
        expected = expected_order([x[row]])
        assert sx[row].tobytes() == x[row][expected].tobytes()
        assert sy[row].tobytes() == y[row][expected].tobytes()
        np.testing.assert_array_equal(order[row], expected)


def test_eight_operands():
    operands = [sample(t, 33, i) for i, t in enumerate(TYPES[:8])]
    order = expected_order(operands)
    for got, x in zip(sort(operands, keys=8), operands, strict=True):
        assert got.tobytes() == x[order].tobytes()


def test_nonsense_is_refused():
    x = np.zeros(4, np.float32)
    pointers = [x.ctypes.data] * 8
    assert SORT(None, 1, 4, 1, 1, 200, *pointers) == -3
    assert SORT(None, 1, 4, 2, 1, 11, *pointers) == -3
    assert SORT(None, 1, 4, 1, 9, 11, *pointers) == -3
    assert SORT(None, -1, 4, 1, 1, 11, *pointers) == 0
    assert ARGSORT(None, 1, 4, 5, 11, 4, 0, *pointers[:5]) == -3
    assert SORT(None, 1, 1 << 33, 1, 1, 11, *pointers) == -3
