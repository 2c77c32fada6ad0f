"""Symbolic dimensions: integer polynomials over named sizes.

A dimension of a shape is an `int`, or a `Dim` when the size is known only at run time. Sizes are at
least 0. Every `Dim` is kept in a canonical form, so that equality is structural: `(n + 1) * 2` and
`2*n + 2` are equal, `n == 3` is False. What depends on the values of the symbols is not guessed:
`n < 3` raises `InconclusiveDimension`.

A term is a coefficient times powers of atoms; an atom is a symbol, a floor division, or a maximum
or minimum that did not resolve. `a % b` is `a - b*(a//b)`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from functools import reduce
from math import gcd
from typing import Any, SupportsIndex

from covector.core.errors import InconclusiveDimension, compose


class Composite:
    """An atom that is not a symbol: an operation on dimensions that has no polynomial form."""

    __slots__ = ("_hash", "op", "operands", "text")

    def __init__(self, op: str, operands: tuple[DimSize, ...]) -> None:
        self.op = op
        self.operands = operands
        if op == "//":
            self.text = f"{_in_product(operands[0])}//{_in_divisor(operands[1])}"
        else:
            self.text = f"{op}({', '.join(map(str, operands))})"
        self._hash = hash((op, operands))

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Composite)
            and self._hash == other._hash
            and self.op == other.op
            and self.operands == other.operands
        )

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[Any, ...]:
        return (Composite, (self.op, self.operands))


Atom = str | Composite
Monomial = tuple[tuple[Atom, int], ...]
"""Atoms with their powers, in the order of their texts; empty for the constant term."""


class Dim:
    """A size known only at run time: an integer polynomial over named sizes.

    Make one with `symbol` or `shapes.parse_dim`; arithmetic with ints and other dims gives a `Dim`,
    or an `int` when the symbols cancel.

    Example:
        >>> n = symbol("n")
        >>> 2 * (n + 1) - n, (n + 1) - n
        (n + 2, 1)
    """

    __slots__ = ("_hash", "_text", "terms")

    def __init__(self, terms: tuple[tuple[Monomial, int], ...]) -> None:
        self.terms = terms
        self._hash = hash(terms)
        self._text = ""

    @property
    def symbols(self) -> frozenset[str]:
        """The names it depends on."""
        names: set[str] = set()
        for monomial, _ in self.terms:
            for atom, _ in monomial:
                if isinstance(atom, str):
                    names.add(atom)
                else:
                    names.update(*[d.symbols for d in atom.operands if isinstance(d, Dim)])
        return frozenset(names)

    def substitute(self, values: Mapping[str, DimSize]) -> DimSize:
        """The dimension with sizes or other dims in place of some symbols."""
        result: DimSize = 0
        for monomial, coefficient in self.terms:
            term: DimSize = coefficient
            for atom, power in monomial:
                term = term * _substitute_atom(atom, values) ** power
            result = result + term
        return result

    def evaluate(self, values: Mapping[str, int]) -> int:
        """The size for given values of all symbols.

        Raises:
            ValueError: a symbol has no value.
        """
        result = self.substitute(values)
        if isinstance(result, Dim):
            missing = ", ".join(sorted(result.symbols))
            raise ValueError(f"dimension {self} needs values for: {missing}")
        return result

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Dim) and self._hash == other._hash and self.terms == other.terms
        )

    def __hash__(self) -> int:
        return self._hash

    def __str__(self) -> str:
        if not self._text:
            self._text = _text_of(self.terms)
        return self._text

    def __repr__(self) -> str:
        return str(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return (Dim, (self.terms,))

    # ---- arithmetic

    def __add__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else _add(self, right, 1)

    __radd__ = __add__

    def __sub__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else _add(self, right, -1)

    def __rsub__(self, other: DimLike) -> Any:
        left = _operand(other)
        return NotImplemented if left is None else _add(left, self, -1)

    def __mul__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else _multiply(self, right)

    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return _multiply(self, -1)

    def __pos__(self) -> Dim:
        return self

    def __pow__(self, power: int) -> Any:
        if not isinstance(power, int) or power < 0:  # pyright: ignore[reportUnnecessaryIsInstance]
            return NotImplemented
        result: DimSize = 1
        for _ in range(power):
            result = _multiply(result, self)
        return result

    def __floordiv__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else _floordiv(self, right)

    def __rfloordiv__(self, other: DimLike) -> Any:
        left = _operand(other)
        return NotImplemented if left is None else _floordiv(left, self)

    def __mod__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else _mod(self, right)

    def __rmod__(self, other: DimLike) -> Any:
        left = _operand(other)
        return NotImplemented if left is None else _mod(left, self)

    def __divmod__(self, other: DimLike) -> Any:
        right = _operand(other)
        return NotImplemented if right is None else (_floordiv(self, right), _mod(self, right))

    def __rdivmod__(self, other: DimLike) -> Any:
        left = _operand(other)
        return NotImplemented if left is None else (_floordiv(left, self), _mod(left, self))

    # ---- questions

    def __ge__(self, other: DimLike) -> bool:
        right = _operand(other)
        return NotImplemented if right is None else _decide(self, right, ">=")

    def __gt__(self, other: DimLike) -> bool:
        right = _operand(other)
        return NotImplemented if right is None else _decide(self, right, ">")

    def __le__(self, other: DimLike) -> bool:
        right = _operand(other)
        return NotImplemented if right is None else _decide(self, right, "<=")

    def __lt__(self, other: DimLike) -> bool:
        right = _operand(other)
        return NotImplemented if right is None else _decide(self, right, "<")

    def __bool__(self) -> bool:
        low, high = bounds(self)
        if (low is not None and low > 0) or (high is not None and high < 0):
            return True
        raise _inconclusive(f"whether {self} is zero depends on {_names(self)}")

    def __index__(self) -> int:
        raise _inconclusive(f"an integer is needed here, but dimension {self} is symbolic")

    __int__ = __index__


DimSize = int | Dim
"""One entry of a shape."""
DimLike = SupportsIndex | Dim


def symbol(name: str) -> Dim:
    """The dimension of a name.

    Raises:
        ValueError: the name is not an identifier.
    """
    if not name.isidentifier() or name in ("max", "min"):
        raise ValueError(f"a dimension is named by an identifier, found {name!r}")
    return Dim(((((name, 1),), 1),))


def maximum(*operands: DimSize) -> DimSize:
    """The largest of some dimensions; stays symbolic where that depends on their values."""
    return reduce(lambda a, b: _extremum("max", a, b), operands)


def minimum(*operands: DimSize) -> DimSize:
    """The smallest of some dimensions; stays symbolic where that depends on their values."""
    return reduce(lambda a, b: _extremum("min", a, b), operands)


def is_symbolic(shape: tuple[DimSize, ...]) -> bool:
    """Whether a shape has a symbolic dimension."""
    return any(isinstance(size, Dim) for size in shape)


def known_ge(left: DimSize, right: DimSize) -> bool | None:
    """Whether `left >= right`, for all values of the symbols; None where it depends on them."""
    low, high = bounds(left - right)
    if low is not None and low >= 0:
        return True
    if high is not None and high < 0:
        return False
    return None


# ---- construction of canonical forms


def _operand(value: object) -> DimSize | None:
    if isinstance(value, Dim):
        return value
    try:
        return operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        return None


def _terms(value: DimSize) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(value, Dim):
        return value.terms
    return (((), value),) if value else ()


def _term_order(term: tuple[Monomial, int]) -> tuple[Any, ...]:
    """Higher degrees first, then by name: the constant is last."""
    monomial = term[0]
    return (-sum(power for _, power in monomial), [(str(atom), -power) for atom, power in monomial])


def _from_terms(terms: dict[Monomial, int]) -> DimSize:
    kept = [term for term in terms.items() if term[1]]
    if not kept:
        return 0
    monomial, coefficient = kept[0]
    if len(kept) == 1 and not monomial:
        return coefficient
    kept.sort(key=_term_order)
    return Dim(tuple(kept))


def _atom(op: str, *operands: DimSize) -> Dim:
    return Dim(((((Composite(op, operands), 1),), 1),))


def _add(left: DimSize, right: DimSize, sign: int) -> DimSize:
    terms = dict(_terms(left))
    for monomial, coefficient in _terms(right):
        terms[monomial] = terms.get(monomial, 0) + sign * coefficient
    return _from_terms(terms)


def _multiply(left: DimSize, right: DimSize) -> DimSize:
    terms: dict[Monomial, int] = {}
    for a, p in _terms(left):
        for b, q in _terms(right):
            monomial = _multiply_monomials(a, b)
            terms[monomial] = terms.get(monomial, 0) + p * q
    return _from_terms(terms)


def _multiply_monomials(a: Monomial, b: Monomial) -> Monomial:
    if not a or not b:
        return a or b
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=_atom_order))


def _atom_order(item: tuple[Atom, int]) -> str:
    return str(item[0])


def _divide_term(term: tuple[Monomial, int], by: tuple[Monomial, int]) -> DimSize | None:
    """The exact quotient of two terms, None if there is none."""
    powers = dict(term[0])
    for atom, power in by[0]:
        powers[atom] = powers.get(atom, 0) - power
        if powers[atom] < 0:
            return None
    if term[1] % by[1]:
        return None
    monomial = tuple(item for item in powers.items() if item[1])
    return _from_terms({monomial: term[1] // by[1]})


def _floordiv(left: DimSize, right: DimSize) -> DimSize:
    if right == 0:
        raise ZeroDivisionError(f"dimension {left} divided by zero")
    if not isinstance(right, Dim):
        return _floordiv_by_constant(left, right) if right > 0 else _floordiv(-left, -right)
    leading = right.terms[0]
    if len(right.terms) > 1:
        exact = _divide_exactly(left, right)
        return _atom("//", left, right) if exact is None else exact
    quotient: DimSize = 0
    rest: DimSize = 0
    for term in _terms(left):
        part = _divide_term(term, leading)
        if part is None:
            rest = rest + _from_terms(dict([term]))
        else:
            quotient = quotient + part
    return quotient if rest == 0 else quotient + _atom("//", rest, right)


def _divide_exactly(left: DimSize, right: Dim) -> DimSize | None:
    """The quotient of polynomials by long division, None if there is a rest."""
    quotient: DimSize = 0
    rest = left
    while rest != 0:
        part = _divide_term(_terms(rest)[0], right.terms[0])
        if part is None:
            return None
        quotient = quotient + part
        rest = rest - part * right
    return quotient


def _floordiv_by_constant(left: DimSize, divisor: int) -> DimSize:
    if not isinstance(left, Dim):
        return left // divisor
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in left.terms:
        whole[monomial], rest[monomial] = divmod(coefficient, divisor)
    quotient = _from_terms(whole)
    remainder = _from_terms(rest)
    if not isinstance(remainder, Dim):
        return quotient
    # (4*n + 3)//6 is (2*n + 1)//3: what the variable terms share with the divisor cancels.
    shared = gcd(divisor, *[coefficient for monomial, coefficient in remainder.terms if monomial])
    if shared > 1:
        reduced = {monomial: coefficient // shared for monomial, coefficient in remainder.terms}
        return quotient + _floordiv_by_constant(_from_terms(reduced), divisor // shared)
    inner = _only_atom(remainder)
    if isinstance(inner, Composite) and inner.op == "//" and isinstance(inner.operands[1], int):
        # (a//b)//c is a//(b*c)
        return quotient + _floordiv(inner.operands[0], inner.operands[1] * divisor)
    return quotient + _atom("//", remainder, divisor)


def _only_atom(dim: Dim) -> Atom | None:
    """The atom that a dimension consists of, if it is one."""
    if len(dim.terms) == 1:
        monomial, coefficient = dim.terms[0]
        if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1:
            return monomial[0][0]
    return None


def _mod(left: DimSize, right: DimSize) -> DimSize:
    return left - right * _floordiv(left, right)


def _extremum(op: str, left: DimSize, right: DimSize) -> DimSize:
    operands: list[DimSize] = []
    for operand in (*_extremum_operands(op, left), *_extremum_operands(op, right)):
        _insert_operand(op, operands, operand)
    if len(operands) == 1:
        return operands[0]
    return _atom(op, *sorted(operands, key=str))


def _extremum_operands(op: str, operand: DimSize) -> tuple[DimSize, ...]:
    atom = _only_atom(operand) if isinstance(operand, Dim) else None
    return atom.operands if isinstance(atom, Composite) and atom.op == op else (operand,)


def _insert_operand(op: str, operands: list[DimSize], new: DimSize) -> None:
    """Add an operand unless another one always wins; drop those that it always beats."""
    for old in operands:
        wins = known_ge(old, new) if op == "max" else known_ge(new, old)
        if wins:
            return
    operands[:] = [
        old for old in operands if not (known_ge(new, old) if op == "max" else known_ge(old, new))
    ]
    operands.append(new)


def _substitute_atom(atom: Atom, values: Mapping[str, DimSize]) -> DimSize:
    if isinstance(atom, str):
        value = values.get(atom)
        return symbol(atom) if value is None else value
    operands = [d.substitute(values) if isinstance(d, Dim) else d for d in atom.operands]
    if atom.op == "//":
        return _floordiv(operands[0], operands[1])
    return maximum(*operands) if atom.op == "max" else minimum(*operands)


# ---- bounds

Bound = int | None
"""A limit; None where there is none."""


def bounds(dim: DimSize) -> tuple[Bound, Bound]:
    """Limits that a dimension keeps to for all sizes of its symbols; not always the closest."""
    if not isinstance(dim, Dim):
        return dim, dim
    low = _lower_bound(dim)
    high = _lower_bound(-dim)
    return low, None if high is None else -high


def _lower_bound(dim: DimSize) -> Bound:
    if not isinstance(dim, Dim):
        return dim
    for monomial, coefficient in dim.terms:
        if len(monomial) == 1 and monomial[0][1] == 1:
            atom = monomial[0][0]
            if isinstance(atom, Composite):
                rest = dim - _multiply(Dim(((monomial, 1),)), coefficient)
                return _lower_bound_with(atom, coefficient, rest)
    total = 0
    for monomial, coefficient in dim.terms:
        low, high = _monomial_bounds(monomial)
        limit = low if coefficient > 0 else high
        if limit is None:
            return None
        total += coefficient * limit
    return total


def _lower_bound_with(atom: Composite, coefficient: int, rest: DimSize) -> Bound:
    """Lower bound of coefficient * atom + rest, by what the atom is between."""
    if atom.op == "//":
        numerator, divisor = atom.operands
        if not isinstance(divisor, int):
            return _lower_bound_with_quotient(atom, coefficient, rest)
        # (a - c + 1)/c <= a//c <= a/c; times c, to stay within the integers.
        least = numerator - (divisor - 1) if coefficient > 0 else numerator
        scaled = _lower_bound(rest * divisor + coefficient * least)
        return None if scaled is None else -(-scaled // divisor)
    limits = [_lower_bound(rest + coefficient * operand) for operand in atom.operands]
    if (coefficient > 0) == (atom.op == "max"):
        # The atom is at least as good as each operand: the best of them holds.
        return max([limit for limit in limits if limit is not None], default=None)
    known = [limit for limit in limits if limit is not None]
    return min(known) if len(known) == len(limits) else None


def _lower_bound_with_quotient(atom: Composite, coefficient: int, rest: DimSize) -> Bound:
    """For a symbolic divisor: 0 <= a//b <= a, where a and b are not negative."""
    numerator, divisor = atom.operands
    if not (known_ge(numerator, 0) and known_ge(divisor, 0)):
        return None
    return _lower_bound(rest if coefficient > 0 else rest + coefficient * numerator)


def _monomial_bounds(monomial: Monomial) -> tuple[Bound, Bound]:
    """Bounds of a product; only products of factors that are not negative have any."""
    low: int = 1
    high: Bound = 1
    for atom, power in monomial:
        least, most = _atom_bounds(atom)
        if least is None or least < 0:
            return None, None
        low *= least**power
        high = None if high is None or most is None else high * most**power
    return low, high


def _atom_bounds(atom: Atom) -> tuple[Bound, Bound]:
    if isinstance(atom, str):
        return 0, None
    low = _lower_bound_with(atom, 1, 0)
    high = _lower_bound_with(atom, -1, 0)
    return low, None if high is None else -high


def _decide(left: DimSize, right: DimSize, relation: str) -> bool:
    if relation in (">=", "<"):
        answer = known_ge(left, right)
    else:
        answer = known_ge(right, left)
    if answer is None:
        names = _names(left, right)
        raise _inconclusive(f"whether {left} {relation} {right} depends on {names}")
    return answer if relation in (">=", "<=") else not answer


def _names(*dims: DimSize) -> str:
    names: set[str] = set()
    for dim in dims:
        if isinstance(dim, Dim):
            names |= dim.symbols
    return "the value of " + ", ".join(sorted(names))


def _inconclusive(question: str) -> InconclusiveDimension:
    return InconclusiveDimension(
        compose(
            question,
            fix="trace with concrete sizes, or write the program so that it does not need to know "
            "(core.dims.maximum and minimum work on symbolic sizes)",
        )
    )


# ---- text


def _text_of(terms: tuple[tuple[Monomial, int], ...]) -> str:
    text = ""
    for monomial, coefficient in terms:
        product = _product_text(monomial, abs(coefficient), leading=not text and coefficient < 0)
        if not text:
            text = f"-{product}" if coefficient < 0 else product
        else:
            text += f" - {product}" if coefficient < 0 else f" + {product}"
    return text


def _product_text(monomial: Monomial, coefficient: int, leading: bool) -> str:
    if coefficient == 1 and len(monomial) == 1 and monomial[0][1] == 1 and not leading:
        return str(monomial[0][0])
    factors = [_factor_text(atom, power) for atom, power in monomial]
    if coefficient != 1 or not factors:
        factors.insert(0, str(coefficient))
    return "*".join(factors)


def _factor_text(atom: Atom, power: int) -> str:
    text = str(atom)
    if isinstance(atom, Composite) and atom.op == "//":
        text = f"({text})"
    return text if power == 1 else f"{text}**{power}"


def _in_product(dim: DimSize) -> str:
    """The text of a numerator: only a symbol or positive number goes without parentheses."""
    return str(dim) if _is_simple(dim) else f"({dim})"


_in_divisor = _in_product


def _is_simple(dim: DimSize) -> bool:
    if isinstance(dim, int):
        return dim >= 0
    return isinstance(_only_atom(dim), str)
