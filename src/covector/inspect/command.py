"""`covector explain script.py:function --args ...`."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from covector.core import dtypes
from covector.core.errors import compose
from covector.transforms.jit import JitFunction, jit
from covector.transforms.stages import ShapeDtypeStruct

_SHAPE = re.compile(r"([a-z]+\d*)\[\s*((?:\d+\s*(?:,\s*\d+\s*)*,?)?)\s*\]")
_KEYWORD = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)\s*(.+)", re.DOTALL)


class CommandError(Exception):
    """What the command cannot do, worded for its user."""


def run(
    target: str,
    arguments: Sequence[str],
    sections: str | None,
    *,
    static: Sequence[str] = (),
    measure: bool = False,
) -> int:
    """Prints a report on a function of a script.

    Args:
        target: "script.py:function".
        arguments: of the call, each a Python expression or a shape such as "f32[1000,3]".
        sections: names with commas between them, or `None` for the usual ones.
        static: positions or names of arguments that are compile-time constants.
        measure: run it too; arguments given as shapes are arrays of ones then.

    Returns:
        The exit status: 0.

    Raises:
        CommandError: if the script, the function or an argument makes no sense.
    """
    from rich.console import Console

    function, names = load(target)
    args, kwargs = parse_arguments(arguments, names, ones=measure)
    jitted = as_jitted(function, static, target)
    try:
        report = jitted.lower(*args, **kwargs).explain(sections=sections, run=measure)
    except Exception as error:
        raise CommandError(f"explain of {target}: {type(error).__name__}: {error}") from error
    console = Console()
    if console.is_terminal:
        console.print(report)
    else:
        print(report)
    return 0


def load(target: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A function of a script, and the names that the script knows.

    Args:
        target: "script.py:function"; a part of the script's path may be left out by running in it.

    Returns:
        The function and the module's namespace.

    Raises:
        CommandError: if there is no such script or function, or the script fails.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name:
        raise CommandError(
            compose(
                "explain takes a script and a function of it",
                found=repr(target),
                fix="write script.py:function",
            )
        )
    path = Path(place)
    if not path.is_file():
        raise CommandError(
            compose(f"there is no script {place}", found=f"searched in {Path.cwd()}")
        )
    module = _run_script(path)
    known = vars(module)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            functions = [k for k, v in known.items() if callable(v) and k[0] != "_"]
            raise CommandError(
                compose(
                    f"{place} has no function {name}",
                    found=f"it has {', '.join(functions) or 'none'}",
                )
            )
        found = getattr(found, part)
    if not callable(found):
        raise CommandError(
            compose(f"{name} in {place} is no function", found=f"a {type(found).__name__}")
        )
    return found, known


def _run_script(path: Path) -> ModuleType:
    """The script as a module; what stands under `if __name__ == "__main__"` does not run."""
    spec = importlib.util.spec_from_file_location(f"covector_explain_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python script: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CommandError(f"{path} fails: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module


def parse_arguments(
    texts: Sequence[str], names: dict[str, Any], *, ones: bool = False
) -> tuple[list[Any], dict[str, Any]]:
    """Arguments from the command line.

    Args:
        texts: each an expression, a shape, or one of these after "name=".
        names: what expressions may use, besides `cv`, `cnp` and `np`.
        ones: make shapes arrays of ones.

    Returns:
        Positional and keyword arguments.

    Raises:
        CommandError: if one is neither a shape nor an expression, or fails.

    Example:
        >>> parse_arguments(["f32[1000,3]", "steps=2 * n"], {"n": 5})
        ([ShapeDtypeStruct(shape=(1000, 3), dtype=float32)], {'steps': 10})
    """
    import covector

    known = {"cv": covector, "cnp": covector.numpy, "np": np, **names}
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for text in texts:
        keyword = _KEYWORD.fullmatch(text.strip())
        value = _value(keyword[2] if keyword else text, known, ones)
        if keyword:
            keywords[keyword[1]] = value
        else:
            positional.append(value)
    return positional, keywords


def _value(text: str, names: dict[str, Any], ones: bool) -> Any:
    shape = _SHAPE.fullmatch(text.strip())
    if shape is not None:
        extents = tuple([int(n) for n in shape[2].split(",") if n.strip()])
        try:
            dtype = dtypes.canonicalize(dtypes.from_short_name(shape[1]))
        except ValueError as error:
            raise CommandError(f"the argument {text!r}: {error}") from None
        return np.ones(extents, dtype) if ones else ShapeDtypeStruct(extents, dtype)
    try:
        code = compile(ast.parse(text.strip(), "<--args>", "eval"), "<--args>", "eval")
        return eval(code, names)  # noqa: S307 - the user's own expression, on their command line
    except Exception as error:
        raise CommandError(
            compose(
                f"the argument {text!r} is neither a shape nor a Python expression that works",
                found=f"{type(error).__name__}: {error}",
                fix='write a shape such as "f32[1000,3]", or an expression such as '
                '"cnp.ones((1000, 3))"; cv, cnp, np and the names of the script are known',
            )
        ) from None


def as_jitted(function: Callable[..., Any], static: Sequence[str], target: str) -> JitFunction:
    """A function under `jit`, if it is not already.

    Args:
        function: jitted or not.
        static: positions or names of its static arguments.
        target: what the user called it.

    Returns:
        The jitted function.

    Raises:
        CommandError: if a jitted function is given static arguments, or they are not its own.
    """
    if isinstance(function, JitFunction):
        if static:
            raise CommandError(
                compose(
                    f"{target} is jitted already, with its own static arguments",
                    found=f"--static {' '.join(static)}",
                    fix="leave --static out",
                )
            )
        return function
    numbers = [int(s) for s in static if s.lstrip("-").isdigit()]
    names = [s for s in static if not s.lstrip("-").isdigit()]
    try:
        return jit(function, static_argnums=numbers, static_argnames=names)
    except (TypeError, ValueError) as error:
        raise CommandError(str(error)) from None
