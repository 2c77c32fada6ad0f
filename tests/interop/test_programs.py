"""Real programs imported from JAX give what JAX gives, interpreted and compiled."""

import jax
import numpy as np
import pytest
from jax.extend.core import jaxpr_as_fun

from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes
from covector.core import backend
from covector.core.backend import Options
from covector.core.interpret import run
from covector.core.parsing import parse
from covector.core.printing import print_program
from covector.core.verify import verify
from covector.interop import from_jaxpr, missing_primitives

from .programs import CASES


def assert_close(results, expected, rtol):
    for result, wanted in zip(results, expected, strict=True):
        scale = max(1.0, float(np.max(np.abs(wanted), initial=0)))
        np.testing.assert_allclose(np.asarray(result), wanted, rtol=rtol, atol=rtol * scale)


SEPARATE = ("lorenz_rk4_vmapped", "lorenz_rk4_vmapped_gradient", "mandelbrot", "hmc_step")
"""The programs with loops over independent elements and no values that all of them share."""


def check_lanes(name, program, leaves):
    """What the lanes pass makes of a program computes the same; why, it says for each loop."""
    program = run_passes(program)
    separated, decisions = Lanes(2, 2).decide(program)
    verify(separated)
    if name in SEPARATE:
        assert all([d.lanes for d in decisions])
    assert all([d.reason for d in decisions])
    print(*decisions, sep="\n")
    assert_close(run(separated, *leaves), run(program, *leaves), 1e-6)


@pytest.mark.parametrize("name", CASES)
def test_imported_program(name):
    fn, args = CASES[name].make()
    jaxpr = jax.make_jaxpr(fn)(*args)
    assert missing_primitives(jaxpr) == []
    program = from_jaxpr(jaxpr, name)
    verify(program)

    leaves = [np.asarray(x) for x in jax.tree.leaves(args)]
    leaves = [x.astype(v.aval.dtype) for x, v in zip(leaves, program.inputs, strict=True)]
    expected = jax.jit(jaxpr_as_fun(jaxpr))(*leaves)
    assert_close(run(program, *leaves), expected, CASES[name].rtol)
    compiled = backend.get_backend("native").compile(program, Options())
    assert_close(compiled(*leaves), expected, CASES[name].rtol)

    check_lanes(name, program, leaves)

    objects: list = []
    text = print_program(program, objects=objects)
    assert print_program(parse(text, objects)) == text
