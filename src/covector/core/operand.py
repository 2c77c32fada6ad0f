"""What arrays and tracers have in common: operators, and methods installed by the NumPy facade."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from covector import _native

_hooks: dict[str, Callable[..., Any]] = {}


def install_operators(hooks: dict[str, Callable[..., Any]]) -> None:
    """Sets what the operators call: by name ("add", "getitem", ...), operands in written order."""
    _hooks.update(hooks)
    for name, hook in hooks.items():
        if name not in ("getitem", "round"):  # not slots of the C type
            _native.register_operator_hook(name, hook)


def install_methods(methods: dict[str, Any]) -> None:
    """Adds methods and properties to every array and tracer."""
    for name, method in methods.items():
        setattr(Operand, name, method)


class Operand:
    """An array-like value that the operators of Python apply to.

    Users know it as `covector.Array`: arrays are its instances, and so are the traced values that
    stand for them.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def shape(self) -> Any: ...
        @property
        def dtype(self) -> Any: ...
        @property
        def ndim(self) -> int: ...
        @property
        def size(self) -> Any: ...
        @property
        def weak_type(self) -> bool: ...
        @property
        def device(self) -> Any: ...

    # NumPy arrays on the left of an operator defer to ours.
    __array_priority__ = 100

    def __getitem__(self, index: Any) -> Any:
        return _hooks["getitem"](self, index)

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(
            f"{type(self).__name__} is immutable: instead of x[idx] = y "
            "write x = x.at[idx].set(y), or use another .at method."
        )

    def __hash__(self) -> int:
        raise TypeError(f"unhashable type: {type(self).__name__!r}")

    def __add__(self, other: Any) -> Any:
        return _hooks["add"](self, other)

    def __radd__(self, other: Any) -> Any:
        return _hooks["add"](other, self)

    def __sub__(self, other: Any) -> Any:
        return _hooks["sub"](self, other)

    def __rsub__(self, other: Any) -> Any:
        return _hooks["sub"](other, self)

    def __mul__(self, other: Any) -> Any:
        return _hooks["mul"](self, other)

    def __rmul__(self, other: Any) -> Any:
        return _hooks["mul"](other, self)

    def __truediv__(self, other: Any) -> Any:
        return _hooks["truediv"](self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _hooks["truediv"](other, self)

    def __floordiv__(self, other: Any) -> Any:
        return _hooks["floordiv"](self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _hooks["floordiv"](other, self)

    def __mod__(self, other: Any) -> Any:
        return _hooks["mod"](self, other)

    def __rmod__(self, other: Any) -> Any:
        return _hooks["mod"](other, self)

    def __divmod__(self, other: Any) -> Any:
        return _hooks["divmod"](self, other)

    def __rdivmod__(self, other: Any) -> Any:
        return _hooks["divmod"](other, self)

    def __pow__(self, other: Any) -> Any:
        return _hooks["pow"](self, other)

    def __rpow__(self, other: Any) -> Any:
        return _hooks["pow"](other, self)

    def __matmul__(self, other: Any) -> Any:
        return _hooks["matmul"](self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return _hooks["matmul"](other, self)

    def __and__(self, other: Any) -> Any:
        return _hooks["and"](self, other)

    def __rand__(self, other: Any) -> Any:
        return _hooks["and"](other, self)

    def __or__(self, other: Any) -> Any:
        return _hooks["or"](self, other)

    def __ror__(self, other: Any) -> Any:
        return _hooks["or"](other, self)

    def __xor__(self, other: Any) -> Any:
        return _hooks["xor"](self, other)

    def __rxor__(self, other: Any) -> Any:
        return _hooks["xor"](other, self)

    def __lshift__(self, other: Any) -> Any:
        return _hooks["lshift"](self, other)

    def __rlshift__(self, other: Any) -> Any:
        return _hooks["lshift"](other, self)

    def __rshift__(self, other: Any) -> Any:
        return _hooks["rshift"](self, other)

    def __rrshift__(self, other: Any) -> Any:
        return _hooks["rshift"](other, self)

    def __eq__(self, other: Any) -> Any:
        return _hooks["eq"](self, other)

    def __ne__(self, other: Any) -> Any:
        return _hooks["ne"](self, other)

    def __lt__(self, other: Any) -> Any:
        return _hooks["lt"](self, other)

    def __le__(self, other: Any) -> Any:
        return _hooks["le"](self, other)

    def __gt__(self, other: Any) -> Any:
        return _hooks["gt"](self, other)

    def __ge__(self, other: Any) -> Any:
        return _hooks["ge"](self, other)

    def __neg__(self) -> Any:
        return _hooks["neg"](self)

    def __pos__(self) -> Any:
        return _hooks["pos"](self)

    def __abs__(self) -> Any:
        return _hooks["abs"](self)

    def __invert__(self) -> Any:
        return _hooks["invert"](self)

    def __round__(self, ndigits: int | None = None) -> Any:
        return _hooks["round"](self, ndigits)
