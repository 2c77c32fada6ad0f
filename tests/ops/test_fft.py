"""The Fourier transform as a primitive: evaluation, derivatives, batching, compilation, import."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
import pytest

import covector as cv
from covector import lax
from covector.core.avals import Aval
from covector.core.dims import symbol
from covector.core.parsing import parse
from covector.core.trace import eval_program
from covector.interop import from_jax
from covector.ops.common import Inseparable
from covector.ops.fft import FftType, fft
from covector.testing.optable import cases, ulps_between
from covector.testing.rows.fft import ROWS

# Type, shape of the operand, lengths.
CASES = [
    ("FFT", (6,), (6,)),
    ("FFT", (2, 7), (7,)),
    ("FFT", (3, 4, 5), (4, 5)),
    ("FFT", (2, 2, 3, 4), (2, 3, 4)),
    ("IFFT", (2, 6), (6,)),
    ("IFFT", (3, 4, 5), (3, 4, 5)),
    ("RFFT", (2, 6), (6,)),
    ("RFFT", (2, 5), (5,)),
    ("RFFT", (2, 3, 4), (3, 4)),
    ("RFFT", (2, 2, 3, 5), (2, 3, 5)),
    ("IRFFT", (2, 4), (6,)),
    ("IRFFT", (2, 4), (7,)),
    ("IRFFT", (2, 3, 3), (3, 4)),
    ("IRFFT", (2, 2, 3, 3), (2, 3, 5)),
    ("IRFFT", (3, 1), (1,)),
]
DERIVED = [CASES[k] for k in (1, 3, 4, 6, 7, 8, 10, 11, 13)]


def operand(kind, shape, dtype=np.complex128, seed=0):
    rng = np.random.default_rng((seed, *shape))
    x = rng.normal(size=shape)
    if kind != "RFFT":
        x = x + 1j * rng.normal(size=shape)
    return x.astype(dtype if kind != "RFFT" else np.zeros(0, dtype).real.dtype)


def in_numpy(kind, x, lengths):
    function = getattr(np.fft, f"{kind.lower()}n")
    return function(x, s=lengths, axes=tuple(range(-len(lengths), 0)))


def ours(kind, lengths):
    return partial(fft, fft_type=FftType[kind], fft_lengths=lengths)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
@pytest.mark.parametrize(("kind", "shape", "lengths"), CASES, ids=str)
def test_values(kind, shape, lengths, dtype):
    with cv.enable_x64(True):
        x = operand(kind, shape, dtype)
        wanted = in_numpy(kind, x.astype(np.result_type(x, np.float64)), lengths)
        result = np.zeros(0, dtype).real.dtype if kind == "IRFFT" else np.dtype(dtype)
        tolerance = 1e-5 if dtype == np.complex64 else 1e-13
        transform = ours(kind, lengths)
        compiled = cv.jit(transform)
        batched = cv.jit(cv.vmap(transform, in_axes=-1))
        for found in (transform(x), compiled(x), batched(np.stack([x, x], -1))[0]):
            assert (found.shape, found.dtype) == (wanted.shape, result)
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("kind", "shape", "lengths"), DERIVED, ids=str)
def test_derivatives_agree_with_jax(kind, shape, lengths):
    def theirs(x):
        return jax.lax.fft(x, getattr(jax.lax.FftType, kind), lengths)

    with cv.enable_x64(True), jax.enable_x64(True):
        x, t = operand(kind, shape), operand(kind, shape, seed=1)
        ct = in_numpy(kind, operand(kind, shape, seed=2), lengths)

        def both(x, t, ct):
            return jax.jvp(theirs, (x,), (t,))[1], jax.vjp(theirs, x)[1](ct)[0]

        forward, backward = jax.jit(both)(x, t, ct)
        transform = ours(kind, lengths)
        found = cv.jvp(transform, (x,), (t,))[1]
        np.testing.assert_allclose(found, forward, rtol=1e-11, atol=1e-12)
        pulled = cv.vjp(transform, x)[1](ct)[0]
        np.testing.assert_allclose(pulled, backward, rtol=1e-11, atol=1e-12)
        compiled = cv.jit(lambda x, ct: cv.vjp(transform, x)[1](ct)[0])
        np.testing.assert_allclose(compiled(x, ct), backward, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("row", "dtype"), list(cases(ROWS)), ids=str)
def test_rows(row, dtype):
    with cv.enable_x64(True):
        (x,) = row.sample(0, dtype, ())
        wide = x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)
        transform = partial(row.op, **row.params)
        for found in (transform(x), cv.jit(transform)(x)):
            wanted = row.numpy(wide).astype(found.dtype)
            assert ulps_between(np.asarray(found), wanted, row.roots).max() <= row.ulps


def test_second_derivative():
    def energy(x):
        return (abs(lax.fft(x, "RFFT", (5,))) ** 4).sum()

    with cv.enable_x64(True):
        x, t = operand("RFFT", (5,)), operand("RFFT", (5,), seed=1)
        step = 1e-5
        gradient = cv.jit(cv.grad(energy))
        slope = (gradient(x + step * t) - gradient(x - step * t)) / (2 * step)
        np.testing.assert_allclose(cv.hessian(energy)(x) @ t, slope, rtol=1e-7)


def test_inside_a_compiled_loop():
    """Transforms of a carry, with its gradient: a spectral step of the heat equation."""
    n = 12
    decay = np.exp(-0.1 * np.arange(n // 2 + 1) ** 2).astype(np.float32)

    def step(u, _):
        return lax.fft(decay * lax.fft(u, "RFFT", (n,)), "IRFFT", (n,)), None

    def energy(u):
        return (lax.scan(step, u, None, length=4)[0] ** 2).sum()

    u = operand("RFFT", (n,), np.complex64)
    wanted = (np.fft.irfft(decay**4 * np.fft.rfft(u), n) ** 2).sum()
    np.testing.assert_allclose(cv.jit(energy)(u), wanted, rtol=1e-5)
    gradient = 2 * np.fft.irfft(decay**8 * np.fft.rfft(u), n)
    np.testing.assert_allclose(cv.jit(cv.grad(energy))(u), gradient, rtol=1e-4, atol=1e-5)


def test_many_lengths_compiled():
    for n in (1, 2, 16, 31, 67, 128, 1009, 4096):
        x = operand("FFT", (2, n), np.complex64)
        found = cv.jit(ours("FFT", (n,)))(x)
        np.testing.assert_allclose(found, np.fft.fft(x), atol=2e-6 * n**0.5 * 4)


@pytest.mark.parametrize(
    ("kind", "shape", "lengths", "result"),
    [
        ("FFT", (0,), (0,), (0,)),
        ("FFT", (0, 3), (3,), (0, 3)),
        ("IFFT", (2, 0, 3), (0, 3), (2, 0, 3)),
        ("RFFT", (0, 4), (0, 4), (0, 3)),
        ("RFFT", (0, 4), (4,), (0, 3)),
        ("IRFFT", (2, 1), (0,), (2, 0)),
        ("IRFFT", (2, 0), (0,), (2, 0)),
        ("IRFFT", (0, 3), (4,), (0, 4)),
    ],
    ids=str,
)
def test_nothing(kind, shape, lengths, result):
    x = operand(kind, shape, np.complex64)
    for transform in (ours(kind, lengths), cv.jit(ours(kind, lengths))):
        found = transform(x)
        assert found.shape == result
        assert found.size == 0
        (pulled,) = cv.vjp(transform, x)[1](np.asarray(found))
        assert pulled.shape == shape


def test_not_finite_numbers_go_through():
    x = np.array([[1.0, np.nan, 2.0], [1.0, 2.0, 3.0]], np.float32)
    for transform in (ours("RFFT", (3,)), cv.jit(ours("RFFT", (3,)))):
        found = np.asarray(transform(x))
        assert np.isnan(found[0]).any()
        assert np.isfinite(found[1]).all()


def test_lanes():
    lanes = partial(fft.lanes, fft_type=FftType.FFT, fft_lengths=(4, 4))
    aval = Aval((3, 5, 4, 4), np.dtype(np.complex64))
    assert [lanes([d], aval) for d in (None, 0, 1)] == [None, 0, 1]
    with pytest.raises(Inseparable, match="along the lanes"):
        lanes([2], aval)


def test_programs_print_and_parse():
    x = operand("RFFT", (2, 6), np.complex64)
    program = cv.make_program(ours("RFFT", (6,)))(x)
    assert "fft[fft_type=FftType.RFFT, fft_lengths=(6,)]" in str(program)
    assert str(parse(str(program))) == str(program)


def test_symbolic_sizes():
    n = symbol("n")
    for batch, length in ((n, 6), (2, n)):
        aval = Aval((batch, length), np.dtype(np.float32))
        found = fft.shape(aval, fft_type=FftType.RFFT, fft_lengths=(length,))
        assert found.shape == (batch, length // 2 + 1)


@pytest.mark.parametrize(("kind", "shape", "lengths"), [CASES[k] for k in (2, 8, 13)], ids=str)
def test_import_of_jaxprs(kind, shape, lengths):
    def theirs(x):
        return jax.lax.fft(x * 2, getattr(jax.lax.FftType, kind), lengths)

    x = operand(kind, shape, np.complex64)
    program = from_jax(theirs, x)
    assert f"fft[fft_type=FftType.{kind}, fft_lengths={lengths}]" in str(program)
    found = cv.jit(lambda x: eval_program(program, x))(x)[0]
    np.testing.assert_allclose(found, in_numpy(kind, x * 2, lengths), rtol=1e-5, atol=1e-5)


def test_types_by_name_and_promotion():
    x = np.arange(4)
    for name in ("FFT", "fft", lax.FftType.FFT):
        np.testing.assert_allclose(lax.fft(x, name, [4]), np.fft.fft(x), atol=1e-6)
    assert lax.fft(x, "RFFT", (4,)).dtype == np.complex64
    assert lax.fft(x, "IRFFT", (6,)).dtype == np.float32
    assert lax.fft(x.astype(np.float16), "FFT", (4,)).dtype == np.complex64
    with cv.enable_x64(True):
        assert lax.fft(x, "IFFT", (4,)).dtype == np.complex128
    np.testing.assert_array_equal(lax.fft(x, "FFT", ()), x.astype(np.complex64))


@pytest.mark.parametrize(
    ("args", "error", "words"),
    [
        (((4,), "xft", (4,)), ValueError, "unknown FFT type"),
        (((4,), "Fft", (4,)), ValueError, "unknown FFT type"),
        (((4,), 0, (4,)), TypeError, "FftType"),
        (((4,), "FFT", (3,)), ValueError, "last axes"),
        (((4,), "FFT", (4.5,)), TypeError, "integer"),
        (((4,), "FFT", (2, 4)), ValueError, "at least as many axes"),
        (((2, 2, 2, 2), "FFT", (2, 2, 2, 2)), ValueError, "1 to 3 axes"),
        (((4,), "IRFFT", (8,)), ValueError, "last axes"),
        (((2, 0), "RFFT", (0,)), ValueError, "at least one"),
    ],
    ids=str,
)
def test_errors(args, error, words):
    shape, kind, lengths = args
    with pytest.raises(error, match=words):
        lax.fft(np.ones(shape, np.float32), kind, lengths)


def test_real_transforms_of_complex_numbers_are_refused():
    with pytest.raises(ValueError, match="real part"):
        lax.fft(np.ones(4, np.complex64), "RFFT", (4,))
    with pytest.raises(ValueError, match="float32 or float64"):
        lax.fft(np.ones(4, np.float16), "RFFT", (4,))
