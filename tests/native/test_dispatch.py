import functools
import inspect
import weakref

import ml_dtypes
import numpy as np
import pytest

from covector import _native
from covector._native import Dispatcher, Executable

NOTHING = """
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {
  ret i32 0
}
"""

COPY = """
define i32 @entry(ptr %dims, ptr %args, ptr %results, ptr %ctx) {
  %a = load ptr, ptr %args
  %r = load ptr, ptr %results
  %x = load float, ptr %a
  store float %x, ptr %r
  ret i32 0
}
"""


def float_leaves(args):
    """The leaves of nested exact containers, dicts sorted by key."""
    if args is None:
        return []
    if type(args) is dict:
        return [leaf for _, value in sorted(args.items()) for leaf in float_leaves(value)]
    if type(args) in (tuple, list):
        return [leaf for value in args for leaf in float_leaves(value)]
    return [args]


CANONICAL = {
    bool: np.bool_,
    int: np.int32,
    float: np.float32,
    complex: np.complex64,
}
NARROW = {"f8": "f4", "i8": "i4", "u8": "u4", "c16": "c8"}


def spec_of(leaf):
    if type(leaf) in CANONICAL:
        return ((), np.dtype(CANONICAL[type(leaf)]))
    value = leaf._value if isinstance(leaf, _native.ArrayBase) else np.asarray(leaf)
    dtype = value.dtype.newbyteorder("=")
    if not isinstance(leaf, _native.ArrayBase):
        dtype = np.dtype(NARROW.get(dtype.str[1:], dtype))
    return (value.shape, dtype)


class Echo:
    """A function which is compiled to nothing but remembers how often it fell back."""

    def __init__(self, entries, **options):
        self.fallbacks = []
        self.entry = entries.llvm(NOTHING)
        self.dispatcher = Dispatcher(self.fall_back, **options)

    def fall_back(self, args, kwargs):
        leaves = float_leaves((args, kwargs))
        try:
            executable = Executable(self.entry, None, [spec_of(x) for x in leaves], [])
            inserted = self.dispatcher.insert(args, kwargs, executable, ())
        except TypeError:
            inserted = False
        self.fallbacks.append(inserted)
        return ()

    def hits(self, *args, **kwargs):
        """Whether a call ran compiled code."""
        before = len(self.fallbacks)
        assert self.dispatcher(*args, **kwargs) == ()
        return len(self.fallbacks) == before


@pytest.fixture
def echo(entries):
    previous = _native.set_thread_x64(False)
    yield Echo(entries)
    _native.set_thread_x64(previous)


def arrays(array_class):
    value = np.ones((2, 3), np.float32)
    return [
        array_class(value),
        array_class(value, True),
        array_class(value[:, :2]),
        array_class(value.astype(np.int32)),
        array_class(value.astype(ml_dtypes.bfloat16)),
        array_class(value[0]),
        array_class(value[None]),
        array_class(np.float32(1)),
        value,
        value.astype(np.float64),
        value.astype(np.int64),
        value.astype(np.float16),
        value.astype(np.complex128),
        value.astype(ml_dtypes.bfloat16),
        np.float32(1),
        np.float64(1),
        np.int64(1),
        np.bool_(True),
        ml_dtypes.bfloat16(1),
        True,
        1,
        1.0,
        1j,
        None,
        (),
        [],
        {},
    ]


def test_every_type_has_its_own_signature(echo, array_class):
    values = arrays(array_class)
    for value in values:
        assert not echo.hits(value)
    for value in values:
        assert echo.hits(value)
    assert echo.dispatcher.size == len(values)
    assert all(echo.fallbacks)


def test_every_structure_has_its_own_signature(echo, array_class):
    x = array_class(np.ones(3, np.float32))
    calls = [
        ((x,), {}),
        ((x, x), {}),
        (((x, x),), {}),
        (([x, x],), {}),
        (((x,), x), {}),
        (((), x, x), {}),
        ((x, (x,)), {}),
        ((x, None), {}),
        ((None, x), {}),
        (({"a": x},), {}),
        (({"b": x},), {}),
        (({"ab": x},), {}),
        (({"a": x, "b": x},), {}),
        (({"a": (x, x)},), {}),
        (({"": x},), {}),
        (({"äöü" * 20: x},), {}),
        ((), {"a": x}),
        ((x,), {"a": x}),
        ((), {"a": x, "b": x}),
        ((), {}),
        (([[[[x]]]],), {}),
    ]
    for args, kwargs in calls:
        assert not echo.hits(*args, **kwargs)
    for args, kwargs in calls:
        assert echo.hits(*args, **kwargs)
    assert echo.dispatcher.size == len(calls)


def test_the_order_of_keys_does_not_matter(echo, array_class):
    x, y = array_class(np.ones(3, np.float32)), array_class(np.ones(4, np.float32))
    assert not echo.hits({"a": x, "b": y}, p=x, q=y)
    assert echo.hits({"b": y, "a": x}, q=y, p=x)
    assert not echo.hits({"a": y, "b": x}, p=x, q=y)


def test_values_arrive_in_order(entries, array_class):
    seen = []

    def run(dims, args, results, ctx):
        seen.append([float(entries.view(args[i], (), np.float32)) for i in range(5)])
        return 0

    spec = ((), np.dtype(np.float32))
    executable = Executable(entries.python(run), None, [spec] * 5, [])
    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, executable, (), None))
    for _ in range(2):
        d({"z": 1.0, "a": [2.0, np.float32(3)]}, y=array_class(np.float32(4)), b=np.float64(5))
    assert seen == [[2, 3, 1, 5, 4]]
    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, executable, (), [4, 0, 1, 1, 1]))
    for _ in range(2):
        d([1.0, 2.0, 3.0], 4.0, 5.0)
    assert seen[1:] == [[5, 1, 2, 2, 2]]


class Named(tuple):
    __slots__ = ()


def test_other_values_always_fall_back(echo, array_class):
    x = array_class(np.ones(3, np.float32))
    recursive = []
    recursive.append(recursive)
    deep = x
    for _ in range(100):
        deep = [deep]
    deleted = array_class(np.ones(3, np.float32))
    deleted.delete()
    others = [
        "text",
        object(),
        Named((1.0,)),
        {1: x},
        {"a": x, 2: x},
        {"\ud800": x},
        {f"k{i}": x for i in range(100)},
        np.ones(3).view(np.recarray),
        np.array(["x"]),
        np.array([None]),
        np.zeros(3, "M8[s]"),
        np.zeros(2, [("float0", "V")]),
        np.longdouble(3),
        np.datetime64("2020"),
        np.str_("x"),
        np.void(b"x"),
        range(3),
        deep,
        recursive,
        deleted,
        type("Int", (int,), {})(3),
        type("Float", (float,), {})(3),
        type("Str", (str,), {})("x"),
    ]
    inserted = []
    d = Dispatcher(lambda args, kwargs: inserted.append(1))
    executable = Executable(echo.entry, None, [], [])
    for other in others:
        assert d.insert((other,), {}, executable, (), []) is False
        before = len(inserted)
        d(other)
        d([x, other], y=x)
        assert len(inserted) == before + 2
    assert d.insert((), {1: x}, executable, (), []) is False
    assert d.size == 0


def test_a_trace_always_falls_back(echo, array_class):
    x = array_class(np.ones(3, np.float32))
    echo.hits(x)
    assert echo.hits(x)
    _native.set_trace(object())
    assert not echo.hits(x)
    _native.set_trace(None)
    assert echo.hits(x)


def test_configuration_is_part_of_the_key(echo):
    assert not echo.hits(1.0)
    assert echo.hits(1.0)
    _native.set_thread_x64(True)
    assert not echo.hits(1.0)
    _native.set_thread_x64(False)
    assert echo.hits(1.0)
    previous = _native.set_thread_config(12345)
    assert not echo.hits(1.0)
    _native.set_thread_config(previous)
    assert echo.hits(1.0)
    previous = _native.set_config_epoch(1 << 60)
    try:
        assert not echo.hits(1.0)
    finally:
        assert _native.set_config_epoch(previous) == 1 << 60
    assert echo.hits(1.0)


def test_key_fn_is_part_of_the_key(entries):
    state = ["a"]
    echo = Echo(entries, key_fn=lambda: state[0])
    assert not echo.hits(1.0)
    assert echo.hits(1.0)
    state[0] = "b"
    assert not echo.hits(1.0)
    state[0] = []  # unhashable
    assert not echo.hits(1.0)
    assert not echo.hits(1.0)
    failing = Dispatcher(lambda args, kwargs: None, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        failing()


def test_extended_arrays(echo, array_class):
    class Dtype:
        pass

    class Aval:
        def __init__(self, dtype):
            self.dtype = dtype

    class Key(array_class):
        __slots__ = ()

    words = np.zeros((3, 2), np.uint32)
    first, second = Dtype(), Dtype()
    calls = [
        array_class(words),
        array_class(words, aval=Aval(first), extended=1),
        array_class(words, aval=Aval(second), extended=1),
        Key(words, aval=Aval(first), extended=1),
        Key(words),
    ]
    for call in calls:
        assert not echo.hits(call)
    for call in calls:
        assert echo.hits(call)
    assert echo.hits(array_class(words, aval=Aval(first), extended=1))


def test_static_arguments(entries, array_class):
    entry = entries.llvm(NOTHING)
    x = array_class(np.ones(3, np.float32))
    seen = []

    def fall_back(args, kwargs):
        seen.append((args[1:], kwargs))
        executable = Executable(entry, None, [spec_of(x)], [])
        return dispatcher.insert(args, kwargs, executable, ())

    dispatcher = Dispatcher(fall_back, static_argnums=[1, 2], static_argnames=["mode", "scale"])
    variants = [
        ((1, "a"), {}),
        ((1.0, "a"), {}),
        ((True, "a"), {}),
        ((2, "a"), {}),
        ((1, "b"), {}),
        ((), {"mode": "a"}),
        ((), {"mode": "b"}),
        ((), {"scale": "a"}),
        ((), {"scale": 1, "mode": (1, 2)}),
        ((len,), {}),
    ]
    for args, kwargs in variants:
        dispatcher(x, *args, **kwargs)
    assert len(seen) == len(variants)
    for args, kwargs in variants:
        dispatcher(x, *args, **dict(reversed(kwargs.items())))
    assert len(seen) == len(variants)
    dispatcher(x, [1], "a")
    dispatcher(x, [1], "a")
    assert len(seen) == len(variants) + 2
    assert dispatcher.size == len(variants)


class Wild:
    """Equal to its like, and does something whenever it is asked."""

    def __init__(self, action):
        self.action = action

    def __hash__(self):
        return 7

    def __eq__(self, other):
        self.action()
        return True


def test_comparisons_may_change_the_table(entries):
    executable = Executable(entries.llvm(NOTHING), None, [], [])
    calls = []

    def fall_back(args, kwargs):
        calls.append(1)
        return dispatcher.insert(args, kwargs, executable, ())

    dispatcher = Dispatcher(fall_back, static_argnums=[0])
    dispatcher(Wild(dispatcher.clear))
    assert dispatcher(Wild(lambda: None)) is True  # inserted anew
    assert dispatcher(Wild(lambda: None)) == ()
    dispatcher.clear()
    dispatcher(Wild(lambda: 1 / 0))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            dispatcher(Wild(lambda: None))


def test_outputs_are_rebuilt(entries, array_class):
    f32 = np.dtype(np.float32)
    executable = Executable(
        entries.llvm(COPY), None, [((), f32)], [((), f32, False), ((0,), f32, True)]
    )
    recipes = [
        (0, lambda a, b: a),
        (1, lambda a, b: b),
        ((0, 1), lambda a, b: (a, b)),
        ([1, 0, 1], lambda a, b: [b, a, b]),
        ({"y": 0, "x": (None, [1])}, lambda a, b: {"y": a, "x": (None, [b])}),
        (None, lambda a, b: None),
        ((), lambda a, b: ()),
        ({}, lambda a, b: {}),
        (lambda results: ("called", *results), lambda a, b: ("called", a, b)),
    ]
    for recipe, expected in recipes:
        d = Dispatcher(lambda args, kwargs: None)
        assert d.insert((1.0,), {}, executable, recipe)
        result = d(2.5)
        leaves = [x for x in float_leaves(result) if not isinstance(x, str)]
        by_weakness = {x.weak_type: x for x in leaves}
        assert same(result, expected(by_weakness.get(False), by_weakness.get(True)))
        if False in by_weakness:
            assert by_weakness[False]._value == 2.5
        if type(result) is dict:
            assert list(result) == list(recipe)


def same(a, b):
    if type(a) is not type(b):
        return False
    if type(a) in (tuple, list):
        return len(a) == len(b) and all(map(same, a, b))
    if type(a) is dict:
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    return a is b or (isinstance(a, str) and a == b)


def test_insertion_is_checked(entries):
    f32 = np.dtype(np.float32)
    executable = Executable(entries.llvm(COPY), None, [((), f32)], [((), f32, False)])
    d = Dispatcher(lambda args, kwargs: None)
    deep = 0
    for _ in range(100):
        deep = (deep,)
    for arguments in [
        (),
        ([1.0], {}, executable, 0),
        ((1.0,), [], executable, 0),
        ((1.0,), {}, len, 0),
        ((1.0,), {}, executable, 1),
        ((1.0,), {}, executable, -1),
        ((1.0,), {}, executable, "x"),
        ((1.0,), {}, executable, 0.0),
        ((1.0,), {}, executable, True),
        ((1.0,), {}, executable, (0, "x")),
        ((1.0,), {}, executable, {"a": [object()]}),
        ((1.0,), {}, executable, deep),
        ((1.0,), {}, executable, 1 << 100),
        ((1.0, 2.0), {}, executable, 0),
        ((), {}, executable, 0),
        ((1.0,), {}, executable, 0, [1]),
        ((1.0,), {}, executable, 0, [-1]),
        ((1.0,), {}, executable, 0, [0, 0]),
        ((1.0,), {}, executable, 0, ["x"]),
        ((1.0,), {}, executable, 0, 3),
    ]:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            d.insert(*arguments)
    assert d.size == 0
    for arguments in [(), (3,), (len, 3), (len, None, 1)]:
        with pytest.raises(TypeError):
            Dispatcher(*arguments)
    for options in [
        {"static_argnums": [64]},
        {"static_argnums": [-1]},
        {"static_argnums": 3},
        {"static_argnums": ["x"]},
        {"static_argnames": [[]]},
        {"static_argnames": 3},
        {"capacity": 0},
        {"nonsense": 1},
    ]:
        with pytest.raises((TypeError, ValueError)):
            Dispatcher(len, **options)


def test_errors_reach_the_caller(entries, array_class):
    f32 = np.dtype(np.float32)
    executable = Executable(entries.llvm(COPY), None, [((), f32)], [((), f32, False)])
    d = Dispatcher(lambda args, kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        d(1.0)
    d.insert((1.0,), {}, executable, lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        d(1.0)
    d.insert((1,), {}, executable, 0)
    with pytest.raises(TypeError, match="argument 0"):
        d(1)


def test_a_signature_is_replaced_by_its_like(entries):
    f32 = np.dtype(np.float32)
    executable = Executable(entries.llvm(COPY), None, [((), f32)], [((), f32, False)])
    d = Dispatcher(lambda args, kwargs: None)
    d.insert((1.0,), {}, executable, 0)
    d.insert((1.0,), {}, executable, (0,))
    assert d.size == 1
    assert type(d(1.0)) is tuple


def test_the_table_is_bounded(entries):
    echo = Echo(entries, capacity=100)
    for n in range(1000):
        echo.hits(np.zeros((n, 0), np.float32))
        assert 0 < echo.dispatcher.size <= 100
    assert echo.hits(np.zeros((999, 0), np.float32))
    echo.dispatcher.clear()
    assert echo.dispatcher.size == 0
    assert not echo.hits(np.zeros((999, 0), np.float32))


def test_many_signatures_are_told_apart(entries):
    echo = Echo(entries)
    shapes = [(a, b, 0) for a in range(30) for b in range(30)]
    for shape in shapes:
        assert not echo.hits(np.zeros(shape, np.float32))
    for shape in shapes:
        assert echo.hits(np.zeros(shape, np.float32))
    assert (echo.dispatcher.size, echo.dispatcher.hits) == (900, 900)


def test_many_leaves(entries, array_class):
    n = 500
    spec = ((8,), np.dtype(np.float32))
    executable = Executable(entries.llvm(NOTHING), None, [spec] * n, [spec + (False,)] * n)
    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, executable, list(range(n))))
    xs = [array_class(np.ones(8, np.float32)) for _ in range(n)]
    assert d(*xs) is True
    assert len(d(*xs)) == n
    assert d(xs) is True
    assert len(d(xs)) == n


def test_the_narrow_types_are_made_without_warnings(entries):
    f32 = np.dtype(np.float32)
    executable = Executable(entries.llvm(COPY), None, [((3,), f32)], [((), f32, False)])
    d = Dispatcher(lambda args, kwargs: d.insert(args, kwargs, executable, 0))
    x = np.array([1e300, 0, 0])
    for value in (x, x.astype(">f8"), np.stack([x, x])[:, ::1][0], np.stack([x, x], 1)[:, 0]):
        d(value)
        assert d(value)._value == np.inf
    with pytest.raises(TypeError, match="float32"):
        executable(x)


def test_it_behaves_like_a_function(entries):
    def f(x):
        """Its documentation."""

    d = functools.wraps(f)(Dispatcher(lambda args, kwargs: (args, kwargs)))
    assert (d.__name__, d.__doc__, d.__wrapped__) == ("f", "Its documentation.", f)
    assert str(inspect.signature(d)) == "(x)"
    d.anything = 3
    assert d.anything == 3
    assert callable(d)
    assert "compiled" in repr(d)
    assert weakref.ref(d)() is d

    class Class:
        method = d

    instance = Class()
    assert instance.method(1, a=2) == ((instance, 1), {"a": 2})
    assert Class.method is d


def test_subclasses():
    class Function(Dispatcher):
        def __new__(cls, name):
            self = super().__new__(cls, lambda args, kwargs: (name, args, kwargs))
            self.name = name
            return self

        def extra(self):
            return self(1)

    f = Function("f")
    assert f(2, x=3) == ("f", (2,), {"x": 3})
    assert f.extra() == ("f", (1,), {})
    assert f.name == "f"
