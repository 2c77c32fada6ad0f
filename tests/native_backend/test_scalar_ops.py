"""Every operation of the table on every dtype against NumPy, with the edges of each."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from covector.loopir.scalars import BF16, COMPLEX, EVERYTHING, F16, F32, F64, RANGE, TABLE

HALVES = (F16, BF16)
CPUS = (None, "x86-64-v2", "x86-64-v3")


def samples(dtype: np.dtype) -> np.ndarray:
    """Edge cases and ordinary numbers."""
    rng = np.random.default_rng(0)
    if dtype == np.bool_:
        return np.array([False, True])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        edges = [0, 1, 2, 3, 7, 8, 31, info.max, info.max - 1, info.max // 2, info.min]
        edges += [-1, -2, -7, info.min + 1] if info.min else [info.max // 3]
        some = rng.integers(info.min, info.max, 12, dtype, endpoint=True)
        return np.concatenate([np.array(edges, dtype), some])
    info = ml_dtypes.finfo(dtype)
    edges = [0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, 3.0, 1e-3, 100.7, -1e4]
    edges += [np.inf, -np.inf, np.nan, float(info.max), float(info.tiny), -float(info.tiny) / 4]
    edges += [float(info.smallest_subnormal), 1 + float(info.eps), 2**31, -(2.0**31), 2.0**63]
    with np.errstate(over="ignore"):
        return np.concatenate([np.array(edges).astype(dtype), rng.normal(0, 9, 12).astype(dtype)])


def pairs(dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    x = samples(dtype)
    a, b = np.meshgrid(x, x)
    return a.ravel().copy(), b.ravel().copy()


def wide(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype in HALVES else x


def integer_divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    out = [(-1 if not y else trunc_divide(int(x), int(y))) for x, y in zip(a, b, strict=True)]
    return wrapped(out, a.dtype)


def trunc_divide(x: int, y: int) -> int:
    quotient = abs(x) // abs(y)
    return quotient if (x < 0) == (y < 0) else -quotient


def integer_remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    pairs_ = zip(a.tolist(), b.tolist(), strict=True)
    return wrapped([x if not y else x - y * trunc_divide(x, y) for x, y in pairs_], a.dtype)


def wrapped(numbers: list[int], dtype: np.dtype) -> np.ndarray:
    bits = 8 * dtype.itemsize
    unsigned = np.array([n % (1 << bits) for n in numbers], np.dtype(f"uint{bits}"))
    return unsigned.view(dtype)


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return integer_divide(a, b) if a.dtype.kind in "iu" else a / b


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return integer_remainder(a, b) if a.dtype.kind in "iu" else np.fmod(a, b)


def shift(kind: str):
    def apply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        bits = 8 * a.dtype.itemsize
        out = []
        for x, y in zip(a.tolist(), b.tolist(), strict=True):
            amount = y % (1 << bits)
            unsigned = x % (1 << bits)
            signed = unsigned - (1 << bits) if unsigned >> (bits - 1) else unsigned
            if kind == "left":
                out.append(unsigned << amount if amount < bits else 0)
            elif kind == "logical":
                out.append(unsigned >> amount if amount < bits else 0)
            else:
                out.append(signed >> min(amount, bits - 1))
        return wrapped(out, a.dtype)

    return apply


def high_product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    bits = 8 * a.dtype.itemsize
    return wrapped([(x * y) >> bits for x, y in zip(a.tolist(), b.tolist(), strict=True)], a.dtype)


def bit_count(kind: str):
    def apply(a: np.ndarray) -> np.ndarray:
        bits = 8 * a.dtype.itemsize
        out = []
        for x in a.tolist():
            x %= 1 << bits
            if kind == "ones":
                out.append(x.bit_count())
            elif kind == "leading":
                out.append(bits - x.bit_length())
            else:
                out.append((x & -x).bit_length() - 1 if x else bits)
        return np.array(out, a.dtype)

    return apply


REFERENCE: dict[str, Any] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": divide,
    "rem": remainder,
    "neg": np.negative,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "sqrt": np.sqrt,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round_even": np.rint,
    "copysign": np.copysign,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "shl": shift("left"),
    "shr_logical": shift("logical"),
    "shr_arithmetic": shift("arithmetic"),
    "popcount": bit_count("ones"),
    "clz": bit_count("leading"),
    "ctz": bit_count("trailing"),
    "mulhi": high_product,
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "is_nan": np.isnan,
    "sign": lambda x: np.where(x == 0, x, np.sign(x)).astype(x.dtype),
    "is_inf": np.isinf,
    "is_finite": np.isfinite,
    "nextafter": np.nextafter,
    "signbit": np.signbit,
    "round_away": lambda x: np.copysign(np.floor(np.abs(x.astype(np.float64)) + 0.5), x).astype(
        x.dtype
    ),
}
ON_HALVES = ("add", "mul", "div", "min", "max", "neg", "abs", "sqrt", "lt", "eq", "floor")
FLOAT_ONLY = ("is_inf", "is_finite", "nextafter", "signbit", "round_away")


def cases():
    for name in REFERENCE:
        spec = TABLE.get(name)
        if spec is None:
            dtypes = (
                [F32, F64] if name in FLOAT_ONLY else [d for d in EVERYTHING if d.name != "bool"]
            )
            dtypes = [d for d in dtypes if d not in HALVES]
        else:
            dtypes = list(spec.results) + [d for d in HALVES if name in ON_HALVES]
        for dtype in dtypes:
            yield pytest.param(name, dtype, id=f"{name}-{dtype.name}")


def expected(name: str, args: list[np.ndarray]) -> np.ndarray:
    with np.errstate(all="ignore"):
        out = REFERENCE[name](*(wide(a) for a in args))
        dtype = args[-1].dtype
        return out.astype(dtype) if dtype in HALVES and out.dtype != np.bool_ else out


def assert_same(found: np.ndarray, wanted: np.ndarray, name: str = "") -> None:
    if found.dtype.kind not in "fcV":
        np.testing.assert_array_equal(found, wanted)
        return
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_array_equal(found, wanted)
    if name not in ("min", "max"):  # either zero may come out of a pair of zeros
        zero = wanted == 0
        np.testing.assert_array_equal(np.signbit(found[zero]), np.signbit(wanted[zero]))


@pytest.mark.parametrize(("name", "dtype"), list(cases()))
def test_operation(name, dtype, elementwise):
    arity = TABLE[name].arity if name in TABLE else 2 if name == "nextafter" else 1
    args = list(pairs(dtype)) if arity == 2 else [samples(dtype)]
    wanted = expected(name, args)
    for lanes in (True, False):
        run = elementwise(
            lambda b, *x: b.op(name, *x), [dtype] * arity, wanted.dtype, len(args[0]), lanes
        )
        assert_same(run(*args)[0], wanted, name)


@pytest.mark.parametrize(
    "name", ["min", "max", "div", "rem", "shl", "shr_logical", "shr_arithmetic"]
)
@pytest.mark.parametrize(
    "dtype", [np.dtype(n) for n in ("int8", "int32", "uint64", "float32")], ids=str
)
def test_constant_operand(name, dtype, elementwise):
    if dtype not in TABLE[name].results:
        return
    x = samples(dtype)
    numbers = [0, 1, -1, 3, 40] if dtype.kind == "i" else [0, 1, 3, 70]
    for number in numbers:
        constant = np.full_like(x, number)
        run = elementwise(lambda b, v, k=number: b.op(name, v, k), [dtype], dtype, len(x), True)
        assert_same(run(x)[0], expected(name, [x, constant]), name)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("source", EVERYTHING, ids=str)
def test_convert(source, cpu, elementwise):
    x = samples(source)
    for target in EVERYTHING:
        wanted = converted(x, target)
        for lanes in (True, False):
            run = elementwise(
                lambda b, v, t=target: b.convert(v, t), [source], target, len(x), lanes, cpu
            )
            assert_same(run(x)[0], wanted)


def converted(x: np.ndarray, target: np.dtype) -> np.ndarray:
    if target == np.bool_:
        return x.astype(np.float64) != 0 if x.dtype in HALVES else x != 0
    if target in RANGE and x.dtype.kind not in "iub":
        low, high = RANGE[target]
        numbers = [0 if v != v else v for v in x.astype(np.float64).tolist()]
        clipped = [low if v <= low else high if v >= high else int(v) for v in numbers]
        return np.array(clipped, target)
    with np.errstate(all="ignore"):
        if target == BF16 and x.dtype not in (F32, F16):
            return rounded_once(x)
        return x.astype(target)


def rounded_once(x: np.ndarray) -> np.ndarray:
    """To bfloat16 from wider types without rounding twice, by exact rational arithmetic."""
    from covector.loopir.scalars import round_to

    return np.array([round_to(float(v), BF16) for v in x.tolist()]).astype(BF16)


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@np.errstate(all="ignore")
def test_every_half(cpu, elementwise):
    bits = np.arange(1 << 16, dtype=np.uint16)
    for dtype in HALVES:
        x = bits.view(dtype)
        run = elementwise(lambda b, v: b.convert(v, F32), [dtype], F32, len(x), True, cpu)
        found = run(x)[0]
        assert_same(found, x.astype(np.float32))
        back = elementwise(lambda b, v, t=dtype: b.convert(v, t), [F32], dtype, len(x), True, cpu)
        again = back(found)[0]
        nan = np.isnan(x.astype(np.float32))
        np.testing.assert_array_equal(again.view(np.uint16)[~nan], bits[~nan])
        assert np.isnan(again[nan].astype(np.float32)).all()


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", HALVES, ids=str)
@np.errstate(all="ignore")
def test_rounding_to_half(dtype, cpu, elementwise):
    """Ties and their neighbours, from float32 and float64."""
    middle = np.arange(1 << 15, dtype=np.uint16)
    x = middle.view(dtype).astype(np.float64)
    ties = (x[:-1] + x[1:]) / 2
    ties = ties[np.isfinite(ties)]
    near = np.concatenate([ties, np.nextafter(ties, 0), np.nextafter(ties, np.inf), -ties])
    run = elementwise(lambda b, v: b.convert(v, dtype), [F64], dtype, len(near), True, cpu)
    wanted = rounded_once(near) if dtype == BF16 else near.astype(dtype)
    assert_same(run(near)[0], wanted)
    single = near.astype(np.float32)
    run = elementwise(lambda b, v: b.convert(v, dtype), [F32], dtype, len(single), True, cpu)
    assert_same(run(single)[0], single.astype(dtype))


def test_bitcast(elementwise):
    for source, target in (("f4", "i4"), ("f4", "u4"), ("f8", "i8"), ("u2", "f2"), ("i4", "u4")):
        x = samples(np.dtype(source))
        run = elementwise(
            lambda b, v, t=target: b.op("bitcast", v, attr=np.dtype(t)),
            [source],
            target,
            len(x),
            True,
        )
        np.testing.assert_array_equal(run(x)[0].view(f"u{x.itemsize}"), x.view(f"u{x.itemsize}"))


@pytest.mark.parametrize("dtype", EVERYTHING, ids=str)
def test_select(dtype, elementwise):
    x, y = pairs(dtype)
    p = np.arange(len(x)) % 3 == 0
    for lanes in (True, False):
        run = elementwise(
            lambda b, q, u, v: b.select(q, u, v), [np.bool_, dtype, dtype], dtype, len(x), lanes
        )
        assert_same(run(p, x, y)[0], np.where(p, x, y))


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_products_without_rounding(dtype, cpu, elementwise):
    """mul_error gives what rounding took from a product; fma is exact where that is possible."""
    rng = np.random.default_rng(1)
    x, y = (rng.normal(size=1000).astype(dtype) for _ in range(2))

    def error(b, u, v):
        return b.op("mul_error", u, v, b.op("mul", u, v))

    found = elementwise(error, [dtype, dtype], dtype, 1000, True, cpu)(x, y)[0]
    product = x * y
    triples = zip(x.tolist(), y.tolist(), product.tolist(), strict=True)
    exact = [float(Fraction(u) * Fraction(v) - Fraction(p)) for u, v, p in triples]
    np.testing.assert_array_equal(found, np.array(exact, dtype))
    run = elementwise(lambda b, u, v: b.op("fma", u, v, v), [dtype, dtype], dtype, 1000, True, cpu)
    np.testing.assert_allclose(
        run(x, y)[0], x * y + y, rtol=1e-5 if dtype == F32 else 1e-14, atol=1e-6
    )


@pytest.mark.parametrize("cpu", CPUS, ids=str)
@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_scaling_rounds_once(dtype, cpu, elementwise):
    """Subnormal results and overflow included, at every width."""
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp - info.nmant - 2, info.maxexp + 2)
    some = np.random.default_rng(0).uniform(0.6, 1.6, len(exponents))
    x = np.concatenate([some, [np.nan, 1.0, 1.0]]).astype(dtype)
    exponents = np.append(exponents, [0, info.minexp - 1, info.maxexp - 1])
    shifted = (exponents + 1.5 * 2.0**info.nmant).astype(dtype)
    with np.errstate(over="ignore", under="ignore"):
        expected = np.ldexp(x, exponents)
    for lanes in (True, False):
        run = elementwise(
            lambda b, u, v: b.op("scale", u, v), [dtype] * 2, dtype, len(x), lanes, cpu
        )
        assert_same(run(x, shifted)[0], expected)


@pytest.mark.parametrize("dtype", list(COMPLEX), ids=str)
@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "neg", "eq", "ne"])
def test_complex_arithmetic(name, dtype, elementwise):
    rng = np.random.default_rng(2)
    x, y = (rng.normal(size=(40, 2)).view(np.complex128).ravel().astype(dtype) for _ in range(2))
    y[:5] = x[:5]
    arity = 1 if name == "neg" else 2
    args = [x, y][:arity]
    numpy_name = {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide"}
    numpy_name |= {"neg": "negative", "eq": "equal", "ne": "not_equal"}
    wanted = getattr(np, numpy_name[name])(*args)
    run = elementwise(lambda b, *v: b.op(name, *v), [dtype] * arity, wanted.dtype, len(x), True)
    np.testing.assert_allclose(run(*args)[0], wanted, rtol=1e-5 if dtype.itemsize == 8 else 1e-13)
