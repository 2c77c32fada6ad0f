import textwrap
import time
import types

import numpy as np

from covector.core import dims, dtypes
from covector.core.array import Array
from covector.core.avals import Aval
from covector.core.effects import ORDERED_IO
from covector.core.parsing import parse
from covector.core.printing import print_equation, print_program, variable_names
from covector.core.program import Equation, Literal, Program, Variable
from covector.core.source import SourceLocation

f32 = dtypes.float32


def variable(*shape, dtype=f32, weak=False):
    return Variable(Aval(shape, dtype, weak))


def literal(values, dtype=f32, weak=False):
    data = np.array(values, dtype)
    aval = Aval(data.shape, dtype, weak)
    return Literal(Array.of(data, aval), aval)


def loop_program(first, every, effect):
    """Nested programs, effects, literals of all kinds, sources and a dead result."""
    n = dims.symbol("n")
    a, b, c, d, e = (variable(n, 3), variable(weak=True), *(variable(n, 3) for _ in range(3)))
    x, y, z, unused = variable(3), variable(3), variable(3), variable()
    big = literal(np.arange(20.0).reshape(4, 5))
    body = Program(
        [x, y],
        [
            Equation(first, [x, literal(2.0)], [z], {}),
            Equation(effect, [], [], {"effect": "ordered_io"}, frozenset({ORDERED_IO})),
        ],
        [z, literal([1.0, 2.0, 3.0])],
        "body",
    )
    leaf = Program([p := variable()], [], [p], "<lambda>")
    here = SourceLocation("model.py", 12, "step")
    equations = [
        Equation(first, [a], [c], {"axes": (0,), "new_dtype": f32}, frame=here, scope="net/layer"),
        Equation(every, [c, b], [d, unused], {"length": n, "program": body, "reverse": False}),
        Equation(first, [d, big], [e], {"branches": (leaf, leaf), "index": 1}),
    ]
    return Program([a, b], equations, [e, b, big], "step")


def test_golden(golden, first, every, effectful):
    program = loop_program(first, every, effectful)
    golden.check("program.txt", print_program(program) + "\n")
    golden.check("program_source.txt", print_program(program, source=True) + "\n")
    golden.check("program_str.txt", str(program) + "\n")


def test_as_text_parses_back(first, every, effectful):
    program = loop_program(first, every, effectful)
    assert parse(program.as_text()).as_text() == program.as_text()
    assert parse(program.as_text(source=True)).as_text(source=True) == program.as_text(source=True)


def test_print_equation_names_variables_as_in_the_program(first, every, effectful):
    program = loop_program(first, every, effectful)
    for equation in program.equations:
        text = print_equation(program, equation)
        assert textwrap.indent(text, "  ") in program.as_text()


def test_variable_names_follow_the_alphabet():
    names = [name for name, _ in zip(variable_names(), range(30_000), strict=False)]
    assert names[:3] == ["a", "b", "c"]
    assert names[25:28] == ["z", "aa", "ab"]
    assert len(set(names)) == len(names)
    assert not {"inf", "nan", "bool", "where"} & set(names)


def test_ill_formed_programs_print(first):
    a, b = variable(), variable()
    text = Program([], [Equation(first, [a], [b], {})], [b]).as_text()
    assert "a: f32[] = test_first ?" in text


def test_unnamed_and_oddly_named_programs():
    for name in ("", "f", "<lambda>", "jit(f).step 2", "program", "é"):
        assert parse(Program([], [], [], name).as_text()).name == name


def chain(first, length):
    values = [variable(3)]
    equations = []
    for i in range(length):
        values.append(variable(3))
        operands = [values[-2], literal(float(i))]
        equations.append(Equation(first, operands, [values[-1]], {"axes": (0,), "mode": None}))
    return Program(values[:1], equations, values[-1:], "chain")


def test_long_programs_print_fast_and_without_recursion(first):
    program = chain(first, 16_000)
    start = time.process_time()
    text = program.as_text()
    printing = time.process_time() - start
    parsed = parse(text)
    assert len(parsed.equations) == 16_000
    assert parsed.key() == program.key()
    assert printing < 1.0


def test_deep_nesting_prints_and_parses(with_param):
    program = with_param(0)
    for _ in range(50):
        program = with_param(program)
    assert parse(program.as_text()).key() == program.key()


def test_objects_keep_their_numbers(with_param):
    objects = [len]
    program = with_param((types.SimpleNamespace(), len))
    text = print_program(program, objects=objects)
    assert "<object SimpleNamespace #1>, <callable len #0>" in text
