"""Symbolic dimensions against integer arithmetic."""

from __future__ import annotations

import copy
import operator
import pickle

import hypothesis.strategies as st
import pytest
from hypothesis import given

from covector.core.dims import Dim, bounds, is_symbolic, known_ge, maximum, minimum, symbol
from covector.core.errors import InconclusiveDimension
from covector.core.shapes import bind, evaluate_shape, parse_dim, parse_shape, solve

n, m, k = symbol("n"), symbol("m"), symbol("k")
NAMES = ("n", "m", "k")
sizes = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})

# Expressions as trees: a leaf is a name or a number, a node an operation.
BINARY = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "max": None,
    "min": None,
}
expressions = st.recursive(
    st.one_of(st.sampled_from(NAMES), st.integers(-4, 6)),
    lambda parts: st.tuples(st.sampled_from(sorted(BINARY)), parts, parts),
    max_leaves=6,
)


def build(expression, leaf, largest, smallest):
    if not isinstance(expression, tuple):
        return leaf[expression] if isinstance(expression, str) else expression
    op, *parts = expression
    a, b = [build(part, leaf, largest, smallest) for part in parts]
    return {"max": largest, "min": smallest}.get(op, BINARY[op])(a, b)


SYMBOLS = {name: symbol(name) for name in NAMES}


def symbolic(expression):
    """The dimension of an expression; None if it divides by zero whatever the sizes."""
    try:
        return build(expression, SYMBOLS, maximum, minimum)
    except ZeroDivisionError:
        return None


def value(dim, env):
    return dim.evaluate(env) if isinstance(dim, Dim) else dim


@given(expressions, sizes)
def test_evaluation_agrees_with_integers(expression, env):
    dim = symbolic(expression)
    try:
        expected = build(expression, env, max, min)
    except ZeroDivisionError:
        return
    if dim is not None:
        assert value(dim, env) == expected


@given(expressions)
def test_text_round_trips(expression):
    dim = symbolic(expression)
    if dim is not None:
        assert parse_dim(str(dim)) == dim
        assert parse_shape(f"3, {dim}, n") == (3, dim, n)


@given(expressions, expressions, sizes)
def test_decided_comparisons_hold(one, other, env):
    a, b = symbolic(one), symbolic(other)
    if a is None or b is None:
        return
    try:
        x, y = value(a, env), value(b, env)
    except ZeroDivisionError:
        return
    answer = known_ge(a, b)
    assert answer is None or answer == (x >= y)
    low, high = bounds(a)
    assert low is None or low <= x
    assert high is None or x <= high
    if a == b:
        assert x == y
        assert hash(a) == hash(b)


@given(expressions, expressions, sizes)
def test_substitution_is_evaluation_in_two_steps(one, other, env):
    a, b = symbolic(one), symbolic(other)
    if not isinstance(a, Dim) or b is None:
        return
    try:
        inner = value(b, env)
        expected = a.evaluate({**env, "n": inner})
        assert value(a.substitute({"n": b}), env) == expected
    except ZeroDivisionError:
        return


def test_canonical_forms():
    assert (n + 1) * 2 == 2 * n + 2
    assert (n + m) * (n - m) == n**2 - m**2
    assert n - n == 0
    assert isinstance(n - n, int)
    assert (n + 1) - n == 1
    assert (2 * n) // 2 == n
    assert (4 * n + 3) // 6 == (2 * n + 1) // 3
    assert n // 2 // 3 == n // 6
    assert (n * m + m) // m == n + 1
    assert (n * m + k) // m == n + k // m
    assert ((n + 1) * (m + 2)) // (m + 2) == n + 1
    assert n // -2 == -n // 2
    assert 4 * (n // 4) + n % 4 == n
    assert (6 * n) % 3 == 0
    assert divmod(2 * n + 1, 2) == (n, 1)
    assert 0 * n == 0
    assert 5 // (n * 0 + 2) == 2
    assert (-n) * -1 == n == +n
    assert n**0 == 1


def test_equality_is_structural():
    assert n != 3
    assert n != m
    assert n != "n"
    assert hash(n + m) == hash(m + n)
    assert {n: "size"}[symbol("n")] == "size"


def test_extrema():
    assert maximum(n, n + 1) == n + 1
    assert minimum(n, n + 1) == n
    assert maximum(n, 0) == n
    assert minimum(n, -1) == -1
    assert maximum(n, m) == maximum(m, n) == maximum(m, n, m)
    assert maximum(maximum(n, m), k) == maximum(n, maximum(m, k))
    assert str(maximum(n - 2, 0)) == "max(0, n - 2)"
    assert maximum(3, 4) == 4


def test_text():
    assert str(2 * n * m - n + 3) == "2*m*n - n + 3"
    assert str(-n) == "-n"
    assert str(n // 2) == "n//2"
    assert str(-(n // 2)) == "-(n//2)"
    assert str(3 * (n // 2) + 1) == "3*(n//2) + 1"
    assert str((n + 1) // (m * 2)) == "(n + 1)//(2*m)"
    assert str(n**2) == "n**2"
    assert repr([n]) == "[n]"


@pytest.mark.parametrize(
    "text",
    ["", "n +", "n / 2", "f(n)", "n.x", "1.5", "True", "n if m else k", "max()", "9**999", "1//0"],
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="cannot read"):
        parse_dim(text)


def test_shapes_as_text():
    assert parse_shape("") == ()
    assert parse_shape("n") == (n,)
    assert parse_shape("n, 3, max(n, m)") == (n, 3, maximum(n, m))
    assert parse_shape("(n, 2)") == (n, 2)
    assert is_symbolic((3, n))
    assert not is_symbolic((3, 4))
    assert evaluate_shape((n, 3, n * m), {"n": 2, "m": 5}) == (2, 3, 10)


def test_names():
    for bad in ("2n", "", "a b", "max"):
        with pytest.raises(ValueError, match="named by an identifier"):
            symbol(bad)


def test_ordering_where_it_is_decidable():
    assert n + 1 > n
    assert n >= 0
    assert n < n + 1
    assert n // 2 <= n
    assert n % 4 < 4
    assert n % 3 < 3
    assert maximum(n - 5, 0) >= 0
    assert minimum(n, 8) <= 8
    assert not n < 0
    assert n * m >= 0
    assert n // m >= 0
    assert bool(n + 1)
    assert bounds(n % 4) == (0, 3)


@pytest.mark.parametrize(
    "question",
    [lambda: n < 3, lambda: n >= m, lambda: bool(n), lambda: n - 1 >= 0, lambda: max(n, 5)],
)
def test_undecidable_questions_are_refused(question):
    with pytest.raises(InconclusiveDimension, match=r"depends on the value of(.|\n)*fix: "):
        question()


def test_a_symbolic_dimension_is_no_integer():
    for use in (int, range, operator.index):
        with pytest.raises(InconclusiveDimension, match="dimension n is symbolic"):
            use(n)


def test_other_operands_are_refused():
    for operation in (operator.add, operator.mul, operator.floordiv, operator.mod, operator.lt):
        with pytest.raises(TypeError):
            operation(n, 1.5)
        with pytest.raises(TypeError):
            operation(1.5, n)
    with pytest.raises(TypeError):
        n**-1
    with pytest.raises(TypeError):
        n / 2
    with pytest.raises(ZeroDivisionError):
        n // 0


def test_missing_values_are_named():
    with pytest.raises(ValueError, match=r"dimension m \+ n needs values for: m"):
        (n + m).evaluate({"n": 3})


def test_copies():
    dim = maximum(n // 2, m * 3 - 1)
    assert pickle.loads(pickle.dumps(dim)) == dim  # noqa: S301 - our own bytes
    assert copy.deepcopy(dim) == dim
    assert dim.symbols == {"n", "m"}


@given(st.lists(expressions, min_size=1, max_size=3), sizes)
def test_binding_finds_the_sizes(shape, env):
    dims = (n, m, k, *[symbolic(expression) for expression in shape])
    if None in dims:
        return
    try:
        concrete = [value(dim, env) for dim in dims]
    except ZeroDivisionError:
        return
    assert bind([("x", dims[::-1], concrete[::-1])]) == env


def test_binding_solves_linear_equations():
    arguments = [("a", (2 * n + 1, n + m), (7, 5)), ("b", (n * m, k - n), (6, 1))]
    assert bind(arguments) == {"n": 3, "m": 2, "k": 4}
    assert solve(2 * n + 1, 7) == ("n", 3)
    assert solve(2 * n + 1, 8) == ("n", None)
    assert solve(n * m, 6) is None
    assert solve(3 - n, 1) == ("n", 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([("x", (n, 3), (4, 4))], r"x should have shape \(n, 3\)(.|\n)*4 at axis 1"),
        ([("x", (n,), (4, 4))], r"x should have shape \(n\)(.|\n)*2 axes"),
        (
            [("x", (n,), (4,)), ("y", (n,), (5,))],
            r"axis 0 of y should be n, which is 4(.|\n)*5 \(n = 4 from axis 0 of x\)",
        ),
        ([("x", (2 * n,), (5,))], r"axis 0 of x should be 2\*n, for a whole number n"),
        (
            [("x", (n + 3,), (2,))],
            r"axis 0 of x should be n \+ 3, for a whole number n of at least 0",
        ),
        ([("x", (n * m,), (6,))], r"do not determine m, n(.|\n)*m\*n = 6(.|\n)*by itself"),
        ([("x", (n // 2,), (6,))], r"do not determine n"),
    ],
)
def test_binding_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        bind(arguments)
