"""Primitives that accept anything, to test what handles programs without minding their meaning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.effects import BY_NAME
from covector.core.primitive import REGISTRY, Primitive, unsupported
from covector.core.program import Equation, Program, Variable

NO_RULE = unsupported("it exists for tests only")


@contextmanager
def _anything(name: str, **rules: Any) -> Iterator[Primitive]:
    """A primitive with some rules, registered within the block only."""
    every = dict.fromkeys(("evaluate", "jvp", "transpose", "batch", "lanes", "lower"), NO_RULE)
    yield Primitive(name, **(every | rules))
    del REGISTRY[name]


@pytest.fixture
def first() -> Iterator[Primitive]:
    """`test_first` returns its first operand, takes any parameters."""
    with _anything(
        "test_first",
        shape=lambda *avals, **params: avals[0],
        evaluate=lambda *args, **params: args[0],
    ) as primitive:
        yield primitive


@pytest.fixture
def every() -> Iterator[Primitive]:
    """`test_all` returns all its operands, takes any parameters."""
    with _anything(
        "test_all",
        shape=lambda *avals, **params: list(avals),
        evaluate=lambda *args, **params: list(args),
        multiple_results=True,
    ) as primitive:
        yield primitive


@pytest.fixture
def effectful() -> Iterator[Primitive]:
    """`test_effect` returns nothing; it has the effect that its parameter names."""
    with _anything(
        "test_effect",
        shape=lambda *avals, **params: [],
        evaluate=lambda *args, **params: [],
        effects=lambda effect: frozenset({BY_NAME[effect]}),
        multiple_results=True,
    ) as primitive:
        yield primitive


@pytest.fixture
def with_param(first: Primitive) -> Callable[[Any], Program]:
    """Makes programs of one equation that has a parameter `value`."""

    def make(value: Any) -> Program:
        a, b = Variable(Aval((), dtypes.float32)), Variable(Aval((), dtypes.float32))
        return Program([a], [Equation(first, [a], [b], {"value": value})], [b])

    return make
