"""The garbage collector while programs are made."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import covector as cv
from covector.core.collection import RARE, collection_paused, collection_rare


@pytest.fixture(autouse=True)
def _usual():
    usual = gc.get_threshold()
    yield
    gc.set_threshold(*usual)


def test_paused_and_restored():
    with collection_paused():
        assert not gc.isenabled()
        with collection_paused():
            pass
        assert not gc.isenabled()
    assert gc.isenabled()


def test_rare_while_tracing_and_as_before_after():
    gc.set_threshold(500, 7, 8)
    seen = []

    def f(x):
        seen.append(gc.get_threshold())
        y = cv.jit(lambda x: x * 2)(x)
        seen.append(gc.get_threshold())
        return y

    cv.jit(f)(np.float32(1))
    assert seen == [(RARE, 7, 8)] * 2
    assert gc.get_threshold() == (500, 7, 8)
    with pytest.raises(ZeroDivisionError), collection_rare():
        raise ZeroDivisionError
    assert gc.get_threshold() == (500, 7, 8)


def test_what_users_set_stays():
    with collection_rare():
        gc.set_threshold(1234, 5, 6)
    assert gc.get_threshold() == (1234, 5, 6)
    gc.set_threshold(0)
    with collection_rare():
        assert gc.get_threshold()[0] == 0
    assert gc.get_threshold()[0] == 0


def test_cycles_made_while_tracing_are_collected():
    """A function that makes rubbish without end does not fill the memory."""

    class Node:
        pass

    def f(x):
        for _ in range(2 * RARE):
            node = Node()
            node.itself = node
        return x + 1

    def count():
        return sum([isinstance(x, Node) for x in gc.get_objects()])

    counts = []

    def g(x):
        y = f(x)
        counts.append(count())
        return y

    cv.jit(g)(np.float32(1))
    assert counts[0] <= RARE + 1000
