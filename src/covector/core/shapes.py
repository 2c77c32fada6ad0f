"""Shapes with symbolic dimensions: reading them, and binding symbols to the sizes of arrays."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from covector.core.dims import Dim, DimSize, maximum, minimum, symbol
from covector.core.errors import compose

Shape = tuple[DimSize, ...]


def parse_dim(text: str) -> DimSize:
    """Read a dimension as `str` writes it: Python's arithmetic, `max` and `min`.

    Raises:
        ValueError: the text is something else.

    Example:
        >>> parse_dim("2*(n + 1)")
        2*n + 2
    """
    tree = _parse(text)
    try:
        return _read(tree, text)
    except (TypeError, ZeroDivisionError, RecursionError):
        raise _unreadable(text) from None


def _parse(text: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _unreadable(text) from None


def _power(base: DimSize, power: DimSize) -> DimSize:
    if not isinstance(power, int) or not 0 <= power <= 64:
        raise TypeError("powers go from 0 to 64")
    return base**power


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], DimSize]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
    ast.Pow: _power,
}


def _read(tree: ast.expr, text: str) -> DimSize:
    match tree:
        case ast.Constant(value=int() as number) if not isinstance(number, bool):
            return number
        case ast.Name(id=name):
            return symbol(name)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand, text)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_read(left, text), _read(right, text))
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=args, keywords=[]) if args:
            combine = maximum if name == "max" else minimum
            return combine(*[_read(arg, text) for arg in args])
        case _:
            raise _unreadable(text)


def _unreadable(text: str) -> ValueError:
    return ValueError(
        compose(
            f"cannot read {text!r} as a dimension",
            fix="write names, integers, + - * // % **, max and min, as in '2*n + 1'",
        )
    )


def parse_shape(text: str) -> Shape:
    """Read a shape: dimensions between commas.

    Args:
        text: as in `"n, 3, 2*n + 1"`; parentheses around it are optional; empty is a scalar's.

    Raises:
        ValueError: the text is no shape.

    Example:
        >>> parse_shape("n, 3, max(n, m)")
        (n, 3, max(m, n))
    """
    if not text.strip():
        return ()
    tree = _parse(text)
    entries = tree.elts if isinstance(tree, ast.Tuple) else [tree]
    return tuple([_read(entry, text) for entry in entries])


class Binding:
    """Finds the values of symbols by comparing symbolic shapes with shapes of arrays.

    Add every argument, then ask for the `values`: a symbol may be found in a later argument than
    the one that needs it.

    Example:
        >>> binding = Binding()
        >>> binding.add("x", parse_shape("n, 2*m"), (5, 8))
        >>> binding.values()
        {'n': 5, 'm': 4}
    """

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        # Where each value was found, for messages.
        self._origins: dict[str, str] = {}
        self._open: list[tuple[str, Dim, int]] = []

    def add(self, name: str, symbolic: Sequence[DimSize], concrete: Sequence[int]) -> None:
        """Compare the shapes of an argument.

        Args:
            name: what messages call it.
            symbolic: the shape it was traced with.
            concrete: the shape it has.

        Raises:
            ValueError: the shapes cannot be the same.
        """
        if len(symbolic) != len(concrete):
            raise _mismatch(name, symbolic, concrete, f"{len(concrete)} axes")
        for axis, (dim, size) in enumerate(zip(symbolic, concrete, strict=True)):
            place = f"axis {axis} of {name}"
            if isinstance(dim, Dim):
                if not self._solve(place, dim, size):
                    self._open.append((place, dim, size))
            elif dim != size:
                raise _mismatch(name, symbolic, concrete, f"{size} at axis {axis}")

    def values(self) -> dict[str, int]:
        """The value of each symbol.

        Raises:
            ValueError: a symbol cannot be found, or an equation does not hold.
        """
        while self._open:
            still_open = [entry for entry in self._open if not self._solve(*entry)]
            if len(still_open) == len(self._open):
                raise self._undetermined(still_open[0])
            self._open = still_open
        return dict(self._values)

    def _solve(self, place: str, dim: Dim, size: int) -> bool:
        """Use the equation dim = size; False if it holds more than one unknown."""
        rest = dim.substitute(self._values)
        if not isinstance(rest, Dim):
            self._check(place, dim, rest, size)
            return True
        solution = solve(rest, size)
        if solution is None:
            return False
        name, value = solution
        if value is None:
            raise ValueError(
                compose(
                    f"{place} should be {dim}, for a whole number {name} of at least 0",
                    found=str(size) + self._known(dim),
                    fix=f"pass a size of the form {dim}",
                )
            )
        self._values[name] = value
        self._origins[name] = f"{name} = {value} from {place}"
        return True

    def _check(self, place: str, dim: Dim, expected: int, size: int) -> None:
        if expected != size:
            raise ValueError(
                compose(
                    f"{place} should be {dim}, which is {expected}",
                    found=str(size) + self._known(dim),
                    fix="pass arrays whose sizes agree",
                )
            )

    def _known(self, dim: Dim) -> str:
        known = [self._origins[name] for name in sorted(dim.symbols) if name in self._origins]
        return f" ({'; '.join(known)})" if known else ""

    def _undetermined(self, entry: tuple[str, Dim, int]) -> ValueError:
        place, dim, size = entry
        unknown = ", ".join(sorted(dim.symbols - self._values.keys()))
        return ValueError(
            compose(
                f"the sizes of the arguments do not determine {unknown}",
                found=f"{place} is {dim} = {size}" + self._known(dim),
                fix="use each symbol as a dimension by itself in some argument",
            )
        )


def solve(dim: Dim, size: int) -> tuple[str, int | None] | None:
    """Find the symbol in `dim == size`, where a single one occurs and stands to the first power.

    Returns:
        The name, and its value, or None for it if no whole number of at least 0 fits; None when
        the equation is of another form.
    """
    *variable, constant = dim.terms if not dim.terms[-1][0] else (*dim.terms, ((), 0))
    if len(variable) != 1:
        return None
    monomial, coefficient = variable[0]
    (atom, power), *others = monomial
    if others or power != 1 or not isinstance(atom, str):
        return None
    value, remainder = divmod(size - constant[1], coefficient)
    return atom, None if remainder or value < 0 else value


def bind(arguments: Iterable[tuple[str, Sequence[DimSize], Sequence[int]]]) -> dict[str, int]:
    """The values of all symbols, from the shapes of all arguments.

    Args:
        arguments: for each, what to call it, its symbolic and its concrete shape.

    Raises:
        ValueError: the shapes do not agree, or do not determine a symbol.
    """
    binding = Binding()
    for name, symbolic, concrete in arguments:
        binding.add(name, symbolic, concrete)
    return binding.values()


def evaluate_shape(shape: Sequence[DimSize], values: Mapping[str, int]) -> tuple[int, ...]:
    """The sizes of a shape for given values of its symbols."""
    return tuple([dim.evaluate(values) if isinstance(dim, Dim) else dim for dim in shape])


def _mismatch(
    name: str, symbolic: Sequence[DimSize], concrete: Sequence[int], found: str
) -> ValueError:
    expected = ", ".join(map(str, symbolic))
    return ValueError(
        compose(
            f"{name} should have shape ({expected})",
            found=f"shape ({', '.join(map(str, concrete))}), {found}",
            fix="pass an array of that shape, or trace the function again for this one",
        )
    )
