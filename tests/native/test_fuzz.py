"""Random and hostile inputs: whatever happens must be an answer or an exception."""

import contextlib
import operator
import random

import ml_dtypes
import numpy as np
import pytest

from covector import _native
from covector._native import Dispatcher, Executable

DTYPES = [
    "?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "g", "c8", "c16",
    ">f4", ">i8", ">c16", "S3", "U2", "V5", "M8[s]", "m8[D]", "O", [("a", "f4"), ("b", "i2")],
    ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4,
]  # fmt: skip
OPERATORS = [
    operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod,
    operator.pow, operator.matmul, operator.lt, operator.le, operator.eq, operator.ne,
    operator.gt, operator.ge, operator.and_, operator.or_, operator.lshift, divmod,
]  # fmt: skip
UNARY = [operator.neg, operator.pos, abs, operator.invert, hash, repr, memoryview, bool, len, iter]
EXPECTED = (
    TypeError, ValueError, ArithmeticError, RuntimeError, BufferError, AttributeError, MemoryError,
)  # fmt: skip

SUM = """
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {
  ret i32 0
}
"""


class Subclass(np.ndarray):
    pass


def misaligned(x):
    memory = np.empty(x.nbytes + 1, np.uint8)
    view = memory[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def read_only(x):
    x.flags.writeable = False
    return x


LAYOUTS = [
    lambda x: x,
    lambda x: x.T,
    lambda x: x[..., ::-1],
    lambda x: x[::2],
    lambda x: np.asfortranarray(x),
    lambda x: np.broadcast_to(x, (2, *x.shape)),
    lambda x: np.broadcast_to(x, (1 << 30, 1 << 20, *x.shape)),
    lambda x: x.view(Subclass),
    lambda x: x.reshape(-1)[:1].reshape(()),
    misaligned,
    read_only,
    lambda x: x[()],
]


class Maker:
    """Makes random values."""

    def __init__(self, seed, array_class):
        self.random = random.Random(seed)
        self.array_class = array_class

    def shape(self):
        return tuple(
            self.random.choice([0, 1, 1, 2, 3, 8]) for _ in range(self.random.randrange(4))
        )

    def ndarray(self):
        x = np.zeros(self.shape(), self.random.choice(DTYPES))
        try:
            return self.random.choice(LAYOUTS)(x)
        except (ValueError, IndexError, TypeError):
            return x

    def array(self):
        value = self.ndarray()
        try:
            x = self.array_class(value, self.random.random() < 0.3)
        except EXPECTED:
            return value
        if self.random.random() < 0.03:
            x.delete()
        return x

    def scalar(self):
        return self.random.choice(
            [True, 0, -1, 1 << 31, 1 << 70, 0.5, float("nan"), 1e300, 1j, None, "x", b"y"]
            + [np.float32(1), np.int64(3), np.bool_(True), np.longdouble(1), object(), len, ...]
            + [ml_dtypes.bfloat16(1), np.str_("x"), np.datetime64("2020-01-01"), 1 << 64, -0.0]
        )

    def leaf(self):
        return self.random.choice([self.array, self.array, self.ndarray, self.scalar])()

    def tree(self, depth=0):
        kind = self.random.randrange(9)
        count = self.random.randrange(4)
        if kind > 3 or depth > 3:
            return self.leaf()
        if kind == 0:
            return tuple(self.tree(depth + 1) for _ in range(count))
        if kind == 1:
            return [self.tree(depth + 1) for _ in range(count)]
        keys = self.random.sample(["a", "b", "", "é", "\ud800", 1, None, (1,)], count)
        return {key: self.tree(depth + 1) for key in keys}


@pytest.mark.parametrize("seed", range(20))
def test_operators(array_class, hook, seed):
    make = Maker(seed, array_class)
    answers = [NotImplemented, None, 3]
    for op in ["add", "sub", "mul", "pow", "eq", "lt", "matmul", "divmod"]:
        hook(op, lambda a, b: make.random.choice(answers))
    with np.errstate(all="ignore"):
        for _ in range(300):
            x, y = make.array(), make.leaf()
            if not isinstance(x, array_class):
                continue
            try:
                make.random.choice(OPERATORS)(*make.random.sample([x, y], 2))
                make.random.choice(UNARY)(x)
            except EXPECTED:
                pass


@pytest.mark.parametrize("seed", range(20))
def test_executables(entries, array_class, seed):
    make = Maker(seed, array_class)
    entry = entries.llvm(SUM)
    calls = 0
    for _ in range(150):
        leaves = [make.leaf() for _ in range(make.random.randrange(4))]
        specs = []
        for leaf in leaves:
            model = leaf if make.random.random() < 0.7 else make.leaf()
            value = model._value if is_live(model) else np.asarray(model)
            specs.append((value.shape, value.dtype, make.random.choice([None, "name"])))
        results = [(spec[0], spec[1], make.random.choice([False, 1, "yes"])) for spec in specs]
        try:
            executable = Executable(
                entry, None, specs, [r for r in results if np.prod(r[0], dtype=float) < 1e6],
                donate=[(0, 0)] if results and make.random.random() < 0.3 else [],
                release_gil=make.random.random() < 0.5,
            )  # fmt: skip
            executable(*leaves)
            executable(tuple(leaves))
            calls += 1
        except EXPECTED:
            pass
    assert calls > 20


def is_live(x):
    return isinstance(x, _native.ArrayBase) and not x.is_deleted()


@pytest.mark.parametrize("seed", range(20))
def test_dispatchers(entries, array_class, seed):
    make = Maker(seed, array_class)
    entry = entries.llvm(SUM)

    def leaves_of(tree):
        if type(tree) is dict:
            return [leaf for _, v in sorted(tree.items()) for leaf in leaves_of(v)]
        if type(tree) in (tuple, list):
            return [leaf for v in tree for leaf in leaves_of(v)]
        return [] if tree is None else [tree]

    def fall_back(args, kwargs):
        try:
            leaves = leaves_of((args, kwargs))
            specs = [
                (x._value.shape, x._value.dtype)
                if is_live(x)
                else (np.shape(x), np.asarray(x).dtype)
                for x in leaves
            ]
            executable = Executable(entry, None, specs, [((3,), "f4", False)])
            tree = make.random.choice([0, (0, 0), {"a": [0]}, None, len])
            return d.insert(args, kwargs, executable, tree)
        except EXPECTED:
            return False

    d = Dispatcher(fall_back, capacity=5, static_argnums=[3], static_argnames=["s"])
    for _ in range(300):
        args = [make.tree() for _ in range(make.random.randrange(5))]
        names = make.random.sample(["x", "y", "s", "é"], make.random.randrange(4))
        kwargs = {name: make.tree() for name in names}
        for _ in range(2):
            with contextlib.suppress(EXPECTED):
                d(*args, **kwargs)
    assert d.hits > 30
