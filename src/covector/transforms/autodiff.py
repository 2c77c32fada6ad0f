"""The differentiation functions users call: jvp, vjp, grad, linearize and their kin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from covector.core import dtypes, pytree
from covector.core.array import Array
from covector.core.avals import Aval, Zero
from covector.core.errors import compose
from covector.core.program import Program
from covector.core.source import here
from covector.core.trace import aval_of, eval_program, trace_program
from covector.ops.common import instantiate
from covector.ops.convert import convert_element_type
from covector.transforms.context import keep_nonzero, spread
from covector.transforms.flat import (
    FlatFunction,
    check_leaves,
    function_name,
    named_like,
    normalize_argnums,
    operands,
    split_args,
)
from covector.transforms.jvp import jvp_flat
from covector.transforms.linearize import linearize_flat
from covector.transforms.transpose import backward_pass

ArgNums = int | Sequence[int]


def jvp(
    fun: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False
) -> Any:
    """Evaluates a function and its directional derivative.

    Args:
        fun: a function of pytrees of arrays.
        primals: the arguments, a tuple or list.
        tangents: the direction: the same structure, shapes and dtypes as the primals; float0
            arrays for integer arguments.
        has_aux: whether `fun` returns `(output, aux)`; aux is passed through.

    Returns:
        `(output, output_tangent)`, and aux as a third part with `has_aux`.

    Raises:
        TypeError: if primals and tangents differ in structure, shape or dtype.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> cv.jvp(cnp.sin, (0.0,), (2.0,))
    (Array(0., dtype=float32, weak_type=True), Array(2., dtype=float32, weak_type=True))
    """
    what = f"jvp of {function_name(fun)}"
    if not isinstance(primals, (tuple, list)) or not isinstance(tangents, (tuple, list)):
        raise TypeError(f"{what}: primals and tangents must be tuples or lists")
    leaves, tree = pytree.flatten((tuple(primals), {}))
    tangent_leaves, tangent_tree = pytree.flatten((tuple(tangents), {}))
    if tree != tangent_tree:
        raise TypeError(
            f"{what}: primals and tangents must have one structure, got {tree} and {tangent_tree}"
        )
    check_leaves(f"{what}: primals", primals)
    leaves = operands(leaves)
    flat_tangents = [
        _checked_tangent(what, x, t) for x, t in zip(leaves, tangent_leaves, strict=True)
    ]
    flat = FlatFunction(fun, tree, has_aux)
    outs, out_tangents = jvp_flat(flat, leaves, flat_tangents)
    result = (
        pytree.unflatten(flat.out_tree, outs),
        pytree.unflatten(
            flat.out_tree,
            [_instantiated(t, aval_of(x)) for t, x in zip(out_tangents, outs, strict=True)],
        ),
    )
    return (*result, flat.aux) if has_aux else result


def _checked_tangent(what: str, primal: Any, tangent: Any) -> Any:
    expected = aval_of(primal).tangent()
    if expected.dtype.names:
        if getattr(tangent, "dtype", None) == expected.dtype:
            return Zero(expected)
        raise TypeError(
            f"{what}: the tangent of an argument of type {aval_of(primal)} must be of dtype "
            "float0 (numpy.zeros(shape, covector.dtypes.float0)): it has no derivative"
        )
    found = aval_of(tangent)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise TypeError(
            f"{what}: a primal {aval_of(primal)} needs a tangent {expected}, got {found}"
        )
    return operands([tangent])[0]


def _instantiated(tangent: Any, primal: Aval) -> Any:
    """A tangent as users get it: an array, weak where what it belongs to is."""
    if type(tangent) is Zero and tangent.aval.dtype.names:
        return np.zeros(tangent.aval.shape, tangent.aval.dtype)
    tangent = instantiate(tangent)
    if primal.weak_type and not aval_of(tangent).weak_type:
        return convert_element_type(tangent, new_dtype=primal.dtype, weak_type=True)
    return tangent


def linearize(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Evaluates a function and returns its derivative as a function.

    Args:
        fun: a function of pytrees of arrays.
        primals: where to linearize.
        has_aux: whether `fun` returns `(output, aux)`.

    Returns:
        `(output, f_jvp)`, and aux with `has_aux`; `f_jvp(*tangents)` does not evaluate `fun` again.

    >>> import covector as cv
    >>> y, f_jvp = cv.linearize(lambda x: x * x, 3.0)
    >>> f_jvp(1.0)
    Array(6., dtype=float32, weak_type=True)
    """
    what = f"linearize of {function_name(fun)}"
    leaves, tree = pytree.flatten((primals, {}))
    check_leaves(f"{what}: arguments", primals)
    leaves = operands(leaves)
    flat = FlatFunction(fun, tree, has_aux)
    outs, linear, residuals, nonzero, nonzero_out = _linearize(flat, leaves)
    out_avals = [aval_of(o) for o in outs]
    out_tree = flat.out_tree

    def pushforward(*tangents: Any) -> Any:
        tangent_leaves, tangent_tree = pytree.flatten((tangents, {}))
        if tangent_tree != tree:
            raise TypeError(f"{what}: expected tangents of structure {tree}, got {tangent_tree}")
        given = [_checked_tangent(what, x, t) for x, t in zip(leaves, tangent_leaves, strict=True)]
        live = [t for t, n in zip(given, nonzero, strict=True) if n]
        results = eval_program(linear, *residuals, *live)
        out_tangents = spread(results, nonzero_out, out_avals)
        return pytree.unflatten(
            out_tree,
            [_instantiated(t, a) for t, a in zip(out_tangents, out_avals, strict=True)],
        )

    result = (pytree.unflatten(out_tree, outs), pushforward)
    return (*result, flat.aux) if has_aux else result


def _linearize(
    fn: Callable[..., Any], leaves: Sequence[Any]
) -> tuple[list[Any], Program, list[Any], list[bool], list[bool]]:
    """Outputs, linear program, residuals, which inputs and which outputs have tangents."""
    nonzero = [not aval_of(x).tangent().dtype.names for x in leaves]
    outs, tangents, finish, trace = linearize_flat(fn, leaves, nonzero)
    wanted, nonzero_out = keep_nonzero(tangents, [False] * len(tangents))
    linear = finish(wanted)
    return outs, linear, [v for v, _ in trace.recorder.captured], nonzero, nonzero_out


def vjp(fun: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """Evaluates a function and returns its transposed derivative as a function.

    Args:
        fun: a function of pytrees of arrays.
        primals: where to evaluate it.
        has_aux: whether `fun` returns `(output, aux)`.

    Returns:
        `(output, f_vjp)`, and aux with `has_aux`; `f_vjp(cotangent)` returns a tuple with the
        cotangent of each primal.

    >>> import covector as cv
    >>> y, f_vjp = cv.vjp(lambda x, y: x * y, 3.0, 4.0)
    >>> f_vjp(1.0)
    (Array(4., dtype=float32, weak_type=True), Array(3., dtype=float32, weak_type=True))
    """
    what = f"vjp of {function_name(fun)}"
    leaves, tree = pytree.flatten((primals, {}))
    check_leaves(f"{what}: arguments", primals)
    leaves = operands(leaves)
    flat = FlatFunction(fun, tree, has_aux)
    outs, pullback_flat = _vjp_flat(flat, leaves)
    out_avals = [aval_of(o) for o in outs]
    out_tree = flat.out_tree
    in_tree = pytree.structure(primals)

    def pullback(cotangent: Any) -> Any:
        cts, ct_tree = pytree.flatten(cotangent)
        if ct_tree != out_tree:
            raise TypeError(
                f"{what}: the cotangent must have the structure of the output, {out_tree}, "
                f"got {ct_tree}"
            )
        checked = [_checked_cotangent(what, a, c) for a, c in zip(out_avals, cts, strict=True)]
        return pytree.unflatten(in_tree, pullback_flat(checked))

    result = (pytree.unflatten(out_tree, outs), pullback)
    return (*result, flat.aux) if has_aux else result


def _checked_cotangent(what: str, aval: Aval, cotangent: Any) -> Any:
    expected = aval.tangent()
    if expected.dtype.names:
        return Zero(expected)
    found = aval_of(cotangent)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        raise TypeError(f"{what}: an output {aval} needs a cotangent {expected}, got {found}")
    return cotangent


def _vjp_flat(
    fn: Callable[..., Any], leaves: Sequence[Any]
) -> tuple[list[Any], Callable[[Sequence[Any]], list[Any]]]:
    outs, linear, residuals, nonzero, nonzero_out = _linearize(fn, leaves)
    in_avals = [aval_of(x) for x in leaves]
    is_linear = [False] * len(residuals) + [True] * sum(nonzero)

    def pullback(cotangents: Sequence[Any]) -> list[Any]:
        live = [ct for ct, n in zip(cotangents, nonzero_out, strict=True) if n]
        results = backward_pass(linear, is_linear, residuals, live)
        cts = spread(results, nonzero, in_avals)
        return [_instantiated(ct, a) for ct, a in zip(cts, in_avals, strict=True)]

    return outs, pullback


def value_and_grad(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that evaluates both `fun` and its gradient.

    Args:
        fun: returns a real scalar (complex with `holomorphic`), or `(scalar, aux)`.
        argnums: which positional arguments to differentiate; a tuple gives a tuple of gradients.
        has_aux: whether `fun` returns `(scalar, aux)`.
        holomorphic: `fun` is complex differentiable; inputs and output are complex.
        allow_int: integer arguments get float0 gradients instead of an error.

    Returns:
        A function of the same arguments that returns `(value, gradient)`; the gradient has the
        structure and shapes of the arguments.

    Raises:
        TypeError: when calling it, if the output is not a scalar, or dtypes are not differentiable.

    >>> import covector as cv
    >>> cv.value_and_grad(lambda x: x**2)(3.0)
    (Array(9., dtype=float32, weak_type=True), Array(6., dtype=float32, weak_type=True))
    """
    name = f"grad of {function_name(fun)}"

    def value_and_grad_fun(*args: Any, **kwargs: Any) -> Any:
        numbers = normalize_argnums(name, argnums, len(args))
        partial, chosen = split_args(fun, numbers, args)
        leaves, tree = pytree.flatten((tuple(chosen), {}))
        check_leaves(f"{name}: differentiated arguments", tuple(chosen))
        leaves = operands(leaves)
        for leaf in leaves:
            _check_differentiable(name, aval_of(leaf), holomorphic, allow_int)
        flat = FlatFunction(lambda *a: partial(*a, **kwargs), tree, has_aux)
        flat.fun.__name__ = function_name(fun)
        outs, pullback = _vjp_flat(flat, leaves)
        one = _unit_cotangent(name, flat.out_tree, outs, holomorphic)
        grads = pytree.unflatten(tree, pullback([one]))[0]
        gradient = grads[0] if isinstance(argnums, int) else tuple(grads)
        value = pytree.unflatten(flat.out_tree, outs)
        return ((value, flat.aux), gradient) if has_aux else (value, gradient)

    return named_like(value_and_grad_fun, fun, "value_and_grad")


def _check_differentiable(name: str, aval: Aval, holomorphic: bool, allow_int: bool) -> None:
    if holomorphic and not dtypes.is_complex(aval.dtype):
        raise TypeError(f"{name} with holomorphic=True needs complex arguments, got {aval}")
    if holomorphic or (allow_int and not dtypes.is_inexact(aval.dtype)):
        return
    if not dtypes.is_inexact(aval.dtype):
        raise TypeError(
            compose(
                f"{name} needs arguments of a floating dtype",
                found=str(aval),
                fix="pass floats (1.0 instead of 1), or choose other argnums; "
                "allow_int=True gives float0 gradients",
                line=here(),
            )
        )


def _unit_cotangent(name: str, tree: Any, outs: Sequence[Any], holomorphic: bool) -> Any:
    avals = [aval_of(o) for o in outs]
    if len(avals) != 1 or tree.num_nodes != 1:
        raise TypeError(
            compose(
                f"{name} needs a function that returns one scalar",
                found=f"a pytree {tree}",
                fix="has_aux=True if it returns (scalar, aux); jacrev or vjp for several outputs",
                line=here(),
            )
        )
    aval = avals[0]
    if aval.shape != ():
        raise TypeError(
            compose(
                f"{name} needs a function that returns a scalar",
                found=str(aval),
                fix="reduce the output (sum, mean), or use jacrev for an array output",
                line=here(),
            )
        )
    wanted = dtypes.is_complex(aval.dtype) if holomorphic else dtypes.is_floating(aval.dtype)
    if not wanted:
        kind = "complex" if holomorphic else "real floating"
        hint = "; holomorphic=True differentiates complex functions" if not holomorphic else ""
        raise TypeError(
            compose(f"{name} needs a {kind} output", found=f"{aval}{hint}", line=here())
        )
    # Weak where the output is, so that gradients promote as what they are gradients of.
    return Array.of(np.ones((), aval.dtype), aval)


def grad(
    fun: Callable[..., Any],
    argnums: ArgNums = 0,
    has_aux: bool = False,
    holomorphic: bool = False,
    allow_int: bool = False,
) -> Callable[..., Any]:
    """A function that evaluates the gradient of `fun`.

    Args:
        fun: returns a real scalar (complex with `holomorphic`), or `(scalar, aux)`.
        argnums: which positional arguments to differentiate; a tuple gives a tuple of gradients.
        has_aux: whether `fun` returns `(scalar, aux)`.
        holomorphic: `fun` is complex differentiable; inputs and output are complex.
        allow_int: integer arguments get float0 gradients instead of an error.

    Returns:
        A function of the same arguments that returns the gradient, or `(gradient, aux)`.

    >>> import covector as cv
    >>> import covector.numpy as cnp
    >>> cv.grad(cnp.sin)(0.0)
    Array(1., dtype=float32, weak_type=True)
    """
    both = value_and_grad(fun, argnums, has_aux, holomorphic, allow_int)

    def grad_fun(*args: Any, **kwargs: Any) -> Any:
        value, gradient = both(*args, **kwargs)
        return (gradient, value[1]) if has_aux else gradient

    return named_like(grad_fun, fun, "grad")


def linear_transpose(fun: Callable[..., Any], *primals: Any) -> Callable[..., Any]:
    """The transpose of a function that is linear in its arguments.

    Args:
        fun: linear.
        primals: examples of its arguments: arrays, or anything with shape and dtype.

    Returns:
        A function from a cotangent of the output to a tuple of cotangents of the arguments.

    >>> import covector as cv
    >>> cv.linear_transpose(lambda x: 3.0 * x, 1.0)(2.0)
    (Array(6., dtype=float32, weak_type=True),)
    """
    what = f"linear_transpose of {function_name(fun)}"
    leaves, tree = pytree.flatten((primals, {}))
    avals = [
        Aval(x.shape, x.dtype) if hasattr(x, "shape") and hasattr(x, "dtype") else aval_of(x)
        for x in leaves
    ]
    flat = FlatFunction(fun, tree)
    program, captured = trace_program(flat, avals, function_name(fun))
    is_linear = [False] * len(captured) + [True] * len(avals)
    in_tree = pytree.structure(primals)

    def transposed(cotangent: Any) -> Any:
        cts, ct_tree = pytree.flatten(cotangent)
        if ct_tree != flat.out_tree:
            raise TypeError(
                f"{what}: expected a cotangent of structure {flat.out_tree}, got {ct_tree}"
            )
        checked = [
            _checked_cotangent(what, a, c) for a, c in zip(program.output_avals, cts, strict=True)
        ]
        results = backward_pass(program, is_linear, captured, checked)
        return pytree.unflatten(
            in_tree, [_instantiated(ct, a) for ct, a in zip(results, avals, strict=True)]
        )

    return transposed
