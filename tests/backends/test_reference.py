import numpy as np
import pytest

from covector.core import backend
from covector.core.backend import Options
from covector.core.parsing import parse

TEXT = """
program scaled(a: f32[n], b: f32[]) {
  c: f32[n] = mul a b
} -> c, 2:i32[]
"""


@pytest.fixture
def executable():
    return backend.get_backend("reference").compile(parse(TEXT), Options())


def test_results_are_arrays_with_concrete_shapes(executable):
    scaled, two = executable(np.arange(3, dtype=np.float32), 2.0)
    assert scaled.aval.shape == (3,)
    assert str(scaled.aval) == "f32[3]"
    assert np.asarray(scaled).tolist() == [0, 2, 4]
    assert int(two) == 2


def test_results_keep_weak_types_and_key_dtypes():
    program = parse("program (a: key<fry>[]) {\n} -> a, 1.0:~f32[]")
    from covector.core.array import Array

    key = Array.of(np.zeros(2, np.uint32), program.input_avals[0])
    same, one = backend.get_backend("reference").compile(program, Options())(key)
    assert str(same.aval) == "key<fry>[]"
    assert one.weak_type


def test_text_has_one_stage(executable):
    assert executable.as_text() == executable.as_text("program") == TEXT.strip()
    with pytest.raises(ValueError, match="has the stage 'program', not 'llvm'"):
        executable.as_text("llvm")


def test_cost_counts_equations_and_bytes():
    text = "program (a: f32[3]) {\n  b: f32[3] = neg a\n} -> b"
    cost = backend.get_backend("reference").compile(parse(text), Options()).cost()
    assert (cost["equations"], cost["bytes"], cost["flops"]) == (1, 24, 3)


def test_repr_names_the_program(executable):
    assert repr(executable) == "<interpreted program scaled>"
