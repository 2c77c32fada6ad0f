"""Every operation of the table, and programs of all kinds, are the same after they were sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from covector.core import backend as backends
from covector.core.backend import Options, get_backend, register_backend
from covector.core.program import Program
from covector.export import programs, wire
from covector.testing import conformance


class Sending:
    """Runs what is left of a program when it was written and read."""

    name = "sending"

    def compile(self, program: Program, options: Options) -> Any:
        data = wire.packed(programs.write(program))
        again = programs.read(wire.unpacked(data, programs.SECTIONS)[0])
        assert again.as_text().replace("_Loaded", "") == program.as_text()
        return get_backend("reference").compile(again, options)


@pytest.fixture(autouse=True)
def _sending() -> Iterator[None]:
    register_backend("sending", Sending)
    yield
    backends._factories.pop("sending")
    backends._backends.pop("sending", None)


@pytest.mark.parametrize(
    "family",
    ["conv", "fft", "index", "linalg", "random", "remat", "loops", "while", "branches", "nested",
     "vmap", "grad", "scan gradients", "sizes and types", "sizes at run time", "random programs"],
)  # fmt: skip
def test_programs_are_the_same_after_they_were_sent(family: str) -> None:
    report = conformance("sending", [family])
    assert report.ok, str(report)
    assert not report.missing


def test_elementwise_operations() -> None:
    report = conformance("sending", ["elementwise"], only=lambda name: name[0] in "acs")
    assert report.ok, str(report)
