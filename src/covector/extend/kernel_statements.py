"""Running the statements of a kernel: assignments, branches, loops.

`return`, `break` and `continue` set flags, which are variables like others; what follows a
statement that may set one is a branch on it.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from covector.core import dtypes
from covector.core.avals import Aval
from covector.core.operand import Operand
from covector.core.program import Equation, Variable
from covector.core.trace import aval_of, current_trace, replayed
from covector.extend.kernel_expressions import Expressions
from covector.extend.kernel_source import KernelError, assigned, completes, leaves
from covector.extend.kernel_values import (
    DryTrace,
    LocalArray,
    ScalarType,
    Undefined,
    combined,
    converted,
    example,
    flatten,
    items_of,
    joined,
    rebuild,
    type_of,
)
from covector.ops.scalar_kernel import scalar_kernel

RETURNED, RESULT, BROKEN, CONTINUED = "return reached", "result", "break", "continue"
_FLAGS = (RETURNED, RESULT, BROKEN, CONTINUED)
MAX_UNROLLED = 8
"""Iterations up to which a loop is written out, if it is short."""
_LONG = 400
"""Parts of syntax of all iterations together up to which it is."""
_ROUNDS = 8


class Statements(Expressions):
    """Runs statements."""

    # --- what kinds of kernels differ in ------------------------------------------------------

    def branch(
        self, node: ast.AST, predicate: Any, sides: Sequence[Callable[[], None]], names: Any
    ) -> None:
        """Runs one of two blocks, which may change some variables."""
        raise NotImplementedError

    def run_while(
        self, test: Callable[[list[Any]], Any], body: Callable[[list[Any]], list[Any]], init: Any
    ) -> list[Any]:
        """A loop whose carries are scalars."""
        raise NotImplementedError

    def run_for(
        self, bounds: Sequence[Any], body: Callable[[Any, list[Any]], list[Any]], init: list[Any]
    ) -> list[Any]:
        """A loop that runs as often as its bounds say."""
        raise NotImplementedError

    def store(self, node: ast.Subscript, array: Any, index: list[Any], value: Any) -> None:
        """Sets an element of a result."""
        raise NotImplementedError

    def special_loop(self, node: ast.For, function: Any) -> Callable[[ast.For, Any], None] | None:
        """What runs loops over something other than `range`."""
        return None

    def countable(self, low: Any, high: Any, step: int) -> bool:
        """Whether `run_for` can run over a range."""
        return isinstance(low, int) and isinstance(high, int)

    def scalar_type(self, value: Any) -> Any:
        """The type of a scalar that a loop carries."""
        return type_of(value)

    def joined_type(self, a: Any, b: Any) -> Any:
        """The type that both promote to."""
        return joined(a, b)

    def as_type(self, value: Any, type_: Any) -> Any:
        """A scalar converted."""
        return converted(value, type_)

    def of_type(self, type_: Any, trace: DryTrace) -> Any:
        """Some scalar of a type."""
        return example(type_, trace)

    # --- blocks -------------------------------------------------------------------------------

    def function_body(self, nodes: Sequence[ast.stmt]) -> Any:
        """Runs the body of a function; what it returns."""
        self.env[RETURNED] = False
        self.block(nodes)
        return self.env.get(RESULT)

    def check_returns(self) -> None:
        """Raises unless each way through the function ends with a `return`."""
        if completes(self.source.node.body):
            fix = "end the kernel with a `return` of its results"
            self.fail(self.source.node, "a scalar kernel returns a value in every case", fix=fix)

    def block(self, nodes: Sequence[ast.stmt]) -> None:
        """Runs statements."""
        for k, node in enumerate(nodes):
            self.statement(node)
            if not leaves([node], ast.Return, ast.Break, ast.Continue):
                continue
            goes_on = self.negated(self.stopped())
            if not isinstance(goes_on, Operand):
                if goes_on:
                    continue
                return
            if nodes[k + 1 :]:
                self._if_going_on(node, goes_on, nodes[k + 1 :])
            return

    def _if_going_on(self, node: ast.stmt, goes_on: Any, rest: Sequence[ast.stmt]) -> None:
        sides = [lambda: self.block(rest), lambda: None]
        self.branch(node, goes_on, sides, self.changed(rest))

    def stopped(self) -> Any:
        """Whether what follows is left out."""
        stop: Any = False
        for flag in (RETURNED, BROKEN, CONTINUED):
            other = self.env.get(flag, False)
            if stop is False or other is True:
                stop = other
            elif other is not False and stop is not True:
                stop = stop | other
        return stop

    def changed(self, nodes: Sequence[ast.stmt]) -> list[str]:
        """The variables, flags among them, that statements may change."""
        names = assigned(nodes)
        if leaves(nodes, ast.Return):
            names += [RETURNED, RESULT]
        names += [BROKEN] * leaves(nodes, ast.Break) + [CONTINUED] * leaves(nodes, ast.Continue)
        return names

    def statement(self, node: ast.stmt) -> None:
        """Runs one statement."""
        method = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            self.unsupported(node)
        try:
            with self._at(node):
                method(node)
        except KernelError:
            raise
        except Exception as error:
            if not getattr(error, "in_kernel", False):
                error.in_kernel = True  # pyright: ignore[reportAttributeAccessIssue]
                error.add_note(f"in the kernel {self.source.name}: {self.source.location(node)}")
            raise

    @contextmanager
    def _at(self, node: ast.stmt) -> Generator[None]:
        """Lets what is traced inside be of a line of the kernel."""
        place = Variable(Aval((), dtypes.bool_))
        line = self.source.location(node)
        with replayed() as replay:
            replay(Equation(scalar_kernel, [], [place], {}, frame=line))
            yield

    # --- simple statements --------------------------------------------------------------------

    def _expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.unsupported(node)

    def _pass(self, node: ast.Pass) -> None:
        pass

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self.env[RESULT] = self.value(node.value)
        self.env[RETURNED] = True

    def _break(self, node: ast.Break) -> None:
        self.env[BROKEN] = True

    def _continue(self, node: ast.Continue) -> None:
        self.env[CONTINUED] = True

    def _assign(self, node: ast.Assign) -> None:
        value = self.value(node.value)
        for target in node.targets:
            self.assign(target, value)

    def _annassign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.value(node.value))

    def _augassign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Attribute):
            self.unsupported(target)
        before = ast.copy_location(
            ast.Name(target.id, ast.Load())
            if isinstance(target, ast.Name)
            else ast.Subscript(target.value, target.slice, ast.Load()),
            target,
        )
        self.assign(target, self.binary(node, node.op, self.value(before), self.value(node.value)))

    def assign(self, target: ast.expr, value: Any) -> None:
        """Gives a variable or an element a value."""
        if isinstance(target, ast.Name):
            self.env[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            values = value.values if isinstance(value, LocalArray) else ()
            if isinstance(value, tuple) and not isinstance(value, LocalArray):
                values = items_of(value)
            if len(values) != len(target.elts):
                self.fail(target, f"cannot unpack into {len(target.elts)} variables")
            for part, item in zip(target.elts, values, strict=True):
                self.assign(part, item)
        elif isinstance(target, ast.Subscript):
            self._assign_element(target, value)
        else:
            self.unsupported(target)

    def _assign_element(self, target: ast.Subscript, value: Any) -> None:
        array, index = self.value(target.value), self.index_of(target)
        if not isinstance(array, LocalArray):
            self.store(target, array, index, value)
        elif isinstance(target.value, ast.Name):
            self.env[target.value.id] = self.with_element(target, array, index, value)
        else:
            self.unsupported(target)

    # --- branches -----------------------------------------------------------------------------

    def _if(self, node: ast.If) -> None:
        predicate = self.truth(self.value(node.test))
        if not isinstance(predicate, Operand):
            self.block(node.body if predicate else node.orelse)
            return
        sides = [lambda: self.block(node.body), lambda: self.block(node.orelse)]
        names = self.changed([*node.body, *node.orelse])
        self.branch(node, predicate, sides, list(dict.fromkeys(names)))

    def joined_variable(self, node: ast.AST, predicate: Any, name: str, envs: Any) -> Any:
        """What a variable is after a branch, given the variables at the ends of its sides."""
        none = Undefined("nothing was assigned to it")
        then, otherwise = [env.get(name, none) for env in envs]
        for k, env in enumerate(envs):
            # What a side that returns leaves behind is not read again, but for its result.
            other = otherwise if k == 0 else then
            mine = then if k == 0 else otherwise
            gone = env.get(RETURNED) is True and name not in _FLAGS
            if gone or (isinstance(mine, Undefined) and (name == RESULT or _left(env))):
                then, otherwise = (other, otherwise) if k == 0 else (then, other)
        if isinstance(then, Undefined) or isinstance(otherwise, Undefined):
            line = self.source.location(node).line
            return Undefined(f"only one side of the branch in line {line} assigns to it")
        return self.merged(node, predicate, then, otherwise)

    # --- loops --------------------------------------------------------------------------------

    def _while(self, node: ast.While) -> None:
        if node.orelse:
            self.fail(node, "`else` of a loop is not supported in kernels", fix="test a flag")

        def test() -> Any:
            return self.truth(self.value(node.test))

        self.loop_while(node, test, self._iteration(node), self.changed(node.body))

    def loop_while(
        self, node: ast.AST, test: Callable[[], Any], body: Callable[[], None], names: list[str]
    ) -> None:
        """Runs a loop with a condition."""
        outer = self._begin_loop()
        types = self.loop_types(node, names, body)

        def condition(scalars: list[Any]) -> Any:
            with self.variables(types, scalars):
                going = self.negated(self.stopped())
                return self.both(going, test()) if going is not False else False

        def step(scalars: list[Any]) -> list[Any]:
            with self.variables(types, scalars):
                body()
                return self.scalars_of(node, types)

        results = self.run_while(condition, step, self.scalars_of(node, types))
        self._end_loop(node, outer, names, types, results)

    def _for(self, node: ast.For) -> None:
        if node.orelse:
            self.fail(node, "`else` of a loop is not supported in kernels", fix="test a flag")
        call = node.iter
        if not isinstance(call, ast.Call):
            self._for_items(node, self.value(call))
            return
        function = self.value(call.func)
        special = self.special_loop(node, function)
        bounds = [self.value(a) for a in call.args]
        if special is not None:
            special(node, bounds)
        elif function is range and not call.keywords and 1 <= len(bounds) <= 3:
            self._for_range(node, bounds)
        else:
            fix = "loop over range(n)"
            self.fail(node, "a kernel loops over ranges and local arrays", ast.unparse(call), fix)

    def _for_items(self, node: ast.For, items: Any) -> None:
        if not isinstance(items, (tuple, LocalArray)):
            fix = "loop over range(n), and index"
            found = ast.unparse(node.iter)
            self.fail(node, "a kernel loops over ranges and local arrays", found, fix)
        self._unrolled(node, items.values if isinstance(items, LocalArray) else items)

    def _for_range(self, node: ast.For, bounds: list[Any]) -> None:
        low = bounds[0] if len(bounds) > 1 else 0
        high = bounds[1] if len(bounds) > 1 else bounds[0]
        step = bounds[2] if len(bounds) > 2 else 1
        if not isinstance(step, int) or step == 0:
            self.fail(node, "the step of a range is a constant other than 0", repr(step))
        known = isinstance(low, int) and isinstance(high, int)
        if known:
            trips = range(low, high, step)
            size = sum([1 for part in node.body for _ in ast.walk(part)])
            short = len(trips) <= MAX_UNROLLED and size * len(trips) <= _LONG
            if short or len(trips) <= 1:
                self._unrolled(node, trips)
                return
        if leaves(node.body, ast.Break, ast.Return) or not self.countable(low, high, step):
            self._counted_while(node, low, high, step)
        else:
            self._counted(node, low, high, step)

    def _unrolled(self, node: ast.For, items: Any) -> None:
        outer = self._begin_loop()
        self._iterations(node, list(items))
        self._end_flags(outer)

    def _iterations(self, node: ast.For, items: list[Any]) -> None:
        """Runs the body for each item, until something stops that."""
        for k, item in enumerate(items):
            self.env[CONTINUED] = False
            goes_on = self.negated(self.stopped())
            if goes_on is False:
                return
            if isinstance(goes_on, Operand):
                self._if_more(node, goes_on, items[k:])
                return
            self.assign(node.target, item)
            self.block(node.body)

    def _if_more(self, node: ast.For, goes_on: Any, rest: list[Any]) -> None:
        sides = [lambda: self._iterations(node, rest), lambda: None]
        self.branch(node, goes_on, sides, [*self.changed([node]), BROKEN, CONTINUED])

    def _counter(self, node: ast.For) -> str:
        if not isinstance(node.target, ast.Name):
            self.unsupported(node.target)
        return node.target.id

    def _counted(self, node: ast.For, low: Any, high: Any, step: int) -> None:
        """A loop over a range that nothing leaves."""
        name = self._counter(node)
        names = [n for n in self.changed(node.body) if n != name]
        outer = self._begin_loop()
        body = self._iteration(node)
        types = self.loop_types(node, names, body, name)

        def run(index: Any, scalars: list[Any]) -> list[Any]:
            with self.variables(types, scalars):
                self.env[name] = index
                body()
                return self.scalars_of(node, types)

        results = self.run_for((low, high, step), run, self.scalars_of(node, types))
        self._end_loop(node, outer, [*names, name], types, results)

    def _iteration(self, node: ast.For | ast.While) -> Callable[[], None]:
        def body() -> None:
            self.env[CONTINUED] = False
            self.block(node.body)
            self.env[CONTINUED] = False

        return body

    def _counted_while(self, node: ast.For, low: Any, high: Any, step: int) -> None:
        """A loop over a range whose end is not known, or which may be left before."""
        name = self._counter(node)
        counter = f"{name} of line {node.lineno}"
        low, high = [self.bound(node, x) for x in (low, high)]
        self.env[counter] = low
        iteration = self._iteration(node)

        def body() -> None:
            self.env[name] = self.env[counter]
            iteration()
            self.env[counter] = self.binary(node, ast.Add(), self.env[counter], step)

        def test() -> Any:
            compare = operator.lt if step > 0 else operator.gt
            return self.compared(compare, self.env[counter], high)

        names = [n for n in self.changed(node.body) if n != name]
        self.loop_while(node, test, body, [*names, counter])
        why = f"the loop in line {self.source.location(node).line} may not run at all"
        self.env[name] = Undefined(why)

    def bound(self, node: ast.For, x: Any) -> Any:
        """A bound of a range, of a type in which counters neither wrap nor lose a sign."""
        if not isinstance(x, Operand):
            return x
        if x.dtype.kind not in "iub":
            self.fail(node, "the bounds of a range are integers", str(x.dtype), "use int()")
        wide = np.promote_types(x.dtype, aval_of(0).dtype)
        return converted(x, ScalarType(wide if wide.kind == "i" else x.dtype, False))

    def _begin_loop(self) -> dict[str, Any]:
        """Clears the flags of a loop; those of the loop around."""
        outer = {flag: self.env.get(flag, False) for flag in (BROKEN, CONTINUED)}
        self.env[BROKEN] = self.env[CONTINUED] = False
        return outer

    def _end_flags(self, outer: dict[str, Any]) -> None:
        self.env.update(outer)

    def _end_loop(
        self, node: ast.AST, outer: dict[str, Any], names: Any, types: Any, results: Any
    ) -> None:
        self.bind(types, results)
        why = f"the loop in line {self.source.location(node).line} may not run at all"
        for name in names:
            if name not in types:
                self.env[name] = Undefined(why)
        self._end_flags(outer)

    # --- what loops carry ---------------------------------------------------------------------

    def loop_types(
        self, node: ast.AST, names: Any, body: Callable[[], None], counter: str | None = None
    ) -> dict[str, Any]:
        """The types of the variables that a loop carries, found by running its body dry."""
        types: dict[str, Any] = {}
        for name in dict.fromkeys(names):
            if name in self.env and not isinstance(self.env[name], Undefined):
                types[name] = self._types(node, name, self.env[name])
        for _ in range(_ROUNDS):
            found = self._types_after(node, names, types, body, counter)
            if found == types:
                return types
            types = found
        return self.fail(node, "the types of what a loop changes do not settle", ", ".join(types))

    def _types(self, node: ast.AST, name: str, value: Any) -> Any:
        try:
            return rebuild(value, iter([self.scalar_type(v) for v in flatten(value)]))
        except TypeError as error:
            self.fail(node, f"{name!r} changes in a loop", str(error))

    def _types_after(
        self, node: ast.AST, names: Any, types: Any, body: Callable[[], None], counter: str | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        trace = DryTrace()
        with current_trace(trace):
            scalars = [self.of_type(t, trace) for type_ in types.values() for t in flatten(type_)]
            with self.variables(types, scalars):
                if counter is not None:
                    self.env[counter] = self.dry_counter(trace)
                body()
                after = dict(self.env)
            for name in dict.fromkeys(names):
                value = after.get(name, Undefined(""))
                carried = name in types or name == RESULT
                if not carried or (isinstance(value, Undefined) and name not in types):
                    continue
                if isinstance(value, Undefined):
                    self.fail(node, f"{name!r} loses its value in a loop", value.why)
                new = self._types(node, name, value)
                found[name] = self._joined(node, name, types.get(name, new), new)
        return found

    def dry_counter(self, trace: DryTrace) -> Any:
        """A loop's counter in a dry run."""
        return example(type_of(0), trace)

    def _joined(self, node: ast.AST, name: str, a: Any, b: Any) -> Any:
        def problem(x: Any, y: Any) -> NoReturn:
            self.fail(node, f"{name!r} changes its kind in a loop", f"{x} and {y}")

        return combined(a, b, self.joined_type, problem)

    @contextmanager
    def variables(self, types: dict[str, Any], scalars: list[Any]) -> Generator[None]:
        """Binds what a loop carries inside the block, and restores all variables after it."""
        before = dict(self.env)
        self.bind(types, scalars)
        try:
            yield
        finally:
            self.env = before

    def bind(self, types: dict[str, Any], scalars: Sequence[Any]) -> None:
        """Gives what a loop carries its values."""
        given = iter(scalars)
        for name, type_ in types.items():
            self.env[name] = rebuild(type_, given)

    def scalars_of(self, node: ast.AST, types: dict[str, Any]) -> list[Any]:
        """What a loop carries, of the types it needs; a result that is not there yet is zero."""
        scalars: list[Any] = []
        for name, type_ in types.items():
            wanted = flatten(type_)
            value = self.env.get(name)
            if value is None or isinstance(value, Undefined):
                values: list[Any] = [0] * len(wanted)
            else:
                values = flatten(value)
            scalars += [self.as_type(v, t) for v, t in zip(values, wanted, strict=True)]
        return scalars


def _left(env: dict[str, Any]) -> bool:
    """Whether a side of a branch ends with `return`, `break` or `continue` for certain."""
    return any([env.get(flag) is True for flag in (RETURNED, BROKEN, CONTINUED)])
