"""Passes of users' own in the compiler's pipeline, and rewrite rules.

The compiler takes a program through passes, each a function from programs to programs, turns it
into loop IR, and that into code. `program_names` and `loop_names` list them. Yours runs before or
after any of them, for as long as a block lasts (`using`) or from now on (`register`), and what is
compiled with it is kept apart from what is compiled without, in memory and on disk.

A rule is the shortest pass: two functions, of which the second stands for the first.

Example:
    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> from covector import nn
    >>> def naive(x, *, axes=(0,)):
    ...     return cnp.log(cnp.sum(cnp.exp(x), axis=axes))
    >>> @rewrite(naive)
    ... def stable(x, *, axes):
    ...     return nn.logsumexp(x, axis=axes)
    >>> f = cv.jit(lambda x: cnp.log(cnp.exp(x).sum(-1)))
    >>> large = cnp.array([[1000.0, 1000.0], [0.0, 0.0]])
    >>> f(large)
    Array([      inf, 0.6931472], dtype=float32)
    >>> with using(stable):
    ...     f(large)
    Array([1.0006932e+03, 6.9314718e-01], dtype=float32)
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from covector.compiler import placed
from covector.compiler.passes.base import substitute
from covector.compiler.passes.rewrites import Rewrites
from covector.compiler.passes.rules import Operand, Rule
from covector.compiler.pipeline import NAMES, before_place
from covector.compiler.places import placed_at
from covector.core import pytree
from covector.core.avals import Aval, same_type
from covector.core.config import config
from covector.core.errors import PassError, compose
from covector.core.program import (
    Atom,
    Equation,
    Literal,
    Program,
    Variable,
    all_equations,
    map_subprograms,
    subprograms,
)
from covector.core.trace import aval_of, eval_program, trace_program
from covector.core.verify import verify
from covector.ops.nested import prune
from covector.transforms.flat import FlatFunction, check_leaves, function_name
from covector.transforms.programs import make_program

__all__ = [
    "Equation",
    "Literal",
    "LoopPass",
    "Operand",
    "PassError",
    "Program",
    "ProgramPass",
    "Rule",
    "Variable",
    "all_equations",
    "applied",
    "build",
    "loop_names",
    "loop_pass",
    "make_program",
    "map_equations",
    "map_subprograms",
    "program_names",
    "program_pass",
    "prune",
    "register",
    "registered",
    "rewrite",
    "unregister",
    "using",
    "verify",
]


@dataclass(frozen=True)
class ProgramPass:
    """A pass on programs, as `program_pass` makes it.

    Attributes:
        name: for places, profiles and messages.
        run: `(program) -> program`.
        version: see `program_pass`.
    """

    name: str
    run: Callable[[Program], Program]
    version: str = ""

    in_loops = False


@dataclass(frozen=True)
class LoopPass:
    """A pass on loop IR, as `loop_pass` makes it.

    Attributes:
        name: for places and messages.
        run: `(function) -> function`, or `None` after changing it in place.
        version: see `program_pass`.
    """

    name: str
    run: Callable[[Any], Any]
    version: str = ""

    in_loops = True


def program_pass(
    fn: Callable[[Program], Program] | None = None, *, name: str = "", version: str = ""
) -> Any:
    """Makes a pass of a function from programs to programs.

    What it gives is verified, and has to have the inputs and outputs of what it is given. It sees
    one program with others inside (loops, branches), which it goes into itself: `map_equations`,
    `map_subprograms`.

    Args:
        fn: the function; it leaves its argument alone.
        name: by default the function's.
        version: what tells it from former ones of its name, for the disk cache. Left out, it is
            found out from the code; where that is not possible (it refers to other packages, say)
            what is compiled with it is not kept on disk.

    Returns:
        The pass, or a decorator that makes it.

    Example:
        >>> import covector as cv
        >>> @program_pass
        ... def shown(program):
        ...     print(*[e.primitive.name for e in all_equations(program)])
        ...     return program
        >>> with using(shown, before="inline"):
        ...     cv.jit(lambda x: 2 * x + 1)(3)
        mul add
        Array(7, dtype=int32, weak_type=True)
    """

    def make(fn: Callable[[Program], Program]) -> ProgramPass:
        return ProgramPass(name or function_name(fn), fn, version)

    return make if fn is None else make(fn)


def loop_pass(fn: Callable[[Any], Any] | None = None, *, name: str = "", version: str = "") -> Any:
    """Makes a pass of a function on loop IR, which may change it in place.

    `covector.extend.loopir` is what it works with: `walk`, `map_values`.

    Args:
        fn: takes a `Function` of the loop IR and gives one, or `None` for the same one.
        name: by default the function's.
        version: as for `program_pass`.

    Returns:
        The pass, or a decorator that makes it.

    Example:
        >>> import covector as cv, numpy as np
        >>> from covector.extend import loopir
        >>> @loop_pass
        ... def count_divisions(function):
        ...     items = loopir.walk(function.body)
        ...     print(sum(isinstance(i, loopir.Value) and i.op == "div" for i in items))
        >>> with using(count_divisions):
        ...     cv.jit(lambda x: x / 3 + 1 / x)(np.ones(2, np.float32))
        2
        Array([1.3333334, 1.3333334], dtype=float32)
    """

    def make(fn: Callable[[Any], Any]) -> LoopPass:
        return LoopPass(name or function_name(fn), fn, version)

    return make if fn is None else make(fn)


def rewrite(
    pattern: Callable[..., Any],
    replacement: Callable[..., Any] | None = None,
    *,
    when: Callable[..., bool] | None = None,
    like: Sequence[Any] | None = None,
    ordered: bool = False,
    name: str = "",
    version: str = "",
) -> Any:
    """Makes a rule: wherever a program computes what `pattern` does, `replacement` is put instead.

    Both are functions of arrays with one result. They are traced for the shapes and dtypes that
    are found, so one rule serves all of them. Keyword arguments of the pattern are parameters of
    operations in it (such as `axes` of a sum), and are found under their names; their defaults are
    what the pattern is traced with to begin with.

    A pattern is found as operations that use each other, the operands of commutative ones in any
    order. A match is left alone if something else reads a value in its middle, which would have to
    be computed twice. A value that comes from outside a loop or branch is an operand in it.

    Args:
        pattern: `(*operands, **params) -> array`.
        replacement: `(*operands, **params) -> array` of the same shape and dtype; it names those of
            the parameters that it needs.
        when: `(*operands, **params) -> bool`: for which `Operand`s (shape, dtype, value of a
            constant) the rule holds; all by default.
        like: what has the `shape` and `dtype` of operands to trace the pattern with to begin with,
            where it cannot be traced for floats of equal sizes.
        ordered: operands of commutative operations have to be in the pattern's order. Rules that
            put such operations in another order, `(a + b) + c` as `a + (b + c)`, come to no end
            without.
        name: by default the replacement's.
        version: as for `program_pass`.

    Returns:
        The rule, a pass; or a decorator of the replacement that makes it.

    Raises:
        PassError: if the pattern cannot be traced, has no operation, or does not use an operand.

    Example:
        >>> import covector as cv, covector.numpy as cnp
        >>> double = rewrite(lambda x: x + x, lambda x: 2 * x, name="double")
        >>> with using(double):
        ...     print(cv.jit(lambda x: cnp.sin(x) + cnp.sin(x)).lower(1.0).as_text("optimized"))
        program '<lambda>'(a: ~f32[]) {
          b: ~f32[] = sin a
          c: ~f32[] = mul 2.0:~f32[] b
        } -> c
    """

    def make(replacement: Callable[..., Any]) -> Rule:
        avals = None if like is None else tuple([Aval(x.shape, np.dtype(x.dtype)) for x in like])
        called = name or function_name(replacement)
        rule = Rule(called, pattern, replacement, when, avals, version, ordered)
        rule.check()
        return rule

    return make if replacement is None else make(replacement)


def program_names() -> tuple[str, ...]:
    """The built-in passes on programs, in order.

    Example:
        >>> program_names()[:4]
        ('inline', 'constants', 'dce', 'cse')
    """
    return NAMES


def loop_names() -> tuple[str, ...]:
    """The steps on loop IR, in order.

    Example:
        >>> loop_names()
        ('schedule', 'threads', 'memory')
    """
    return placed.LOOP_PLACES


def registered() -> tuple[tuple[str, str], ...]:
    """Name and place of each pass of users that holds now, in order of registration."""
    return tuple([(each.name, each.place) for each in placed.current()])


@contextlib.contextmanager
def using(
    *passes: Any, before: str | None = None, after: str | None = None, limit: int = 100
) -> Generator[None]:
    """Compiles with passes of one's own, in this thread and for a block.

    Args:
        *passes: rules, which are applied together until none fits; and passes on programs or on
            loop IR, which run in this order. One replaces another of its name.
        before: a pass before which they run.
        after: a pass after which they run; by default "cse", and "schedule" for loop IR.
        limit: how many replacements of rules there may be for each equation of a program.

    Raises:
        TypeError: if something is no pass, or cannot be hashed.
        ValueError: if there is no such place.
    """
    with config.override("passes", _with(passes, before, after, limit)):
        yield


def register(
    *passes: Any, before: str | None = None, after: str | None = None, limit: int = 100
) -> None:
    """As `using`, in all threads and from now on.

    `COVECTOR_PASSES=module:name` does the same for the usual places, without a change of a program.
    """
    config.update("passes", _with(passes, before, after, limit))


def unregister(*passes: Any) -> None:
    """Ends what `register` began.

    Args:
        *passes: passes, or names of them; all without any.
    """
    names = {p if isinstance(p, str) else p.name for p in passes}
    kept = [p for p in placed.current() if passes and not names & {p.name, *p.name.split("+")}]
    config.update("passes", kept)


def _with(
    passes: Sequence[Any], before: str | None, after: str | None, limit: int
) -> tuple[Any, ...]:
    found: tuple[Any, ...] = config.passes
    for each in _grouped(passes):
        found = placed.with_pass(found, placed_at(each, before, after, limit))
    return found


def _grouped(passes: Sequence[Any]) -> list[Any]:
    """Passes, neighbouring rules as one."""
    groups: list[Any] = []
    rules: list[Rule] = []
    for each in passes:
        if isinstance(each, Rule):
            rules.append(each)
            continue
        groups += [tuple(rules)] if rules else []
        groups.append(each)
        rules = []
    groups += [tuple(rules)] if rules else []
    return groups


@dataclass(frozen=True)
class _AsTraced:
    def __call__(self, program: Program) -> Program:
        return program


def applied(fun: Callable[..., Any], *passes: Any, limit: int = 100) -> Callable[..., Any]:
    """A function whose program goes through passes where it is traced, not where it is compiled.

    So derivatives are of what the passes made: with `using` they are of what you wrote, and passes
    see the program of the derivative.

    Args:
        fun: a function of pytrees of arrays.
        *passes: rules and passes on programs.
        limit: as for `using`.

    Returns:
        The function.

    Example:
        >>> import covector as cv, covector.numpy as cnp
        >>> rule = rewrite(lambda x: cnp.log(cnp.exp(x)), lambda x: x, name="no_log_of_exp")
        >>> f = applied(lambda x: cnp.log(cnp.exp(3 * x)), rule)
        >>> float(cv.grad(f)(1000.0))
        3.0
    """
    name = function_name(fun)
    mine = [_unplaced(each, limit) for each in _grouped(passes)]

    @functools.wraps(fun)
    def rewritten(*args: Any, **kwargs: Any) -> Any:
        check_leaves(f"{name} with passes: arguments", (args, kwargs))
        leaves, tree = pytree.flatten((args, kwargs))
        flat = FlatFunction(fun, tree, name=name)
        program, captured = trace_program(flat, [aval_of(x) for x in leaves], name)
        for each in mine:
            program = each.run(program)
        return pytree.unflatten(flat.out_tree, eval_program(program, *captured, *leaves))

    return rewritten


def _unplaced(given: Any, limit: int) -> placed.Placed:
    found = placed_at(given, limit=limit)
    if found.in_loops:
        raise TypeError(f"the pass {found.name} takes loop IR, which traced functions have not")
    if isinstance(found.wrapped, Rewrites):
        wrapped = Rewrites(found.wrapped.rules, _AsTraced(), limit)
        return placed.Placed(wrapped, "after", "tracing", version=found.version)
    return placed.Placed(given, "after", "tracing", version=found.version)


Rewriter = Callable[[Equation], Callable[..., Any] | None]


def map_equations(program: Program, rule: Rewriter) -> Program:
    """A program with other operations in the place of some equations, in loops and branches too.

    Args:
        program: any program.
        rule: gives `None` for an equation that stays, or a function of its operands whose result
            (a sequence, if there are several) is computed instead.

    Returns:
        The program.

    Raises:
        PassError: if a result is not of the shape and dtype of the equation's.

    Example:
        >>> import covector as cv, covector.numpy as cnp
        >>> def without_sin(equation):
        ...     if equation.primitive.name == "sin":
        ...         return lambda x: cnp.cos(x - cnp.pi / 2)
        >>> program = make_program(lambda x: cnp.sin(x) + 1)(1.0)
        >>> print(map_equations(program, without_sin))
        program '<lambda>'(a: ~f32[]) {
          b: ~f32[] = sub a 1.5707964:~f32[]
          c: ~f32[] = cos b
          d: ~f32[] = add c 1.0:~f32[]
        } -> d
    """
    names: dict[Variable, Atom] = {}
    equations: list[Equation] = []
    for equation in program.equations:
        inputs = [substitute(a, names) for a in equation.inputs]
        params = equation.params
        if next(subprograms(params), None) is not None:
            params = map_subprograms(params, lambda inner: map_equations(inner, rule))
        equation = equation.replace(inputs=inputs, params=params)
        fn = rule(equation)
        if fn is None:
            equations.append(equation)
            continue
        new, results = build(fn, *inputs, place=equation)
        _check_results(equation, results)
        equations += new
        names.update(zip(equation.outputs, results, strict=True))
    outputs = [substitute(a, names) for a in program.outputs]
    return program.replace(equations=equations, outputs=outputs)


def _check_results(equation: Equation, results: Sequence[Atom]) -> None:
    wanted, found = [v.aval for v in equation.outputs], [a.aval for a in results]
    pairs = list(zip(wanted, found, strict=False))
    if len(wanted) != len(found) or not all([same_type(a, b) for a, b in pairs]):
        raise PassError(
            compose(
                f"what stands for {equation.primitive.name} gives its results",
                found=f"({', '.join(map(str, found))}) instead of ({', '.join(map(str, wanted))})",
                line=equation.place or None,
            )
        )


def build(
    fn: Callable[..., Any], *operands: Atom, place: Equation | None = None
) -> tuple[list[Equation], list[Atom]]:
    """Equations that compute a function of atoms, with calls inlined.

    Args:
        fn: of arrays, gives an array or a sequence of them.
        *operands: variables and literals of a program.
        place: an equation for whose line of the user's they are computed.

    Returns:
        New equations in order, and the atoms that are the results.

    Example:
        >>> program = make_program(lambda x: x)(1.0)
        >>> equations, results = build(lambda x: x * x + 1, program.inputs[0])
        >>> [e.primitive.name for e in equations]
        ['mul', 'add']
    """

    def flat(*values: Any) -> list[Any]:
        return pytree.leaves(fn(*values))

    traced, captured = trace_program(flat, [a.aval for a in operands], function_name(fn))
    if captured:
        raise PassError(f"what is built does not depend on traced values: {captured[0]!r}")
    traced = before_place(traced, "after", "cse")
    names: dict[Variable, Atom] = dict(zip(traced.inputs, operands, strict=True))
    where = {} if place is None else {"frame": place.frame, "scope": place.scope}
    equations: list[Equation] = []
    for equation in traced.equations:
        inputs = [substitute(a, names) for a in equation.inputs]
        fresh = [Variable(v.aval) for v in equation.outputs]
        names.update(zip(equation.outputs, fresh, strict=True))
        equations.append(equation.replace(inputs=inputs, outputs=fresh, **where))
    return equations, [substitute(a, names) for a in traced.outputs]
