"""What control flow says when it is given what it cannot take."""

from __future__ import annotations

import numpy as np
import pytest

import covector.numpy as cnp
from covector.core.errors import UnexpectedTracerError
from covector.lax import control_flow as lax


def f32(value):
    return np.asarray(value, np.float32)


MESSAGES = [
    (lambda: lax.scan(3, 0.0, cnp.arange(3)), TypeError, "f must be a function, got int: 3"),
    (lambda: lax.scan(lambda c, x: c, 0.0, None, length=3), TypeError, "must be a pair"),
    (lambda: lax.scan(lambda c, x: (c, x), 0.0, f32(3)), ValueError, "leading axis to scan over"),
    (
        lambda: lax.scan(lambda c, x: (c, x), 0.0, {"a": np.ones(3), "b": np.ones(4)}),
        ValueError,
        r"different leading axis sizes: xs\['a'\]: 3, xs\['b'\]: 4",
    ),
    (
        lambda: lax.scan(lambda c, x: (c, x), 0.0, np.ones(3), length=4),
        ValueError,
        "`length` argument of 4 which disagrees with the leading axis size 3",
    ),
    (lambda: lax.scan(lambda c, x: (c, x), 0.0), ValueError, "`length` was not given"),
    (lambda: lax.scan(lambda c, x: (c, x), 0.0, length=2.5), TypeError, "length must be an int"),
    (lambda: lax.scan(lambda c, x: (c, x), 0.0, length=-1), ValueError, "must not be negative"),
    (
        lambda: lax.scan(lambda c, x: (c, x), 0.0, length=2, unroll=0),
        ValueError,
        "unroll must be a bool or a positive int, got 0",
    ),
    (
        lambda: lax.scan(
            lambda state, x: ({"a": state["a"] + x, "b": np.int32(0)}, x),
            {"a": f32(1), "b": f32(0)},
            np.ones((3, 2), np.float32),
        ),
        TypeError,
        (
            r"(?s)state\['a'\] has type f32\[\].*f32\[2\], so the shapes do not match.*"
            r"state\['b'\].*i32\[\], so the dtypes do not match;\n    start with state\['b'\] as"
        ),
    ),
    (
        lambda: lax.scan(lambda c, x: ((c, c), x), 0.0, np.ones(3)),
        TypeError,
        "(?s)same pytree structure.*c is an array, but a tuple in the output",
    ),
    (
        lambda: lax.scan(lambda c, x: ({"a": c["a"]}, x), {"a": 1.0, "b": 2.0}, np.ones(3)),
        TypeError,
        r"c is a dict with 2 children \['a'\], \['b'\], but with 1 children \['a'\]",
    ),
    (lambda: lax.scan(lambda c, x: (c, x), "no", np.ones(3)), TypeError, "str 'no'"),
    (lambda: lax.scan(lambda c, x: (c, "no"), 0.0, np.ones(3)), TypeError, "str 'no'"),
    (
        lambda: lax.while_loop(lambda x: x, lambda x: x, 0.0),
        TypeError,
        r"must return a boolean scalar, but got ~f32\[\]",
    ),
    (
        lambda: lax.while_loop(lambda x: (x < 1, x), lambda x: x, 0.0),
        TypeError,
        "must return a boolean scalar, but got pytree",
    ),
    (
        lambda: lax.while_loop(lambda val: val < 1, lambda val: np.int32(1), f32(0)),
        TypeError,
        r"while_loop body function.*\n\n  \* .* component val has type f32\[\] but .* i32",
    ),
    (lambda: lax.cond(np.ones(3), lambda: 1, lambda: 2), TypeError, "Pred must be a scalar"),
    (lambda: lax.cond("a", lambda: 1, lambda: 2), TypeError, "Pred must be a scalar, got 'a'"),
    (lambda: lax.cond(True, 1, lambda: 2), TypeError, "true_fun must be a function"),
    (
        lambda: lax.cond(True, lambda: {"a": 1}, lambda: {"a": 1.0}),
        TypeError,
        r"output\['a'\] of false_fun .* has type ~f32\[\] but that of true_fun .* ~i32\[\]",
    ),
    (
        lambda: lax.cond(True, lambda: 1, lambda: (1,)),
        TypeError,
        "the output is a tuple, but an array in the output of true_fun",
    ),
    (lambda: lax.switch(1.0, [lambda: 1, lambda: 2]), TypeError, "Index type must be an integer"),
    (lambda: lax.switch(np.ones(2, int), [lambda: 1] * 2), TypeError, "index must be scalar"),
    (lambda: lax.switch(1, []), ValueError, "Empty branch sequence"),
    (lambda: lax.map(lambda x: x, np.ones(3), batch_size=0), ValueError, "batch_size"),
    (
        lambda: lax.associative_scan(lambda a, b: a, (np.ones(3), np.ones(4))),
        ValueError,
        r"equal sizes along axis 0, got \[3, 4\]",
    ),
    (lambda: lax.associative_scan(lambda a, b: a, np.ones(3), axis=1), ValueError, "axis 1"),
    (
        lambda: lax.associative_scan(lambda a, b: a[:1], np.ones(8)),
        ValueError,
        "fn must keep shapes",
    ),
]


@pytest.mark.parametrize(("call", "error", "message"), MESSAGES)
def test_messages(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_leaks_are_found():
    kept = []

    def body(c, x):
        kept.append(c)
        return c + x, None

    lax.scan(body, 0.0, np.ones(3))
    with pytest.raises(UnexpectedTracerError, match="scan body"):
        kept[0] + 1
