import ctypes
import math

import ml_dtypes
import numpy as np
import pytest

from covector import _native

llvm = pytest.importorskip("llvmlite.binding")

SYMBOLS = _native.symbols()
CONVERSIONS = ["__truncsfhf2", "__truncdfhf2", "__extendhfsf2", "__truncsfbf2", "__truncdfbf2"]
DIVISIONS = ["__divti3", "__modti3", "__udivti3", "__umodti3", "__multi3"]


@pytest.fixture(scope="module")
def plain_machine():
    """Compiles for a processor which has none of the instructions that the helpers stand for."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple()
    features = "-f16c,-avx512fp16,-avx512bf16" if "x86" in target.triple else ""
    cpu = "x86-64" if "x86" in target.triple else ""
    jit = llvm.create_lljit_compiler(target.create_target_machine(cpu=cpu, features=features))
    keep = []

    def compile_(text):
        builder = llvm.JITLibraryBuilder().add_ir(text).export_symbol("f")
        for name in [*CONVERSIONS, "__extendhfdf2", *DIVISIONS, "memcpy", "memset"]:
            builder.import_symbol(name, SYMBOLS[name])
        library = builder.link(jit, f"l{len(keep)}")
        keep.append(library)
        return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
            library["f"]
        )

    return compile_


LOOP = """
define void @f(ptr %in, ptr %out, i64 %n) {{
  br label %loop
loop:
  %i = phi i64 [0, %0], [%next, %loop]
  %p = getelementptr {source}, ptr %in, i64 %i
  %q = getelementptr {target}, ptr %out, i64 %i
  %x = load {source}, ptr %p
  %y = {op} {source} %x to {target}
  store {target} %y, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %done
done:
  ret void
}}
"""

FLOATS = {
    "half": np.dtype(np.float16),
    "bfloat": np.dtype(ml_dtypes.bfloat16),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
}


def convert(compile_, source, target, op, x):
    function = compile_(LOOP.format(source=source, target=target, op=op))
    out = np.empty(x.shape, FLOATS[target])
    function(x.ctypes.data, out.ctypes.data, x.size)
    return out


def samples(dtype):
    generator = np.random.default_rng(0)
    width = dtype.itemsize * 8
    bits = generator.integers(0, 1 << width, 200000, f"u{dtype.itemsize}")
    near = (generator.normal(size=50000) * 10.0 ** generator.integers(-45, 10, 50000)).astype(dtype)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(dtype)
    brains = (np.arange(1 << 16, dtype=np.uint32) << 16).view(np.float32).astype(dtype)
    ties = [np.nextafter(halves, np.inf), (halves[1:] + halves[:-1]) / 2]
    ties += [np.nextafter(ties[1], dtype.type(0)), (brains[1:] + brains[:-1]) / 2]
    return np.concatenate([bits.view(dtype), near, halves, brains, *ties])


@pytest.mark.parametrize("target", ["half", "bfloat"])
@pytest.mark.parametrize("source", ["float", "double"])
def test_rounding_to_16_bits(plain_machine, source, target):
    with np.errstate(all="ignore"):
        x = samples(FLOATS[source])
        got = convert(plain_machine, source, target, "fptrunc", x)
        if target == "half":
            expected = x.astype(np.float16)
        else:
            expected = round_to_bfloat(x)
    nan = np.isnan(x)
    np.testing.assert_array_equal(np.isnan(got.astype(np.float32)), nan)
    np.testing.assert_array_equal(got.view(np.uint16)[~nan], expected.view(np.uint16)[~nan])


def round_to_bfloat(x):
    """Rounded once, by exact arithmetic on the candidates beside a truncated float32."""
    wide = x.astype(np.float64)
    low = (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    best = low.copy()
    error = np.full(x.shape, np.inf)
    for step in (-1, 0, 1):
        candidate = (low + np.uint16(step % 65536)).astype(np.uint16)
        value = (candidate.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        value = np.where(np.isinf(value), np.copysign(2.0**128, value), value)
        distance = np.abs(np.clip(wide, -1e300, 1e300) - value)
        same_sign = (candidate >> 15) == np.signbit(wide)
        even = (candidate & 1) == 0
        closer = same_sign & ((distance < error) | ((distance == error) & even))
        best = np.where(closer, candidate, best)
        error = np.where(closer, distance, error)
    return best


@pytest.mark.parametrize("source", ["half", "bfloat"])
@pytest.mark.parametrize("target", ["float", "double"])
def test_extending_16_bits(plain_machine, source, target):
    x = np.arange(1 << 16, dtype=np.uint16).view(FLOATS[source])
    got = convert(plain_machine, source, target, "fpext", x)
    with np.errstate(all="ignore"):
        expected = x.astype(FLOATS[target])
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(got), nan)
    unsigned = f"u{expected.itemsize}"
    np.testing.assert_array_equal(got.view(unsigned)[~nan], expected.view(unsigned)[~nan])


WIDE = """
define void @f(ptr %in, ptr %out, i64 %n) {{
  %p = getelementptr i128, ptr %in, i64 1
  %a = load i128, ptr %in
  %b = load i128, ptr %p
  %c = {op} i128 %a, %b
  store i128 %c, ptr %out
  ret void
}}
"""


@pytest.mark.parametrize("op", ["sdiv", "srem", "udiv", "urem", "mul"])
def test_128_bit_integers(plain_machine, op):
    function = plain_machine(WIDE.format(op=op))
    generator = np.random.default_rng(1)
    signed = op in ("sdiv", "srem")
    for _ in range(200):
        a = int.from_bytes(generator.bytes(16), "little", signed=signed)
        b = int.from_bytes(generator.bytes(16), "little", signed=signed)
        b = b >> int(generator.integers(0, 120)) or 1
        memory = np.frombuffer(
            b"".join(x.to_bytes(16, "little", signed=signed) for x in (a, b)), np.uint8
        )
        out = np.empty(16, np.uint8)
        function(memory.ctypes.data, out.ctypes.data, 0)
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        expected = {"div": quotient, "rem": a - quotient * b, "mul": a * b}[op[-3:]]
        assert out.tobytes() == (expected % (1 << 128)).to_bytes(16, "little")


def test_the_old_half_helpers():
    shrink = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_float)(SYMBOLS["__gnu_f2h_ieee"])
    grow = ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_uint16)(SYMBOLS["__gnu_h2f_ieee"])
    for x in (0.0, -1.5, 65504.0, 1e-7, math.inf):
        assert shrink(x) == np.float16(x).view(np.uint16)
        assert grow(shrink(x)) == np.float16(x)


def function(name, count=1, kind=None):
    kind = kind or (ctypes.c_float if name.endswith("f") and name != "erf" else ctypes.c_double)
    return ctypes.CFUNCTYPE(kind, *[kind] * count)(SYMBOLS[name])


@pytest.mark.parametrize(
    "name",
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "atanh",
        "sqrt",
        "cbrt",
        "erf",
        "erfc",
        "lgamma",
    ],
)
def test_mathematics(name):
    reference = getattr(math, name, None) or getattr(np, name)
    for x in (0.1, 0.5, 0.9):
        assert function(name)(x) == pytest.approx(float(reference(x)), rel=1e-14)
        assert function(name + "f", kind=ctypes.c_float)(x) == pytest.approx(
            float(reference(x)), rel=1e-6
        )


def test_other_functions():
    assert function("acosh")(2.0) == math.acosh(2.0)
    assert function("tgamma")(4.5) == pytest.approx(math.gamma(4.5))
    assert function("pow", 2)(2.0, 0.5) == math.sqrt(2)
    assert function("fmod", 2)(-5.5, 2.0) == -1.5
    assert function("atan2", 2)(-1.0, -1.0) == math.atan2(-1, -1)
    assert function("nextafter", 2)(1.0, 2.0) == math.nextafter(1, 2)
    assert function("roundeven")(2.5) == 2.0
    assert function("hypot", 2)(3.0, 4.0) == 5.0
    power = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_double, ctypes.c_int)
    assert power(SYMBOLS["__powidf2"])(2.0, -3) == 0.125
    assert power(SYMBOLS["__powidf2"])(3.0, 5) == 243.0
    assert power(SYMBOLS["__powidf2"])(2.0, -(1 << 31)) == 0.0


def test_names_are_complete():
    for name in [
        "exp",
        "log",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
    ]:
        assert name in SYMBOLS
        assert name + "f" in SYMBOLS
    for family in ["gemm", "trsm", "potrf", "getrf", "geqrf", "orgqr", "syevd", "gesdd"]:
        for suffix in ["f32", "f64", "c64", "c128"]:
            assert f"cv_{family}_{suffix}" in SYMBOLS
    assert all(address > 0 for address in SYMBOLS.values())
