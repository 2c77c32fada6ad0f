"""The examples in docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = ["config", "dims", "dtypes", "errors", "promotion", "pytree", "shapes", "treenodes"]


@pytest.mark.parametrize("name", [*MODULES, "treetools"])
def test_examples(name):
    module = importlib.import_module(f"covector.core.{name}")
    result = doctest.testmod(module)
    assert result.failed == 0
    assert result.attempted > 0
