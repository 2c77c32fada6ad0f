"""Libraries that run without Python: the same numbers, and nothing needed but libm and libc."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.export.corpus import PARAMS, exported, loss, pendulum
from tests.export.programs_in_c import flat, main_of, run

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.backends.native.library import assembly
from covector.core.errors import CompilationError, MissingCapabilityError
from covector.core.libraries import LibraryFunction, LibraryOptions
from covector.export import export, library, symbolic_shape

X = np.linspace(-2, 2, 15, dtype=np.float32).reshape(5, 3)
Y = np.linspace(1, -1, 10, dtype=np.float32).reshape(5, 2)
START, STEP = np.array([1.0, 0.0], np.float32), np.float32(0.02)

SYSTEM = {"malloc", "free"}


def models(kind: str, **options: Any) -> Any:
    functions = {"mlp_gradient": exported("mlp gradient"), "ode": exported("ode")}
    return library(functions, "models", kind=kind, **options)


def needed(folder: Path, file: str) -> set[str]:
    said = subprocess.run(
        ["nm", "-u", file], cwd=folder, capture_output=True, text=True, check=True
    )
    return {line.split()[-1].split("@")[0] for line in said.stdout.splitlines() if " U " in line}


@pytest.mark.parametrize("kind", ["static", "shared", "object"])
def test_c_programs_call_a_gradient_and_a_simulation(kind: str, tmp_path: Path) -> None:
    files = models(kind)
    files.write(tmp_path)
    binary = next(n for n in files.names if not n.endswith(".h"))
    gradient = main_of("models.h", "mlp_gradient", exported("mlp gradient"), {"n": 5},
                       [*cv.tree.leaves(PARAMS), X, Y])  # fmt: skip
    wanted = cv.jit(cv.value_and_grad(loss))(PARAMS, X, Y)
    found = run(tmp_path, gradient, binary)
    np.testing.assert_allclose(found, flat(cv.tree.leaves(wanted)), rtol=2e-6, atol=1e-7)
    simulation = main_of("models.h", "ode", exported("ode"), {}, [START, STEP])
    found = run(tmp_path, simulation, binary)
    np.testing.assert_allclose(found, flat(cv.jit(pendulum)(START, STEP)), rtol=2e-6, atol=1e-6)


def test_code_for_this_very_machine_gives_the_same_bits(tmp_path: Path) -> None:
    models("static", cpu="native").write(tmp_path)
    program = main_of("models.h", "ode", exported("ode"), {}, [START, STEP])
    assert run(tmp_path, program, "libmodels.a") == flat(cv.jit(pendulum)(START, STEP))


def test_a_library_needs_the_c_library_alone(tmp_path: Path) -> None:
    for kind in ("shared", "object"):
        models(kind).write(tmp_path)
    assert needed(tmp_path, "models.o") <= SYSTEM | {"sinf", "cosf", "tanhf", "expf"}
    said = subprocess.run(
        ["ldd", "libmodels.so"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    libraries = {line.split()[0].split("/")[-1] for line in said.stdout.splitlines()}
    allowed = r"linux-vdso.*|libm\.so.*|libc\.so.*|ld-linux.*|ld-musl.*|linux-gate.*"
    assert [name for name in libraries if not re.fullmatch(allowed, name)] == []
    exported_symbols = subprocess.run(
        ["nm", "-D", "--defined-only", "libmodels.so"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout.split()[2::3]  # fmt: skip
    assert {"mlp_gradient", "mlp_gradient_error", "ode", "ode_error"} <= {*exported_symbols}
    assert not [name for name in exported_symbols if name.startswith(("cv", "covector"))]


def call(files: Any, folder: Path, symbol: str, *arrays: Any, sizes: Any = ()) -> int:
    files.write(folder)
    binary = next(n for n in files.names if n.endswith(".so"))
    function = ctypes.CDLL(str(folder / binary))[symbol]
    numbers = [ctypes.c_int64(n) for n in sizes]
    return function(*numbers, *[ctypes.c_void_p(a.ctypes.data) for a in arrays])


def test_sizes_are_arguments(tmp_path: Path) -> None:
    n, m = symbolic_shape("n, m")
    f = export(lambda x, y: (cnp.outer(x, y), cnp.mean(x) + y.shape[0]))(
        cv.ShapeDtypeStruct((n,), "float32"), cv.ShapeDtypeStruct((m,), "float32")
    )
    x, y = np.arange(5, dtype=np.float32), np.arange(3, dtype=np.float32)
    outer, total = np.empty((5, 3), np.float32), np.empty((), np.float32)
    assert call(f.library("f"), tmp_path, "f", x, y, outer, total, sizes=(5, 3)) == 0
    np.testing.assert_array_equal(outer, np.outer(x, y))
    assert total == 5


def test_large_products_are_generated_code(tmp_path: Path) -> None:
    a = np.random.default_rng(0).normal(size=(150, 130)).astype(np.float32)
    b = np.random.default_rng(1).normal(size=(130, 140)).astype(np.float32)
    out = np.empty((150, 140), np.float32)
    assert call(export(cnp.matmul)(a, b).library("product"), tmp_path, "product", a, b, out) == 0
    np.testing.assert_allclose(out, a @ b, rtol=1e-4, atol=1e-4)


def test_what_is_large_is_allocated_and_constants_come_along(tmp_path: Path) -> None:
    table = np.random.default_rng(0).normal(size=5000).astype(np.float32)

    def f(x: Any) -> Any:
        y = cnp.cumsum(x * table)
        return lax.fori_loop(0, 3, lambda i, c: cnp.roll(c, 1) + y[::-1], y), y.sum()

    x = np.ones(5000, np.float32)
    outs = [np.empty(5000, np.float32), np.empty((), np.float32)]
    assert call(export(f)(x).library("f"), tmp_path, "f", x, *outs) == 0
    for found, wanted in zip(outs, cv.jit(f)(x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-3)


def test_all_kinds_of_elements(tmp_path: Path) -> None:
    def f(flag: Any, half: Any, z: Any, k: Any) -> Any:
        return ~flag, half * 2, z * 1j, k + 1, cv.random.key_data(cv.random.key(7))

    args = (np.array([True, False]), np.array([1.5], np.float16), np.array([1 + 2j], np.complex64),
            np.array([2**31 - 1], np.int32))  # fmt: skip
    outs = [np.empty_like(a) for a in args] + [np.empty(2, np.uint32)]
    files = export(f)(*args).library("f")
    assert "const uint8_t *flag" in files.files["f.h"].decode()
    assert call(files, tmp_path, "f", *args, *outs) == 0
    for found, wanted in zip(outs, cv.jit(f)(*args), strict=True):
        np.testing.assert_array_equal(found, np.asarray(wanted))


# --- other machines ---


@pytest.mark.parametrize("kind", ["object", "static"])
def test_objects_for_arm(kind: str) -> None:
    files = models(kind, target="aarch64-linux-gnu")
    binary = files.files["models.o" if kind == "object" else "libmodels.a"]
    place = binary.index(b"\x7fELF")
    assert binary[place + 4 : place + 6] == b"\x02\x01"  # 64 bits, little-endian
    assert int.from_bytes(binary[place + 18 : place + 20], "little") == 183  # EM_AARCH64


def test_disassembly_for_arm() -> None:
    """What LLVM emits are functions of AArch64, with its vector instructions."""
    f = exported("mlp gradient")
    function = LibraryFunction("mlp_gradient", f.program, f.in_names, f.out_names)
    text = assembly([function], LibraryOptions("models", "object", "aarch64-linux-gnu"))
    assert re.search(r"^mlp_gradient:", text, re.M)
    assert re.search(r"\bfmla\s+v\d+\.4s", text)
    assert re.search(r"^\s+ret$", text, re.M)
    assert "%rsp" not in text


def test_other_machines_are_refused() -> None:
    with pytest.raises(CompilationError, match="LLVM has no code for 'pdp11'"):
        models("object", target="pdp11")
    with pytest.raises(MissingCapabilityError, match="libraries for riscv64"):
        models("object", target="riscv64-linux-gnu")
    for target in ("x86_64-pc-windows-msvc", "aarch64-apple-darwin", "x86_64-unknown-linux-gnux32"):
        with pytest.raises(MissingCapabilityError, match="not those of 64-bit Unix"):
            models("object", target=target)
    for cpu, target in (("pdp11", ""), ("native", "aarch64-linux-gnu"), ("x86-64", "aarch64")):
        with pytest.raises(CompilationError, match=f"for the processor '{cpu}'"):
            models("object", cpu=cpu, target=target)
    with pytest.raises(MissingCapabilityError, match="shared libraries for aarch64"):
        models("shared", target="aarch64-linux-gnu")


# --- what cannot be ---


def test_what_needs_python_is_refused_with_its_line() -> None:
    def f(x: Any) -> Any:
        return cv.pure_callback(np.cumsum, cv.ShapeDtypeStruct((3,), "float32"), x)

    with pytest.raises(MissingCapabilityError, match=r"(?s)lacks: callbacks.*test_library.py"):
        export(f)(np.ones(3, np.float32)).library("f")


def test_what_needs_lapack_is_refused() -> None:
    matrix = np.eye(100, dtype=np.float32)
    with pytest.raises(MissingCapabilityError, match=r"(?s)call cv_potrf_f32.*blas='openblas'"):
        export(cnp.linalg.cholesky)(matrix).library("factor")
    with pytest.raises(MissingCapabilityError, match=r"(?s)call cv_geqrf_f32"):
        export(cnp.linalg.qr)(matrix).library("factors", blas="openblas")


def test_a_backend_without_libraries_and_kinds_that_there_are_not() -> None:
    with pytest.raises(MissingCapabilityError, match="'reference' lacks: libraries"):
        exported("ode").library(backend="reference")
    with pytest.raises(MissingCapabilityError, match=r"(?s)lacks: dll libraries.*shared, static"):
        exported("ode").library(kind="dll")
    with pytest.raises(ValueError, match="identifiers as names, not 'a-b'"):
        exported("ode").library("a-b")


BLAS = """
#include <stdint.h>
#include <string.h>
#include <math.h>
/* By columns, as in Fortran; op is N or T. */
void sgemm_(const char *ta, const char *tb, const int32_t *m, const int32_t *n, const int32_t *k,
            const float *alpha, const float *a, const int32_t *lda, const float *b,
            const int32_t *ldb, const float *beta, float *c, const int32_t *ldc, long x, long y) {
    for (int i = 0; i < *m; i++)
        for (int j = 0; j < *n; j++) {
            float s = 0;
            for (int l = 0; l < *k; l++)
                s += (*ta == 'N' ? a[i + l * *lda] : a[l + i * *lda]) *
                     (*tb == 'N' ? b[l + j * *ldb] : b[j + l * *ldb]);
            c[i + j * *ldc] = *alpha * s + (*beta == 0 ? 0 : *beta * c[i + j * *ldc]);
        }
    (void)x, (void)y;
}
void spotrf_(const char *uplo, const int32_t *n, float *a, const int32_t *lda, int32_t *info,
             long x) {
    int lower = *uplo == 'L', row = lower ? 1 : *lda, col = lower ? *lda : 1;
    *info = 0;
    for (int j = 0; j < *n; j++)
        for (int i = j; i < *n; i++) {
            float s = a[i * row + j * col];
            for (int k = 0; k < j; k++)
                s -= a[i * row + k * col] * a[j * row + k * col];
            a[i * row + j * col] = i == j ? sqrtf(s) : s / a[j * row + j * col];
        }
    (void)x;
}
"""


def test_a_named_blas_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cc = shutil.which("cc")
    if cc is None:
        pytest.skip("there is no C compiler")
    (tmp_path / "blas.c").write_text(BLAS)
    subprocess.run([cc, "-O2", "-fPIC", "-shared", "blas.c", "-o", "libmine.so", "-lm"],
                   cwd=tmp_path, check=True)  # fmt: skip
    monkeypatch.setenv("CC", f"{cc} -L{tmp_path} -Wl,-rpath,{tmp_path}")

    def f(a: Any, b: Any) -> Any:
        return a @ b, a.T @ b.T, cnp.linalg.cholesky(a @ a.T + 100 * cnp.eye(70))

    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(70, 70)).astype(np.float32) for _ in range(2))
    files = export(f)(a, b).library("f", blas="mine")
    outs = [np.empty((70, 70), np.float32) for _ in range(3)]
    assert call(files, tmp_path, "f", a, b, *outs) == 0
    assert {"sgemm_", "spotrf_"} <= needed(tmp_path, "libf.so")
    for found, wanted in zip(outs, cv.jit(f)(a, b), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
