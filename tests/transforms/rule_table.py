"""Which rules of users' compose with which transformations: the data of a test and of the docs.

Every rule here belongs to a function of a vector, and so does what each transformation makes of it;
pairs of transformations are therefore compositions. Beside each rule stands the same function
written without one: what that gives under the same transformations is the number to find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

import covector as cv
import covector.numpy as cnp
from covector import lax

Function = Callable[[Any], Any]

# --- rules ----------------------------------------------------------------------------------------


def twice_the_slope(x: Any) -> Any:
    """The value of sin, and twice its derivative: what shows that a rule was used."""
    y = 2.0 * cnp.sin(x)
    return lax.stop_gradient(cnp.sin(x) - y) + y


@cv.custom_jvp
def by_jvp(x: Any) -> Any:
    return cnp.sin(x)


@by_jvp.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return by_jvp(primals[0]), 2.0 * cnp.cos(primals[0]) * tangents[0]


@cv.custom_vjp
def by_vjp(x: Any) -> Any:
    return cnp.sin(x)


by_vjp.defvjp(lambda x: (cnp.sin(x), x), lambda x, ct: (2.0 * cnp.cos(x) * ct,))


@cv.custom_vjp
def by_clipping_vjp(x: Any) -> Any:
    return cnp.sin(x)


by_clipping_vjp.defvjp(
    lambda x: (cnp.sin(x), x), lambda x, ct: (2.0 * cnp.cos(x) * cnp.clip(ct, -1e6, 1e6),)
)


@cv.custom_vmap
def by_vmap(x: Any) -> Any:
    return cnp.sin(x)


@by_vmap.def_vmap
def _(size: Any, batched: list[Any], xs: Any) -> Any:
    return cnp.sin(xs), batched[0]


@cv.custom_transpose
def scaled(factor: Any, x: Any) -> Any:
    # Nothing that could be transposed without the rule.
    return cnp.sign(factor * x) * cnp.abs(factor * x)


scaled.def_transpose(lambda factor, ct: factor * ct)


def by_transpose(x: Any) -> Any:
    return scaled(1.5 + cnp.sin(x), x)


def on_the_host(x: Any) -> Any:
    return cv.pure_callback(np.sin, cv.typeof(x), x, vmap_method="broadcast_all")


@cv.custom_jvp
def by_callback(x: Any) -> Any:
    return on_the_host(x)


@by_callback.defjvp
def _(primals: Any, tangents: Any) -> Any:
    return by_callback(primals[0]), 2.0 * cnp.cos(primals[0]) * tangents[0]


@cv.custom_derivatives.custom_gradient
def by_gradient(x: Any) -> Any:
    return cnp.sin(x), lambda ct: 2.0 * cnp.cos(x) * ct


class Kind(NamedTuple):
    """A kind of rule.

    Attributes:
        name: as the docs have it.
        function: has the rule.
        twin: the same without one.
    """

    name: str
    function: Function
    twin: Function


KINDS = (
    Kind("custom_jvp", by_jvp, twice_the_slope),
    Kind("custom_vjp", by_vjp, twice_the_slope),
    Kind("custom_vjp, clipping", by_clipping_vjp, twice_the_slope),
    Kind("custom_gradient", by_gradient, twice_the_slope),
    Kind("custom_vmap", by_vmap, cnp.sin),
    Kind("custom_transpose", by_transpose, lambda x: (1.5 + cnp.sin(x)) * x),
    Kind("pure_callback in custom_jvp", by_callback, twice_the_slope),
)

# --- transformations ------------------------------------------------------------------------------


def _jvp(f: Function) -> Function:
    return lambda x: cv.jvp(f, (x,), (cnp.cos(x),))[1]


def _vjp(f: Function) -> Function:
    return lambda x: cv.vjp(f, x)[1](cnp.cos(x))[0]


def _batched(f: Function) -> Function:
    return lambda x: cv.vmap(f)(cnp.stack([x, 0.5 * x])).sum(0)


def _scan(f: Function) -> Function:
    return lambda x: lax.scan(lambda c, k: (c + k * f(c), None), x, cnp.array([0.5, 0.3]))[0]


def _while(f: Function) -> Function:
    def step(state: Any) -> Any:
        k, y = state
        return k + 1, y + 0.4 * f(y)

    return lambda x: lax.while_loop(lambda s: s[0] < 2, step, (0, x))[1]


def _cond(f: Function) -> Function:
    return lambda x: lax.cond(x.sum() < 10.0, f, lambda v: 3.0 * v, x)


TRANSFORMATIONS: dict[str, Callable[[Function], Function]] = {
    "jit": cv.jit,
    "jvp": _jvp,
    "vjp": _vjp,
    "grad": lambda f: cv.grad(lambda x: f(x).sum()),
    "jacfwd": lambda f: lambda x: cv.jacfwd(f)(x).sum(0),
    "jacrev": lambda f: lambda x: cv.jacrev(f)(x).sum(0),
    "linearize": lambda f: lambda x: cv.linearize(f, x)[1](cnp.cos(x)),
    "vmap": _batched,
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "checkpoint": cv.checkpoint,
}

DEEPER = (
    ("hessian", "jit"),
    ("vmap", "hessian"),
    ("vmap", "grad", "scan"),
    ("jit", "vmap", "grad", "scan"),
    ("grad", "vmap", "scan"),
    ("scan", "vmap", "grad"),
    ("grad", "scan", "cond"),
    ("grad", "while", "vmap"),
    ("jit", "grad", "scan", "checkpoint"),
    ("jacfwd", "vmap", "jacrev"),
    ("jacrev", "jacrev", "jacrev"),
    ("vmap", "vmap", "grad", "jit"),
)
"""Longer compositions, the outermost first."""

TRANSFORMATIONS_IN_DEEPER = {
    **TRANSFORMATIONS,
    "hessian": lambda f: lambda x: cv.hessian(lambda v: f(v).sum())(x).sum(0),
}

# --- what is refused ------------------------------------------------------------------------------

FORWARD = ("jvp", "jacfwd", "linearize")
REVERSE = ("vjp", "grad", "jacrev", "hessian")
NOT_LINEAR = "backward rule to be linear in the cotangent"


def refusal(kind: Kind, composition: tuple[str, ...]) -> str | None:
    """The reason in the error message where a composition cannot be, `None` where it must work."""
    if kind.name != "custom_vjp, clipping":
        return None
    derivatives = [t for t in composition if t in (*FORWARD, *REVERSE)]
    return NOT_LINEAR if derivatives and derivatives[-1] in FORWARD else None


def composed(f: Function, composition: tuple[str, ...]) -> Function:
    """The function under the transformations, the last one of them first."""
    for name in reversed(composition):
        f = TRANSFORMATIONS_IN_DEEPER[name](f)
    return f


# --- the table in the docs ------------------------------------------------------------------------


def _marks(composition: tuple[str, ...]) -> str:
    refused = any(refusal(kind, composition) for kind in KINDS)
    return "(c)" if refused else "+"


def rendered() -> Iterator[str]:
    """Lines of the table in docs/custom-rules.md."""
    names = list(TRANSFORMATIONS)
    yield "| of, down; across | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    for outer in names:
        yield f"| {outer} | " + " | ".join(_marks((outer, inner)) for inner in names) + " |"
    yield ""
    deeper = [" of ".join(c) + ("" if _marks(c) == "+" else " (c)") for c in DEEPER]
    yield "Deeper: " + "; ".join(deeper) + "."
