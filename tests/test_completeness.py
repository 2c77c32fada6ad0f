"""Every primitive has every rule, or says why not."""

from __future__ import annotations

import pytest

from covector.core.errors import UnsupportedRuleError
from covector.core.primitive import REGISTRY, RULES, Primitive, Unsupported
from covector.ops.registry import load_all

load_all()

ALL = sorted(REGISTRY.values(), key=lambda p: p.name)

ESSENTIAL = [
    "sin",
    "add",
    "mul",
    "select_n",
    "convert_element_type",
    "broadcast_in_dim",
    "reshape",
    "transpose",
    "concatenate",
    "pad",
    "slice",
    "rev",
    "iota",
    "reduce_sum",
    "reduce_max",
    "argmax",
    "cumsum",
    "sort",
    "top_k",
    "dot_general",
    "gather",
    "scatter",
    "scatter-add",
    "dynamic_slice",
    "dynamic_update_slice",
    "scan",
    "while",
    "cond",
    "cholesky",
    "triangular_solve",
    "pure_callback",
    "random_bits",
    "random_split",
    "threefry2x32",
]


@pytest.mark.parametrize("primitive", ALL, ids=lambda p: p.name)
@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_there_or_says_why_not(primitive: Primitive, rule: str) -> None:
    value = getattr(primitive, rule)
    assert callable(value)
    if isinstance(value, Unsupported):
        assert len(value.reason.split()) >= 3
        with pytest.raises(UnsupportedRuleError, match=primitive.name):
            value()


@pytest.mark.parametrize("primitive", ALL, ids=lambda p: p.name)
def test_every_primitive_evaluates_and_compiles(primitive: Primitive) -> None:
    for rule in ("shape", "evaluate", "lower"):
        assert not isinstance(getattr(primitive, rule), Unsupported), rule


@pytest.mark.parametrize("name", ESSENTIAL)
def test_essential_primitives_are_there(name: str) -> None:
    assert name in REGISTRY
