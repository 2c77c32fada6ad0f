"""The Fourier transforms of the native runtime, against SciPy in double precision."""

import ctypes
import threading

import numpy as np
import pytest
import scipy.fft

from covector import _native

POINTER, INT = ctypes.c_void_p, ctypes.c_int64
LENGTHS = [*range(1, 131), 169, 1009, 1155, 2018, 2048, 2187, 3027, 3125, 3721, 4096, 4097]
LONG = [10007, 2**15, 30030, 3 * 2**14, 47 * 16 * 5, 65537]
TOLERANCE = {np.dtype(np.float32): 4e-6, np.dtype(np.float64): 8e-15}


def function(name, *types):
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(_native.symbols()[name])


COMPLEX = {c: function(f"cv_fft_{c}", POINTER, *[INT] * 3, POINTER, INT) for c in ("c64", "c128")}
REAL = {f: function(f"cv_rfft_{f}", POINTER, INT, INT, *[POINTER] * 2) for f in ("f32", "f64")}
BACK = {c: function(f"cv_irfft_{c}", POINTER, INT, INT, *[POINTER] * 2) for c in ("c64", "c128")}


def along(x, axis, inverse=False):
    out = np.array(x, order="C")
    outer, inner = (int(np.prod(s)) for s in (x.shape[:axis], x.shape[axis + 1 :]))
    call = COMPLEX["c64" if x.dtype == np.complex64 else "c128"]
    assert call(None, outer, x.shape[axis], inner, out.ctypes.data, inverse) == 0
    return out


def real(x):
    out = np.full((*x.shape[:-1], x.shape[-1] // 2 + 1), np.nan, np.result_type(x, np.complex64))
    call = REAL["f32" if x.dtype == np.float32 else "f64"]
    rows = int(np.prod(x.shape[:-1]))
    assert call(None, rows, x.shape[-1], x.ctypes.data, out.ctypes.data) == 0
    return out


def back(x, n):
    out = np.full((*x.shape[:-1], n), np.nan, x.real.dtype)
    call = BACK["c64" if x.dtype == np.complex64 else "c128"]
    assert call(None, int(np.prod(x.shape[:-1])), n, x.ctypes.data, out.ctypes.data) == 0
    return out


def close(found, wanted, dtype):
    assert np.isfinite(found).all()
    size = np.sqrt(np.mean(np.abs(wanted) ** 2))
    assert np.abs(found - wanted).max() <= TOLERANCE[np.dtype(dtype)] * size


def operand(dtype, *shape):
    rng = np.random.default_rng(shape)
    x = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    return x.astype(np.complex64 if dtype == np.float32 else np.complex128)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_all_lengths(dtype):
    for n in LENGTHS:
        for rows in (1, 3, 18):
            x = operand(dtype, rows, n)
            wide = x.astype(np.complex128)
            close(along(x, 1), scipy.fft.fft(wide), dtype)
            close(along(x, 1, True), scipy.fft.ifft(wide), dtype)
            numbers = np.array(x.real, order="C")
            close(real(numbers), scipy.fft.rfft(numbers.astype(np.float64)), dtype)
            half = np.array(x[:, : n // 2 + 1], order="C")
            close(back(half, n), scipy.fft.irfft(half.astype(np.complex128), n), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", LONG)
def test_long(n, dtype):
    x = operand(dtype, n)
    close(along(x, 0), scipy.fft.fft(x.astype(np.complex128)), dtype)
    numbers = np.array(x.real, order="C")
    close(real(numbers), scipy.fft.rfft(numbers.astype(np.float64)), dtype)
    close(back(real(numbers), n), numbers.astype(np.float64), dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_columns(dtype):
    for shape in [(1, 5, 1), (4, 8, 3), (2, 12, 17), (1, 2048, 5), (2, 7, 33), (1, 1009, 2)]:
        x = operand(dtype, *shape)
        wide = x.astype(np.complex128)
        close(along(x, 1), scipy.fft.fft(wide, axis=1), dtype)
        close(along(x, 1, True), scipy.fft.ifft(wide, axis=1), dtype)


def test_meaningless_imaginary_parts_are_ignored():
    for n in (7, 8):
        x = operand(np.float64, 2, n // 2 + 1)
        plain = x.copy()
        plain[:, 0] = plain[:, 0].real
        if n % 2 == 0:
            plain[:, -1] = plain[:, -1].real
        np.testing.assert_array_equal(back(x, n), back(plain, n))


def test_rows_do_not_mix():
    x = operand(np.float64, 16, 24)
    x[3, 5] = np.nan
    found = along(x, 1)
    assert np.isnan(found[3]).all()
    others = np.delete(np.arange(16), 3)
    close(found[others], scipy.fft.fft(x[others]), np.float64)
    numbers = np.array(x.real, order="C")
    for n in (23, 24):
        rows = np.array(numbers[:, :n])
        assert np.isnan(real(rows)).any(axis=1).tolist() == [i == 3 for i in range(16)]


def test_nothing_to_do_writes_nothing():
    out = np.full(4, 7.0)
    place = out.ctypes.data
    assert COMPLEX["c128"](None, 0, 4, 1, place, 0) == 0
    assert COMPLEX["c128"](None, 1, 0, 1, place, 0) == 0
    assert COMPLEX["c128"](None, 1, 4, 0, place, 0) == 0
    assert REAL["f64"](None, 0, 4, place, place) == 0
    assert BACK["c128"](None, 1, 0, place, place) == 0
    np.testing.assert_array_equal(out, 7.0)


def test_lengths_beyond_memory_are_an_error_code():
    for n in (2**50, 2**50 + 1, 2**62, 2**62 + 1):
        assert COMPLEX["c128"](None, 1, n, 1, None, 0) == -3
        assert REAL["f32"](None, 1, n, None, None) == -3
        assert BACK["c64"](None, 1, n, None, None) == -3


def test_threads_share_plans():
    lengths = range(200, 280)
    failures = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for n in rng.permutation(lengths):
            x = operand(np.float64, 3, int(n))
            try:
                close(along(x, 1), scipy.fft.fft(x), np.float64)
            except AssertionError as error:
                failures.append((n, error))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
