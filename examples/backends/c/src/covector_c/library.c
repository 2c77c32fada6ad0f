/* Pieces of C, see library.py. They are written to be short, not to be the fastest there are. */

/// complex:
#include <complex.h>

/* What pivots are chosen by. */
static inline float size_f(float complex x) { return fabsf(crealf(x)) + fabsf(cimagf(x)); }
static inline double size_d(double complex x) { return fabs(creal(x)) + fabs(cimag(x)); }

/// cv_gemm_ANY: HEADER
/* The m x n matrix c = op(a) op(b), row-major; op transposes if its flag is 1, and conjugates too
 * if it is 2. */
static int32_t cv_gemm_ANY(int64_t m, int64_t n, int64_t k, const void *a, int64_t lda,
                           const void *b, int64_t ldb, void *c, int64_t ldc, int64_t op_a,
                           int64_t op_b) {
    const int64_t row = op_a ? 1 : lda, column = op_a ? lda : 1;
    for (int64_t i = 0; i < m; i++) {
        TYPE *restrict out = (TYPE *)c + i * ldc;
        for (int64_t j = 0; j < n; j++)
            out[j] = 0;
        for (int64_t l = 0; l < k; l++) {
            TYPE x = ((const TYPE *)a)[i * row + l * column];
            const TYPE *y = (const TYPE *)b + (op_b ? l : l * ldb);
            x = op_a == 2 ? CONJ(x) : x;
            if (op_b == 0)
                for (int64_t j = 0; j < n; j++)
                    out[j] += x * y[j];
            else
                for (int64_t j = 0; j < n; j++)
                    out[j] += x * (op_b == 2 ? CONJ(y[j * ldb]) : y[j * ldb]);
        }
    }
    return 0;
}

/// cv_trsm_ANY: HEADER
/* Solves op(a) x = b, or x op(a) = b if `right`, for the m x n matrix b in place. The matrix a is
 * triangular; its other triangle, and its diagonal if `unit`, is not read. */
static int32_t cv_trsm_ANY(int64_t right, int64_t lower, int64_t op, int64_t unit, int64_t m,
                           int64_t n, const void *a, int64_t lda, void *b, int64_t ldb) {
    const bool turned = (op != 0) != (right != 0), forwards = (lower != 0) != turned;
    const int64_t row = turned ? 1 : lda, column = turned ? lda : 1, size = right ? n : m;
    const int64_t down = right ? 1 : ldb, across = right ? ldb : 1;
    for (int64_t j = 0; j < (right ? m : n); j++) {
        TYPE *x = (TYPE *)b + j * across;
        for (int64_t step = 0; step < size; step++) {
            const int64_t i = forwards ? step : size - 1 - step;
            const TYPE *line = (const TYPE *)a + i * row;
            TYPE sum = x[i * down];
            for (int64_t k = forwards ? 0 : i + 1; k < (forwards ? i : size); k++)
                sum -= (op == 2 ? CONJ(line[k * column]) : line[k * column]) * x[k * down];
            x[i * down] = unit ? sum : sum / (op == 2 ? CONJ(line[i * column]) : line[i * column]);
        }
    }
    return 0;
}

/// cv_potrf_ANY: HEADER
/* The Cholesky factor in place, in the lower or the upper triangle; the other one is not touched.
 * Returns 1 + the first row whose leading minor is not positive, or 0. */
static int32_t cv_potrf_ANY(int64_t n, void *a, int64_t lda, int64_t lower) {
    const int64_t row = lower ? lda : 1, column = lower ? 1 : lda;
    TYPE *x = a;
    for (int64_t j = 0; j < n; j++) {
        REALTYPE pivot = REALPART(x[j * row + j * column]);
        for (int64_t k = 0; k < j; k++)
            pivot -= REALPART(x[j * row + k * column] * CONJ(x[j * row + k * column]));
        if (!(pivot > 0))
            return (int32_t)j + 1;
        pivot = (REALTYPE)sqrt((double)pivot);
        x[j * row + j * column] = pivot;
        for (int64_t i = j + 1; i < n; i++) {
            TYPE sum = x[i * row + j * column];
            for (int64_t k = 0; k < j; k++)
                sum -= x[i * row + k * column] * CONJ(x[j * row + k * column]);
            x[i * row + j * column] = sum / pivot;
        }
    }
    return 0;
}

/// cv_getrf_ANY: HEADER
/* P a = L U in place, with a unit diagonal in L; row i was exchanged with row pivots[i]. Returns
 * 1 + the place of the first pivot that is 0, or 0. */
static int32_t cv_getrf_ANY(int64_t m, int64_t n, void *a, int64_t lda, void *pivots) {
    TYPE *x = a;
    int32_t info = 0;
    for (int64_t j = 0; j < (m < n ? m : n); j++) {
        int64_t best = j;
        REALTYPE most = -1;
        for (int64_t i = j; i < m; i++) {
            const REALTYPE size = SIZE(x[i * lda + j]);
            if (size > most) {
                most = size;
                best = i;
            }
        }
        ((int32_t *)pivots)[j] = (int32_t)best;
        for (int64_t k = 0; k < n && best != j; k++) {
            const TYPE swap = x[j * lda + k];
            x[j * lda + k] = x[best * lda + k];
            x[best * lda + k] = swap;
        }
        if (most == 0 && !info)
            info = (int32_t)j + 1;
        for (int64_t i = j + 1; i < m && most != 0; i++) {
            const TYPE factor = x[i * lda + j] /= x[j * lda + j];
            for (int64_t k = j + 1; k < n; k++)
                x[i * lda + k] -= factor * x[j * lda + k];
        }
    }
    return info;
}

/// order:
/* Codes of element types, as sorts are given them. */
enum { BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F16, BF16, F32, F64, C64, C128 };

static size_t size_of(int type) {
    static const unsigned char sizes[] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 2, 4, 8, 8, 16};
    return sizes[type];
}

/* A half-precision number with exponents of `bits` bits. */
static double half(uint16_t word, int bits) {
    const int mantissa = 15 - bits, bias = (1 << (bits - 1)) - 1;
    const int exponent = word >> mantissa & ((1 << bits) - 1), rest = word & ((1 << mantissa) - 1);
    double x = exponent == (1 << bits) - 1 ? (rest ? NAN : INFINITY)
             : ldexp(exponent ? rest + (1 << mantissa) : rest,
                     (exponent ? exponent : 1) - bias - mantissa);
    return word >> 15 ? -x : x;
}

static int order_floats(double a, double b) { /* NaN last */
    return a != a ? b == b : b != b ? -1 : (a > b) - (a < b);
}

/* Negative, 0 or positive as element i comes before, with or after element j. */
static int order(const void *keys, int type, int64_t i, int64_t j) {
#define INTEGERS(code, T)                                                                          \
    case code:                                                                                     \
        return (((const T *)keys)[i] > ((const T *)keys)[j]) -                                     \
               (((const T *)keys)[i] < ((const T *)keys)[j])
#define PAIRS(T)                                                                                   \
    {                                                                                              \
        const T *x = (const T *)keys + 2 * i, *y = (const T *)keys + 2 * j;                        \
        int first = order_floats(x[0], y[0]);                                                      \
        return first ? first : order_floats(x[1], y[1]);                                           \
    }
    switch (type) {
        INTEGERS(BOOL, uint8_t);
        INTEGERS(I8, int8_t);
        INTEGERS(I16, int16_t);
        INTEGERS(I32, int32_t);
        INTEGERS(I64, int64_t);
        INTEGERS(U8, uint8_t);
        INTEGERS(U16, uint16_t);
        INTEGERS(U32, uint32_t);
        INTEGERS(U64, uint64_t);
    case F16:
        return order_floats(half(((const uint16_t *)keys)[i], 5), half(((const uint16_t *)keys)[j], 5));
    case BF16:
        return order_floats(half(((const uint16_t *)keys)[i], 8), half(((const uint16_t *)keys)[j], 8));
    case F32:
        return order_floats(((const float *)keys)[i], ((const float *)keys)[j]);
    case F64:
        return order_floats(((const double *)keys)[i], ((const double *)keys)[j]);
    case C64:
        PAIRS(float)
    default:
        PAIRS(double)
    }
#undef INTEGERS
#undef PAIRS
}

/* Sorts the numbers 0 to n - 1 by what `keys` have there, by merging; `other` is scratch memory.
 * Returns whichever of the two holds the result. */
static int64_t *order_rows(int64_t *places, int64_t *other, int64_t n, const unsigned char *const *keys,
                           const int *types, int64_t count, bool descending) {
    for (int64_t i = 0; i < n; i++)
        places[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t start = 0; start < n; start += 2 * width) {
            int64_t middle = start + width < n ? start + width : n;
            int64_t end = start + 2 * width < n ? start + 2 * width : n;
            int64_t left = start, right = middle;
            for (int64_t k = start; k < end; k++) {
                int decision = 0;
                if (left < middle && right < end)
                    for (int64_t key = 0; key < count && !decision; key++)
                        decision = order(keys[key], types[key], places[left], places[right]);
                bool from_left = left < middle && (right == end || (descending ? decision >= 0 : decision <= 0));
                other[k] = places[from_left ? left++ : right++];
            }
        }
        int64_t *swap = places;
        places = other;
        other = swap;
    }
    return places;
}

/// cv_sort: order
/* Sorts rows of n elements of several arrays by the first of them; stable. */
static int32_t cv_sort(void *context, int64_t rows, int64_t n, int64_t keys, int64_t operands,
                       int64_t types, void *p0, void *p1, void *p2, void *p3, void *p4, void *p5,
                       void *p6, void *p7) {
    unsigned char *arrays[] = {p0, p1, p2, p3, p4, p5, p6, p7};
    int type[8];
    (void)context;
    for (int64_t k = 0; k < operands; k++)
        type[k] = (int)(types >> 8 * k & 255);
    int64_t *memory = malloc((size_t)(2 * n + 1) * sizeof *memory);
    unsigned char *row = malloc((size_t)n * 16 + 1);
    if (!memory || !row) {
        free(memory);
        free(row);
        return -3;
    }
    for (int64_t r = 0; r < rows; r++) {
        int64_t *places = order_rows(memory, memory + n, n, (const unsigned char *const *)arrays, type, keys, false);
        for (int64_t k = 0; k < operands; k++) {
            const size_t size = size_of(type[k]);
            for (int64_t i = 0; i < n; i++)
                memcpy(row + (size_t)i * size, arrays[k] + (size_t)places[i] * size, size);
            memcpy(arrays[k], row, (size_t)n * size);
            arrays[k] += (size_t)n * size;
        }
    }
    free(memory);
    free(row);
    return 0;
}

/// cv_argsort: order
/* The places of the elements of rows in their order; stable. */
static int32_t cv_argsort(void *context, int64_t rows, int64_t n, int64_t keys, int64_t types,
                          int64_t index_bytes, int64_t descending, void *permutation, void *k0,
                          void *k1, void *k2, void *k3) {
    const unsigned char *arrays[] = {k0, k1, k2, k3};
    int type[4];
    (void)context;
    for (int64_t k = 0; k < keys; k++)
        type[k] = (int)(types >> 8 * k & 255);
    int64_t *memory = malloc((size_t)(2 * n + 1) * sizeof *memory);
    if (!memory)
        return -3;
    for (int64_t r = 0; r < rows; r++) {
        int64_t *places = order_rows(memory, memory + n, n, arrays, type, keys, descending != 0);
        for (int64_t i = 0; i < n; i++)
            if (index_bytes == 4)
                ((int32_t *)permutation)[r * n + i] = (int32_t)places[i];
            else
                ((int64_t *)permutation)[r * n + i] = places[i];
        for (int64_t k = 0; k < keys; k++)
            arrays[k] += (size_t)n * size_of(type[k]);
    }
    free(memory);
    return 0;
}

/// transform:
/* The Fourier transform of n pairs, `stride` pairs apart in `in`, to `out`: the length is split by
 * its least factor p, and p transforms are combined with roots of unity. `roots` has those of order
 * `order`, a multiple of n, and the sign of the exponent. */
static void transform(int64_t n, const double *in, int64_t stride, double *out, double *scratch,
                      const double *roots, int64_t order) {
    if (n == 1) {
        out[0] = in[0];
        out[1] = in[1];
        return;
    }
    int64_t p = 2;
    while (p * p <= n && n % p)
        p++;
    if (n % p)
        p = n;
    const int64_t m = n / p;
    for (int64_t r = 0; r < p; r++)
        transform(m, in + 2 * r * stride, stride * p, scratch + 2 * r * m, out + 2 * r * m, roots, order);
    for (int64_t k = 0; k < n; k++) {
        double re = 0, im = 0;
        for (int64_t r = 0; r < p; r++) {
            const double *root = roots + 2 * (r * k % n * (order / n)), *x = scratch + 2 * (r * m + k % m);
            re += x[0] * root[0] - x[1] * root[1];
            im += x[0] * root[1] + x[1] * root[0];
        }
        out[2 * k] = re;
        out[2 * k + 1] = im;
    }
}

/* Memory for transforms of length n: roots, input, output and scratch, n pairs each. */
static double *transform_memory(int64_t n, bool inverse) {
    double *roots = malloc((size_t)(8 * n + 1) * sizeof *roots);
    const double angle = (inverse ? 2 : -2) * 3.14159265358979323846 / (double)n;
    for (int64_t k = 0; roots && k < n; k++) {
        roots[2 * k] = cos(angle * (double)k);
        roots[2 * k + 1] = sin(angle * (double)k);
    }
    return roots;
}

/// cv_fft_COMPLEX: transform
/* Transforms in place along the middle axis; back, divided by n, if `inverse`. */
static int32_t cv_fft_COMPLEX(void *context, int64_t outer, int64_t n, int64_t inner, TYPE *data,
                              int64_t inverse) {
    double *roots = transform_memory(n, inverse != 0), *in = roots + 2 * n, *out = in + 2 * n;
    const double scale = inverse ? 1 / (double)n : 1;
    (void)context;
    if (!roots)
        return -3;
    for (int64_t row = 0; row < outer * inner; row++) {
        TYPE *x = data + 2 * (row / inner * n * inner + row % inner);
        for (int64_t k = 0; k < n; k++) {
            in[2 * k] = x[2 * k * inner];
            in[2 * k + 1] = x[2 * k * inner + 1];
        }
        transform(n, in, 1, out, out + 2 * n, roots, n);
        for (int64_t k = 0; k < n; k++) {
            x[2 * k * inner] = (TYPE)(out[2 * k] * scale);
            x[2 * k * inner + 1] = (TYPE)(out[2 * k + 1] * scale);
        }
    }
    free(roots);
    return 0;
}

/// cv_rfft_REAL: transform
/* From rows of n real numbers to rows of n / 2 + 1 complex ones. */
static int32_t cv_rfft_REAL(void *context, int64_t rows, int64_t n, const TYPE *source, TYPE *target) {
    double *roots = transform_memory(n, false), *in = roots + 2 * n, *out = in + 2 * n;
    (void)context;
    if (!roots)
        return -3;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t k = 0; k < n; k++) {
            in[2 * k] = source[row * n + k];
            in[2 * k + 1] = 0;
        }
        transform(n, in, 1, out, out + 2 * n, roots, n);
        for (int64_t k = 0; k < 2 * (n / 2 + 1); k++)
            target[row * 2 * (n / 2 + 1) + k] = (TYPE)out[k];
    }
    free(roots);
    return 0;
}

/// cv_irfft_COMPLEX: transform
/* Back, divided by n: the other half of each row is the conjugate of this one. */
static int32_t cv_irfft_COMPLEX(void *context, int64_t rows, int64_t n, const TYPE *source,
                                TYPE *target) {
    double *roots = transform_memory(n, true), *in = roots + 2 * n, *out = in + 2 * n;
    (void)context;
    if (!roots)
        return -3;
    for (int64_t row = 0; row < rows; row++) {
        const TYPE *x = source + row * 2 * (n / 2 + 1);
        for (int64_t k = 0; k < n; k++) {
            const int64_t half = k <= n / 2 ? k : n - k;
            in[2 * k] = x[2 * half];
            in[2 * k + 1] = half == 0 || 2 * half == n ? 0 : k == half ? x[2 * half + 1] : -x[2 * half + 1];
        }
        transform(n, in, 1, out, out + 2 * n, roots, n);
        for (int64_t k = 0; k < n; k++)
            target[row * n + k] = (TYPE)(out[2 * k] / (double)n);
    }
    free(roots);
    return 0;
}
