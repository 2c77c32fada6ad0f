import contextlib
import enum
from dataclasses import dataclass
from typing import NamedTuple

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covector.core import dims, dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.params import register_param_type
from covector.core.parsing import ParseError, parse
from covector.core.printing import print_program
from covector.core.program import Equation, Literal, Program, Variable, map_subprograms
from covector.core.source import SourceLocation
from covector.testing.programs import programs


@register_param_type
class Padding(enum.Enum):
    SAME = 0
    VALID = "valid"


@register_param_type
class Numbers(NamedTuple):
    dims: tuple[int, ...]
    mode: Padding | None = None


@register_param_type
@dataclass(frozen=True)
class Window:
    size: int
    numbers: Numbers


def round_trip(program: Program, **options) -> Program:
    objects: list = []
    text = print_program(program, objects=objects, **options)
    parsed = parse(text, objects)
    assert print_program(parsed, **options) == text
    return parsed


def param_after_round_trip(program):
    return round_trip(program).equations[0].params["value"]


def aval(*shape, dtype=np.float32, weak=False):
    return Aval(shape, np.dtype(dtype), weak)


def literal(values, dtype=np.float32, weak=False):
    data = np.array(values, dtype)
    kind = Aval(data.shape, data.dtype, weak)
    return Literal(Array.of(data, kind), kind)


n, m = dims.symbol("n"), dims.symbol("m")

PARAMS = [
    0,
    -3,
    10**30,
    True,
    None,
    1.5,
    1e-300,
    -0.0,
    float("inf"),
    -float("inf"),
    1 + 2j,
    "",
    'it\'s "quoted"\n\tand # not a comment ]',
    "ünïcode",
    b"\x00bytes'",
    (),
    (1,),
    (1, 2),
    ((0,), ((), (3,))),
    [],
    [1, [2, 3]],
    {},
    {"a": 1, (1, 2): {"b": None}},
    dtypes.float32,
    dtypes.bfloat16,
    dtypes.float0,
    dtypes.key_fry,
    (dtypes.int32, dtypes.bool_),
    np.float32(0.1),
    np.int64(3),
    np.bool_(True),
    ml_dtypes.bfloat16(1.5),
    np.complex64(1 - 2j),
    n,
    2 * n + 1,
    -n,
    (n, 3),
    (n // 2,),
    (n // 2 * 3, m),
    ((n + 1) // 2, (n + 1) // 2 * m),
    (dims.maximum(n, m), n * m - 2, n**2),
    aval(3, 4),
    aval(weak=True),
    Aval((n, 2), dtypes.key_fry),
    Padding.SAME,
    Numbers((1, 2)),
    (Padding.VALID, [Window(3, Numbers((), Padding.SAME))]),
]


@pytest.mark.parametrize("value", PARAMS, ids=repr)
def test_param_round_trip(with_param, value):
    found = param_after_round_trip(with_param(value))
    assert found == value
    assert type(found) is type(value)
    assert repr(found) == repr(value)  # the sign of zero, the order of dicts, nested types


def test_nan_param(with_param):
    assert np.isnan(param_after_round_trip(with_param(float("nan"))))


def test_primitive_param(with_param, every):
    assert param_after_round_trip(with_param((every, None)))[0] is every


def test_opaque_params_come_from_the_objects(with_param):
    def callback(x):
        return x

    array = np.arange(3)
    program = with_param([callback, {"x": array}, callback])
    objects: list = []
    text = print_program(program, objects=objects)
    assert "<callable test_opaque_params_come_from_the_objects.locals.callback #0>" in text
    assert len(objects) == 2
    found = parse(text, objects).equations[0].params["value"]
    assert found[0] is found[2] is callback
    assert found[1]["x"] is array
    with pytest.raises(ParseError, match="pass it in `objects`"):
        parse(text)


def test_nested_programs_in_containers(with_param):
    def identity(name):
        a = Variable(aval(2))
        return Program([a], [], [a, literal(1.0)], name)

    value = ({"f": identity("f"), "g": [identity("g"), 3]}, (identity(""), identity("h")), "x")
    program = with_param(value)
    found = round_trip(program)
    assert found.key() == program.key()
    assert found.equations[0].params["value"][0]["g"][0].name == "g"


def test_shared_programs_stay_shared(with_param, first):
    a, b = Variable(aval()), Variable(aval())
    inner = with_param(7)
    middle = Program([a], [Equation(first, [a], [b], {"f": inner, "g": inner})], [b], "f-g")
    outer = with_param((middle, middle))
    text = print_program(outer)
    assert text.count("value=7") == 1
    first, second = param_after_round_trip(outer)
    assert first is second
    assert first.name == "f-g"
    assert first.equations[0].params["f"] is first.equations[0].params["g"]


def test_doubly_nested_sharing_prints_in_linear_size(with_param):
    program = with_param(0)
    for _ in range(60):
        program = with_param((program, program))
    assert len(print_program(program)) < 20_000
    assert round_trip(program).equations[0].params["value"][0].name == ""


@pytest.mark.parametrize("dtype", sorted(dtypes.ARRAY_DTYPES, key=str), ids=str)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (0, 2), (4, 5), (1, 1, 1)], ids=str)
def test_literals(dtype, shape):
    values = np.random.default_rng(0).integers(0, 2, shape) * 3
    program = Program([], [], [literal(values.astype(dtype), dtype)])
    found = round_trip(program).outputs[0]
    assert found.aval == program.outputs[0].aval
    np.testing.assert_array_equal(found.value._value, program.outputs[0].value._value)
    assert found.value._value.dtype == dtype


def test_literals_of_keys_float0_and_weak_types():
    words = np.array([1, 2], np.uint32)
    key = Aval((), dtypes.key_fry)
    void = Aval((2,), dtypes.float0)
    outputs = [
        Literal(Array.of(words, key), key),
        Literal(Array.of(np.zeros(2, dtypes.float0), void), void),
        literal(2.0, weak=True),
    ]
    found = round_trip(Program([], [], outputs)).outputs
    assert [a.aval for a in found] == [key, void, aval(weak=True)]
    assert found[0].value._value.tolist() == [1, 2]
    assert found[2].value.weak_type


def test_an_array_used_twice_stays_one_object(first):
    small, large = literal([1.0, 2.0]), literal(np.arange(30.0))
    again = Literal(small.value, small.aval)
    variables = [Variable(aval(2)), Variable(aval(30))]
    equations = [
        Equation(first, [small, again], [variables[0]], {}),
        Equation(first, [large, large], [variables[1]], {}),
    ]
    program = Program([], equations, [again, large])
    found = round_trip(program)
    (a, b), (c, d) = (e.inputs for e in found.equations)
    assert a.value is b.value is found.outputs[0].value
    assert c.value is d.value is found.outputs[1].value


def test_sources_and_scopes_are_read_back(with_param):
    program = with_param(1)
    equation = program.equations[0]
    for location, scope in [
        (SourceLocation("/a b/it's.py", 12, "f.<locals>.<lambda>"), "outer/inner"),
        (SourceLocation("<stdin>", 1, "<module>"), ""),
        (None, "a 'scope' at x#y.py 3 in f"),
        (None, ""),
    ]:
        changed = program.replace(equations=[equation.replace(frame=location, scope=scope)])
        found = round_trip(changed, source=True).equations[0]
        assert (found.location, found.scope) == (location, scope)


def test_effects_are_read_back(effectful):
    program = parse("program () {\n  test_effect[effect='ordered_io'] !ordered_io\n} ->")
    assert [e.name for e in program.effects] == ["ordered_io"]
    round_trip(program)


def test_text_without_array_data_is_refused():
    text = print_program(Program([], [], [literal(np.arange(20.0))]), arrays=False)
    assert "@0: f32[20] = ..." in text
    with pytest.raises(ParseError, match="without the data"):
        parse(text)


@pytest.mark.usefixtures("first")
def test_array_literals_are_told_from_parameters():
    program = parse("program () {\n  a: f32[2] = test_first [1.0, 2.0]:f32[2]\n} -> a")
    assert program.equations[0].params == {}
    assert round_trip(program).equations[0].inputs[0].aval == aval(2)


def test_comments_and_blank_lines_are_skipped():
    text = """
    # a program
    program f(a: f32[],
              b: f32[]) {   # its inputs

      # nothing happens here
    } -> b, 1.0:f32[]  # done
    """
    program = parse(text)
    assert program.name == "f"
    assert program.outputs[0] is program.inputs[1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected 'program'; found the end of the text"),
        ("program (a: f32[3] {\n} -> a", r"line 1: expected ',' or '\)'; found '{'"),
        ("program (a: f33[3]) {\n} -> a", r"no dtype is called 'f33'"),
        ("program (a: f32[3]) {\n} -> b", "line 2: b is not defined; found 'b'"),
        ("program (a: f32[], a: f32[]) {\n} -> a", "a is defined twice"),
        ("program () {\n  a: f32[] = no_such 1.0:f32[]\n} -> a", "there is no primitive no_such"),
        ("program () {\n  a: f32[] = test_first[x=] a\n} -> a", "the value of a parameter"),
        ("program () {\n  a: f32[] = test_first[x=(1 2)] a\n} -> a", r"expected ',' or '\)'"),
        ("program () {\n  a: f32[] = test_first[x=2*] a\n} -> a", "as a dimension"),
        ("program () {\n  a: f32[] = test_first 1.0:f32[] ]\n} -> a", "the end of the equation"),
        ("program () {\n  test_effect !loud\n} ->", "effects are debug, io, ordered_debug"),
        ("program () {\n} -> [1.0, 2.0]:f32[3]", r"not the elements of f32\[3\]"),
        ("program () {\n} -> [1.5, 2]:i32[2]", "1.5 is not a number of dtype int32"),
        ("program () {\n} -> @0:f32[3]", "@0 is used, but not defined"),
        (
            "program () {\n} -> @0:f32[2]\nwhere\n  @0: f32[2] = base64('AAAA')",
            r"not the data of f32\[2\]",
        ),
        ("program () {\n} ->\n]", "expected the end of the program"),
        ("program (a: f32[n + ]) {\n} -> a", "as a dimension"),
        ("program () {\n  a: f32[] = test_first[x=Padding.FULL] a\n} -> a", "has no member 'FULL'"),
        ("program () {\n  a: f32[] = test_first[x=Numbers(a=1)] a\n} -> a", "unexpected keyword"),
    ],
)
@pytest.mark.usefixtures("first", "effectful")
def test_errors_show_the_line(text, message):
    with pytest.raises(ParseError, match=message) as caught:
        parse(text)
    assert "\n" in str(caught.value)


@given(program=programs())
def test_random_programs_round_trip(program):
    parsed = round_trip(program)
    assert with_equal_arrays(parsed).key() == with_equal_arrays(program).key()


def with_equal_arrays(program: Program) -> Program:
    """The program with one object for equal array literals: keys go by their identity."""
    equations = [
        e.replace(
            inputs=[_unified(a) for a in e.inputs],
            params=map_subprograms(e.params, with_equal_arrays),
        )
        for e in program.equations
    ]
    return program.replace(equations=equations, outputs=[_unified(a) for a in program.outputs])


_arrays: dict = {}


def _unified(atom):
    if not isinstance(atom, Literal):
        return atom
    key = (atom.aval, atom.value._value.tobytes())
    return Literal(_arrays.setdefault(key, atom.value), atom.aval)


@given(text=st.text(alphabet="program(a: f32[3]){}->@0\n=,'#!where~<>", max_size=60))
def test_any_text_parses_or_raises_a_parse_error(text):
    with contextlib.suppress(ParseError):
        parse(text)
