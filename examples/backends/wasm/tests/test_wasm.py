"""The wasm backend: the same results as the interpreter, in Python and in Node."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import wasmtime

import covector as cv
import covector.numpy as cnp
from covector import extend, lax
from covector.extend import loopir
from covector.extend.backends import MissingCapabilityError, Options, get_backend
from covector.testing import conformance
from covector_wasm import operations
from covector_wasm.opcodes import OPCODES

X = np.linspace(0.1, 3, 50).astype(np.float32)


def compiled(function: Any, *args: Any) -> Any:
    return cv.jit(function, backend="wasm").lower(*args).compile()


def test_every_operation_of_the_table_is_there() -> None:
    def known(spec: loopir.OpSpec) -> bool:
        return spec.elementary or spec.name in operations.MAKERS

    assert [name for name, spec in loopir.OPERATIONS.items() if not known(spec)] == []


@pytest.mark.parametrize(
    "family",
    ["loops", "while", "branches", "nested", "vmap", "grad", "scan gradients", "sizes and types",
     "sizes at run time", "contract", "shape"],
)  # fmt: skip
def test_programs(family: str) -> None:
    report = conformance("wasm", [family])
    assert report.ok, str(report)
    assert not report.missing


def test_random_programs() -> None:
    report = conformance("wasm", ["random programs"], programs=12)
    assert report.ok, str(report)


SOME = """
    add div rem max integer_pow_3 exp sin pow lgamma clamp select_n convert_to_i8 convert_to_f16
    convert_to_bf16 shift_left shift_right_arithmetic clz mulhi sign population_count nextafter fma
    round_even
"""


def test_elementwise_operations_at_all_dtypes() -> None:
    report = conformance("wasm", ["elementwise"], only=lambda name: name in SOME.split())
    assert report.ok, str(report)
    assert not report.missing
    assert len(report.cases) > 80


# --- what WebAssembly has no instructions for -----------------------------------------------------


@pytest.mark.parametrize("half", [np.dtype(np.float16), cnp.bfloat16.dtype])
def test_every_half_precision_number(half: Any) -> None:
    x = np.arange(65536, dtype=np.uint16).view(half)
    wide = cv.jit(lambda v: v.astype(cnp.float32), backend="wasm")(x)
    np.testing.assert_array_equal(wide, x.astype(np.float32))
    with np.errstate(invalid="ignore"):
        near = np.nextafter(x.astype(np.float32), np.float32(np.inf))
    found = cv.jit(lambda v: v.astype(half), backend="wasm")(near)
    with np.errstate(over="ignore"):
        same = np.asarray(found) == near.astype(half)
    assert (same | np.isnan(near)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_remainders_of_any_size(dtype: str) -> None:
    rng = np.random.default_rng(0)
    least, greatest = np.log2(np.finfo(dtype).smallest_subnormal), np.log2(np.finfo(dtype).max)
    x, y = (rng.choice([-1, 1], 3000) * 2 ** rng.uniform(least, greatest, 3000) for _ in "xy")
    x, y = x.astype(dtype), y.astype(dtype)
    y[:5] = 0, np.inf, np.nan, -np.inf, 1
    x[4:6] = np.inf, 0
    with cv.enable_x64(True):
        found = cv.jit(lax.rem, backend="wasm")(x, y)
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(found, np.fmod(x, y))


@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_angles(name: str, dtype: str) -> None:
    most = np.log2(np.finfo(dtype).max)
    x = (2 ** np.random.default_rng(0).uniform(0, most, 2000)).astype(dtype)
    x[:4] = -x[:4]
    x[4:6] = np.inf, np.nan
    with cv.enable_x64(True):
        found = cv.jit(getattr(cnp, name), backend="wasm")(x)
    with np.errstate(invalid="ignore"):
        wanted = getattr(np, name)(x.astype(np.float64))
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(dtype).eps)


def test_the_angle_next_to_a_multiple_of_a_quarter_turn() -> None:
    with cv.enable_x64(True):
        found = cv.jit(cnp.cos, backend="wasm")(np.float64(6381956970095103 * 2.0**797))
    assert abs(found / -4.6871659242546276111e-19 - 1) < 4e-16


@pytest.mark.parametrize("n", [1, 2, 7, 30, 97, 128])
def test_transforms_of_any_length(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)

    def f(v: Any) -> Any:
        s = cnp.fft.rfft(v)
        return s, cnp.fft.irfft(s, n), cnp.fft.fft(v, axis=0), cnp.fft.ifft(v + 0j)

    wanted = (np.fft.rfft(x), x, np.fft.fft(x, axis=0), np.fft.ifft(x))
    for a, b in zip(cv.jit(f, backend="wasm")(x), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("n", [301, 200])
@pytest.mark.parametrize("dtype", ["float32", "int8", "uint64", "float16", "bool", "complex64"])
def test_sorts(dtype: str, n: int) -> None:
    with cv.enable_x64(True):
        x = np.random.default_rng(0).normal(0, 9, (4, n)).astype(dtype)
        if dtype == "float32":
            x[0, 5], x[1, :3] = np.nan, -np.nan
        found = cv.jit(lambda v: (cnp.sort(v), cnp.argsort(v)), backend="wasm")(x)
        if dtype != "complex64":
            greatest = cv.jit(lambda v: lax.top_k(v, 5)[0], backend="wasm")(x[2:])
            np.testing.assert_array_equal(greatest, np.sort(x[2:])[:, ::-1][:, :5])
    np.testing.assert_array_equal(found[0], np.sort(x))
    np.testing.assert_array_equal(found[1], np.argsort(x, stable=True))


def test_products_of_large_matrices() -> None:
    x = np.random.default_rng(0).normal(size=(131, 150)).astype(np.float32)
    y = np.random.default_rng(1).normal(size=(150, 140)).astype(np.float32)
    found = cv.jit(lambda a, b: (a @ b, (b.T @ a.T), a @ (b + 1j)), backend="wasm")(x, y)
    for a, b in zip(found, (x @ y, y.T @ x.T, x @ (y + 1j)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_factors_of_large_matrices(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 60)).astype(dtype)
    a = a + 1j * a.T if dtype == "complex64" else a
    b = rng.normal(size=(60, 3)).astype(dtype)
    definite = (a @ a.conj().T + 60 * np.eye(60)).astype(dtype)

    def f() -> Any:
        return cnp.linalg.cholesky(definite), cnp.linalg.cholesky(-definite), cnp.linalg.solve(a, b)

    found = cv.jit(f, backend="wasm")()
    np.testing.assert_allclose(found[0], np.linalg.cholesky(definite), atol=1e-3)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(a @ found[2], b, atol=2e-2)


# --- the module -----------------------------------------------------------------------------------


def steps(x: Any, n: Any) -> Any:
    """Loops, a branch, elementary functions and constants."""

    def step(i: Any, c: Any) -> Any:
        return lax.cond(c[0] > 0, lambda: cnp.tanh(c) + i, lambda: c * np.arange(50, dtype="f4"))

    return lax.fori_loop(0, n, step, x).sum()


def test_the_text_is_that_of_the_module() -> None:
    """Wasmtime reads it back, and gets the same but for the names of functions."""
    program = cv.make_program(steps)(X, np.int32(4))
    executable: Any = get_backend("wasm").compile(program, Options())
    again = bytes(wasmtime.wat2wasm(executable.as_text("wat")))
    found, wanted = _sections(executable.binary), _sections(again)
    assert found.keys() >= {1, 3, 5, 6, 7, 10, 11}
    assert {k: v for k, v in found.items() if k} == {k: v for k, v in wanted.items() if k}


def _sections(binary: bytes) -> dict[int, bytes]:
    found, place = {}, 8
    while place < len(binary):
        number, place, size, shift = binary[place], place + 1, 0, 0
        while True:
            byte = binary[place]
            size |= (byte & 127) << shift
            place, shift = place + 1, shift + 7
            if byte < 128:
                break
        found[number] = binary[place : place + size]
        place += size
    return found


def test_every_instruction_has_its_own_code() -> None:
    assert len({o.code for o in OPCODES.values()}) == len(OPCODES)


def test_the_text_has_the_lines_of_the_user() -> None:
    def f(x: Any) -> Any:
        y = cnp.sin(x)
        return y * 2

    assert re.search(r";; test_wasm.py:\d+  y = cnp.sin\(x\)", compiled(f, X).as_text())


def test_what_is_used_once_is_computed_on_the_stack() -> None:
    text = compiled(lambda x: (2 * x + 1) / 3, X[:3]).as_text()
    assert "local.set" in text
    assert re.search(r"f32.mul\s+f32.const 1.0\s+f32.add\s+f32.const 3.0\s+f32.div", text)


def test_stages() -> None:
    lowered = compiled(lambda x: x + 1, X)
    assert lowered.as_text("loopir").startswith("function entry")
    assert lowered.as_text().startswith("(module")
    with pytest.raises(ValueError, match="no stage 'llvm'"):
        lowered.as_text("llvm")


# --- what goes wrong ------------------------------------------------------------------------------


def test_what_is_missing_is_named_with_its_line() -> None:
    def f(x: Any) -> Any:
        return cv.pure_callback(np.cumsum, cv.ShapeDtypeStruct(X.shape, X.dtype), x)

    with pytest.raises(MissingCapabilityError, match=r"(?s)'wasm' lacks: callbacks.*test_wasm.py"):
        cv.jit(f, backend="wasm")(X)
    matrix = np.eye(200, dtype=np.float32)
    with pytest.raises(MissingCapabilityError, match="lacks: call cv_geqrf_f32"):
        cv.jit(cnp.linalg.qr, backend="wasm")(matrix)


@extend.array_kernel(results=lambda x, i: cv.ShapeDtypeStruct(i.shape, x.dtype))
def picked(x: Any, i: Any, out: Any) -> None:
    for k in extend.prange(i.shape[0]):
        out[k] = x[i[k]]


def test_a_check_that_fails_has_the_line_of_the_user() -> None:
    f = cv.jit(lambda x, i: picked(cnp.sort(x), i), backend="wasm")
    inside = np.array([0, 49], np.int32)
    for _ in range(2):  # the second time with the memory of the first
        np.testing.assert_array_equal(f(X, inside), X[inside])
        with pytest.raises(
            RuntimeError, match=r"(?s)picked: an index.*x\[i\[k\]\].*test_wasm.py:\d+"
        ):
            f(X, inside + 1)


def test_memory_that_is_not_there() -> None:
    f = cv.jit(lambda x: cnp.sort(cnp.broadcast_to(x, (1 << 31,)))[5], backend="wasm")
    with pytest.raises(MemoryError, match="not enough memory for temporary arrays"):
        f(np.float32(0))  # 8 GB cannot be had, so that nothing is touched


def test_arguments_stay_as_they_are() -> None:
    x = X.copy()
    f = cv.jit(lambda v: v.at[0].set(9), backend="wasm", donate_argnums=0)
    assert f(x)[0] == 9
    np.testing.assert_array_equal(x, X)


def test_the_backend_is_found_by_name() -> None:
    assert get_backend("wasm").name == "wasm"
    with cv.config.override("backend", "wasm"):
        assert "(module" in cv.jit(lambda x: x - 1).lower(X).compile().as_text()
