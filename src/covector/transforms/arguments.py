"""Which arguments of a jitted function are meant: static, donated, or of a fixed size."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from covector.core import pytree
from covector.transforms.flat import function_name


class Statics:
    """Some arguments of a function: those that are compile-time constants, say.

    Args:
        fun: the function; its signature relates names and positions.
        argnums: positions of the arguments.
        argnames: their names.
        what: they are, for messages.
    """

    def __init__(
        self, fun: Callable[..., Any], argnums: Any, argnames: Any, what: str = "static"
    ) -> None:
        numbers: tuple[int, ...] = _as_tuple(argnums, int)
        names: tuple[str, ...] = _as_tuple(argnames, str)
        parameters = _parameters(fun) if numbers or names else []
        positional = [
            p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        ]
        self.positional = positional
        variadic = any(p.kind == p.VAR_POSITIONAL for p in parameters)
        self.count = len(positional)
        name = function_name(fun)
        for n in numbers:
            if parameters and not variadic and not -self.count <= n < self.count:
                raise ValueError(
                    f"jit of {name}: {what}_argnums={argnums} but {name} has {self.count} "
                    "positional parameters"
                )
        known = {p.name for p in parameters}
        keywords = any(p.kind == p.VAR_KEYWORD for p in parameters)
        for n in names:
            if parameters and n not in known and not keywords:
                raise ValueError(
                    f"jit of {name}: {what}_argnames has {n!r} but {name} has the parameters "
                    f"{sorted(known)}"
                )
        numbers = tuple(n % self.count if n < 0 and self.count else n for n in numbers)
        by_name = {positional.index(n) for n in names if n in positional}
        by_number = {positional[n] for n in numbers if n < len(positional)}
        self.numbers: frozenset[int] = frozenset(numbers) | by_name
        self.names: frozenset[str] = frozenset(names) | by_number

    def name_of(self, position: int) -> str:
        """What to call a positional argument."""
        if position < self.count:
            return f"{position} ({self.positional[position]!r})"
        return str(position)

    def __bool__(self) -> bool:
        return bool(self.numbers or self.names)

    def leaves(
        self, args: Sequence[Any], kwargs: dict[str, Any], statics: Statics
    ) -> tuple[int, ...]:
        """Positions of these arguments' leaves among those of all arguments.

        Args:
            args: of a call.
            kwargs: likewise.
            statics: arguments that have no leaves.
        """
        if not self:
            return ()
        marked = [(a, i in self.numbers) for i, a in enumerate(args) if i not in statics.numbers]
        marked += [
            (kwargs[name], name in self.names)
            for name in sorted(kwargs)
            if name not in statics.names
        ]
        found: list[int] = []
        position = 0
        for value, is_marked in marked:
            count = len(pytree.leaves(value))
            if is_marked:
                found.extend(range(position, position + count))
            position += count
        return tuple(found)


def _as_tuple(value: Any, kind: type) -> tuple[Any, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, kind) else tuple(value)


def _parameters(fun: Callable[..., Any]) -> list[inspect.Parameter]:
    """Of a function; none if it does not say."""
    try:
        return list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        return []
