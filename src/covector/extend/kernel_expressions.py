"""Running the expressions of a kernel on traced scalars.

A kernel is run by walking over its syntax, under whatever trace is current. What is known while
compiling (constants, sizes, counters of unrolled loops) is computed in Python on the way.
"""

from __future__ import annotations

import ast
import operator
import types
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import numpy as np

import covector.numpy as cnp
from covector.core.array import Array
from covector.core.operand import Operand
from covector.core.trace import Tracer
from covector.extend.kernel_names import is_number, translate, truth
from covector.extend.kernel_source import KernelSource
from covector.extend.kernel_values import (
    LocalArray,
    Undefined,
    closed_over,
    combined,
    items_of,
    local_array,
    same_constant,
)

_operators: Any = operator
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: _operators.add,
    ast.Sub: _operators.sub,
    ast.Mult: _operators.mul,
    ast.Div: _operators.truediv,
    ast.FloorDiv: _operators.floordiv,
    ast.Mod: _operators.mod,
    ast.Pow: _operators.pow,
    ast.BitAnd: _operators.and_,
    ast.BitOr: _operators.or_,
    ast.BitXor: _operators.xor,
    ast.LShift: _operators.lshift,
    ast.RShift: _operators.rshift,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARRAYS = {"zeros": 0.0, "empty": 0.0, "ones": 1.0}
_MODULES = ("numpy", "covector.numpy")

_FIXES = {
    "Lambda": "define a function with `def` and @scalar_kernel",
    "ListComp": "write a `for` loop over a local array, as of numpy.zeros(n)",
    "Dict": "pass the values as arguments, or close over numbers",
    "Await": "kernels are plain functions",
    "JoinedStr": "print from outside of the kernel",
    "NamedExpr": "assign in a statement of its own",
    "Try": "kernels raise no exceptions; test for the condition and give NaN",
    "Raise": "kernels raise no exceptions; give NaN instead",
    "Assert": "check arguments before calling the kernel",
    "With": "take the block out of the kernel",
    "FunctionDef": "move the inner function out and decorate it with @scalar_kernel",
    "Global": "pass the value as an argument",
    "Nonlocal": "pass the value as an argument",
    "Import": "import outside of the kernel",
    "ImportFrom": "import outside of the kernel",
    "Delete": "leave the variable as it is",
    "Yield": "return several results as a tuple, or write an array_kernel",
}


class Expressions:
    """Evaluates expressions.

    Attributes:
        source: of the kernel.
        env: the values of variables.
        static: what keyword-only arguments are.
    """

    def __init__(self, source: KernelSource) -> None:
        self.source = source
        self.env: dict[str, Any] = {}

    # --- what kinds of kernels differ in ------------------------------------------------------

    def select(self, predicate: Any, then: Any, otherwise: Any) -> Any:
        """One of two scalars."""
        return cnp.where(predicate, then, otherwise)

    def choose(
        self, predicate: Any, nodes: Sequence[ast.AST], sides: Sequence[Callable[[], Any]]
    ) -> Any:
        """The value of one of two expressions, given what computes them."""
        raise NotImplementedError

    def call_kernel(self, node: ast.Call, kernel: Any, args: Any, static: Any) -> Any:
        """What another kernel gives."""
        raise NotImplementedError

    def load(self, node: ast.Subscript, array: Any, index: Sequence[Any]) -> Any:
        """An element of an operand."""
        raise NotImplementedError

    def attribute(self, node: ast.Attribute, value: Any) -> Any:
        """An attribute of something that is not a module."""
        if node.attr == "dtype" and isinstance(value, Operand):
            return value.dtype
        if node.attr == "shape" and isinstance(value, LocalArray):
            return value.shape
        return self.unsupported(node, f"the attribute .{node.attr} of {type(value).__name__}")

    # --- errors -------------------------------------------------------------------------------

    def fail(self, node: ast.AST, problem: str, found: str = "", fix: str = "") -> NoReturn:
        """Raises an error that points to a node."""
        raise self.source.error(node, problem, found=found, fix=fix)

    def unsupported(self, node: ast.AST, what: str = "") -> NoReturn:
        """Raises the error for what kernels cannot do."""
        kind = type(node).__name__
        text = what or ast.unparse(node).split("\n")[0]
        fix = _FIXES.get(kind, "compute it outside of the kernel and pass it as an argument")
        self.fail(node, f"{kind} is not supported in kernels", text, fix)

    # --- expressions --------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """The value of an expression."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self.unsupported(node)
        return method(node)

    def _constant(self, node: ast.Constant) -> Any:
        if node.value is None or isinstance(node.value, (bytes, type(...))):
            self.unsupported(node)
        return node.value

    def _name(self, node: ast.Name) -> Any:
        if node.id in self.env:
            value = self.env[node.id]
            if isinstance(value, Undefined):
                fix = "give it a value before"
                self.fail(node, f"{node.id!r} may not have a value here", value.why, fix)
            return value
        try:
            value = self.source.look_up(node.id)
        except NameError as error:
            self.fail(node, str(error), fix="assign to it before, or define it outside")
        return self.constant(node, value)

    def constant(self, node: ast.AST, value: Any) -> Any:
        """What a value from outside of the kernel is inside."""
        if isinstance(value, Tracer):
            fix = "pass it as an argument of the kernel"
            self.fail(node, "a kernel cannot close over a traced value", repr(value), fix)
        if isinstance(value, Array):
            value = np.asarray(value)
        if isinstance(value, np.ndarray):
            return closed_over(cast("np.ndarray[Any, Any]", value))
        return value

    def _attribute(self, node: ast.Attribute) -> Any:
        value = self.value(node.value)
        if isinstance(value, (types.ModuleType, type)):
            if not hasattr(value, node.attr):
                self.fail(node, f"{value.__name__} has no attribute {node.attr!r}")
            return self.constant(node, getattr(value, node.attr))
        return self.attribute(node, value)

    def _tuple(self, node: ast.Tuple) -> Any:
        return tuple([self.value(item) for item in node.elts])

    def _list(self, node: ast.List) -> Any:
        values = tuple([self.value(item) for item in node.elts])
        return LocalArray((len(values),), values)

    def binary(self, node: ast.AST, op: ast.operator, x: Any, y: Any) -> Any:
        """An arithmetic operation."""
        apply = _BINARY.get(type(op))
        if apply is None:
            kind = type(op).__name__
            self.fail(node, f"the operator {kind} is not supported in kernels")
        for operand in (x, y):
            self._check_scalar(node, operand)
        return apply(x, y)

    def _check_scalar(self, node: ast.AST, x: Any) -> None:
        if not (isinstance(x, Operand) or is_number(x)):
            fix = "index it, or loop over its elements"
            self.fail(node, "kernels compute with scalars", type(x).__name__, fix)

    def _binop(self, node: ast.BinOp) -> Any:
        return self.binary(node, node.op, self.value(node.left), self.value(node.right))

    def _unaryop(self, node: ast.UnaryOp) -> Any:
        x = self.value(node.operand)
        self._check_scalar(node, x)
        if isinstance(node.op, ast.Not):
            return self.negated(self.truth(x))
        if isinstance(node.op, ast.USub):
            return -x
        return ~x if isinstance(node.op, ast.Invert) else +x

    def truth(self, value: Any) -> Any:
        """A scalar as a bool."""
        return truth(value)

    def negated(self, predicate: Any) -> Any:
        """The opposite of a bool."""
        return cnp.logical_not(predicate) if isinstance(predicate, Operand) else not predicate

    def both(self, a: Any, b: Any) -> Any:
        """Whether two bools hold."""
        if not isinstance(a, Operand):
            return b if a else a
        if not isinstance(b, Operand):
            return a if b else b
        return cnp.logical_and(a, b)

    def _compare(self, node: ast.Compare) -> Any:
        left, result = self.value(node.left), True
        for op, operand in zip(node.ops, node.comparators, strict=True):
            right = self.value(operand)
            compare = _COMPARISONS.get(type(op))
            if compare is None:
                self.fail(node, f"the comparison {type(op).__name__} is not supported in kernels")
            result = self.both(result, self.compared(compare, left, right))
            left = right
        return result

    def compared(self, compare: Callable[[Any, Any], Any], x: Any, y: Any) -> Any:
        """A comparison of two scalars."""
        return compare(x, y)

    def _boolop(self, node: ast.BoolOp) -> Any:
        return self._either(node, node.values, isinstance(node.op, ast.And))

    def _either(self, node: ast.BoolOp, values: Sequence[ast.expr], conjunction: bool) -> Any:
        first = self.value(values[0])
        if len(values) == 1:
            return first

        def rest() -> Any:
            return self._either(node, values[1:], conjunction)

        def same() -> Any:
            return first

        sides = [rest, same] if conjunction else [same, rest]
        return self.choose(self.truth(first), values[1:], sides)

    def _ifexp(self, node: ast.IfExp) -> Any:
        predicate = self.truth(self.value(node.test))
        sides = [lambda: self.value(node.body), lambda: self.value(node.orelse)]
        return self.choose(predicate, [node.body, node.orelse], sides)

    def merged(self, node: ast.AST, predicate: Any, then: Any, otherwise: Any) -> Any:
        """Of two values of one structure the one that holds."""

        def scalar(x: Any, y: Any) -> Any:
            return x if same_constant(x, y) else self.select(predicate, x, y)

        def problem(x: Any, y: Any) -> NoReturn:
            found = f"{type(x).__name__} and {type(y).__name__}"
            self.fail(node, "both sides of a branch must give values of one kind", found)

        return combined(then, otherwise, scalar, problem)

    # --- arrays -------------------------------------------------------------------------------

    def index_of(self, node: ast.Subscript) -> list[Any]:
        """The parts of an index."""
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        for part in parts:
            if isinstance(part, ast.Slice):
                self.fail(part, "slices are not supported in kernels", fix="write a loop")
        return [self.value(part) for part in parts]

    def _subscript(self, node: ast.Subscript) -> Any:
        array, index = self.value(node.value), self.index_of(node)
        if isinstance(array, LocalArray):
            return self.local_element(node, array, index)
        if isinstance(array, tuple):
            items = items_of(array)
            if len(index) == 1 and isinstance(index[0], int):
                return items[index[0]]
            fix = "use a local array, as of numpy.zeros(n)"
            self.fail(node, "a tuple is indexed by constants", fix=fix)
        return self.load(node, array, index)

    def _check_rank(self, node: ast.AST, shape: Sequence[Any], index: Sequence[Any]) -> None:
        if len(shape) != len(index):
            found = f"an index of {len(index)} parts for an array of rank {len(shape)}"
            self.fail(node, "an index has as many parts as the array has axes", found)

    def local_element(self, node: ast.AST, array: LocalArray, index: Sequence[Any]) -> Any:
        """An element of a local array; the nearest one if the index is outside of it."""
        self._check_rank(node, array.shape, index)
        if all([isinstance(i, (int, np.integer)) for i in index]):
            return array.values[array.position([int(i) for i in index])]
        result = array.values[0]
        place = self._place(array, index)
        for k, value in enumerate(array.values[1:], 1):
            result = self.merged(node, place >= k, value, result)
        return result

    def _place(self, array: LocalArray, index: Sequence[Any]) -> Any:
        """The position of an element whose index is known at run time only."""
        place: Any = 0
        for i, n in zip(index, array.shape, strict=True):
            place = place * n + cnp.clip(cnp.where(i < 0, i + n, i), 0, n - 1)
        return place

    def with_element(
        self, node: ast.AST, array: LocalArray, index: Sequence[Any], value: Any
    ) -> LocalArray:
        """A local array with one element changed; none if the index is outside of it."""
        self._check_rank(node, array.shape, index)
        values = list(array.values)
        if all([isinstance(i, (int, np.integer)) for i in index]):
            values[array.position([int(i) for i in index])] = value
            return LocalArray(array.shape, tuple(values))
        for k, own in enumerate(np.ndindex(*array.shape)):
            hit: Any = True
            for i, j, n in zip(index, own, array.shape, strict=True):
                hit = self.both(hit, cnp.where(i < 0, i + n, i) == j)
            values[k] = self.merged(node, hit, value, values[k])
        return LocalArray(array.shape, tuple(values))

    # --- calls --------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Any:
        function = self.value(node.func)
        if any([isinstance(a, ast.Starred) for a in node.args]):
            self.fail(node, "a call in a kernel names each argument", fix="write them out")
        args = [self.value(a) for a in node.args]
        named = {str(k.arg): self.value(k.value) for k in node.keywords}
        if getattr(function, "is_kernel", False):
            return self.call_kernel(node, function, args, named)
        if function is len and isinstance(args[0], (LocalArray, tuple)):
            return self._length(args[0])
        made = self._made_array(function, args, named)
        return self._library(node, function, args, named) if made is None else made

    def _length(self, array: Any) -> int:
        return array.shape[0] if isinstance(array, LocalArray) else len(items_of(array))

    def _made_array(self, function: Any, args: list[Any], named: Any) -> LocalArray | None:
        name = getattr(function, "__name__", "")
        if not (getattr(function, "__module__", "") or "").startswith(_MODULES):
            return None
        if name not in _ARRAYS and name != "full":
            return None
        fill = args.pop(1) if name == "full" else _ARRAYS[name]
        kind = named.get("dtype", args[1] if len(args) > 1 else None)
        return local_array(args[0], fill if kind is None else cnp.asarray(fill, dtype=kind))

    def _library(self, node: ast.Call, function: Any, args: list[Any], named: Any) -> Any:
        translated = translate(function)
        name = getattr(function, "__name__", type(function).__name__)
        if translated is None:
            fix = "decorate it with @scalar_kernel"
            if not isinstance(function, types.FunctionType):
                fix = "use a function of math, numpy or covector.numpy"
            self.fail(node, f"{name} cannot be called in a kernel", ast.unparse(node), fix)
        for x in args:
            self._check_scalar(node, x)
        own = (getattr(function, "__module__", None) or "").startswith("covector")
        if not own and not any([isinstance(x, Operand) for x in args]):
            return function(*args, **named)  # it is known while compiling
        result = translated(*args, **named)
        if isinstance(result, Operand) and result.shape != ():
            found = f"{name} gives an array of shape {result.shape}"
            self.fail(node, "kernels compute with scalars", found)
        return result
