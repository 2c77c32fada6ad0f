"""What surrounds the stages of a compilation."""

from __future__ import annotations

import gc

import pytest

import covector as cv
from covector.core.collection import collection_paused


def test_collections_pause_and_go_on():
    assert gc.isenabled()
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_collections_go_on_after_an_error():
    with pytest.raises(ValueError, match="inside"), collection_paused():
        raise ValueError("inside")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with collection_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_compiling_leaves_the_collector_on():
    assert float(cv.jit(lambda x: x * 3.0 + 0.125)(2.0)) == 6.125
    assert gc.isenabled()
