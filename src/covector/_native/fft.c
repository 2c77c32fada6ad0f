/* Fourier transforms for generated code: of any length, forwards exp(-2 pi i j k / n).
 *
 *   int32 cv_fft_T(ctx, outer, n, inner, data, inverse)
 *       Complex transforms in place along the middle axis of an outer x n x inner array; backwards
 *       (divided by n) if `inverse`.
 *   int32 cv_rfft_T(ctx, rows, n, in, out)
 *       From rows of n real numbers to rows of n / 2 + 1 complex ones.
 *   int32 cv_irfft_T(ctx, rows, n, in, out)
 *       Back, divided by n.
 *
 * T is the type of the input: c64 or c128, f32 or f64, c64 or c128. All return 0, CV_CANCELLED, or
 * CV_OUT_OF_MEMORY; ctx may be NULL. Without elements nothing is written. */
#include "fft.h"

#include "symbols.h"

#define SIN_45 0.70710678118654752440
#define SIN_60 0.86602540378443864676
#define COS_72 0.30901699437494742410
#define SIN_72 0.95105651629515357212
#define COS_144 -0.80901699437494742410
#define SIN_144 0.58778525229247312917

/* The iterations of the next loop touch different memory. */
#if defined(__GNUC__) && !defined(__clang__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif

enum {
    BLOCK = 16, /* neighbours that a pass of any radix takes at a time */
    POLL_ELEMENTS = 1 << 14,
    NEAR = 4096, /* elements of rows side by side that are still worth transposing */
    PAD = 17     /* cache lines between arrays, so that they do not compete for places in it */
};

static int64_t
smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Elements of a transform at work. */
static int64_t
work_length(const CvPlan *plan)
{
    if (plan->halves)
        return work_length(plan->inner);
    return plan->inner != NULL ? plan->inner->n : plan->n;
}

/* Elements of the longer one of two steps. */
static int64_t
extra_length(const CvPlan *plan)
{
    if (plan->inner != NULL)
        return extra_length(plan->inner);
    if (plan->columns == NULL)
        return 0;
    return plan->rows->n + PAD * CV_ALIGNMENT / (int64_t)sizeof(float);
}

/* How many transforms to make side by side. Columns share cache lines; rows have to be transposed
 * for it, which pays while all of them stay in the cache. */
static int64_t
choose_lanes(int64_t length, int64_t most, int64_t count, bool strided)
{
    if (!strided && length * most > NEAR)
        return 1;
    return smaller(most, count);
}

/* Elements from one array to the next. */
static int64_t
padded(int64_t elements, size_t item)
{
    const int64_t line = CV_ALIGNMENT / (int64_t)item;
    return ((elements + line - 1) / line + PAD) * line;
}

/* Each type is compiled for any machine, and where that can be known for one with wide vectors. */
#define REAL float
#define LANES 16
#define WIDE
#define NAME(name) name##_f32
#include "fft_kernels.h"

#include "fft_layout.h"
#undef REAL
#undef LANES
#undef NAME

#define REAL double
#define LANES 8
#define NAME(name) name##_f64
#include "fft_kernels.h"

#include "fft_layout.h"
#undef REAL
#undef LANES
#undef NAME
#undef WIDE

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define WIDE __attribute__((target("avx2,fma")))
#define REAL float
#define LANES 16
#define NAME(name) name##_wide_f32
#include "fft_kernels.h"

#include "fft_layout.h"
#undef REAL
#undef LANES
#undef NAME

#define REAL double
#define LANES 8
#define NAME(name) name##_wide_f64
#include "fft_kernels.h"

#include "fft_layout.h"
#undef REAL
#undef LANES
#undef NAME
#define CHOOSE(function, type)                                                                    \
    (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? function##_wide_##type     \
                                                                     : function##_##type)
#else
#define CHOOSE(function, type) function##_##type
#endif

/* Copies the result back if it is not where it should be. */
#define TRANSFORM_TABLE(REAL, LANES, Split, run)                                                  \
    {                                                                                             \
        const int64_t n = plan->n;                                                                \
        const size_t bytes = (size_t)n * sizeof(REAL);                                            \
        const int64_t room = 2 * extra_length(plan) * LANES;                                      \
        REAL *values = table.values;                                                              \
        REAL *other = cv_block_acquire(2 * bytes + 2 * (size_t)room * sizeof(REAL));              \
        if (other == NULL)                                                                        \
            return false;                                                                         \
        Split x = {values, values + n}, y = {other, other + n};                                   \
        Split extra = {other + 2 * n, other + 2 * n + room};                                      \
        Split result = run(plan, x, y, 1, extra);                                                 \
        if (result.re == other)                                                                   \
            memcpy(values, other, 2 * bytes);                                                     \
        cv_block_release(other);                                                                  \
    }

bool
cv_transform_table(const CvPlan *plan, CvTable table)
{
    if (plan->is_double)
        TRANSFORM_TABLE(double, 8, Split_f64, run_f64)
    else
        TRANSFORM_TABLE(float, 16, Split_f32, run_f32)
    return true;
}

#define ENTRIES(input, real, output)                                                              \
    static int32_t fft_##output(cv_context *ctx, int64_t outer, int64_t n, int64_t inner,         \
                                real *data, int64_t inverse)                                      \
    {                                                                                             \
        return CHOOSE(fft, input)(ctx, outer, n, inner, data, inverse);                           \
    }                                                                                             \
    static int32_t rfft_##input##_rows(cv_context *ctx, int64_t rows, int64_t n, const real *in,  \
                                       real *out)                                                 \
    {                                                                                             \
        return CHOOSE(rfft, input)(ctx, rows, n, in, out);                                        \
    }                                                                                             \
    static int32_t irfft_##output(cv_context *ctx, int64_t rows, int64_t n, const real *in,       \
                                  real *out)                                                      \
    {                                                                                             \
        return CHOOSE(irfft, input)(ctx, rows, n, in, out);                                       \
    }

ENTRIES(f32, float, c64)
ENTRIES(f64, double, c128)

#define ENTRY(name, function) {"cv_" #name, (void *)(uintptr_t)function}
const CvSymbol cv_fft_symbols[] = {
    ENTRY(fft_c64, fft_c64),        ENTRY(fft_c128, fft_c128),
    ENTRY(rfft_f32, rfft_f32_rows), ENTRY(rfft_f64, rfft_f64_rows),
    ENTRY(irfft_c64, irfft_c64),    ENTRY(irfft_c128, irfft_c128),
    {NULL, NULL},
};
