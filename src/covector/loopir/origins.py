"""What values were built for, kept for debuggers: equations, of which the user's lines are known.

Values are numbered in the order in which they are built. So it is enough to note the number from
which on values are built for something else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from covector.loopir.builder import Builder
from covector.loopir.ir import Call, Callback, For, If, Item, Store, Value, While, children, walk


class Origins:
    """What each value of a function was built for.

    Attributes:
        name: what people call the function.
    """

    __slots__ = ("_from", "_origins", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self._from: list[int] = []
        self._origins: list[object] = []

    def note(self, number: int, origin: object) -> None:
        """Notes what values are built for.

        Args:
            number: of the next value.
            origin: see `Buffer`; `None` for what belongs to no equation.
        """
        if self._from and self._from[-1] == number:
            self._origins[-1] = origin
        else:
            self._from.append(number)
            self._origins.append(origin)

    def of(self, item: Item) -> object:
        """What an item was built for.

        Args:
            item: a value or statement.

        Returns:
            The origin; that of what it stores, or of the first that has any in its blocks; `None`
            if there is none.
        """
        if isinstance(item, Value):
            return None if item.op == "const" else self._at(item.id)
        if isinstance(item, Store):
            return self.of(item.value) or self.of(item.offset)
        if isinstance(item, For | While | If):
            inner = (self.of(each) for block in children(item) for each in walk(block))
            return next((origin for origin in inner if origin is not None), None)
        return item.origin if isinstance(item, Call | Callback) else None

    def all(self) -> Iterable[object]:
        """All origins, in the order in which values were built for them."""
        return (origin for origin in self._origins if origin is not None)

    def _at(self, number: int) -> object:
        place = bisect_right(self._from, number) - 1
        return self._origins[place] if place >= 0 else None


class TracingBuilder(Builder):
    """A builder of functions with `origins`.

    Args:
        name: symbol of the function.
        title: what people call it.
    """

    __slots__ = ("_origin", "_origins")

    def __init__(self, name: str, title: str) -> None:
        self._origin: object = None
        self._origins = Origins(title)
        super().__init__(name)
        self.function.origins = self._origins

    @property
    def origin(self) -> object:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]  # a property, so that plain builders need not look
        """What is being built: values made from now on remember it."""
        return self._origin

    @origin.setter
    def origin(self, origin: object) -> None:
        self._origin = origin
        self._origins.note(self._next, origin)
