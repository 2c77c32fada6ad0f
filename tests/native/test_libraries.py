import ctypes

import numpy as np
import pytest
import scipy.linalg.cython_blas
import scipy.linalg.cython_lapack

from covector import _native

DTYPES = {"f32": np.float32, "f64": np.float64, "c64": np.complex64, "c128": np.complex128}
CAPI = {**scipy.linalg.cython_blas.__pyx_capi__, **scipy.linalg.cython_lapack.__pyx_capi__}
SYMBOLS = _native.symbols()
MISSING, TOO_LARGE = -1000, -1001


def capsule_address(capsule):
    name = ctypes.pythonapi.PyCapsule_GetName
    name.restype, name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    signature = name(capsule)
    return pointer(capsule, signature), 8 if b"long" in signature or b"int64" in signature else 4


def set_all():
    for name in _native.library_functions():
        _native.set_library_function(name, *capsule_address(CAPI[name]))


@pytest.fixture(autouse=True)
def libraries():
    set_all()
    yield
    set_all()


def call(name, *arguments):
    """Calls a shim with arrays as pointers and numbers as int64."""
    types = [ctypes.c_void_p if isinstance(a, np.ndarray) else ctypes.c_int64 for a in arguments]
    values = [a.ctypes.data if isinstance(a, np.ndarray) else a for a in arguments]
    return ctypes.CFUNCTYPE(ctypes.c_int32, *types)(SYMBOLS[name])(*values)


def sample(dtype, shape, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=shape)
    if np.issubdtype(dtype, np.complexfloating):
        x = x + 1j * generator.normal(size=shape)
    return x.astype(dtype)


def padded(x, extra=3):
    """A copy whose rows are further apart, with the row stride in elements."""
    memory = np.full((x.shape[0], x.shape[1] + extra), 77, x.dtype)
    view = memory[:, : x.shape[1]]
    view[:] = x
    return memory, view, memory.shape[1]


def close(a, b, dtype):
    tolerance = 1e-4 if np.dtype(dtype).name in ("float32", "complex64") else 1e-11
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, np.abs(b).max()))


def stored(x, trans):
    return [x, x.T, x.conj().T][trans]


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("trans_a", [0, 1, 2])
@pytest.mark.parametrize("trans_b", [0, 1, 2])
def test_gemm(kind, trans_a, trans_b):
    dtype = DTYPES[kind]
    for m, n, k in [(3, 4, 5), (1, 1, 1), (7, 2, 40), (33, 65, 17)]:
        a, b = sample(dtype, (m, k), 1), sample(dtype, (k, n), 2)
        ma, _, lda = padded(np.ascontiguousarray(stored(a, trans_a)))
        mb, _, ldb = padded(np.ascontiguousarray(stored(b, trans_b)))
        mc, c, ldc = padded(np.full((m, n), np.nan, dtype))
        code = call(f"cv_gemm_{kind}", m, n, k, ma, lda, mb, ldb, mc, ldc, trans_a, trans_b)
        assert code == 0
        close(c, a @ b, dtype)
        assert (mc[:, n:] == 77).all()


@pytest.mark.parametrize("kind", DTYPES)
def test_empty_products(kind):
    c = np.full((3, 4), np.nan, DTYPES[kind])
    assert call(f"cv_gemm_{kind}", 3, 4, 0, c, 0, c, 4, c, 4, 0, 0) == 0
    assert (c == 0).all()
    assert call(f"cv_gemm_{kind}", 0, 4, 5, c, 5, c, 4, c, 4, 0, 0) == 0
    assert call(f"cv_gemm_{kind}", 4, 0, 5, c, 5, c, 0, c, 0, 0, 0) == 0


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("right", [0, 1])
@pytest.mark.parametrize("lower", [0, 1])
@pytest.mark.parametrize("trans", [0, 1, 2])
@pytest.mark.parametrize("unit", [0, 1])
def test_trsm(kind, right, lower, trans, unit):
    dtype = DTYPES[kind]
    m, n = 5, 3
    size = n if right else m
    full = sample(dtype, (size, size)) + 4 * np.eye(size, dtype=dtype)
    triangle = np.tril(full) if lower else np.triu(full)
    if unit:
        np.fill_diagonal(triangle, 1)
    b = sample(dtype, (m, n), 1)
    ma, _, lda = padded(full)
    mb, x, ldb = padded(b)
    assert call(f"cv_trsm_{kind}", right, lower, trans, unit, m, n, ma, lda, mb, ldb) == 0
    op = stored(triangle, trans)
    close(x @ op if right else op @ x, b, dtype)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("lower", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 9, 70])
def test_potrf(kind, lower, n):
    dtype = DTYPES[kind]
    root = sample(dtype, (n, n))
    a = root @ root.conj().T + n * np.eye(n, dtype=dtype)
    keep = np.tril if lower else np.triu
    memory, factor, lda = padded(keep(a) + (a - keep(a)) * 0 + 55 * (1 - keep(np.ones((n, n)))))
    memory = np.ascontiguousarray(memory.astype(dtype))
    factor = memory[:, :n]
    assert call(f"cv_potrf_{kind}", n, memory, lda, lower) == 0
    f = keep(factor)
    close(f @ f.conj().T if lower else f.conj().T @ f, a, dtype)
    assert (factor - keep(factor) == 55 * (1 - keep(np.ones((n, n))))).all()
    indefinite = np.ascontiguousarray(-np.eye(n, dtype=dtype))
    assert call(f"cv_potrf_{kind}", n, indefinite, n, lower) == 1


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (7, 3), (3, 7), (60, 60)])
def test_getrf(kind, shape):
    dtype = DTYPES[kind]
    a = sample(dtype, shape)
    memory, lu, lda = padded(a)
    pivots = np.full(min(shape), -1, np.int32)
    assert call(f"cv_getrf_{kind}", *shape, memory, lda, pivots) == 0
    order = list(range(shape[0]))
    for i, p in enumerate(pivots):
        order[i], order[p] = order[p], order[i]
    k = min(shape)
    lower = np.tril(lu, -1)[:, :k] + np.eye(shape[0], k, dtype=dtype)
    close(lower @ np.triu(lu)[:k], a[order], dtype)
    singular = np.zeros(shape, dtype)
    assert call(f"cv_getrf_{kind}", *shape, singular, shape[1], pivots) == 1


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (5, 5), (8, 3), (3, 8), (70, 40)])
def test_qr(kind, shape):
    dtype = DTYPES[kind]
    m, n = shape
    k = min(m, n)
    a = sample(dtype, shape)
    memory, factors, lda = padded(a)
    tau = np.empty(k, dtype)
    assert call(f"cv_geqrf_{kind}", m, n, memory, lda, tau) == 0
    r = np.triu(factors)[:k]
    q = np.eye(m, dtype=dtype)
    for i in range(k):
        v = np.zeros(m, dtype)
        v[i] = 1
        v[i + 1 :] = factors[i + 1 :, i]
        q = q @ (np.eye(m, dtype=dtype) - tau[i] * np.outer(v, v.conj()))
    close(q[:, :k] @ r, a, dtype)
    close(q.conj().T @ q, np.eye(m), dtype)
    expected = scipy.linalg.lapack.get_lapack_funcs("geqrf", (a,))(a)
    close(factors, expected[0], dtype)
    close(tau, expected[1], dtype)
    for columns in {k, m}:
        wide, generated, ldq = padded(np.zeros((m, columns), dtype))
        generated[:, :k] = factors[:, :k]
        assert call(f"cv_orgqr_{kind}", m, columns, k, wide, ldq, tau) == 0
        close(generated, q[:, :columns], dtype)
    assert (memory[:, n:] == 77).all()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("lower", [0, 1])
@pytest.mark.parametrize("n", [1, 2, 20, 50])
def test_syevd(kind, lower, n):
    dtype = DTYPES[kind]
    a = sample(dtype, (n, n))
    a = a + a.conj().T
    triangle = np.tril(a) if lower else np.triu(a)
    for vectors in (1, 0):
        memory, v, lda = padded(triangle)
        w = np.empty(n, np.zeros(0, dtype).real.dtype)
        assert call(f"cv_syevd_{kind}", n, memory, lda, w, lower, vectors) == 0
        close(w, np.linalg.eigvalsh(a), dtype)
        if vectors:
            close(a @ v, v * w, dtype)
            close(v.conj().T @ v, np.eye(n), dtype)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (9, 3), (3, 9), (40, 30)])
@pytest.mark.parametrize("mode", [0, 1, 2])
def test_gesdd(kind, shape, mode):
    dtype = DTYPES[kind]
    m, n = shape
    k = min(shape)
    a = sample(dtype, shape)
    memory, _, lda = padded(a)
    s = np.empty(k, np.zeros(0, dtype).real.dtype)
    mu, u, ldu = padded(np.zeros((m, m if mode == 2 else k), dtype))
    mv, vh, ldvh = padded(np.zeros((n if mode == 2 else k, n), dtype))
    assert call(f"cv_gesdd_{kind}", m, n, memory, lda, s, mu, ldu, mv, ldvh, mode) == 0
    close(s, np.linalg.svd(a, compute_uv=False), dtype)
    if mode:
        close(u[:, :k] * s @ vh[:k], a, dtype)
        close(u.conj().T @ u, np.eye(u.shape[1]), dtype)
        close(vh @ vh.conj().T, np.eye(vh.shape[0]), dtype)


X = np.zeros((4, 4))
P = np.zeros(4, np.int32)
VALID = {
    "gemm": (2, 2, 2, X, 2, X, 2, X, 2, 0, 0),
    "trsm": (0, 0, 0, 0, 2, 2, X, 2, X, 2),
    "potrf": (2, X, 2, 1),
    "getrf": (2, 2, X, 2, P),
    "geqrf": (2, 2, X, 2, X),
    "orgqr": (2, 2, 2, X, 2, X),
    "syevd": (2, X, 2, X, 0, 1),
    "gesdd": (2, 2, X, 2, X, X, 2, X, 2, 1),
}
NEEDS = {"geqrf": "dgelqf", "orgqr": "dorglq"}
POSITIONS = {
    "gemm": [0, 1, 2, 4, 6, 8, 9, 10],
    "trsm": [2, 4, 5, 7, 9],
    "potrf": [0, 2],
    "getrf": [0, 1, 3],
    "geqrf": [0, 1, 3],
    "orgqr": [0, 1, 2, 4],
    "syevd": [0, 2],
    "gesdd": [0, 1, 3, 6, 8, 9],
}


@pytest.mark.parametrize("name", VALID)
def test_a_missing_library_is_an_error_code(name):
    _native.set_library_function(NEEDS.get(name, f"d{name}"), 0, 4)
    assert call(f"cv_{name}_f64", *VALID[name]) == MISSING


@pytest.mark.parametrize("name", VALID)
def test_invalid_arguments_are_error_codes(name):
    for position in POSITIONS[name]:
        arguments = list(VALID[name])
        arguments[position] = -1
        assert call(f"cv_{name}_f64", *arguments) == -(position + 1)


def test_dimensions_beyond_the_library():
    name, size = "dpotrf", 1 << 31
    address, int_bytes = capsule_address(CAPI[name])
    _native.set_library_function(name, address, 4)
    assert call("cv_potrf_f64", size, X, size, 1) == TOO_LARGE
    _native.set_library_function(name, address, int_bytes)


def test_names_are_checked():
    with pytest.raises(ValueError, match="dnonsense"):
        _native.set_library_function("dnonsense", 1, 4)
    with pytest.raises(ValueError, match="4 or 8"):
        _native.set_library_function("dgemm", 1, 2)
    with pytest.raises(TypeError):
        _native.set_library_function("dgemm", "x", 4)
    assert set(_native.library_functions()) <= set(CAPI)
