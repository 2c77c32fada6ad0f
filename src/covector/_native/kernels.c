/* Loops of eager arithmetic. Plain C, so that no floating-point status is turned into warnings;
 * signed overflow wraps. */
#include "covector.h"

/* One loop per way the operands may be given; the compiler vectorises them. */
#define BINARY_LOOPS(name, type, out_type, expression)                                            \
    static void name##_aa(const void *ap, const void *bp, void *rp, npy_intp n)                   \
    {                                                                                             \
        const type *restrict a_ = ap, *restrict b_ = bp;                                          \
        out_type *restrict r = rp;                                                                \
        for (npy_intp i = 0; i < n; i++) {                                                        \
            const type a = a_[i], b = b_[i];                                                      \
            r[i] = (out_type)(expression);                                                        \
        }                                                                                         \
    }                                                                                             \
    static void name##_as(const void *ap, const void *bp, void *rp, npy_intp n)                   \
    {                                                                                             \
        const type *restrict a_ = ap;                                                             \
        const type b = *(const type *)bp;                                                         \
        out_type *restrict r = rp;                                                                \
        for (npy_intp i = 0; i < n; i++) {                                                        \
            const type a = a_[i];                                                                 \
            r[i] = (out_type)(expression);                                                        \
        }                                                                                         \
    }                                                                                             \
    static void name##_sa(const void *ap, const void *bp, void *rp, npy_intp n)                   \
    {                                                                                             \
        const type a = *(const type *)ap;                                                         \
        const type *restrict b_ = bp;                                                             \
        out_type *restrict r = rp;                                                                \
        for (npy_intp i = 0; i < n; i++) {                                                        \
            const type b = b_[i];                                                                 \
            r[i] = (out_type)(expression);                                                        \
        }                                                                                         \
    }

#define UNARY_LOOP(name, type, expression)                                                        \
    static void name(const void *ap, void *rp, npy_intp n)                                        \
    {                                                                                             \
        const type *restrict a_ = ap;                                                             \
        type *restrict r = rp;                                                                    \
        for (npy_intp i = 0; i < n; i++) {                                                        \
            const type a = a_[i];                                                                 \
            r[i] = (type)(expression);                                                            \
        }                                                                                         \
    }

/* `wide` is the type to compute in: unsigned for integers. */
#define ARITHMETIC(suffix, type, wide)                                                            \
    BINARY_LOOPS(add_##suffix, type, type, (wide)a + (wide)b)                                     \
    BINARY_LOOPS(sub_##suffix, type, type, (wide)a - (wide)b)                                     \
    BINARY_LOOPS(mul_##suffix, type, type, (wide)a * (wide)b)

#define COMPARISONS(suffix, type)                                                                 \
    BINARY_LOOPS(lt_##suffix, type, npy_bool, a < b)                                              \
    BINARY_LOOPS(le_##suffix, type, npy_bool, a <= b)                                             \
    BINARY_LOOPS(eq_##suffix, type, npy_bool, a == b)                                             \
    BINARY_LOOPS(ne_##suffix, type, npy_bool, a != b)                                             \
    BINARY_LOOPS(gt_##suffix, type, npy_bool, a > b)                                              \
    BINARY_LOOPS(ge_##suffix, type, npy_bool, a >= b)

ARITHMETIC(f32, float, float)
ARITHMETIC(f64, double, double)
ARITHMETIC(i32, int32_t, uint32_t)
ARITHMETIC(i64, int64_t, uint64_t)
ARITHMETIC(u32, uint32_t, uint32_t)
ARITHMETIC(u64, uint64_t, uint64_t)
BINARY_LOOPS(div_f32, float, float, a / b)
BINARY_LOOPS(div_f64, double, double, a / b)
COMPARISONS(f32, float)
COMPARISONS(f64, double)
COMPARISONS(i32, int32_t)
COMPARISONS(i64, int64_t)
COMPARISONS(u32, uint32_t)
COMPARISONS(u64, uint64_t)

UNARY_LOOP(neg_f32, float, -a)
UNARY_LOOP(neg_f64, double, -a)
UNARY_LOOP(neg_u32, uint32_t, 0u - a)
UNARY_LOOP(neg_u64, uint64_t, 0u - a)
UNARY_LOOP(abs_f32, uint32_t, a & 0x7fffffffu)
UNARY_LOOP(abs_f64, uint64_t, a & 0x7fffffffffffffffu)
UNARY_LOOP(abs_i32, uint32_t, (a >> 31) ? 0u - a : a)
UNARY_LOOP(abs_i64, uint64_t, (a >> 63) ? 0u - a : a)

#define MODES(name) {name##_aa, name##_as, name##_sa}
#define ORDER(suffix)                                                                             \
    [CV_LT] = MODES(lt_##suffix), [CV_LE] = MODES(le_##suffix), [CV_EQ] = MODES(eq_##suffix),     \
    [CV_NE] = MODES(ne_##suffix), [CV_GT] = MODES(gt_##suffix), [CV_GE] = MODES(ge_##suffix)
#define INTEGER(suffix)                                                                           \
    {[CV_ADD] = MODES(add_##suffix), [CV_SUB] = MODES(sub_##suffix),                              \
     [CV_MUL] = MODES(mul_##suffix), ORDER(suffix)}
#define FLOATING(suffix)                                                                          \
    {[CV_ADD] = MODES(add_##suffix), [CV_SUB] = MODES(sub_##suffix),                              \
     [CV_MUL] = MODES(mul_##suffix), [CV_TRUEDIV] = MODES(div_##suffix), ORDER(suffix)}

const cv_binary_loop cv_binary_loops[CV_FAST_COUNT][CV_KERNEL_COUNT][CV_LOOP_MODES] = {
    [CV_FAST_F32] = FLOATING(f32), [CV_FAST_F64] = FLOATING(f64),
    [CV_FAST_I32] = INTEGER(i32),  [CV_FAST_I64] = INTEGER(i64),
    [CV_FAST_U32] = INTEGER(u32),  [CV_FAST_U64] = INTEGER(u64),
};

const cv_unary_loop cv_negative_loops[CV_FAST_COUNT] = {
    [CV_FAST_F32] = neg_f32, [CV_FAST_F64] = neg_f64, [CV_FAST_I32] = neg_u32,
    [CV_FAST_I64] = neg_u64, [CV_FAST_U32] = neg_u32, [CV_FAST_U64] = neg_u64,
};

/* Unsigned numbers are their own absolute values: left to the hook. */
const cv_unary_loop cv_absolute_loops[CV_FAST_COUNT] = {
    [CV_FAST_F32] = abs_f32, [CV_FAST_F64] = abs_f64,
    [CV_FAST_I32] = abs_i32, [CV_FAST_I64] = abs_i64,
};
