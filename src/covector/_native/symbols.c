/* C functions which generated code may call, by name. */
#include "covector.h"

#include <math.h>

#include "symbols.h"

/* ---- half and bfloat16 ----
 *
 * LLVM calls these where the machine lacks the instruction. It passes a 16-bit float in the low
 * bits of a floating-point register, which is where a float of these bits is: so no compiler
 * support for the types is needed. */

static uint32_t
float_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float
bits_float(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static uint64_t
double_bits(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* Rounds a double to the nearest (ties to even) binary format of `precision` stored fraction bits
 * and exponent range of `bias`, packed into 16 bits. Once from double: no double rounding. */
static uint16_t
round_double(double x, int precision, int bias)
{
    uint64_t bits = double_bits(x);
    uint16_t sign = (uint16_t)(bits >> 63 << 15);
    uint64_t magnitude = bits & ~(UINT64_C(1) << 63);
    uint16_t infinity = (uint16_t)((2 * bias + 1) << precision);
    if (magnitude > UINT64_C(0x7ff) << 52) /* quiet NaN, leading payload kept */
        return sign | infinity | (uint16_t)(1u << (precision - 1)) |
               (uint16_t)((magnitude >> (52 - precision)) & ((1u << precision) - 1));
    int exponent = (int)(magnitude >> 52) - 1023 + bias;
    uint64_t significand = magnitude & ((UINT64_C(1) << 52) - 1);
    int shift = 52 - precision;
    if (exponent <= 0) { /* a subnormal result */
        shift += 1 - exponent;
        if (shift > 62)
            return sign;
        significand |= UINT64_C(1) << 52;
        exponent = 0;
    }
    uint64_t kept = significand >> shift, rest = significand & ((UINT64_C(1) << shift) - 1);
    uint64_t half = UINT64_C(1) << (shift - 1);
    uint64_t packed = ((uint64_t)exponent << precision) + kept;
    if (rest > half || (rest == half && (packed & 1)))
        packed++; /* may carry into the exponent, up to infinity: as it should */
    return sign | (packed >= infinity || exponent > 2 * bias ? infinity : (uint16_t)packed);
}

static float
extend_half(uint16_t half)
{
    uint32_t sign = (uint32_t)(half >> 15) << 31, exponent = half >> 10 & 31;
    uint32_t fraction = half & 1023;
    if (exponent == 31)
        return bits_float(sign | 0x7f800000u | (fraction ? 0x400000u : 0) | fraction << 13);
    if (exponent == 0) {
        float magnitude = (float)fraction * 0x1p-24f;
        return bits_float(sign | float_bits(magnitude));
    }
    return bits_float(sign | (exponent + 112) << 23 | fraction << 13);
}

static uint16_t
double_to_half(double x)
{
    return round_double(x, 10, 15);
}

static uint16_t
double_to_bfloat(double x)
{
    return round_double(x, 7, 127);
}

static float truncsfhf2(float x) { return bits_float(double_to_half(x)); }
static float truncdfhf2(double x) { return bits_float(double_to_half(x)); }
static float truncsfbf2(float x) { return bits_float(double_to_bfloat(x)); }
static float truncdfbf2(double x) { return bits_float(double_to_bfloat(x)); }
static float extendhfsf2(float half) { return extend_half((uint16_t)float_bits(half)); }
static double extendhfdf2(float half) { return extend_half((uint16_t)float_bits(half)); }
static float extendbfsf2(float bfloat) { return bits_float(float_bits(bfloat) << 16); }
/* The names of older ABIs pass the bits in integer registers. */
static uint16_t gnu_f2h_ieee(float x) { return double_to_half(x); }
static float gnu_h2f_ieee(uint16_t half) { return extend_half(half); }

/* ---- 128-bit integers ---- */

#ifdef __SIZEOF_INT128__
typedef __int128 i128;
typedef unsigned __int128 u128;
/* Division by zero and of the least number by -1 do not trap but give what loop IR says. */
static i128
divti3(i128 a, i128 b)
{
    if (b == 0)
        return -1;
    return b == -1 ? (i128)(0 - (u128)a) : a / b;
}

static i128
modti3(i128 a, i128 b)
{
    if (b == 0)
        return a;
    return b == -1 ? 0 : a % b;
}

static u128 udivti3(u128 a, u128 b) { return b == 0 ? ~(u128)0 : a / b; }
static u128 umodti3(u128 a, u128 b) { return b == 0 ? a : a % b; }
static i128 multi3(i128 a, i128 b) { return (i128)((u128)a * (u128)b); }
#endif

/* ---- mathematics ---- */

/* lgamma of the C library writes a global variable. */
static double
lgamma_double(double x)
{
    int sign;
    return lgamma_r(x, &sign);
}

static float
lgamma_float(float x)
{
    int sign;
    return lgammaf_r(x, &sign);
}

/* x to an integer power by squaring, as LLVM's powi expects. */
static double
powidf2(double x, int power)
{
    unsigned n = power < 0 ? 0u - (unsigned)power : (unsigned)power;
    double result = 1.0;
    for (; n != 0; n >>= 1, x *= x)
        if (n & 1)
            result *= x;
    return power < 0 ? 1.0 / result : result;
}

static float
powisf2(float x, int power)
{
    return (float)powidf2(x, power);
}

/* ---- the table ---- */

#define ADDRESS(function) ((void *)(uintptr_t)(function))
#define LIBM(name) {#name, ADDRESS(name)}, {#name "f", ADDRESS(name##f)}

static const CvSymbol common_symbols[] = {
    LIBM(exp), LIBM(exp2), LIBM(expm1), LIBM(log), LIBM(log2), LIBM(log10), LIBM(log1p),
    LIBM(sin), LIBM(cos), LIBM(tan), LIBM(asin), LIBM(acos), LIBM(atan), LIBM(atan2),
    LIBM(sinh), LIBM(cosh), LIBM(tanh), LIBM(asinh), LIBM(acosh), LIBM(atanh),
    LIBM(sqrt), LIBM(cbrt), LIBM(hypot), LIBM(pow), LIBM(fmod), LIBM(remainder),
    LIBM(erf), LIBM(erfc), LIBM(tgamma), LIBM(nextafter), LIBM(ldexp), LIBM(frexp),
    LIBM(fma), LIBM(fmin), LIBM(fmax), LIBM(fabs), LIBM(copysign),
    LIBM(floor), LIBM(ceil), LIBM(trunc), LIBM(round), LIBM(rint), LIBM(nearbyint),
    {"roundeven", ADDRESS(rint)}, {"roundevenf", ADDRESS(rintf)}, /* the mode is to nearest */
    {"lgamma", ADDRESS(lgamma_double)}, {"lgammaf", ADDRESS(lgamma_float)},
    {"__powidf2", ADDRESS(powidf2)}, {"__powisf2", ADDRESS(powisf2)},
    {"memcpy", ADDRESS(memcpy)}, {"memmove", ADDRESS(memmove)}, {"memset", ADDRESS(memset)},
    {"memcmp", ADDRESS(memcmp)},
    {"__truncsfhf2", ADDRESS(truncsfhf2)}, {"__truncdfhf2", ADDRESS(truncdfhf2)},
    {"__truncsfbf2", ADDRESS(truncsfbf2)}, {"__truncdfbf2", ADDRESS(truncdfbf2)},
    {"__extendhfsf2", ADDRESS(extendhfsf2)}, {"__extendhfdf2", ADDRESS(extendhfdf2)},
    {"__extendbfsf2", ADDRESS(extendbfsf2)},
    {"__gnu_f2h_ieee", ADDRESS(gnu_f2h_ieee)}, {"__gnu_h2f_ieee", ADDRESS(gnu_h2f_ieee)},
#ifdef __SIZEOF_INT128__
    {"__divti3", ADDRESS(divti3)}, {"__modti3", ADDRESS(modti3)},
    {"__udivti3", ADDRESS(udivti3)}, {"__umodti3", ADDRESS(umodti3)},
    {"__multi3", ADDRESS(multi3)},
#endif
    {"cv_poll", ADDRESS(cv_poll)}, {"cv_sort", ADDRESS(cv_sort)},
    {"cv_argsort", ADDRESS(cv_argsort)}, {"cv_parallel", ADDRESS(cv_parallel)},
    {NULL, NULL},
};

static int
add_symbols(PyObject *dict, const CvSymbol *symbols)
{
    for (; symbols->name != NULL; symbols++) {
        PyObject *address = PyLong_FromVoidPtr(symbols->address);
        if (address == NULL)
            return -1;
        int failed = PyDict_SetItemString(dict, symbols->name, address);
        Py_DECREF(address);
        if (failed)
            return -1;
    }
    return 0;
}

static PyObject *
symbols(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored))
{
    const CvSymbol *const tables[] = {common_symbols, cv_blas_symbols, cv_lapack_symbols,
                                       cv_fft_symbols};
    PyObject *dict = PyDict_New();
    for (size_t i = 0; dict != NULL && i < Py_ARRAY_LENGTH(tables); i++)
        if (add_symbols(dict, tables[i]) < 0)
            Py_CLEAR(dict);
    return dict;
}

PyMethodDef cv_symbol_methods[] = {
    {"symbols", symbols, METH_NOARGS,
     PyDoc_STR("symbols() -> dict[str, int]\n\nThe addresses of the C functions which generated "
               "code may call.")},
    {NULL},
};
