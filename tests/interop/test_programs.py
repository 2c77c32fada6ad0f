"""Real programs imported from JAX give what JAX gives."""

import jax
import numpy as np
import pytest

from covector.core.interpret import run
from covector.core.parsing import parse
from covector.core.printing import print_program
from covector.core.verify import verify
from covector.interop import from_jaxpr, missing_primitives

from .programs import CASES


@pytest.mark.parametrize("name", CASES)
def test_imported_program(name):
    case = CASES[name]
    fn, args = case.make()
    jaxpr = jax.make_jaxpr(fn)(*args)
    assert missing_primitives(jaxpr) == []
    program = from_jaxpr(jaxpr, name)
    verify(program)
    flat = [np.asarray(x) for x in jax.tree.leaves(args)]
    flat = [x.astype(v.aval.dtype) for x, v in zip(flat, program.inputs, strict=True)]
    expected = jax.tree.leaves(jax.jit(fn)(*args))
    results = run(program, *flat)
    for result, wanted in zip(results, expected, strict=True):
        scale = max(1.0, float(np.max(np.abs(wanted), initial=0)))
        np.testing.assert_allclose(result, wanted, rtol=case.rtol, atol=case.rtol * scale)
    objects: list = []
    text = print_program(program, objects=objects)
    assert print_program(parse(text, objects)) == text
