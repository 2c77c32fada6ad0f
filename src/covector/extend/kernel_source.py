"""Kernels as text: finding a function's source, what its names mean, errors that point into it."""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Callable, Mapping
from typing import Any

from covector.core.errors import CovectorTypeError, compose
from covector.core.source import SourceLocation


class KernelError(CovectorTypeError):
    """A kernel uses what cannot be compiled, or its source cannot be found."""


class KernelSource:
    """The parsed definition of a kernel.

    Attributes:
        name: of the function.
        file: where it is defined.
        first_line: the line of the file that is line 1 of the text.
        text: its source, dedented.
        node: its definition.
        globals: what names that it does not define mean, besides builtins.
    """

    def __init__(
        self, name: str, file: str, first_line: int, text: str, names: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.file = file
        self.first_line = first_line
        self.text = text
        self.globals = names
        self.node = self._definition()

    def _definition(self) -> ast.FunctionDef:
        for node in ast.walk(ast.parse(self.text)):
            if isinstance(node, ast.FunctionDef) and node.name == self.name:
                return node
        raise no_source(self.name, "its source is not a `def` statement")

    def location(self, node: Any) -> SourceLocation:
        """The line of a node in the user's file."""
        line = self.first_line + getattr(node, "lineno", 1) - 1
        return SourceLocation(self.file, line, self.name)

    def error(self, node: Any, problem: str, *, found: str = "", fix: str = "") -> KernelError:
        """An error that points to a node."""
        text = compose(f"{self.name}: {problem}", found=found, fix=fix, line=self.location(node))
        return KernelError(text)

    def look_up(self, name: str) -> Any:
        """What a name means that the function does not define.

        Raises:
            NameError: if nothing has this name.
        """
        if name in self.globals:
            return self.globals[name]
        try:
            return getattr(builtins, name)
        except AttributeError:
            raise NameError(f"name {name!r} is not defined") from None


def no_source(name: str, why: str) -> KernelError:
    """The error for functions whose text is not known."""
    return KernelError(
        compose(
            f"{name}: a kernel is compiled from its source, which is not there",
            found=why,
            fix="define the kernel with `def` in a file (not in `python -c`, `exec` or as a "
            "lambda)",
        )
    )


class _Names(Mapping[str, Any]):
    """The names a function sees, looked up as late as Python does."""

    def __init__(self, fn: types.FunctionType) -> None:
        self._fn = fn
        self._cells = dict(zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True))

    def __getitem__(self, name: str) -> Any:
        if name in self._cells:
            try:
                return self._cells[name].cell_contents
            except ValueError:
                raise KeyError(name) from None
        return self._fn.__globals__[name]

    def __iter__(self) -> Any:
        return iter({**self._fn.__globals__, **self._cells})

    def __len__(self) -> int:
        return len({**self._fn.__globals__, **self._cells})


def source_of(fn: Callable[..., Any]) -> KernelSource:
    """The source of a Python function.

    Args:
        fn: a function made by a `def` statement.

    Returns:
        Its definition.

    Raises:
        KernelError: if it is something else, or its source is not there.
    """
    name = getattr(fn, "__name__", type(fn).__name__)
    if not isinstance(fn, types.FunctionType):
        raise no_source(name, f"{type(fn).__name__} is not a Python function")
    if name == "<lambda>":
        raise no_source("<lambda>", "a lambda has no source of its own")
    try:
        lines, first = inspect.getsourcelines(fn)
    except (OSError, TypeError) as error:
        raise no_source(name, str(error)) from None
    text = textwrap.dedent("".join(lines))
    try:
        source = KernelSource(name, fn.__code__.co_filename, max(first, 1), text, _Names(fn))
    except SyntaxError as error:
        raise no_source(name, f"its source does not parse: {error}") from None
    _check_kind(source)
    return source


def _check_kind(source: KernelSource) -> None:
    arguments = source.node.args
    if arguments.vararg or arguments.kwarg:
        raise source.error(
            source.node, "a kernel takes a fixed number of arguments", found="*args or **kwargs"
        )
    if arguments.defaults:
        raise source.error(
            source.node,
            "arguments of a kernel have no defaults",
            fix="make it keyword-only (after `*`): such arguments are constants of the kernel",
        )


def parameters(source: KernelSource) -> list[str]:
    """The names of a kernel's operands."""
    arguments = source.node.args
    return [a.arg for a in (*arguments.posonlyargs, *arguments.args)]


def assigned(nodes: Any) -> list[str]:
    """The names that statements assign to, arrays whose elements they set among them, in order."""
    names: dict[str, None] = {}
    for statement in nodes:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names[node.id] = None
            elif (
                isinstance(node, ast.Subscript)
                and isinstance(node.ctx, ast.Store)
                and isinstance(node.value, ast.Name)
            ):
                names[node.value.id] = None
    return list(names)


def leaves(nodes: Any, *kinds: type[ast.stmt]) -> bool:
    """Whether statements contain one of these kinds that leaves them: not of a loop inside."""
    loops = (ast.For, ast.While)
    for node in nodes:
        if isinstance(node, kinds):
            return True
        inside = kinds
        if isinstance(node, loops):
            inside = tuple([k for k in kinds if k is ast.Return])
        children = [c for c in ast.iter_child_nodes(node) if isinstance(c, ast.stmt)]
        if inside and children and leaves(children, *inside):
            return True
    return False


def completes(nodes: Any) -> bool:
    """Whether control may reach the end of statements without a `return`."""
    for node in nodes:
        if isinstance(node, (ast.Return, ast.Break, ast.Continue)):
            return False
        if isinstance(node, ast.If) and not (completes(node.body) or completes(node.orelse)):
            return False
        forever = isinstance(node, ast.While) and _is_true(node.test)
        if forever and not leaves(node.body, ast.Break):  # pyright: ignore[reportAttributeAccessIssue]
            return False
    return True


def _is_true(test: ast.expr) -> bool:
    return isinstance(test, ast.Constant) and bool(test.value)
