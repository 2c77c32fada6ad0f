"""What is said of loops that stay out of lanes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax
from covector.compiler.lanes.hints import HINTS, hint
from covector.compiler.passes.lanes import Lanes
from covector.compiler.pipeline import run_passes

SOURCE = Path(cv.__file__).parent


def decision(step: Any, x: Any) -> Any:
    def loop(x: Any) -> Any:
        return lax.scan(lambda x, _: (step(x), None), x, None, length=3)[0]

    _, (found,) = Lanes(1, 16).decide(run_passes(cv.make_program(loop)(x)))
    return found


def test_every_hint_is_for_words_that_are_used() -> None:
    places = [SOURCE / "compiler", SOURCE / "ops"]
    files = [f for p in places for f in p.rglob("*.py") if f.name != "hints.py"]
    text = " ".join([f.read_text() for f in files])
    text = " ".join(text.replace('"\n', "").split()).replace('f"', "").replace(' "', " ")
    assert [p for phrases, _ in HINTS for p in phrases if p not in text] == []


def test_a_decision_says_why_where_and_what_to_change() -> None:
    found = decision(lambda x: cnp.sin(x) + x.mean(), np.ones(40, np.float32))
    assert found.lanes == 0
    assert "uses a reduction over all lanes" in found.reason
    assert "test_lanes_hints.py" in found.loop
    assert "test_lanes_hints.py" in found.reason
    assert found.hint in str(found)
    assert "after the loop" in found.hint


def test_each_axis_has_a_reason_of_its_own() -> None:
    found = decision(lambda x: cnp.sort(x, 1) + x.mean(0), np.ones((40, 30), np.float32))
    assert "along an axis of 40: " in found.reason
    assert "along an axis of 30: sort: it sorts along the lanes" in found.reason
    assert found.hint == f"{hint(found.reason[:80])}; or {hint('sorts along the lanes')}"


def test_lanes_need_no_hint() -> None:
    assert decision(cnp.sin, np.ones(40, np.float32)).hint == ""
