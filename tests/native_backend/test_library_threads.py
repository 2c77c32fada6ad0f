"""BLAS and LAPACK on threads: the same bits for every number, and the user's setting kept."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import covector as cv
import covector.numpy as cnp
from covector import _native, lax
from covector.backends.native import libraries
from covector.compiler import parallel
from covector.compiler.sizes import policy
from covector.core import backend
from covector.core.backend import Options
from covector.core.config import config, num_threads
from covector.ops import product_tiles
from covector.ops import triangular as ops

RNG = np.random.default_rng(0)
SMALL_TILES = {"SHARE": 300.0, "LEAST_SIDE": 8, "STEP": 4}


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of little matrices are cut into tiles that threads share."""
    for name, value in SMALL_TILES.items():
        monkeypatch.setattr(product_tiles, name, value)
    monkeypatch.setattr(parallel, "WORTHWHILE", 0.0)
    monkeypatch.setattr(parallel, "PIECE", 1.0)
    monkeypatch.setattr(policy, "LARGE", 1)


def compiled(f: Callable[..., Any], *args: Any) -> Any:
    return backend.get_backend("native").compile(cv.make_program(f)(*args), Options())


def same_bits(f: Callable[..., Any], *args: Any) -> list[np.ndarray]:
    """The results, the same for every number of threads and with threads off."""
    executable = compiled(f, *args)
    assert " parallel in " in executable.as_text("loopir")
    results: list[list[np.ndarray]] = []
    for count in (1, 2, 3, 7):
        with num_threads(count):
            results.append([np.asarray(x) for x in executable(*args)])
    with config.override("disable", "threads"):
        serial = compiled(f, *args)
    assert " parallel in " not in serial.as_text("loopir")
    results.append([np.asarray(x) for x in serial(*args)])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.tobytes() == b.tobytes()
    return results[0]


def sample(*shape: int, dtype: str = "float32") -> np.ndarray:
    x = RNG.normal(size=shape)
    if dtype.startswith("complex"):
        x = x + 1j * RNG.normal(size=shape)
    return x.astype(dtype)


def definite(*shape: int) -> np.ndarray:
    x = sample(*shape, shape[-1])
    return x @ np.swapaxes(x, -1, -2) + shape[-1] * np.eye(shape[-1], dtype=x.dtype)


# --- tiles ---------------------------------------------------------------------------------------

SIZES = [
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 64),
    (64, 512, 512),
    (100_000, 32, 32),
    (32, 100_000, 8),
    (1000, 700, 300),
    (8192, 8192, 8192),
    (64, 64, 20_000),
    (256, 256, 8192),
    (1, 4096, 4096),
]
LONG_SUMS = [(64, 64, 20_000), (256, 256, 8192)]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_tiles_cover_products_of_all_shapes(size: tuple[int, int, int]) -> None:
    sides = product_tiles.tile_sides(*size, np.dtype("float32"))
    for extent, side in zip(size, sides, strict=True):
        assert 0 < side <= extent
        assert side == extent or side >= product_tiles.LEAST_SIDE
    rows, columns, _ = size
    height, width, depth = sides
    assert (depth < size[2]) == (size in LONG_SUMS)
    tiles = -(-rows // height) * -(-columns // width) * -(-size[2] // depth)
    most = max(product_tiles.FEW_TILES, rows * columns // product_tiles.LARGE_TILE)
    assert 1 < tiles <= most


def test_small_products_are_one_tile() -> None:
    assert product_tiles.tile_sides(100, 100, 100, np.dtype("float32")) == (100, 100, 100)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    "size", [(130, 70, 40), (67, 131, 65), (20, 24, 1100), (2000, 9, 20), (9, 2000, 20)]
)
@pytest.mark.usefixtures("small_tiles")
def test_products(size: tuple[int, int, int], flip: tuple[bool, bool], dtype: str) -> None:
    m, n, k = size
    a = sample(*((k, m) if flip[0] else (m, k)), dtype=dtype)
    b = sample(*((n, k) if flip[1] else (k, n)), dtype=dtype)

    def f(a: Any, b: Any) -> Any:
        return (a.T if flip[0] else a) @ (b.T if flip[1] else b)

    (found,) = same_bits(f, a, b)
    np.testing.assert_allclose(found, f(a, b), rtol=1e-4, atol=1e-3)


def test_a_large_product() -> None:
    a, b = sample(500, 300), sample(300, 700)
    (found,) = same_bits(lambda a, b: a @ b, a, b)
    np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("batch", [(), (3,)], ids=str)
@pytest.mark.usefixtures("small_tiles")
def test_right_hand_sides_in_strips(batch: tuple[int, ...], flip: bool, left: bool) -> None:
    a = np.tril(definite(*batch, 50))
    b = sample(*batch, *((50, 99) if left else (99, 50)))

    def f(a: Any, b: Any) -> Any:
        return ops.triangular_solve(
            a,
            b,
            left_side=left,
            lower=True,
            transpose_a=flip,
            conjugate_a=False,
            unit_diagonal=False,
        )

    (found,) = same_bits(f, a, b)
    strips = 4 * int(np.prod(batch, dtype=int))
    assert f" parallel in 0..{strips} by 1" in compiled(f, a, b).as_text("loopir")
    matrix = np.swapaxes(a, -1, -2) if flip else a
    np.testing.assert_allclose(matrix @ found if left else found @ matrix, b, rtol=1e-3, atol=1e-3)


# --- loops around calls --------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [(2,), (40,), (5, 8)], ids=str)
@pytest.mark.usefixtures("small_tiles")
def test_batches(batch: tuple[int, ...]) -> None:
    a, b = definite(*batch, 70), sample(*batch, 70, 66)

    def f(a: Any, b: Any) -> Any:
        return a @ b, cnp.linalg.cholesky(a), cnp.linalg.solve(a, b), cnp.linalg.qr(a)[1]

    product, factor, solution, _ = same_bits(f, a, b)
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(factor @ np.swapaxes(factor, -1, -2), a, rtol=1e-3, atol=1e-2)
    np.testing.assert_allclose(a @ solution, b, rtol=1e-3, atol=1e-2)


@pytest.mark.usefixtures("small_tiles")
def test_spectra() -> None:
    x = definite(12, 24)
    values, singular = same_bits(
        lambda x: (cnp.linalg.eigh(x)[0], cnp.linalg.svd(x, compute_uv=False)), x
    )
    np.testing.assert_allclose(values[:, ::-1], singular, rtol=1e-4)


@pytest.mark.usefixtures("small_tiles")
def test_products_of_lanes() -> None:
    w, y = sample(64, 64) / 8, sample(100, 64, 64)

    def f(w: Any, y: Any) -> Any:
        def each(y: Any) -> Any:
            return lax.scan(lambda y, _: (cnp.tanh(y @ w) @ y, None), y, None, length=3)[0]

        return cv.vmap(each)(y)

    (found,) = same_bits(f, w, y)
    for _ in range(3):
        y = np.tanh(y @ w) @ y
    np.testing.assert_allclose(found, y, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("axes", ["NCHW", "NHWC"])
@pytest.mark.usefixtures("small_tiles")
def test_convolutions(axes: str) -> None:
    x = sample(*((3, 16, 40, 40) if axes == "NCHW" else (3, 40, 40, 16)))
    w = sample(24, 16, 3, 3)

    def f(x: Any, w: Any) -> Any:
        return lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=(axes, "OIHW", axes)
        )

    (found,) = same_bits(f, x, w)
    program = cv.make_program(f)(x, w)
    wanted = backend.executable(program, backend="reference")(x, w)[0]
    np.testing.assert_allclose(found, np.asarray(wanted), rtol=1e-3, atol=1e-3)


def test_the_first_failure_in_a_batch_spoils_its_own_result_only() -> None:
    x = definite(40, 70)
    x[[7, 30]] *= -1
    (found,) = same_bits(cnp.linalg.cholesky, x)
    assert set(np.flatnonzero(np.isnan(found).any((1, 2)))) == {7, 30}


# --- the library's own threads -------------------------------------------------------------------

MULTIPLY = "cv_gemm_f32"


def openblas() -> tuple[Any, Any]:
    """Functions that get and set OpenBLAS's number of threads."""
    module = import_module("scipy.linalg.cython_blas")
    get, change, by_thread = libraries._thread_functions(module)
    if by_thread or not get:
        pytest.skip("SciPy's BLAS is not OpenBLAS with threads of its own")
    return ctypes.CFUNCTYPE(ctypes.c_int)(get), ctypes.CFUNCTYPE(None, ctypes.c_int)(change)


class Library:
    """Stands for a library with a number of threads; notes every change of it.

    Attributes:
        count: how many there are.
        seen: what it was set to.
    """

    def __init__(self, by_thread: bool, exchanges: bool) -> None:
        self.count = 5
        self.seen: list[int] = []

        def change(count: int) -> int:
            self.count, before = count, self.count
            self.seen.append(count)
            return before

        self._get = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.count)
        self._set = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(change)
        get, put = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (self._get, self._set))
        _native.set_library_threads(0 if exchanges else get, put, by_thread)


@pytest.fixture
def library() -> Iterator[Callable[..., Library]]:
    """Makes stand-ins; SciPy's library comes back in the end."""
    libraries.ensure_loaded([MULTIPLY])
    made: list[Library] = []

    def make(by_thread: bool = False, exchanges: bool = False) -> Library:
        made.append(Library(by_thread, exchanges))
        return made[-1]

    yield make
    module = import_module("scipy.linalg.cython_blas")
    _native.set_library_threads(*libraries._thread_functions(module))


def gemm(rows: int = 70) -> int:
    """A product by the shim; a negative number of rows is an error."""
    a = np.ones((70, 70), np.float32)
    out = np.empty_like(a)
    numbers = (rows, 70, 70), (a, 70, a, 70, out, 70, 0, 0)
    args = [
        ctypes.c_void_p(x.ctypes.data) if isinstance(x, np.ndarray) else ctypes.c_int64(x)
        for x in (*numbers[0], *numbers[1])
    ]
    return ctypes.CFUNCTYPE(ctypes.c_int32, *map(type, args))(_native.symbols()[MULTIPLY])(*args)


@pytest.mark.parametrize("by_thread", [False, True])
@pytest.mark.parametrize("rows", [70, -1])
def test_a_call_has_one_thread_and_restores(
    by_thread: bool, rows: int, library: Callable[..., Library]
) -> None:
    stand_in = library(by_thread)
    assert gemm(rows) == (0 if rows > 0 else -1)
    assert stand_in.seen == [1, 5]
    stand_in.count, stand_in.seen = 1, []
    gemm(rows)
    assert stand_in.seen == []


def test_a_library_that_exchanges_numbers(library: Callable[..., Library]) -> None:
    stand_in = library(by_thread=True, exchanges=True)
    gemm()
    assert stand_in.seen == [1, 5]
    with pytest.raises(ValueError, match="cannot be set unless read"):
        library(exchanges=True)


def test_a_number_set_meanwhile_stays(library: Callable[..., Library]) -> None:
    stand_in = library()
    getter = stand_in._get()
    assert getter == 5
    answers = iter([5, 3])  # before the call; after it, when somebody has set 3
    get = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: next(answers))
    put = ctypes.cast(stand_in._set, ctypes.c_void_p).value or 0
    _native.set_library_threads(ctypes.cast(get, ctypes.c_void_p).value or 0, put, False)
    gemm()
    assert stand_in.seen == [1]


def test_the_users_number_is_kept() -> None:
    get, change = openblas()
    before = get()
    a = sample(300, 300)
    try:
        change(2)
        f = cv.jit(lambda a: cnp.linalg.cholesky(a @ a.T + 300 * cnp.eye(300)) @ a)
        users = [threading.Thread(target=lambda: [f(a) for _ in range(20)]) for _ in range(4)]
        for user in users:
            user.start()
        for user in users:
            user.join(60)
            assert not user.is_alive()
        assert get() == 2
        cnp.linalg.cholesky(cnp.asarray(-np.eye(200, dtype=np.float32)))
        assert get() == 2
    finally:
        change(before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_child_forked_while_another_thread_multiplies() -> None:
    get, change = openblas()
    before = get()
    a = sample(600, 600)
    f = cv.jit(lambda a: a @ a)
    wanted = np.asarray(f(a))
    stop = threading.Event()

    def user() -> None:
        while not stop.is_set():
            f(a)

    other = threading.Thread(target=user)
    try:
        change(2)
        other.start()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                kept = get() == 2
                same = np.asarray(f(a)).tobytes() == wanted.tobytes()
                os._exit(0 if kept and same and get() == 2 else 1)
            _, status = os.waitpid(child, 0)
            assert os.waitstatus_to_exitcode(status) == 0
    finally:
        stop.set()
        other.join(60)
        change(before)
