import operator
import warnings

import numpy as np
import pytest

from covector import _native

TYPES = [np.float32, np.float64, np.int32, np.int64, np.uint32, np.uint64]
ARITHMETIC = [operator.add, operator.sub, operator.mul]
ORDER = [operator.lt, operator.le, operator.eq, operator.ne, operator.gt, operator.ge]
SHAPES = [(), (0,), (1,), (7,), (64,), (3, 5), (2, 0, 3), (1, 1)]


def sample(dtype, shape, seed):
    generator = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.floating):
        values = generator.normal(size=shape).astype(dtype)
        special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 3e38], dtype)
        return np.where(generator.random(shape) < 0.4, generator.choice(special, shape), values)
    limits = np.iinfo(dtype)
    values = generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    special = np.array([limits.min, limits.max, 0, 1], dtype)
    return np.where(generator.random(shape) < 0.4, generator.choice(special, shape), values)


def same_bits(result, expected):
    assert result.shape == expected.shape
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    keep = ~np.isnan(np.asarray(expected))
    assert result[keep].tobytes() == np.asarray(expected)[keep].tobytes()


KERNELS = [(op, dtype) for op in [*ARITHMETIC, *ORDER] for dtype in TYPES]
KERNELS += [(operator.truediv, np.float32), (operator.truediv, np.float64)]


@pytest.mark.parametrize(("op", "dtype"), KERNELS)
@pytest.mark.parametrize("shape", SHAPES)
def test_two_arrays(array_class, op, dtype, shape):
    a, b = sample(dtype, shape, 1), sample(dtype, shape, 2)
    scalar = sample(dtype, (), 3)
    for x, y in [(a, b), (a, scalar), (scalar, b)]:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("error")
            expected = np.asarray(op(np.atleast_1d(x), np.atleast_1d(y)))
            expected = expected.reshape(np.broadcast_shapes(x.shape, y.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            result = op(array_class(x), array_class(y))
        assert type(result) is array_class
        same_bits(result._value, expected)
        assert result._value.ctypes.data % 64 == 0


@pytest.mark.parametrize("op", [*ARITHMETIC, operator.truediv, *ORDER])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scalar", [2.5, 0.0, -0.0, float("nan"), 1e300, 3, -7, 0])
def test_python_scalars_take_the_type_of_the_array(array_class, op, dtype, scalar):
    x = sample(dtype, (33,), 4)
    with np.errstate(all="ignore"):
        cast = np.full(33, scalar, np.float64).astype(dtype)
        forward, backward = op(x, cast), op(cast, x)
    same_bits(op(array_class(x), scalar)._value, forward)
    same_bits(op(scalar, array_class(x))._value, backward)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize("op", [*ARITHMETIC, *ORDER])
def test_python_ints_with_integers(array_class, op, dtype):
    x = sample(dtype, (9,), 5)
    same_bits(op(array_class(x), -3)._value, op(x, np.full(9, -3, dtype)))
    same_bits(op(-3, array_class(x))._value, op(np.full(9, -3, dtype), x))


@pytest.mark.parametrize("dtype", TYPES)
def test_unary(array_class, dtype):
    x = sample(dtype, (21,), 6)
    with np.errstate(all="ignore"):
        same_bits((-array_class(x))._value, -x)
        if not np.issubdtype(dtype, np.unsignedinteger):
            same_bits(abs(array_class(x))._value, abs(x))


def test_square(array_class):
    x = np.linspace(-2, 2, 9, dtype=np.float32)
    same_bits((array_class(x) ** 2)._value, x * x)


def test_weakness(array_class):
    strong, weak = np.ones(3, np.float32), np.ones(3, np.float32)
    x, w = array_class(strong), array_class(weak, True)
    assert (w + w).weak_type
    assert (w + 1.0).weak_type
    assert (-w).weak_type
    assert not (w < w).weak_type
    assert not (x + 1.0).weak_type
    assert not (x + w).weak_type
    assert not (w * x).weak_type


def test_everything_else_reaches_the_hook(array_class, hook):
    calls = []

    def record(a, b):
        calls.append((a, b))
        return "done"

    hook("add", record)
    x = array_class(np.ones(3, np.float32))
    others = [
        array_class(np.ones(3)),
        array_class(np.ones((1, 3), np.float32)),
        array_class(np.ones((6,), np.float32)[::2]),
        np.ones(3, np.float32),
        np.float32(1),
        True,
        1 << 31,
        -(1 << 31) - 1,
        1 << 100,
        1j,
        None,
        "text",
    ]
    for other in others:
        assert x + other == "done"
        assert calls[-1][0] is x
        assert calls[-1][1] is other
        if not isinstance(other, (str, _native.ArrayBase)):
            assert other + x == "done"
            assert calls[-1][0] is other
            assert calls[-1][1] is x
    integers = array_class(np.ones(3, np.int32))
    assert integers + 1.0 == "done"
    assert array_class(np.ones(3, np.uint32)) + -1 == "done"
    half = array_class(np.ones(3, np.float16))
    assert half + half == "done"


NAMES = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "divmod": divmod,
    "pow": operator.pow,
    "matmul": operator.matmul,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "lshift": operator.lshift,
    "rshift": operator.rshift,
    "lt": operator.lt,
    "le": operator.le,
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
}


@pytest.mark.parametrize("name", NAMES)
def test_hooks_by_name(array_class, hook, name):
    x, y = (array_class(np.ones(3, np.float16)) for _ in range(2))
    hook(name, lambda a, b: (name, a, b))
    result = NAMES[name](x, y)
    assert result[0] == name
    assert result[1] is x
    assert result[2] is y
    hook(name, lambda a, b: NotImplemented)
    if name not in ("eq", "ne"):
        with pytest.raises(TypeError):
            NAMES[name](x, y)
    hook(name, lambda a, b: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        NAMES[name](x, y)
    hook(name, None)
    if name not in ("eq", "ne"):
        with pytest.raises(TypeError):
            NAMES[name](x, y)


@pytest.mark.parametrize(
    ("name", "op"),
    [("neg", operator.neg), ("pos", operator.pos), ("abs", abs), ("invert", operator.invert)],
)
def test_unary_hooks(array_class, hook, name, op):
    x = array_class(np.ones(3, np.float16))
    hook(name, lambda a: (name, a))
    assert op(x)[0] == name
    assert op(x)[1] is x


def test_power(array_class, hook):
    hook("pow", lambda a, b: (a, b))
    x = array_class(np.ones(3, np.float32))
    for exponent in (3, 2.0, -1, 1 << 100, x):
        assert (x**exponent)[1] is exponent
    assert (2**x)[0] == 2
    with pytest.raises(TypeError):
        pow(x, 2, 3)


def test_hooks_are_checked():
    with pytest.raises(ValueError, match="nonsense"):
        _native.register_operator_hook("nonsense", None)
    with pytest.raises(TypeError, match="callable"):
        _native.register_operator_hook("add", 3)
    with pytest.raises(TypeError):
        _native.register_operator_hook("add")


def test_a_trace_switches_the_fast_path_off(array_class, hook):
    hook("add", lambda a, b: "hook")
    hook("neg", lambda a: "hook")
    x = array_class(np.ones(3, np.float32))
    _native.set_trace(object())
    assert (x + x, x + 1.0, -x) == ("hook",) * 3
    _native.set_trace(None)
    assert type(x + x) is array_class


def test_the_fast_path_can_be_switched_off(array_class, hook):
    hook("mul", lambda a, b: "hook")
    hook("abs", lambda a: "hook")
    x = array_class(np.ones(3, np.float32))
    assert _native.set_eager_fast_path(False) is True
    try:
        assert (x * x, abs(x)) == ("hook", "hook")
    finally:
        assert _native.set_eager_fast_path(True) is False
    assert type(x * x) is array_class


def test_large_arrays_release_the_lock(array_class):
    x = array_class(np.arange(1 << 20, dtype=np.float32))
    np.testing.assert_array_equal((x + x)._value, np.arange(1 << 20, dtype=np.float32) * 2)
    np.testing.assert_array_equal((1.0 - x)._value, 1 - np.arange(1 << 20, dtype=np.float32))


def test_large_blocks_are_reused(array_class):
    _native.clear_buffer_cache()
    x = array_class(np.zeros(1 << 20, np.float32))
    first = x + x
    address = first._value.ctypes.data
    del first
    assert _native.buffer_cache_bytes() >= 1 << 22
    second = x * x
    assert abs(second._value.ctypes.data - address) <= 4096
    assert _native.buffer_cache_bytes() < 1 << 22
    del second
    _native.clear_buffer_cache()
    assert _native.buffer_cache_bytes() == 0


def test_the_cache_of_blocks_is_bounded(array_class):
    _native.clear_buffer_cache()
    _native.set_buffer_cache_limit(10 << 20)
    try:
        x = array_class(np.zeros(1 << 19, np.float32))
        kept = [x + x for _ in range(20)]
        del kept
        assert 0 < _native.buffer_cache_bytes() <= 10 << 20
    finally:
        _native.set_buffer_cache_limit(256 << 20)
        _native.clear_buffer_cache()
    with pytest.raises(OverflowError):
        _native.set_buffer_cache_limit(-1)
