"""Solvers with derivatives by the implicit function theorem.

Names, signatures and meanings are those of `jax.lax`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, cast

from covector.core import pytree
from covector.core.avals import same_type
from covector.core.program import Program, Variable
from covector.core.source import here
from covector.core.trace import aval_of, trace_program
from covector.lax.bodies import check_callable, difference, mismatch
from covector.ops import solves
from covector.transforms.autodiff import linear_transpose, linearize
from covector.transforms.flat import FlatFunction, check_leaves, operands

__all__ = ["custom_linear_solve", "custom_root"]


def custom_root(
    f: Callable[[Any], Any],
    initial_guess: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    tangent_solve: Callable[[Callable[[Any], Any], Any], Any],
    has_aux: bool = False,
) -> Any:
    """Finds a root of a function, with derivatives by the implicit function theorem.

    The derivative is that of the equation `f(x) == 0` with respect to whatever `f` closes over; the
    steps of `solve` are not differentiated, so that it may use `while_loop`.

    Args:
        f: takes a pytree like `initial_guess` and returns one like it.
        initial_guess: a pytree of arrays.
        solve: `solve(f, initial_guess)` returns a root; `(root, aux)` with `has_aux`.
        tangent_solve: `tangent_solve(g, y)` solves `g(x) == y` for the linear function `g`, the
            derivative of `f` at the root. For reverse mode it must be linear in `y`.
        has_aux: whether `solve` returns auxiliary data, which has no derivative.

    Returns:
        What `solve` returns.

    Raises:
        TypeError: if a function returns another structure or dtype than `initial_guess`.
        ValueError: if it returns another shape.

    Example:
        >>> import covector as cv
        >>> from covector import lax
        >>> def newton(f, x):
        ...     step = lambda x: x - f(x) / cv.grad(f)(x)
        ...     return lax.while_loop(lambda x: abs(f(x)) > 1e-5, step, x)
        >>> def square_root(a):
        ...     return lax.custom_root(lambda x: x * x - a, a, newton, lambda g, y: y / g(1.0))
        >>> round(float(square_root(4.0)), 3), round(float(cv.grad(square_root)(4.0)), 3)
        (2.0, 0.25)
    """
    functions: list[Any] = [f, solve, tangent_solve]
    for name, fun in zip(("f", "solve", "tangent_solve"), functions, strict=True):
        check_callable(f"lax.custom_root: {name}", fun)
    check_leaves("lax.custom_root: initial_guess", initial_guess)
    leaves, tree = pytree.flatten(initial_guess)
    unknowns = _Unknowns("lax.custom_root", "initial_guess", leaves, tree)

    def solve_linear(x: Any, y: Any) -> Any:
        return tangent_solve(linearize(f, x)[1], y)

    traced_f = unknowns.trace("f", f)
    traced_solve = unknowns.trace("solve", functools.partial(solve, f), has_aux=has_aux)
    traced_tangent = unknowns.trace("tangent_solve", solve_linear, count=2)
    consts, programs = _with_common_constants([traced_f, traced_solve, traced_tangent])
    outs = solves.custom_root(
        *consts,
        *operands(leaves),
        program=programs[1],
        f=programs[0],
        tangent_solve=programs[2],
        num_consts=len(consts),
    )
    return pytree.unflatten(traced_solve.out_tree, outs)


def custom_linear_solve(
    matvec: Callable[[Any], Any],
    b: Any,
    solve: Callable[[Callable[[Any], Any], Any], Any],
    transpose_solve: Callable[[Callable[[Any], Any], Any], Any] | None = None,
    symmetric: bool = False,
    has_aux: bool = False,
) -> Any:
    """Solves a linear equation, with derivatives by the equation itself.

    The derivative with respect to `b` and to what `matvec` closes over takes more solutions of the
    same equation; the steps of `solve` are not differentiated.

    Args:
        matvec: the linear function to invert: takes a pytree like `b` and returns one like it.
        b: the right-hand side, a pytree of arrays.
        solve: `solve(matvec, b)` returns `x` with `matvec(x) == b`.
        transpose_solve: `transpose_solve(vecmat, c)` does it for the transpose of `matvec`, which
            is derived from it; needed for reverse mode unless `symmetric`.
        symmetric: whether `matvec` is its own transpose; then `solve` serves for both.
        has_aux: whether the solvers return `(x, aux)`; auxiliary data have no derivative.

    Returns:
        What `solve` returns.

    Raises:
        TypeError: if a function returns another structure or dtype than `b`; in reverse mode, if
            there is no `transpose_solve`.
        ValueError: if a function returns another shape.

    Example:
        >>> import covector as cv
        >>> from covector import lax
        >>> def divide(a, b):
        ...     solve = lambda matvec, y: y / a
        ...     return lax.custom_linear_solve(lambda x: a * x, b, solve, symmetric=True)
        >>> print(divide(4.0, 2.0), cv.grad(divide)(4.0, 2.0))
        0.5 -0.125
    """
    check_callable("lax.custom_linear_solve: matvec", matvec)
    check_callable("lax.custom_linear_solve: solve", solve)
    if transpose_solve is None and symmetric:
        transpose_solve = solve
    check_leaves("lax.custom_linear_solve: b", b)
    leaves, tree = pytree.flatten(b)
    unknowns = _Unknowns("lax.custom_linear_solve", "b", leaves, tree)
    traced = [
        unknowns.trace("solve", functools.partial(solve, matvec), has_aux=has_aux),
        unknowns.trace("matvec", matvec),
    ]
    if transpose_solve is not None:
        check_callable("lax.custom_linear_solve: transpose_solve", transpose_solve)
        vecmat = matvec if symmetric else _transposed(matvec, b)
        traced += [
            unknowns.trace(
                "transpose_solve", functools.partial(transpose_solve, vecmat), has_aux=has_aux
            ),
            unknowns.trace("the transpose of matvec", vecmat),
        ]
    consts, programs = _with_common_constants(traced)
    program, matrix, transpose_program, transposed = [*programs, None, None][:4]
    outs = solves.custom_linear_solve(
        *consts,
        *operands(leaves),
        program=program,
        matvec=matrix,
        transpose_program=transpose_program,
        vecmat=transposed,
        num_consts=len(consts),
    )
    return pytree.unflatten(traced[0].out_tree, outs)


def _transposed(matvec: Callable[[Any], Any], b: Any) -> Callable[[Any], Any]:
    def vecmat(y: Any) -> Any:
        return linear_transpose(matvec, b)(y)[0]

    return vecmat


class _Traced:
    """A traced function: its program takes what it captured first."""

    __slots__ = ("captured", "out_tree", "program")

    def __init__(self, program: Program, captured: list[Any], out_tree: Any) -> None:
        self.program = program
        self.captured = captured
        self.out_tree = out_tree


class _Unknowns:
    """What an equation is solved for, to trace functions of it and to check what they return.

    Args:
        what: the function of the user's call, for messages.
        like: the name of the argument that the unknowns look like.
        leaves: its leaves.
        tree: its structure.
    """

    def __init__(self, what: str, like: str, leaves: Sequence[Any], tree: Any) -> None:
        self._what = what
        self._like = like
        self._avals = [aval_of(x) for x in leaves]
        self._tree = tree

    def trace(
        self, name: str, fun: Callable[..., Any], count: int = 1, has_aux: bool = False
    ) -> _Traced:
        """Traces a function of `count` pytrees like the unknowns that returns another one."""
        example = pytree.unflatten(self._tree, [0] * len(self._avals))
        with_kwargs = pytree.structure(((example,) * count, {}))
        trees: list[Any] = []

        def checked(*args: Any) -> Any:
            out = fun(*args)
            solution = self._solution(name, out) if has_aux else out
            trees.append(pytree.structure(solution))
            return out

        flat = FlatFunction(checked, with_kwargs)
        program, captured = trace_program(flat, self._avals * count, f"{self._what} {name}")
        self._check(name, trees[-1], program)
        return _Traced(program, captured, flat.out_tree)

    def _solution(self, name: str, out: Any) -> Any:
        pair = cast("tuple[Any, ...]", out)
        if not isinstance(out, tuple) or len(pair) != 2:
            raise TypeError(
                f"{self._what}: {name} must return a pair (solution, aux) with has_aux=True, got "
                f"{type(pair).__name__}\n  at: {here()}"
            )
        return pair[0]

    def _check(self, name: str, tree: Any, program: Program) -> None:
        if tree != self._tree:
            raise TypeError(
                f"{self._what}: {name} must return a pytree like {self._like}, but "
                f"{difference(self._like, self._tree, tree)}\n  at: {here()}"
            )
        paths = pytree.leaves_with_path(pytree.unflatten(tree, self._avals))
        found = program.output_avals[: len(self._avals)]
        for (path, _), a, b in zip(paths, self._avals, found, strict=True):
            if not same_type(a, b):
                error = TypeError if a.shape == b.shape else ValueError
                raise error(
                    f"{self._what}: {name} must return arrays like those of {self._like}, but "
                    f"{self._like}{pytree.keystr(path)} has type {a} and the result {b}: "
                    f"{mismatch(a, b)}\n  at: {here()}"
                )


def _with_common_constants(traced: Sequence[_Traced]) -> tuple[list[Any], list[Program]]:
    """What any function captured, and the programs with all of it as leading inputs."""
    captured: dict[int, Any] = {}
    for each in traced:
        captured.update({id(value): value for value in each.captured})
    avals = {key: aval_of(value) for key, value in captured.items()}
    programs: list[Program] = []
    for each in traced:
        own = {
            id(value): variable
            for value, variable in zip(each.captured, each.program.inputs, strict=False)
        }
        leading: list[Variable] = [own.get(key) or Variable(avals[key]) for key in captured]
        rest = each.program.inputs[len(each.captured) :]
        programs.append(each.program.replace(inputs=[*leading, *rest]))
    return list(captured.values()), programs
