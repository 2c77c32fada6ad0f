"""`jax.debug`: looking at values from inside traced and compiled functions.

Also the rungs of the debug ladder as context managers: `debug_level`, `dump_to` and `checked`.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np

from covector.core import pytree
from covector.core.array import Array
from covector.core.config import checked, debug_level, dump_to
from covector.core.source import here
from covector.core.trace import Tracer
from covector.lax.bodies import check_callable
from covector.lax.callbacks import debug_callback
from covector.transforms.flat import function_name

__all__ = ["breakpoint", "callback", "checked", "debug_level", "dump_to", "print"]

_print = print


def callback(
    callback: Callable[..., Any],
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    **kwargs: Any,
) -> None:
    """Calls a Python function to look at values, wherever it is called from.

    Under `grad` and `jvp` the function sees primal values, under `vmap` it is called for each
    element of the batch, in compiled code whenever execution gets there.

    Args:
        callback: what it returns is ignored.
        *args: pytrees; arrays in them reach the function as arrays, anything else as it is.
        ordered: whether calls keep the order in which the program was written.
        partitioned: accepted for code written for JAX; there is one device.
        **kwargs: passed like `args`.

    Example:
        >>> import covector as cv
        >>> seen = []
        >>> def f(x):
        ...     cv.debug.callback(seen.append, x)
        ...     return x * 2
        >>> float(cv.jit(f)(3.0)), float(seen[0])
        (6.0, 3.0)
    """
    check_callable("debug.callback: callback", callback)
    leaves, tree = pytree.flatten((args, kwargs))
    traced = [isinstance(x, (Array, Tracer)) or _is_number(x) for x in leaves]

    def on_arrays(*arrays: Any) -> None:
        given = iter(arrays)
        merged = [next(given) if t else x for x, t in zip(leaves, traced, strict=True)]
        call_args, call_kwargs = pytree.unflatten(tree, merged)
        callback(*call_args, **call_kwargs)

    on_arrays.__name__ = function_name(callback)
    live = [x for x, t in zip(leaves, traced, strict=True) if t]
    # What is not an array is kept by the function; the rest must not be, tracers least of all.
    leaves = [None if t else x for x, t in zip(leaves, traced, strict=True)]
    debug_callback(on_arrays, *live, ordered=ordered)


def _is_number(x: Any) -> bool:
    if isinstance(x, (np.ndarray, np.generic)):
        return cast("Any", x).dtype.kind in "biufcV"
    return isinstance(x, (bool, int, float, complex))


def breakpoint(  # noqa: A001  # JAX's name
    *, ordered: bool = False, **values: Any
) -> None:
    """Stops in Python's debugger whenever execution gets there, in compiled code, too.

    The debugger stops in a function with the values of this time in a dictionary `values`: traced
    and other arrays among the caller's local variables, by their names, and what is passed. `where`
    is the line of the call. It is the debugger that `PYTHONBREAKPOINT` names, by default pdb; with
    `PYTHONBREAKPOINT=0` nothing stops. Leaving pdb by `quit` ends the program with `BdbQuit`.

    Args:
        ordered: whether stops keep the order in which the program was written.
        **values: further names for pytrees of arrays.

    Example:
        >>> import sys
        >>> import covector as cv
        >>> seen = {}
        >>> def show():  # in place of pdb
        ...     frame = sys._getframe(1)
        ...     seen.update(frame.f_locals["values"])
        >>> sys.breakpointhook = show
        >>> @cv.jit
        ... def f(x):
        ...     y = x * 2
        ...     cv.debug.breakpoint(half=x / 2)
        ...     return y
        >>> float(f(3.0))
        6.0
        >>> {name: float(value) for name, value in seen.items()}
        {'half': 1.5, 'x': 3.0, 'y': 6.0}
        >>> sys.breakpointhook = sys.__breakpointhook__
    """
    caller = sys._getframe(1)
    local = {k: v for k, v in caller.f_locals.items() if isinstance(v, (Array, Tracer))}

    def stop(values: dict[str, Any], where: str) -> None:
        sys.breakpointhook()

    callback(stop, {**local, **values}, str(here()), ordered=ordered)


def print(  # noqa: A001  # JAX's name
    fmt: str,
    *args: Any,
    ordered: bool = False,
    partitioned: bool = False,
    skip_format_check: bool = False,
    **kwargs: Any,
) -> None:
    """Prints values, wherever it is called from.

    Args:
        fmt: a format string as of `str.format`: fields in braces, `{}`, `{0}`, `{name:.3f}`.
        *args: pytrees of arrays for fields without a name.
        ordered: whether lines keep the order in which the program was written.
        partitioned: accepted for code written for JAX; there is one device.
        skip_format_check: do not check that every argument has a field.
        **kwargs: pytrees of arrays for fields with a name.

    Raises:
        ValueError: if an argument has no field in `fmt`.
        IndexError: if a field without a name has no argument.
        KeyError: if a field with a name has no argument.

    Example:
        >>> import covector as cv
        >>> @cv.jit
        ... def f(x):
        ...     cv.debug.print("x = {x:.2f}", x=x)
        ...     return x * 2
        >>> float(f(3.0))
        x = 3.00
        6.0
    """
    if type(fmt) is not str:
        raise TypeError(f"debug.print: the first argument is a format string, got {fmt!r:.80}")
    if not skip_format_check:
        _FieldCheck().vformat(fmt, args, kwargs)

    def show(*args: Any, **kwargs: Any) -> None:
        _print(fmt.format(*args, **kwargs))

    callback(show, *args, ordered=ordered, partitioned=partitioned, **kwargs)


class _FieldCheck(string.Formatter):
    """Formats without formatting: raises for arguments and fields that do not fit each other."""

    def check_unused_args(self, used_args: Any, args: Sequence[Any], kwargs: Any) -> None:
        """Raises for arguments that no field shows."""
        positions = [k for k in range(len(args)) if k not in used_args]
        names = [name for name in kwargs if name not in used_args]
        if positions or names:
            found = [f"argument {k}" for k in positions] + [f"{name}=" for name in names]
            raise ValueError(
                f"debug.print: {', '.join(found)} without a field in the format string; write {{}} "
                "where a value goes instead of an f-string, or pass skip_format_check=True"
            )

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> Any:
        """Looks the argument up; its elements and attributes are those of a value not there yet."""
        name = field_name.split(".")[0].split("[")[0]
        key = int(name) if name.isdigit() else name
        return self.get_value(key, args, kwargs), key

    def format_field(self, value: Any, format_spec: str) -> str:
        """Nothing: a traced value has no digits."""
        return ""

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Nothing."""
        return value
