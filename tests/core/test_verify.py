import numpy as np
import pytest
from hypothesis import given

from covector.core import dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.effects import IO
from covector.core.errors import VerificationError
from covector.core.parsing import parse
from covector.core.primitive import Primitive
from covector.core.program import Equation, Literal, Program, Variable
from covector.core.source import SourceLocation
from covector.core.verify import verify
from covector.ops.registry import load_all
from covector.testing.programs import programs

f32 = dtypes.float32


def variable(*shape, dtype=f32, weak=False):
    return Variable(Aval(shape, dtype, weak))


@pytest.fixture
def good(first, every, effectful):
    """A program that verifies, with a nested one."""
    return parse("""
        program good(a: f32[3], b: i32[]) {
          c: f32[3] = test_first a 2.0:f32[]
          d: f32[3], _: i32[] = test_all[
            program=program (f: f32[3]) {
              g: f32[3] = test_first f
              test_effect[effect='io'] !io
            } -> g,
          ] c b  # model.py:7 (step)
        } -> d, 1:i32[]
    """)


def broken(program, index, **changes):
    """The program with one equation changed."""
    equations = list(program.equations)
    equations[index] = equations[index].replace(**changes)
    return program.replace(equations=equations)


def test_good_programs_verify(good):
    verify(good)


@given(program=programs())
def test_random_programs_verify(program):
    verify(program)


def test_weak_types_may_differ(good):
    weak = variable(3, weak=True)
    verify(Program([a := variable(3)], [good.equations[0].replace(inputs=[a], outputs=[weak])], []))


def test_undefined_operand(good):
    program = broken(good, 1, inputs=[variable(3), good.inputs[1]])
    with pytest.raises(VerificationError, match="defined before it is used") as caught:
        verify(program)
    message = str(caught.value)
    assert "operand 0 is not" in message
    assert "in program good" in message
    assert "c: f32[3], _: i32[] = test_all[" in message
    assert "at: model.py:7 (step)" in message


def test_use_before_definition(good):
    with pytest.raises(VerificationError, match="defined before it is used"):
        verify(good.replace(equations=good.equations[::-1]))


def test_use_of_an_outer_variable(good):
    nested = good.equations[1].params["program"]
    leaking = broken(nested, 0, inputs=[good.inputs[0]])
    with pytest.raises(VerificationError, match="defined before it is used"):
        verify(broken(good, 1, params={"program": leaking}))


def test_own_output_as_operand(good):
    equation = good.equations[0]
    with pytest.raises(VerificationError, match="defined before it is used"):
        verify(broken(good, 0, inputs=equation.outputs))


def test_undefined_output(good):
    with pytest.raises(VerificationError, match="output 0 is not"):
        verify(good.replace(outputs=[variable()]))


def test_variable_defined_twice(good):
    with pytest.raises(VerificationError, match="defined once"):
        verify(broken(good, 1, outputs=[good.inputs[0], *good.equations[1].outputs[1:]]))
    with pytest.raises(VerificationError, match="another input defines it"):
        verify(Program([good.inputs[0]] * 2, [], []))


def test_output_of_another_aval(good):
    with pytest.raises(VerificationError, match=r"says that output 0 is f32\[3\]") as caught:
        verify(broken(good, 0, outputs=[variable(4)]))
    assert "found: f32[4]" in str(caught.value)
    with pytest.raises(VerificationError, match=r"output 0 is f32\[3\]"):
        verify(broken(good, 0, outputs=[variable(3, dtype=dtypes.int32)]))


def test_wrong_number_of_outputs(good):
    with pytest.raises(VerificationError, match="gives 2 outputs"):
        verify(broken(good, 1, outputs=good.equations[1].outputs[:1]))


def test_operands_that_the_shape_rule_refuses(good):
    with pytest.raises(VerificationError, match="shape rule of test_first accepts") as caught:
        verify(broken(good, 0, inputs=[]))
    assert isinstance(caught.value.__cause__, IndexError)


def test_effects_that_are_not_the_primitives_own(good):
    with pytest.raises(VerificationError, match="effects"):
        verify(broken(good, 0, effects=frozenset({IO})))
    nested = good.equations[1].params["program"]
    silent = broken(nested, 1, effects=frozenset())
    with pytest.raises(VerificationError, match=r"effects.*\['io'\]"):
        verify(broken(good, 1, params={"program": silent}))


def test_literal_whose_value_is_not_what_it_says(good):
    data = np.zeros((3,), np.float32)
    wrong = Literal(Array.of(data, Aval((3,), f32)), Aval((4,), f32))
    with pytest.raises(VerificationError, match=r"operand 0 has the aval f32\[4\]"):
        verify(broken(good, 0, inputs=[wrong]))
    with pytest.raises(VerificationError, match="holds an Array"):
        verify(broken(good, 0, inputs=[Literal(data, Aval((3,), f32))]))


def test_things_that_are_no_atoms(good):
    with pytest.raises(VerificationError, match="a variable or a literal"):
        verify(broken(good, 0, inputs=[3.0]))
    with pytest.raises(VerificationError, match="is a variable"):
        verify(broken(good, 0, outputs=["c"]))


def test_unregistered_primitive(good, first):
    stranger = object.__new__(Primitive)
    for name in Primitive.__slots__:
        setattr(stranger, name, getattr(first, name))
    with pytest.raises(VerificationError, match="registered under its name"):
        verify(broken(good, 0, primitive=stranger))


def test_shared_programs_are_verified_once(good, first):
    calls = []
    original = first.shape
    program = good
    for _ in range(40):
        a, b = variable(), variable()
        equation = Equation(first, [a], [b], {"f": program, "g": program})
        program = Program([a], [equation], [b])
    first.shape = lambda *avals, **params: calls.append(1) or original(*avals)
    try:
        verify(program)
    finally:
        first.shape = original
    assert len(calls) == 42


def test_the_line_of_the_user_is_shown(good):
    location = SourceLocation("here.py", 3, "f")
    with pytest.raises(VerificationError, match=r"at: here.py:3 \(f\)"):
        verify(broken(good, 0, inputs=[], frame=location))


# --- signatures of nested programs ----------------------------------------------------------------

LOOP = """
program (a: f32[3], b: i32[]) {
  c: i32[], d: f32[3] = while[
    cond_program=program (e: i32[], f: f32[3]) {
      g: bool[] = lt e 3:i32[]
    } -> g,
    cond_nconsts=0,
    body_program=program (h: i32[], i: f32[3]) {
      j: i32[] = add h 1:i32[]
      k: f32[3] = sin i
    } -> j, k,
    body_nconsts=0,
  ] b a
  l: f32[3], m: f32[2,3] = scan[
    program=program (n: f32[3], o: f32[]) {
      p: f32[3] = mul n o
    } -> p, n,
    num_consts=0, num_carry=1, length=2, reverse=False, unroll=1,
  ] d [1.0, 2.0]:f32[2]
  q: f32[3] = cond[
    branches=(
      program (r: f32[3]) {
      } -> r,
      program (s: f32[3]) {
        t: f32[3] = cos s
      } -> t,
    ),
  ] b l
  u: f32[3] = jit[
    program=program f(v: f32[3]) {
      w: f32[3] = neg v
    } -> w,
    name='f', inline=False,
  ] q
} -> u, m
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("} -> g,", "} -> e,", "the condition must give a bool"),
        ("} -> j, k,", "} -> k, j,", "shape rule of while"),
        ("} -> j, k,", "} -> j,", "shape rule of while"),
        ("} -> p, n,", "} -> o, n,", "shape rule of scan"),
        ("length=2", "length=3", "shape rule of scan"),
        ("} -> t,", "} -> 1.0:f32[],", "cond: branch 0 gives"),
        (
            "program (s: f32[3]) {\n        t: f32[3]",
            "program (s: f32[2]) {\n        t: f32[2]",
            "cond",
        ),
        ("] b l", "] l l", "the index must be of type i32"),
        ("} -> w,", "} -> w, v,", "gives 2 outputs"),
        ("f(v: f32[3])", "f(v: f32[3], x: f32[])", "jit: the program takes"),
    ],
)
def test_signatures_of_nested_programs(old, new, message):
    load_all()
    verify(parse(LOOP))
    changed = LOOP.replace(old, new)
    assert changed != LOOP
    with pytest.raises(VerificationError, match=message):
        verify(parse(changed))
