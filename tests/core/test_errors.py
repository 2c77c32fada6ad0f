from __future__ import annotations

import jax
import pytest

from covector.core import errors


@pytest.mark.parametrize(
    "name",
    [
        "ConcretizationTypeError",
        "NonConcreteBooleanIndexError",
        "TracerArrayConversionError",
        "TracerBoolConversionError",
        "TracerIntegerConversionError",
        "UnexpectedTracerError",
    ],
)
def test_builtin_bases_are_those_of_jax(name):
    ours, theirs = getattr(errors, name), getattr(jax.errors, name)
    for builtin in (TypeError, IndexError, ValueError, NotImplementedError):
        assert issubclass(ours, builtin) == issubclass(theirs, builtin)
    concretization = issubclass(theirs, jax.errors.ConcretizationTypeError)
    assert issubclass(ours, errors.ConcretizationTypeError) == concretization


def test_messages_leave_out_what_is_not_known():
    assert errors.compose("asked") == "asked"
    full = errors.compose("asked", found="found", line="file.py:3", fix="do this")
    assert full == "asked\n  found: found\n  at: file.py:3\n  fix: do this"
