/* BLAS for generated code: integers by value, matrices row-major.
 *
 * The library sees memory column by column, so that it sees the transpose of each row-major
 * matrix. Each shim asks it for the transposed equation and copies nothing.
 *
 *   int32 cv_gemm_T(m, n, k, a, lda, b, ldb, c, ldc, trans_a, trans_b)
 *       C = op(A) op(B) with op(A) m x k, op(B) k x n, C m x n. trans: 0 as it is, 1 transposed,
 *       2 conjugate-transposed. A is stored m x k (or k x m if transposed) with lda elements from
 *       row to row, and so on. C is only written.
 *   int32 cv_trsm_T(right, lower, trans, unit, m, n, a, lda, b, ldb)
 *       Solves op(A) X = B (or X op(A) = B if right) for the m x n matrix B in place. A is
 *       triangular, m x m (or n x n); its other triangle, and its diagonal if unit, is not read.
 *
 * T is f32, f64, c64 or c128; all numbers are int64. A result of -i says that the i-th argument is
 * invalid; see covector.h for the others. */
#include "symbols.h"

CvLibraryFunction cv_library_functions[CV_LIBRARY_COUNT];

#define FOUR(s, d, c, z) s, d, c, z
static const char *const library_names[CV_LIBRARY_COUNT] = {
    FOUR("sgemm", "dgemm", "cgemm", "zgemm"),
    FOUR("strsm", "dtrsm", "ctrsm", "ztrsm"),
    FOUR("spotrf", "dpotrf", "cpotrf", "zpotrf"),
    FOUR("sgetrf", "dgetrf", "cgetrf", "zgetrf"),
    FOUR("sgelqf", "dgelqf", "cgelqf", "zgelqf"),
    FOUR("sorglq", "dorglq", "cunglq", "zunglq"),
    FOUR("ssyevd", "dsyevd", "cheevd", "zheevd"),
    FOUR("sgesdd", "dgesdd", "cgesdd", "zgesdd"),
};

static const float one_f32[2] = {1, 0}, zero_f32[2];
static const double one_f64[2] = {1, 0}, zero_f64[2];

typedef struct {
    enum cv_library gemm, trsm;
    int64_t itemsize;
    const void *one, *zero;
} Type;

static const Type types[4] = {
    {CV_SGEMM, CV_STRSM, 4, one_f32, zero_f32},
    {CV_DGEMM, CV_DTRSM, 8, one_f64, zero_f64},
    {CV_CGEMM, CV_CTRSM, 8, one_f32, zero_f32},
    {CV_ZGEMM, CV_ZTRSM, 16, one_f64, zero_f64},
};

typedef void (*Gemm)(const char *, const char *, const CvInteger *, const CvInteger *,
                     const CvInteger *, const void *, const void *, const CvInteger *,
                     const void *, const CvInteger *, const void *, void *, const CvInteger *);
typedef void (*Trsm)(const char *, const char *, const char *, const char *, const CvInteger *,
                     const CvInteger *, const void *, const void *, const CvInteger *, void *,
                     const CvInteger *);

static const char trans_letters[3] = {'N', 'T', 'C'};

static void
clear_rows(char *c, int64_t m, int64_t row_bytes, int64_t stride_bytes)
{
    for (int64_t i = 0; i < m; i++)
        memset(c + i * stride_bytes, 0, (size_t)row_bytes);
}

static int32_t
check_gemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc,
           int64_t trans_a, int64_t trans_b)
{
    if (m < 0 || n < 0 || k < 0)
        return m < 0 ? -1 : n < 0 ? -2 : -3;
    if (trans_a < 0 || trans_a > 2 || trans_b < 0 || trans_b > 2)
        return trans_a < 0 || trans_a > 2 ? -10 : -11;
    if (lda < (trans_a ? m : k))
        return -5;
    if (ldb < (trans_b ? k : n))
        return -7;
    return ldc < n ? -9 : 0;
}

static int32_t
gemm(const Type *type, int64_t m, int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
     int64_t ldb, void *c, int64_t ldc, int64_t trans_a, int64_t trans_b)
{
    const CvLibraryFunction *function = &cv_library_functions[type->gemm];
    int32_t invalid = check_gemm(m, n, k, lda, ldb, ldc, trans_a, trans_b);
    if (invalid)
        return invalid;
    if (m == 0 || n == 0 || k == 0) {
        clear_rows(c, n == 0 ? 0 : m, n * type->itemsize, ldc * type->itemsize);
        return 0;
    }
    int64_t largest = cv_max(cv_max(cv_max(m, n), k), cv_max(cv_max(lda, ldb), ldc));
    int32_t error = cv_library_check(function, largest);
    if (error)
        return error;
    CvInteger rows = cv_integer(function, n), columns = cv_integer(function, m);
    CvInteger inner = cv_integer(function, k), stride_a = cv_integer(function, lda);
    CvInteger stride_b = cv_integer(function, ldb), stride_c = cv_integer(function, ldc);
    ((Gemm)(uintptr_t)function->address)(&trans_letters[trans_b], &trans_letters[trans_a], &rows,
                                         &columns, &inner, type->one, b, &stride_b, a, &stride_a,
                                         type->zero, c, &stride_c);
    return 0;
}

static int32_t
trsm(const Type *type, int64_t right, int64_t lower, int64_t trans, int64_t unit, int64_t m,
     int64_t n, const void *a, int64_t lda, void *b, int64_t ldb)
{
    const CvLibraryFunction *function = &cv_library_functions[type->trsm];
    if (trans < 0 || trans > 2)
        return -3;
    if (m < 0 || n < 0)
        return m < 0 ? -5 : -6;
    if (lda < (right ? n : m))
        return -8;
    if (ldb < n)
        return -10;
    if (m == 0 || n == 0)
        return 0;
    int32_t error = cv_library_check(function, cv_max(cv_max(m, n), cv_max(lda, ldb)));
    if (error)
        return error;
    CvInteger rows = cv_integer(function, n), columns = cv_integer(function, m);
    CvInteger stride_a = cv_integer(function, lda), stride_b = cv_integer(function, ldb);
    ((Trsm)(uintptr_t)function->address)(right ? "L" : "R", lower ? "U" : "L",
                                         &trans_letters[trans], unit ? "U" : "N", &rows, &columns,
                                         type->one, a, &stride_a, b, &stride_b);
    return 0;
}

#define SHIMS(suffix, index)                                                                      \
    static int32_t gemm_##suffix(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,     \
                                 const void *b, int64_t ldb, void *c, int64_t ldc,                \
                                 int64_t trans_a, int64_t trans_b)                                \
    {                                                                                             \
        CV_RETURN_ALONE(gemm(&types[index], m, n, k, a, lda, b, ldb, c, ldc, trans_a, trans_b));  \
    }                                                                                             \
    static int32_t trsm_##suffix(int64_t right, int64_t lower, int64_t trans, int64_t unit,       \
                                 int64_t m, int64_t n, const void *a, int64_t lda, void *b,       \
                                 int64_t ldb)                                                     \
    {                                                                                             \
        CV_RETURN_ALONE(trsm(&types[index], right, lower, trans, unit, m, n, a, lda, b, ldb));    \
    }

SHIMS(f32, 0)
SHIMS(f64, 1)
SHIMS(c64, 2)
SHIMS(c128, 3)

#define ENTRY(name) {"cv_" #name, (void *)(uintptr_t)name}
const CvSymbol cv_blas_symbols[] = {
    ENTRY(gemm_f32), ENTRY(gemm_f64), ENTRY(gemm_c64), ENTRY(gemm_c128),
    ENTRY(trsm_f32), ENTRY(trsm_f64), ENTRY(trsm_c64), ENTRY(trsm_c128),
    {NULL, NULL},
};

/* ---- module functions ---- */

static PyObject *
set_library_function(PyObject *Py_UNUSED(module), PyObject *args)
{
    const char *name;
    PyObject *number;
    int int_bytes;
    if (!PyArg_ParseTuple(args, "sOi:set_library_function", &name, &number, &int_bytes))
        return NULL;
    void *address = PyLong_AsVoidPtr(number);
    if (address == NULL && PyErr_Occurred())
        return NULL;
    if (int_bytes != 4 && int_bytes != 8) {
        PyErr_Format(PyExc_ValueError, "the library's integers have 4 or 8 bytes, not %d",
                     int_bytes);
        return NULL;
    }
    for (int i = 0; i < CV_LIBRARY_COUNT; i++) {
        if (strcmp(name, library_names[i]) == 0) {
            cv_library_functions[i] = (CvLibraryFunction){address, int_bytes};
            Py_RETURN_NONE;
        }
    }
    PyErr_Format(PyExc_ValueError, "no shim uses a library function named '%s'", name);
    return NULL;
}

static PyObject *
library_functions(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    PyObject *names = PyTuple_New(CV_LIBRARY_COUNT);
    for (int i = 0; names != NULL && i < CV_LIBRARY_COUNT; i++) {
        PyObject *name = PyUnicode_FromString(library_names[i]);
        if (name == NULL)
            Py_CLEAR(names);
        else
            PyTuple_SET_ITEM(names, i, name);
    }
    return names;
}

PyMethodDef cv_blas_methods[] = {
    {"set_library_function", set_library_function, METH_VARARGS,
     PyDoc_STR("set_library_function(name, address, int_bytes)\n\nTell the BLAS and LAPACK shims "
               "where a Fortran function is (0: nowhere) and how wide its integers are.")},
    {"library_functions", library_functions, METH_NOARGS,
     PyDoc_STR("library_functions() -> tuple[str, ...]\n\nThe names which set_library_function "
               "knows.")},
    {NULL},
};
