"""Reductions of few elements: loops where they read memory, code spelled out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

import covector as cv
from covector import lax, nn
from covector import numpy as cnp
from covector.core.config import config
from covector.loopir.ir import SIMD, For, walk

GENERATOR = np.random.default_rng(5)


def array(*shape):
    return GENERATOR.normal(size=shape).astype(np.float32)


def loops(fun, *args):
    """The innermost loops: whether each runs in lanes, and its iterations."""
    function = cv.jit(fun).lower(*args).compile()._executable.scheduled().function
    found = [item for item in walk(function.body) if isinstance(item, For)]
    inner = [f for f in found if not any(isinstance(i, For) for i in walk(f.body))]
    return {(f.kind == SIMD, f.trips) for f in inner}


CASES = {
    "rows": (lambda x: x.sum(1), (array(50, 24),)),
    "columns": (lambda x: x.sum(0), (array(24, 50),)),
    "both": (lambda x: (x.sum(0), x.sum(1)), (array(32, 20),)),
    "middle": (lambda x: x.max(1), (array(7, 32, 5),)),
    "softmax": (nn.softmax, (array(40, 17),)),
    "variance": (lambda x: x.var(-1), (array(40, 31),)),
    "argmax": (lambda x: x.argmax(-1), (array(40, 20),)),
    "any": (lambda x: (x > 2).any(-1), (array(40, 20),)),
    "two axes": (lambda x: x.sum((1, 2)), (array(40, 5, 6),)),
    "an axis of one": (lambda x: x.sum((1, 2)), (array(40, 1, 20),)),
    "distances": (
        lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1),
        (array(30, 24), array(9, 24)),
    ),
    "product": (lambda x, y: x @ y, (array(60, 24), array(24, 40))),
    "far apart": (lambda x, y: (x[:, :, None] * y).sum(1), (array(60, 24), array(24, 40))),
    "complex": (lambda x: (x * 1j).sum(1), (array(30, 20),)),
    "integers": (lambda x: x.astype("int32").sum(1), (array(30, 20) * 9,)),
    "in a loop": (lambda x: lax.map(lambda y: (y * y[0]).sum(), x), (array(30, 20),)),
    "in lanes": (
        cv.vmap(lambda x: lax.scan(lambda c, y: (c + y.sum(), c), 0.0, x)),
        (array(9, 4, 20),),
    ),
    "gradient": (cv.grad(lambda x: nn.softmax(x)[:, 0].sum()), (array(30, 20),)),
}


@pytest.mark.parametrize("sizes", ["fixed", "run time"])
@pytest.mark.parametrize("name", CASES)
def test_results(name, sizes):
    fun, args = CASES[name]
    expected = cv.tree.leaves(cv.jit(fun, backend="reference")(*args))
    fixed = {"run_time_sizes"} if sizes == "fixed" else set()
    for disabled in (set(), {"rolled_reductions"}, {"row_fusion"}, {"threads"}):
        with config.override("disable", frozenset(fixed | disabled)):
            found = cv.tree.leaves(cv.jit(lambda *args: fun(*args))(*args))
        for a, b in zip(found, expected, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=2e-5, atol=2e-5)


def test_they_are_loops_in_lanes():
    with config.override("disable", frozenset({"run_time_sizes"})):
        assert (True, 24) in loops(lambda x: x.sum(1), array(50, 24))
        assert (False, 24) in loops(lambda x: x.sum(0), array(24, 50))
        # The loop over columns reads neighbours; the sum inside of it would not.
        assert loops(lambda x, y: (x[:, :, None] * y).sum(1), array(60, 24), array(24, 40)) == {
            (False, 24)
        }
    with config.override("disable", frozenset({"run_time_sizes", "rolled_reductions"})):
        assert loops(lambda x: x.sum(1), array(50, 24)) == {(True, 50)}


def test_sums_over_the_rows_of_a_batch_share_a_loop():
    def columns(*rows):
        return [cnp.tanh(x).sum(0) for x in rows]

    args = [array(32, 64) for _ in range(5)]
    with config.override("disable", frozenset({"run_time_sizes"})):
        assert loops(columns, *args) == {(False, 32)}
        text = cv.jit(columns).lower(*args).compile()._executable.as_text("loopir")
        assert text.count("= load") == 5
