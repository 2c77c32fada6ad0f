"""Rules of users' under every transformation and pair of transformations, and the docs' table."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.transforms import rule_table
from tests.transforms.rule_table import DEEPER, KINDS, TRANSFORMATIONS, Function, Kind

import covector as cv
import covector.numpy as cnp

DOCS = Path(__file__).parents[2] / "docs" / "custom-rules.md"
POINT = np.array([0.3, -0.7])


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    with cv.enable_x64():
        yield


@cache
def expected(twin: Function, composition: tuple[str, ...]) -> np.ndarray[Any, Any]:
    return np.asarray(rule_table.composed(twin, composition)(cnp.asarray(POINT)))


def check(kind: Kind, composition: tuple[str, ...]) -> None:
    function = rule_table.composed(kind.function, composition)
    reason = rule_table.refusal(kind, composition)
    if reason is not None:
        with pytest.raises(cv.errors.UnsupportedRuleError, match=reason):
            function(cnp.asarray(POINT))
        return
    found = np.asarray(function(cnp.asarray(POINT)))
    np.testing.assert_allclose(
        found, expected(kind.twin, composition), rtol=1e-11, atol=1e-12, err_msg=str(composition)
    )


@pytest.mark.parametrize("outer", TRANSFORMATIONS)
@pytest.mark.parametrize("kind", KINDS, ids=[k.name for k in KINDS])
def test_pairs(kind: Kind, outer: str) -> None:
    for inner in TRANSFORMATIONS:
        check(kind, (outer, inner))


@pytest.mark.parametrize("kind", KINDS, ids=[k.name for k in KINDS])
def test_alone(kind: Kind) -> None:
    for name in TRANSFORMATIONS:
        check(kind, (name,))


@pytest.mark.parametrize("composition", DEEPER, ids="-".join)
def test_deeper(composition: tuple[str, ...]) -> None:
    for kind in KINDS:
        check(kind, composition)


def test_the_docs_have_this_table() -> None:
    assert "\n".join(rule_table.rendered()) in DOCS.read_text()
