"""Helper functions in C for what takes more than an expression, as templates over types.

`$T` is the C type of the operand, `$U` its unsigned twin, `$N` its short name, `$W` its width in
bits, `$MIN` and `$MAX` the ends of its range. `$R` and so on are the same of the result, where that
has another type. A file gets those that it uses.
"""

from __future__ import annotations

HELPERS: dict[str, str] = {
    "div": """\
/* Rounded towards zero; by zero -1, or all ones. */
static inline $T cv_div_$N($T a, $T b) {
    return b == 0 ? ($T)-1 : $SIGNED && b == ($T)-1 ? ($T)(0 - ($U)a) : ($T)(a / b);
}
""",
    "rem": """\
/* With the sign of the dividend; by zero the dividend. */
static inline $T cv_rem_$N($T a, $T b) {
    return b == 0 ? a : $SIGNED && b == ($T)-1 ? 0 : ($T)(a % b);
}
""",
    "abs": """\
static inline $T cv_abs_$N($T a) { return a < 0 ? ($T)(0 - ($U)a) : a; }
""",
    "min": """\
static inline $T cv_min_$N($T a, $T b) { return a < b ? a : b; }
""",
    "max": """\
static inline $T cv_max_$N($T a, $T b) { return a > b ? a : b; }
""",
    "min_float": """\
/* NaN if either is. */
static inline $T cv_min_$N($T a, $T b) { return a != a ? a : a < b ? a : b; }
""",
    "max_float": """\
/* NaN if either is. */
static inline $T cv_max_$N($T a, $T b) { return a != a ? a : a > b ? a : b; }
""",
    "fma": """\
/* a * b + c, rounded once where that is fast. */
#ifdef FP_FAST_FMA
#define cv_fma_$N(a, b, c) fma$S(a, b, c)
#else
#define cv_fma_$N(a, b, c) ((a) * (b) + (c))
#endif
""",
    "scale": """\
/* a * 2^n, rounded once, for a from 1/2 to 2 and b = n + 1.5 * 2^$MANTISSA: a first power of two
 * that leaves the product exact, and one more factor. */
static inline $T cv_scale_$N($T a, $T b) {
    $T n = b - $MAGIC;
    $U bits;
    memcpy(&bits, &b, sizeof bits);
    bool small = n < $LEAST;
    $U power = (bits + ($U)(small ? $UP + $BIAS : $BIAS - 1)) << $MANTISSA;
    $T factor;
    memcpy(&factor, &power, sizeof factor);
    return a * factor * (small ? $DOWN : 2);
}
""",
    "shl": """\
static inline $T cv_shl_$N($T a, $T b) { return ($U)b < $W ? ($T)(($U)a << b) : 0; }
""",
    "shr_logical": """\
static inline $T cv_shr_logical_$N($T a, $T b) { return ($U)b < $W ? ($T)(($U)a >> b) : 0; }
""",
    "shr_arithmetic": """\
static inline $T cv_shr_arithmetic_$N($T a, $T b) {
    return ($T)(($I)a >> (($U)b < $W ? b : $W - 1));
}
""",
    "popcount": """\
static inline $T cv_popcount_$N($T a) {
    int count = 0;
    for ($U bits = ($U)a; bits; bits &= bits - 1)
        count++;
    return ($T)count;
}
""",
    "clz": """\
static inline $T cv_clz_$N($T a) {
    int count = $W;
    for ($U bits = ($U)a; bits; bits >>= 1)
        count--;
    return ($T)count;
}
""",
    "ctz": """\
static inline $T cv_ctz_$N($T a) {
    int count = 0;
    while (count < $W && !(($U)a >> count & 1))
        count++;
    return ($T)count;
}
""",
    "mulhi": """\
static inline $T cv_mulhi_$N($T a, $T b) {
    return ($T)(($WIDE)a * ($WIDE)b >> $W);
}
""",
    "mulhi_u64": """\
static inline uint64_t cv_mulhi_u64(uint64_t a, uint64_t b) {
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32), other = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (other >> 32);
}
""",
    "mulhi_i64": """\
static inline int64_t cv_mulhi_i64(int64_t a, int64_t b) {
    uint64_t high = cv_mulhi_u64((uint64_t)a, (uint64_t)b);
    return (int64_t)(high - (a < 0 ? (uint64_t)b : 0) - (b < 0 ? (uint64_t)a : 0));
}
""",
    "bits": """\
static inline $R cv_bits_$N_$RN($T a) {
    $R bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
""",
    "saturate": """\
/* Towards zero; what is beyond the range becomes its end, NaN becomes 0. */
static inline $R cv_$N_to_$RN($T a) {
    return a != a ? 0 : a <= ($T)$RMIN ? $RMIN : a >= ($T)$RMAX ? $RMAX : ($R)a;
}
""",
    "to_f32:bf16": """\
static inline float cv_bf16_to_f32(uint16_t a) {
    uint32_t bits = (uint32_t)a << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}
""",
    "to_f32:f16": """\
/* Exponent and mantissa at their places in a float; a product corrects the bias. */
static inline float cv_f16_to_f32(uint16_t a) {
    uint32_t bits = (uint32_t)(a & 0x7fff) << 13, sign = (uint32_t)(a & 0x8000) << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    x *= 5.192296858534828e33f; /* 2^112 */
    if (bits < 0x0f800000)
        memcpy(&bits, &x, sizeof x);
    else /* infinities and NaN */
        bits |= 0x7f800000;
    bits |= sign;
    memcpy(&x, &bits, sizeof x);
    return x;
}
""",
    "from_f32:bf16": """\
static inline uint16_t cv_f32_to_bf16(float a) {
    uint32_t bits;
    memcpy(&bits, &a, sizeof bits);
    if (a != a)
        return (uint16_t)((bits | 0x400000) >> 16);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
""",
    "from_f32:f16": """\
static inline uint16_t cv_f32_to_f16(float a) {
    uint32_t bits, size, half;
    memcpy(&bits, &a, sizeof bits);
    size = bits & 0x7fffffff;
    if (size > 0x7f800000) /* NaN */
        half = 0x7e00 | (size >> 13 & 0x3ff);
    else if (size >= 0x47800000)
        half = 0x7c00;
    else if (size < 0x38800000) { /* subnormal: the addition rounds at the right bit */
        float x;
        memcpy(&x, &size, sizeof x);
        x += 0.5f;
        memcpy(&half, &x, sizeof half);
        half -= 0x3f000000;
    } else
        half = (size + 0xc8000fff + (size >> 13 & 1)) >> 13;
    return (uint16_t)(half | (bits >> 16 & 0x8000));
}
""",
    "to_odd": """\
/* A float such that rounding it once more is as good as rounding once. */
static inline float cv_round_to_odd(double a) {
    float narrow = (float)a;
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    if (a != a || (double)narrow == a || (bits & 1) || isinf(narrow))
        return narrow;
    bits += fabs((double)narrow) < fabs(a) ? 1 : -1;
    memcpy(&narrow, &bits, sizeof bits);
    return narrow;
}
""",
    "from_f64:bf16": """\
static inline uint16_t cv_f64_to_bf16(double a) { return cv_f32_to_bf16(cv_round_to_odd(a)); }
""",
    "from_f64:f16": """\
static inline uint16_t cv_f64_to_f16(double a) { return cv_f32_to_f16(cv_round_to_odd(a)); }
""",
}

NEEDS = {
    "mulhi_i64": ("mulhi_u64",),
    "from_f64:bf16": ("to_odd", "from_f32:bf16"),
    "from_f64:f16": ("to_odd", "from_f32:f16"),
}
"""Helpers that others call."""

_FLOATS = {
    "f32": {
        "$MANTISSA": "23", "$MAGIC": "12582912.0f", "$LEAST": "-124.0f", "$UP": "64",
        "$BIAS": "127", "$DOWN": "5.421010862427522e-20f", "$S": "f", "FP_FAST_FMA": "FP_FAST_FMAF",
    },
    "f64": {
        "$MANTISSA": "52", "$MAGIC": "6755399441055744.0", "$LEAST": "-1020.0", "$UP": "128",
        "$BIAS": "1023", "$DOWN": "2.938735877055719e-39", "$S": "",
    },
}  # fmt: skip


def name_of(helper: str, dtype: str) -> str:
    """What a helper function is called.

    Args:
        helper: of `HELPERS`, with the result's type after a colon where there is one.
        dtype: short name of the operand's.
    """
    kind, _, target = helper.partition(":")
    if kind == "bits":
        return f"cv_bits_{dtype}_{target}"
    if kind == "saturate":
        return f"cv_{dtype}_to_{target}"
    if kind == "to_f32":
        return f"cv_{target}_to_f32"
    if kind.startswith("from_"):
        return f"cv_{kind[5:]}_to_{target}"
    if kind == "to_odd":
        return "cv_round_to_odd"
    return f"cv_{kind.removesuffix('_float').removesuffix('_' + dtype)}_{dtype}"


def text_of(helper: str, dtype: str) -> str:
    """The definition of a helper function, as for `name_of`."""
    kind, _, target = helper.partition(":")
    template = HELPERS.get(helper) or HELPERS[kind]
    names = _names(dtype, "$") | (_names(target, "$R") if target else {}) | _FLOATS.get(dtype, {})
    names["$N"] = dtype
    for name in sorted(names, key=len, reverse=True):
        template = template.replace(name, names[name])
    return template


def _names(dtype: str, prefix: str) -> dict[str, str]:
    """What a type is called, and the ends of its range."""
    width = "8" if dtype == "bool" else dtype.lstrip("biuf")
    if dtype in ("bool", "bf16") or dtype[0] == "f":
        type_ = {"f32": "float", "f64": "double", "bool": "bool"}.get(dtype, "uint16_t")
        names = {"T": type_, "U": f"uint{width}_t", "N": dtype}
    else:
        unsigned = dtype[0] == "u"
        wide = str(2 * int(width))
        names = {
            "T": f"{'u' if unsigned else ''}int{width}_t",
            "U": f"uint{width}_t",
            "I": f"int{width}_t",
            "N": dtype,
            "W": width,
            "WIDE": f"{'u' if unsigned else ''}int{wide}_t",
            "SIGNED": str(int(not unsigned)),
            "MIN": "0" if unsigned else f"INT{width}_MIN",
            "MAX": f"{'U' if unsigned else ''}INT{width}_MAX",
        }
    if prefix == "$R":
        names[""] = names["T"]
    return {prefix + key: value for key, value in names.items()}
