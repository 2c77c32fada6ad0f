/* LAPACK for generated code: integers by value, matrices row-major (element (i, j) at i * lda + j).
 *
 *   int32 cv_potrf_T(n, a, lda, lower)
 *       Cholesky factor in place. lower: A = L L^H from and to the lower triangle; else A = U^H U
 *       from and to the upper one. The other triangle is neither read nor written.
 *   int32 cv_getrf_T(m, n, a, lda, int32 *pivots)
 *       P A = L U in place, L with unit diagonal; row i was exchanged with row pivots[i] (from 0),
 *       for i = 0, 1 ... min(m, n) - 1.
 *   int32 cv_geqrf_T(m, n, a, lda, tau)
 *       A = Q R in place: R in the upper triangle, below it the Householder vectors v (v_i = 1) of
 *       Q = H_0 H_1 ... with H = I - tau v v^H; min(m, n) factors in tau.
 *   int32 cv_orgqr_T(m, n, k, a, lda, tau)
 *       The first n columns of the Q of k such vectors, in place; m >= n >= k.
 *   int32 cv_syevd_T(n, a, lda, w, lower, vectors)
 *       Eigenvalues of a Hermitian matrix, ascending, in w (real); if vectors, A becomes the matrix
 *       whose columns are the eigenvectors, else its content is lost.
 *   int32 cv_gesdd_T(m, n, a, lda, s, u, ldu, vh, ldvh, mode)
 *       A = U diag(s) V^H, singular values s (real) descending; mode 0: values only, 1: U is
 *       m x min(m, n) and V^H min(m, n) x n, 2: they are square. A's content is lost.
 *
 * T is f32, f64, c64 or c128; all numbers are int64. Results as LAPACK's info (-i: the i-th
 * argument is invalid) or as in covector.h. If m or n is 0, nothing is written.
 *
 * The library sees A^T. For potrf, gesdd and the QR pair (by LQ of A^T) that is as good; getrf
 * needs a transposed copy, syevd transposes the eigenvectors in place. */
#include "symbols.h"

#include <stdlib.h>

typedef struct {
    enum cv_library potrf, getrf, gelqf, orglq, syevd, gesdd;
    bool is_double, is_complex;
} Type;

#define TYPE(x, is_double, is_complex)                                                            \
    {CV_##x##POTRF, CV_##x##GETRF, CV_##x##GELQF, CV_##x##ORGLQ, CV_##x##SYEVD, CV_##x##GESDD,    \
     is_double, is_complex}
static const Type types[4] = {TYPE(S, false, false), TYPE(D, true, false), TYPE(C, false, true),
                              TYPE(Z, true, true)};

typedef const CvInteger *In;

static size_t
real_bytes(const Type *type)
{
    return type->is_double ? 8 : 4;
}

static size_t
item_bytes(const Type *type)
{
    return real_bytes(type) << type->is_complex;
}

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Memory for `count` items; NULL if there is none or if the product overflows. */
static void *
room(int64_t count, size_t bytes)
{
    if (count < 1)
        count = 1;
    if ((uint64_t)count > SIZE_MAX / 2 / bytes)
        return NULL;
    return malloc((size_t)count * bytes);
}

/* The optimal workspace which a query wrote; a float may have rounded it down. */
static int64_t
queried(const Type *type, const void *answer)
{
    double size = type->is_double ? *(const double *)answer : *(const float *)answer * 1.000001;
    return (int64_t)size + 1;
}

static void
conjugate(const Type *type, void *vector, int64_t n)
{
    if (!type->is_complex)
        return;
    for (int64_t i = 0; i < n; i++) {
        if (type->is_double)
            ((double *)vector)[2 * i + 1] *= -1;
        else
            ((float *)vector)[2 * i + 1] *= -1;
    }
}

/* ---- transposition ---- */

typedef struct {
    double re, im;
} Pair;

enum { TILE = 16 };

/* target (n x m, rows of `ldt`) = source (m x n, rows of `lds`) transposed. */
#define TRANSPOSE(name, type)                                                                     \
    static void name(const void *from, int64_t lds, void *to, int64_t ldt, int64_t m, int64_t n)  \
    {                                                                                             \
        const type *source = from;                                                                \
        type *target = to;                                                                        \
        for (int64_t ii = 0; ii < m; ii += TILE)                                                  \
            for (int64_t jj = 0; jj < n; jj += TILE)                                              \
                for (int64_t i = ii; i < smaller(ii + TILE, m); i++)                              \
                    for (int64_t j = jj; j < smaller(jj + TILE, n); j++)                          \
                        target[j * ldt + i] = source[i * lds + j];                                \
    }
#define TRANSPOSE_SQUARE(name, type)                                                              \
    static void name(void *matrix, int64_t lda, int64_t n)                                        \
    {                                                                                             \
        type *a = matrix;                                                                         \
        for (int64_t ii = 0; ii < n; ii += TILE)                                                  \
            for (int64_t jj = 0; jj <= ii; jj += TILE)                                            \
                for (int64_t i = ii; i < smaller(ii + TILE, n); i++)                              \
                    for (int64_t j = jj; j < smaller(jj + TILE, i); j++) {                        \
                        type swapped = a[i * lda + j];                                            \
                        a[i * lda + j] = a[j * lda + i];                                          \
                        a[j * lda + i] = swapped;                                                 \
                    }                                                                             \
    }
TRANSPOSE(transpose_4, float)
TRANSPOSE(transpose_8, double)
TRANSPOSE(transpose_16, Pair)
TRANSPOSE_SQUARE(transpose_square_4, float)
TRANSPOSE_SQUARE(transpose_square_8, double)
TRANSPOSE_SQUARE(transpose_square_16, Pair)

static void
transpose(const Type *type, const void *from, int64_t lds, void *to, int64_t ldt, int64_t m,
          int64_t n)
{
    size_t bytes = item_bytes(type);
    (bytes == 4 ? transpose_4 : bytes == 8 ? transpose_8 : transpose_16)(from, lds, to, ldt, m, n);
}

static void
transpose_square(const Type *type, void *a, int64_t lda, int64_t n)
{
    size_t bytes = item_bytes(type);
    (bytes == 4   ? transpose_square_4
     : bytes == 8 ? transpose_square_8
                  : transpose_square_16)(a, lda, n);
}

/* ---- factorisations ---- */

static int32_t
potrf(const Type *type, int64_t n, void *a, int64_t lda, int64_t lower)
{
    const CvLibraryFunction *function = &cv_library_functions[type->potrf];
    if (n < 0 || lda < n)
        return n < 0 ? -1 : -3;
    int32_t error = n == 0 ? 0 : cv_library_check(function, lda);
    if (n == 0 || error)
        return error;
    CvInteger size = cv_integer(function, n), stride = cv_integer(function, lda);
    CvInteger info = cv_integer(function, 0);
    ((void (*)(const char *, In, void *, In, CvInteger *))(uintptr_t)function->address)(
        lower ? "U" : "L", &size, a, &stride, &info);
    return (int32_t)cv_integer_value(function, info);
}

static void
export_pivots(const CvLibraryFunction *function, const void *raw, int32_t *pivots, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        pivots[i] = (int32_t)((function->int_bytes == 4 ? ((const int32_t *)raw)[i]
                                                        : ((const int64_t *)raw)[i]) - 1);
}

static int32_t
getrf(const Type *type, int64_t m, int64_t n, void *a, int64_t lda, int32_t *pivots)
{
    const CvLibraryFunction *function = &cv_library_functions[type->getrf];
    if (m < 0 || n < 0 || lda < n)
        return m < 0 ? -1 : n < 0 ? -2 : -4;
    if (m == 0 || n == 0)
        return 0;
    int32_t error = cv_library_check(function, cv_max(m, n));
    if (error)
        return error;
    int64_t count = smaller(m, n);
    void *columns = m > INT64_MAX / n ? NULL : room(m * n, item_bytes(type));
    void *raw = room(count, sizeof(int64_t));
    int32_t code = CV_LIBRARY_MEMORY;
    if (columns != NULL && raw != NULL) {
        CvInteger rows = cv_integer(function, m), width = cv_integer(function, n);
        CvInteger info = cv_integer(function, 0);
        transpose(type, a, lda, columns, m, m, n);
        ((void (*)(In, In, void *, In, void *, CvInteger *))(uintptr_t)function->address)(
            &rows, &width, columns, &rows, raw, &info);
        transpose(type, columns, m, a, lda, n, m);
        export_pivots(function, raw, pivots, count);
        code = (int32_t)cv_integer_value(function, info);
    }
    free(columns);
    free(raw);
    return code;
}

typedef void (*Gelqf)(In, In, void *, In, void *, void *, In, CvInteger *);

static int32_t
geqrf(const Type *type, int64_t m, int64_t n, void *a, int64_t lda, void *tau)
{
    const CvLibraryFunction *function = &cv_library_functions[type->gelqf];
    if (m < 0 || n < 0 || lda < n)
        return m < 0 ? -1 : n < 0 ? -2 : -4;
    if (m == 0 || n == 0)
        return 0;
    int32_t error = cv_library_check(function, cv_max(m, lda));
    if (error)
        return error;
    Gelqf gelqf = (Gelqf)(uintptr_t)function->address;
    CvInteger rows = cv_integer(function, n), columns = cv_integer(function, m);
    CvInteger stride = cv_integer(function, lda), info = cv_integer(function, 0);
    CvInteger size = cv_integer(function, -1);
    double answer[2] = {0, 0};
    gelqf(&rows, &columns, a, &stride, tau, answer, &size, &info);
    int64_t length = cv_max(queried(type, answer), n);
    void *work = room(length, item_bytes(type));
    if (work == NULL)
        return CV_LIBRARY_MEMORY;
    size = cv_integer(function, length);
    gelqf(&rows, &columns, a, &stride, tau, work, &size, &info);
    free(work);
    conjugate(type, tau, smaller(m, n));
    return (int32_t)cv_integer_value(function, info);
}

typedef void (*Orglq)(In, In, In, void *, In, const void *, void *, In, CvInteger *);

static int32_t
orgqr(const Type *type, int64_t m, int64_t n, int64_t k, void *a, int64_t lda, const void *tau)
{
    const CvLibraryFunction *function = &cv_library_functions[type->orglq];
    if (m < 0 || n < 0 || n > m)
        return m < 0 ? -1 : -2;
    if (k < 0 || k > n || lda < n)
        return lda < n ? -5 : -3;
    if (n == 0)
        return 0;
    int32_t error = cv_library_check(function, cv_max(m, lda));
    if (error)
        return error;
    Orglq orglq = (Orglq)(uintptr_t)function->address;
    CvInteger rows = cv_integer(function, n), columns = cv_integer(function, m);
    CvInteger count = cv_integer(function, k), stride = cv_integer(function, lda);
    CvInteger info = cv_integer(function, 0), size = cv_integer(function, -1);
    double answer[2] = {0, 0};
    void *factors = room(k, item_bytes(type));
    if (factors == NULL)
        return CV_LIBRARY_MEMORY;
    memcpy(factors, tau, (size_t)k * item_bytes(type));
    conjugate(type, factors, k);
    orglq(&rows, &columns, &count, a, &stride, factors, answer, &size, &info);
    int64_t length = cv_max(queried(type, answer), n);
    void *work = room(length, item_bytes(type));
    int32_t code = CV_LIBRARY_MEMORY;
    if (work != NULL) {
        size = cv_integer(function, length);
        orglq(&rows, &columns, &count, a, &stride, factors, work, &size, &info);
        code = (int32_t)cv_integer_value(function, info);
    }
    free(factors);
    free(work);
    return code;
}

/* ---- decompositions ---- */

typedef struct {
    void *work, *real, *integers;
    CvInteger work_size, real_size, integer_size;
} Workspace;

typedef void (*RealSyevd)(const char *, const char *, In, void *, In, void *, void *, In, void *,
                          In, CvInteger *);
typedef void (*ComplexSyevd)(const char *, const char *, In, void *, In, void *, void *, In,
                             void *, In, void *, In, CvInteger *);

static int64_t
call_syevd(const Type *type, const char *job, const char *triangle, int64_t n, void *a,
           int64_t lda, void *w, Workspace *space)
{
    const CvLibraryFunction *function = &cv_library_functions[type->syevd];
    CvInteger size = cv_integer(function, n), stride = cv_integer(function, lda);
    CvInteger info = cv_integer(function, 0);
    if (type->is_complex)
        ((ComplexSyevd)(uintptr_t)function->address)(
            job, triangle, &size, a, &stride, w, space->work, &space->work_size, space->real,
            &space->real_size, space->integers, &space->integer_size, &info);
    else
        ((RealSyevd)(uintptr_t)function->address)(job, triangle, &size, a, &stride, w, space->work,
                                                  &space->work_size, space->integers,
                                                  &space->integer_size, &info);
    return cv_integer_value(function, info);
}

static int32_t
syevd(const Type *type, int64_t n, void *a, int64_t lda, void *w, int64_t lower, int64_t vectors)
{
    const CvLibraryFunction *function = &cv_library_functions[type->syevd];
    if (n < 0 || lda < n)
        return n < 0 ? -1 : -3;
    int32_t error = n == 0 ? 0 : cv_library_check(function, lda);
    if (n == 0 || error)
        return error;
    const char *job = vectors ? "V" : "N", *triangle = lower ? "U" : "L";
    double work_answer[2] = {0, 0}, real_answer[2] = {0, 0};
    CvInteger integer_answer = cv_integer(function, 1), query = cv_integer(function, -1);
    Workspace space = {work_answer, real_answer, &integer_answer, query, query, query};
    int64_t info = call_syevd(type, job, triangle, n, a, lda, w, &space);
    if (info != 0)
        return (int32_t)info;
    int64_t work = queried(type, work_answer), real = queried(type, real_answer);
    int64_t integers = cv_integer_value(function, integer_answer);
    space = (Workspace){room(work, item_bytes(type)),    room(real, real_bytes(type)),
                        room(integers, sizeof(int64_t)), cv_integer(function, work),
                        cv_integer(function, real),      cv_integer(function, integers)};
    info = CV_LIBRARY_MEMORY;
    if (space.work != NULL && space.real != NULL && space.integers != NULL) {
        info = call_syevd(type, job, triangle, n, a, lda, w, &space);
        if (vectors) {
            /* Eigenvectors of A^T are conjugates of A's; the library's columns are our rows. */
            transpose_square(type, a, lda, n);
            for (int64_t i = 0; type->is_complex && i < n; i++)
                conjugate(type, (char *)a + (size_t)(i * lda) * item_bytes(type), n);
        }
    }
    free(space.work);
    free(space.real);
    free(space.integers);
    return (int32_t)info;
}

typedef struct {
    int64_t m, n, lda, ldu, ldvh;
    void *a, *s, *u, *vh;
    const char *job;
} Gesdd;

typedef void (*RealGesdd)(const char *, In, In, void *, In, void *, void *, In, void *, In, void *,
                          In, void *, CvInteger *);
typedef void (*ComplexGesdd)(const char *, In, In, void *, In, void *, void *, In, void *, In,
                             void *, In, void *, void *, CvInteger *);

/* A^T = (V^H)^T S U^T: what the library calls U is our V^H, and the other way round. */
static int64_t
call_gesdd(const Type *type, const Gesdd *p, Workspace *space)
{
    const CvLibraryFunction *function = &cv_library_functions[type->gesdd];
    CvInteger rows = cv_integer(function, p->n), columns = cv_integer(function, p->m);
    CvInteger lda = cv_integer(function, p->lda), info = cv_integer(function, 0);
    CvInteger ldu = cv_integer(function, p->ldvh), ldvt = cv_integer(function, p->ldu);
    if (type->is_complex)
        ((ComplexGesdd)(uintptr_t)function->address)(p->job, &rows, &columns, p->a, &lda, p->s,
                                                     p->vh, &ldu, p->u, &ldvt, space->work,
                                                     &space->work_size, space->real,
                                                     space->integers, &info);
    else
        ((RealGesdd)(uintptr_t)function->address)(p->job, &rows, &columns, p->a, &lda, p->s, p->vh,
                                                  &ldu, p->u, &ldvt, space->work,
                                                  &space->work_size, space->integers, &info);
    return cv_integer_value(function, info);
}

/* Real workspace of complex gesdd, as its documentation says; -1 if that overflows. */
static int64_t
gesdd_real_size(const Type *type, int64_t m, int64_t n, int64_t mode)
{
    int64_t least = smaller(m, n), most = cv_max(m, n);
    if (!type->is_complex)
        return 1;
    if (mode == 0)
        return 7 * least;
    if (most > (INT64_C(1) << 28))
        return -1;
    return cv_max(5 * least * least + 5 * least, 2 * most * least + 2 * least * least + least);
}

static int32_t
check_gesdd(int64_t m, int64_t n, int64_t lda, int64_t ldu, int64_t ldvh, int64_t mode)
{
    if (m < 0 || n < 0)
        return m < 0 ? -1 : -2;
    if (lda < n)
        return -4;
    if (mode < 0 || mode > 2)
        return -10;
    if (mode && ldu < (mode == 1 ? smaller(m, n) : m))
        return -7;
    return mode && ldvh < n ? -9 : 0;
}

static int32_t
gesdd(const Type *type, int64_t m, int64_t n, void *a, int64_t lda, void *s, void *u, int64_t ldu,
      void *vh, int64_t ldvh, int64_t mode)
{
    const CvLibraryFunction *function = &cv_library_functions[type->gesdd];
    int32_t error = check_gesdd(m, n, lda, ldu, ldvh, mode);
    if (error || m == 0 || n == 0)
        return error;
    if (mode == 0)
        ldu = m, ldvh = n, u = vh = s; /* not written, but the library checks the strides */
    error = cv_library_check(function, cv_max(cv_max(m, lda), cv_max(ldu, ldvh)));
    if (error)
        return error;
    const char *jobs[3] = {"N", "S", "A"};
    Gesdd p = {m, n, lda, ldu, ldvh, a, s, u, vh, jobs[mode]};
    double work_answer[2] = {0, 0}, real_answer[2];
    Workspace space = {work_answer, real_answer, NULL, cv_integer(function, -1), {0}, {0}};
    int64_t real = gesdd_real_size(type, m, n, mode), info = CV_LIBRARY_MEMORY;
    space.integers = room(8 * smaller(m, n), sizeof(int64_t));
    space.real = real < 0 ? NULL : room(real, real_bytes(type));
    if (space.integers != NULL && space.real != NULL) {
        info = call_gesdd(type, &p, &space);
        int64_t work = queried(type, work_answer);
        space.work = info == 0 ? room(work, item_bytes(type)) : NULL;
        space.work_size = cv_integer(function, work);
        if (space.work != NULL) {
            info = call_gesdd(type, &p, &space);
            free(space.work);
        } else if (info == 0) {
            info = CV_LIBRARY_MEMORY;
        }
    }
    free(space.integers);
    free(space.real);
    return (int32_t)info;
}

/* ---- exported names ---- */

#define SHIMS(suffix, index)                                                                      \
    static int32_t potrf_##suffix(int64_t n, void *a, int64_t lda, int64_t lower)                 \
    {                                                                                             \
        CV_RETURN_ALONE(potrf(&types[index], n, a, lda, lower));                                  \
    }                                                                                             \
    static int32_t getrf_##suffix(int64_t m, int64_t n, void *a, int64_t lda, int32_t *pivots)    \
    {                                                                                             \
        CV_RETURN_ALONE(getrf(&types[index], m, n, a, lda, pivots));                              \
    }                                                                                             \
    static int32_t geqrf_##suffix(int64_t m, int64_t n, void *a, int64_t lda, void *tau)          \
    {                                                                                             \
        CV_RETURN_ALONE(geqrf(&types[index], m, n, a, lda, tau));                                 \
    }                                                                                             \
    static int32_t orgqr_##suffix(int64_t m, int64_t n, int64_t k, void *a, int64_t lda,          \
                                  const void *tau)                                                \
    {                                                                                             \
        CV_RETURN_ALONE(orgqr(&types[index], m, n, k, a, lda, tau));                              \
    }                                                                                             \
    static int32_t syevd_##suffix(int64_t n, void *a, int64_t lda, void *w, int64_t lower,        \
                                  int64_t vectors)                                                \
    {                                                                                             \
        CV_RETURN_ALONE(syevd(&types[index], n, a, lda, w, lower, vectors));                      \
    }                                                                                             \
    static int32_t gesdd_##suffix(int64_t m, int64_t n, void *a, int64_t lda, void *s, void *u,   \
                                  int64_t ldu, void *vh, int64_t ldvh, int64_t mode)              \
    {                                                                                             \
        CV_RETURN_ALONE(gesdd(&types[index], m, n, a, lda, s, u, ldu, vh, ldvh, mode));           \
    }

SHIMS(f32, 0)
SHIMS(f64, 1)
SHIMS(c64, 2)
SHIMS(c128, 3)

#define ENTRY(name) {"cv_" #name, (void *)(uintptr_t)name}
#define ENTRIES(name) ENTRY(name##_f32), ENTRY(name##_f64), ENTRY(name##_c64), ENTRY(name##_c128)
const CvSymbol cv_lapack_symbols[] = {
    ENTRIES(potrf), ENTRIES(getrf), ENTRIES(geqrf), ENTRIES(orgqr), ENTRIES(syevd),
    ENTRIES(gesdd), {NULL, NULL},
};
