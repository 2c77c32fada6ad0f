"""The C backend: the same results as the interpreter, and C that people can read."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.export import export, library, symbolic_shape
from covector.extend import loopir
from covector.extend.backends import CompilationError, MissingCapabilityError, get_backend
from covector.testing import conformance
from covector_c import operations
from covector_c.helpers import HELPERS

X = np.linspace(0.1, 3, 50).astype(np.float32)


def source(function: Any, *args: Any) -> str:
    return cv.jit(function, backend="c").lower(*args).compile().as_text("c")


def test_every_operation_of_the_table_is_there() -> None:
    def known(spec: loopir.OpSpec) -> bool:
        return spec.elementary or spec.name in operations._MAKERS or spec.name in HELPERS

    assert [name for name, spec in loopir.OPERATIONS.items() if not known(spec)] == []


@pytest.mark.parametrize(
    "family",
    ["loops", "while", "branches", "nested", "vmap", "grad", "scan gradients", "sizes and types",
     "sizes at run time"],
)  # fmt: skip
def test_programs(family: str) -> None:
    report = conformance("c", [family])
    assert report.ok, str(report)
    assert not report.missing


def test_random_programs() -> None:
    report = conformance("c", ["random programs"], programs=12)
    assert report.ok, str(report)


SOME = """
    add div rem max integer_pow_3 exp sin pow lgamma clamp select_n convert_to_i8 convert_to_f16
    convert_to_bf16 shift_left shift_right_arithmetic clz mulhi sign population_count nextafter fma
    round_even
"""


def test_elementwise_operations_at_all_dtypes() -> None:
    report = conformance("c", ["elementwise"], only=lambda name: name in SOME.split())
    assert report.ok, str(report)
    assert not report.missing
    assert len(report.cases) > 80


@pytest.mark.parametrize("n", [1, 2, 7, 30, 97, 128])
def test_transforms_of_any_length(n: int) -> None:
    x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)

    def f(v: Any) -> Any:
        s = cnp.fft.rfft(v)
        return s, cnp.fft.irfft(s, n), cnp.fft.fft(v, axis=0), cnp.fft.ifft(v + 0j)

    wanted = (np.fft.rfft(x), x, np.fft.fft(x, axis=0), np.fft.ifft(x))
    for a, b in zip(cv.jit(f, backend="c")(x), wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint64", "float16", "bool"])
def test_sorts(dtype: str) -> None:
    with cv.enable_x64(True):
        x = np.random.default_rng(0).normal(0, 9, (4, 301)).astype(dtype)
        found = cv.jit(lambda v: (cnp.sort(v), cnp.argsort(v), lax.top_k(v, 5)[0]), backend="c")(x)
    np.testing.assert_array_equal(found[0], np.sort(x))
    np.testing.assert_array_equal(found[1], np.argsort(x, stable=True))
    np.testing.assert_array_equal(found[2], np.sort(x)[:, ::-1][:, :5])


def test_products_of_large_matrices() -> None:
    x = np.random.default_rng(0).normal(size=(130, 150)).astype(np.float32)
    y = np.random.default_rng(1).normal(size=(150, 140)).astype(np.float32)
    found = cv.jit(lambda a, b: (a @ b, (b.T @ a.T), a @ (b + 1j)), backend="c")(x, y)
    for a, b in zip(found, (x @ y, y.T @ x.T, x @ (y + 1j)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_factors_of_large_matrices(dtype: str) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(60, 60)).astype(dtype)
    a = a + 1j * a.T if dtype == "complex64" else a
    b = rng.normal(size=(60, 3)).astype(dtype)
    definite = (a @ a.conj().T + 60 * np.eye(60)).astype(dtype)
    found = cv.jit(lambda: (cnp.linalg.cholesky(definite), cnp.linalg.solve(a, b)), backend="c")()
    np.testing.assert_allclose(found[0], np.linalg.cholesky(definite), atol=1e-3)
    np.testing.assert_allclose(a @ found[1], b, atol=2e-2)


# --- the text -------------------------------------------------------------------------------------


def test_the_file_has_the_lines_of_the_user() -> None:
    def f(x: Any) -> Any:
        y = cnp.sin(x)
        return y * 2

    assert re.search(r"/\* test_c.py:\d+  y = cnp.sin\(x\) \*/", source(f, X))


def test_what_is_used_once_has_no_name() -> None:
    text = source(lambda x: (2 * x + 1) / 3, X)
    assert "r0[i] = cv_fma_f32(2.0f, a0[i], 1.0f) / 3.0f;" in text


def test_the_file_needs_the_standard_library_alone(tmp_path: Path) -> None:
    """A C program calls it, and says what Python says."""

    def f(x: Any, n: Any) -> Any:
        return lax.fori_loop(0, n, lambda i, c: cnp.tanh(c) + i, x).sum()

    x, n = np.array([0.5, -1, 2], np.float32), np.int32(4)
    text = source(f, x, n)
    symbol = re.search(r"int32_t (covector_\w+)\(", text)
    assert symbol
    main = f"""
#include <stdio.h>
int main(void) {{
    float x[] = {{0.5f, -1, 2}}, result;
    int32_t n = 4;
    _Alignas(64) static unsigned char workspace[1 << 16];
    const void *args[] = {{x, &n}};
    void *results[] = {{&result}};
    if ({symbol[1]}(0, args, results, 0, workspace))
        return 1;
    printf("%.9g\\n", result);
}}
"""
    (tmp_path / "all.c").write_text(text + main)
    compiler = shutil.which("cc")
    assert compiler
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fwrapv"]
    subprocess.run(
        [compiler, *flags, "-ffp-contract=off", "all.c", "-o", "all", "-lm"],
        cwd=tmp_path,
        check=True,
    )
    said = subprocess.run([tmp_path / "all"], capture_output=True, text=True, check=True).stdout
    np.testing.assert_allclose(float(said), cv.jit(f, backend="reference")(x, n), rtol=1e-6)


def test_stages() -> None:
    compiled = cv.jit(lambda x: x + 1, backend="c").lower(X).compile()
    assert compiled.as_text("loopir").startswith("function entry")
    assert "int32_t covector_" in compiled.as_text()
    assert "ret" in compiled.as_text("assembly")
    with pytest.raises(ValueError, match="no stage 'llvm'"):
        compiled.as_text("llvm")


# --- libraries ------------------------------------------------------------------------------------


def pendulum(start: Any, step: Any) -> Any:
    def advance(y: Any, _: Any) -> Any:
        y = y + step * cnp.stack([y[1], -cnp.sin(y[0])])
        return y, y

    return lax.scan(advance, start, None, length=50)


def loss(w: Any, x: Any) -> Any:
    return cnp.mean(cnp.tanh(x @ w) ** 2) + cnp.sum(w * cnp.arange(6.0).reshape(3, 2))


MAIN = """
#include <stdio.h>
#include "models.h"
int main(void) {
    const float w[] = {1, 2, -1, 0.5f, 0, 3}, x[] = {1, 2, 3, 4, 5, 6}, start[] = {1, 0};
    const float step = 0.1f;
    float slope[6], last[2], path[100];
    if (gradient(2, w, x, slope) || simulation(start, &step, last, path))
        return 1;
    for (int i = 0; i < 6; i++) printf("%a ", slope[i]);
    for (int i = 0; i < 100; i++) printf("%a ", path[i]);
    puts(gradient_error(-3));
}
"""


@pytest.mark.parametrize("kind", ["source", "shared"])
def test_c_programs_call_a_gradient_and_a_simulation(kind: str, tmp_path: Path) -> None:
    w = np.array([[1, 2], [-1, 0.5], [0, 3]], np.float32)
    x = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
    start, step = np.array([1, 0], np.float32), np.float32(0.1)
    functions = {
        "gradient": export(cv.grad(loss))(
            w, cv.ShapeDtypeStruct(symbolic_shape("n, 3"), "float32")
        ),
        "simulation": export(pendulum)(start, step),
    }
    files = library(functions, "models", backend="c", kind=kind)
    files.write(tmp_path)
    (tmp_path / "main.c").write_text(MAIN)
    compiler = shutil.which("cc")
    assert compiler
    flags = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-pedantic"]
    (code,) = [name for name in files.names if not name.endswith(".h")]
    subprocess.run(
        [compiler, *flags, "-fwrapv", "-ffp-contract=off", "main.c", code, "-o", "main", "-lm"],
        cwd=tmp_path,
        check=True,
    )
    said = subprocess.run(
        [tmp_path / "main"], capture_output=True, text=True, check=True,
        env={"LD_LIBRARY_PATH": str(tmp_path)},
    ).stdout  # fmt: skip
    *words, message = said.split(" ", 106)
    assert message == "there is not enough memory\n"
    wanted = [cv.grad(loss)(w, x), pendulum(start, step)[1]]
    flat = np.concatenate([np.asarray(a).reshape(-1) for a in wanted])
    np.testing.assert_allclose([float.fromhex(t) for t in words], flat, rtol=1e-5, atol=1e-6)


def test_libraries_that_it_does_not_write() -> None:
    f = export(cnp.sin)(1.0)
    with pytest.raises(MissingCapabilityError, match="kind='source' and compile it for that"):
        f.library("f", backend="c", target="aarch64-linux-gnu")
    with pytest.raises(MissingCapabilityError, match="has its own matrix products"):
        f.library("f", backend="c", blas="openblas")


# --- what goes wrong ------------------------------------------------------------------------------


def test_what_is_missing_is_named_with_its_line() -> None:
    def f(x: Any) -> Any:
        return cv.pure_callback(np.cumsum, cv.ShapeDtypeStruct(X.shape, X.dtype), x)

    with pytest.raises(MissingCapabilityError, match=r"(?s)'c' lacks: callbacks.*test_c.py"):
        cv.jit(f, backend="c")(X)
    matrix = np.eye(200, dtype=np.float32)
    with pytest.raises(MissingCapabilityError, match="lacks: call cv_geqrf_f32"):
        cv.jit(cnp.linalg.qr, backend="c")(matrix)


def test_a_compiler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(CompilationError, match="no C compiler called 'no-such-compiler'"):
        cv.jit(lambda x: x * 12345.5, backend="c")(X)


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "cc --no-such-option")
    with pytest.raises(CompilationError, match=r"(?s)the C compiler failed.*error"):
        cv.jit(lambda x: x * 54321.5, backend="c")(X)


def test_arguments_stay_as_they_are() -> None:
    x = X.copy()
    f = cv.jit(lambda v: v.at[0].set(9), backend="c", donate_argnums=0)
    assert f(x)[0] == 9
    np.testing.assert_array_equal(x, X)


def test_the_backend_is_found_by_name() -> None:
    assert get_backend("c").name == "c"
    with cv.config.override("backend", "c"):
        assert "stdint.h" in cv.jit(lambda x: x - 1).lower(X).compile().as_text()
